import ast
import gc
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from snakemake import jobs
from snakemake.exceptions import WorkflowError
from snakemake.resources import Resources

# The library lies beside the Snakefile: importable in every script, also in jobs of a cluster, without
# being installed into each environment.
sys.path.insert(0, str(Path(workflow.basedir, "src")))

from percept import config as settings
from percept import provenance
from percept.backbones import catalogue, tiny
from percept.backbones import store as backbones
from percept.backbones.tiny import data as tiny_data
from percept.datasets import coco, nsd_keys, ownership
from percept.preflight import asks, memory, times
from percept.report import systems
from percept.voxels import roi

# What is planned stays until the end: looking for garbage in it would be a fifth of the time that planning takes.
gc.freeze()
gc.set_threshold(50_000)

provenance.prefer_source(workflow.basedir)  # also where another checkout is installed
CONFIG = settings.load(config)
config.clear()
config.update(settings.plain(CONFIG))  # from here on with the defaults filled in, and nothing else


def below(path):
    """A path as the working directory names it: to Snakemake a checkout that is moved is then the same as before."""
    here = Path.cwd()
    return str(Path(path).relative_to(here) if Path(path).is_relative_to(here) else path)


def on_gpus(mark="with_gpu_"):
    """What a profile says of rules that may ask for a GPU, by default resources of this mark; these are taken out.

    The rules name it as their own. A profile could say it by its `set-resources` too; but then --set-resources of one
    rule on the command line, which replaces all of them, would send the GPU jobs of every other rule elsewhere.
    """
    given = workflow.resource_settings.default_resources or {}
    marked = {name: one for name, one in given.items() if name.startswith(mark)}
    if marked:
        others = Resources({name: one for name, one in given.items() if name not in marked})
        workflow.resource_settings = replace(workflow.resource_settings, default_resources=others)
    return {name.removeprefix(mark): ast.literal_eval(one.raw) for name, one in marked.items()}


ON_GPUS = on_gpus()
DATASET = CONFIG.dataset
NATIVE = isinstance(DATASET, settings.NativeTree)  # laid out as NSD's bucket
SUBJECTS = list(DATASET.subjects)
RESULTS = f"results/{DATASET.name}"
LOGS = f"logs/{DATASET.name}"
BENCHMARKS = f"{RESULTS}/benchmarks"
DECODERS = CONFIG.every_decoder  # those of the sweeps too: trained and scored alike, shown apart
RUNS = [f"{name}/seed-{seed}" for name, decoder in CONFIG.decoders.items() for seed in decoder.seeds]
LATENT_RUNS = [run for run in RUNS if run.split("/")[0] in CONFIG.evaluation.latents.decoders]
SWEPT = [f"{name}/seed-{seed}" for name, decoder in CONFIG.swept.items() for seed in decoder.seeds]
DECODED = sorted({decoder.roi for decoder in DECODERS.values()})
# One extraction holds the union of all ROI sets that something uses.
EXTRACTED = sorted(
    {
        *CONFIG.voxels.extract,
        *(name for decoder in DECODERS.values() for name in decoder.sets),
        *(encoding.roi for encoding in CONFIG.encodings.values()),
    }
)
UNION = roi.union(EXTRACTED, CONFIG.voxels.rois)
FITTED = [run for run in RUNS + SWEPT if DECODERS[run.split("/")[0]].fitted]
SPLIT_IMAGES = [name for name, one in CONFIG.reconstructions.items() if one.splits]
SPLITS = [f"{RESULTS}/evaluation/{subject}/splits.parquet" for subject in SUBJECTS if FITTED]
SPLIT_TABLE = [f"{RESULTS}/report/splits.parquet"] if {*FITTED} & {*RUNS} else []
SWEEP_TABLES = [f"{RESULTS}/report/sweeps/{name}.parquet" for name in CONFIG.sweeps]
SWEEP_FIGURES = [f"{RESULTS}/report/sweeps/{name}.svg" for name in CONFIG.sweeps]
VOTES = [name for name, one in CONFIG.reconstructions.items() if one.generator.chooses_from]
MADE = [name for name in CONFIG.reconstructions if name not in VOTES]
# Which of the jobs that could run comes first: what most others wait for, then what images are made from, then the other
# decoders. The longest chain of a subject ends in one job that scores all its images; beside it there is enough to do.
FIRST, SECOND, THIRD = 3, 2, 1  # priorities
GALLERY = [f"{RESULTS}/report/gallery.html"] if CONFIG.reconstructions else []
SYSTEMS = list(
    systems.members(config["decoders"], config["reconstructions"])
)  # that have a page of their own
PUBLISHED_SCORES = sorted(map(below, Path(workflow.basedir, "resources/published").glob("*.csv")))
PUBLISHED = [name for name, entry in catalogue.CATALOGUE.items() if entry.family == "published"]
TINY = "results/tiny_backbones"
TINY_SCENES = {"train": (tiny_data.FIRST_TRAIN, 30_000), "held_out": (tiny_data.FIRST_HELD_OUT, 2_000)}
TINY_MANIFESTS = [f"{TINY}/{network}/backbone.json" for network in tiny.NETWORKS]


# The hash in `params: code=` says when code changed. Snakemake itself goes by when a script was written, which
# would repeat everything, downloads of 37 GiB too, after a touch, a checkout or a fresh clone.
jobs.get_script_mtime = lambda path: 0.0


wildcard_constraints:
    subject="|".join(SUBJECTS),
    session=r"\d{2}",
    target="|".join(CONFIG.targets),
    decoder="|".join(DECODERS),
    sweep="|".join(CONFIG.sweeps) or "none",
    encoding="|".join(CONFIG.encodings) or "none",
    reconstruction="|".join(CONFIG.reconstructions) or "none",
    backbone="|".join(PUBLISHED),
    pool="|".join(CONFIG.pools) or "none",
    gan="|".join(CONFIG.gans) or "none",
    seed=r"\d+",
    network="|".join(tiny.NETWORKS),
    part="|".join(TINY_SCENES),


@cache
def code(script, *modules):
    """Hash of what a script may run; a rule that carries it reruns when that code changes.

    Worked out once for all jobs of a kind: it takes longer than everything else that is planned of a job.
    """
    return provenance.code_version(str(Path(workflow.basedir, "workflow/scripts", f"{script}.py")), *modules)


def section(path):
    """A part of the configuration as plain data, `a.b`: what a rule passes on is what it depends on."""
    here = config
    for key in path.split("."):
        here = here[key]
    return here


def scoring():
    """How values become rows; what is asked of images or of embeddings matters to their own scoring alone."""
    return {key: value for key, value in section("evaluation").items() if key not in ("images", "latents")}


def scoring_with(part):
    """How values become rows, and what is asked of `images`, or of `latents`."""
    return {**scoring(), part: section(f"evaluation.{part}")}


def growing(least):
    """A resource of a rule, MB or minutes: `least` at first, and as much again with each retry."""

    def grown(wildcards, attempt):
        return least * attempt

    return grown


def extraction_minutes(wildcards, input, attempt):
    """Time to read everything that a subject has."""
    return times.extracting(sum(Path(path).stat().st_size for path in input)) * attempt


def memory_mb(wildcards, input, attempt):
    """Memory for rules that hold a subject's voxels as float32 a few times over."""
    return memory.voxels_mb(Path(input.betas).stat().st_size) * attempt


def audit_mb(wildcards, input, attempt):
    """Memory for the audit of a subject: its voxels, and predictions of one run after the other."""
    return memory_mb(wildcards, input, attempt) + predictions_mb(input) * attempt


def scoring_mb(wildcards, input, attempt):
    """Memory for rules that hold one run's predictions."""
    return max(8000, predictions_mb(input)) * attempt


def predictions_mb(input):
    """Memory for the largest file of predictions: as float32, centred, and as a block of float64.

    Samples of a prior lie in the same file and are never read here, so this is generous where they are many;
    how many bytes they are only the opened file would say, and planning opens none.
    """
    return memory.predictions_mb(max(Path(path).stat().st_size for path in input.predictions))


# Raw files: keys of the bucket are paths below the root of the native tree.


def raw(keys):
    """Paths of keys of the bucket."""
    return [f"{DATASET.root}/{key}" for key in keys]


def measured():
    """Settings of the data set without how NSD's files are fetched, who else is analysed, and what is drawn on.

    Another number of connections, or one more subject, must not fetch and decode all over again. A twin's and
    a lab's own stimuli are shared by its subjects, so there everything counts. The surface of a challenge is
    a matter of its maps alone.
    """
    aside = {"nsd": {"download", "terms_accepted", "subjects"}, "algonauts": {"fsaverage"}}
    left_out = aside.get(DATASET.kind, set())
    return {key: value for key, value in section("dataset").items() if key not in left_out}


def extraction():
    """Settings that decide what the matrix of a subject holds.

    Labels, not names of sets: another decoder, or another name for the same voxels, needs no raw betas. Own
    arrays are stored whole. Normalisation is a choice of the reader.
    """
    policies = {key: section(f"voxels.{key}") for key in ("invalid", "missing_sessions")}
    if not NATIVE:
        return policies
    if not UNION:  # nothing but `all`: refused, with its name
        return {**policies, "extract": EXTRACTED}
    return {**policies, "extract": ["union"], "rois": {"union": list(UNION)}}


def extracted_dataset(wildcards):
    """Settings of the data set that the voxels of a subject depend on; NSD's subjects do not share sessions."""
    if DATASET.kind != "nsd":
        return measured()
    return {**measured(), "sessions": nsd_keys.sessions_of(DATASET, wildcards.subject)}


def named_sets():
    """Own ROI sets, for rules that read the extracted voxels by name."""
    return {"rois": section("voxels.rois")}


def decoder_voxels(wildcards):
    """How a decoder reads its voxels: the normalisation, and its own ROI sets where it has some."""
    names = DECODERS[wildcards.decoder].sets
    own = {key: labels for key, labels in section("voxels.rois").items() if key in names}
    return {"rois": own, "normalisation": section("voxels.normalisation")}


def subject_keys(subject):
    """Keys needed once per subject: trials, masks, ROIs, noise ceiling, mean volume."""
    return nsd_keys.subject_files(DATASET, subject, roi.atlases_of_labels(UNION))


def mask_keys(subject):
    """Keys of the valid voxels of every session of a subject that is used."""
    sessions = nsd_keys.sessions_of(DATASET, subject)
    return [nsd_keys.key_valid(subject, session, DATASET.space) for session in sessions]


def session_keys(subject):
    """Keys needed of every session of a subject that is used."""
    keys = [
        key
        for session in nsd_keys.sessions_of(DATASET, subject)
        for key in nsd_keys.session_files(DATASET, subject, session)
        if not (reads_ranges() and key == nsd_keys.key_betas(subject, session, DATASET))
    ]
    # A lab's own copy of the files may lack sessions; where they are fetched, a missing one is an error.
    incomplete = DATASET.kind == "nsd" and not DATASET.download.enabled
    if incomplete and CONFIG.voxels.missing_sessions == "skip":
        return [key for key in keys if Path(DATASET.root, key).is_file()]
    return keys


def reads_ranges():
    """Whether single voxels are read from the server, so that no file of betas is fetched."""
    return DATASET.kind == "nsd" and DATASET.format == "hdf5-ranges" and DATASET.download.enabled


def for_any_subject(keys):
    """Keys of subj01 and session 1 with wildcards in their place."""
    return [key.replace("subj01", "{subject}").replace("session01", "session{session}") for key in keys]


def raw_betas():
    """Betas of a session: in a tree that this workflow started they go once their voxels are extracted."""
    paths = raw(for_any_subject([nsd_keys.key_betas("subj01", 1, DATASET)]))
    # Snakemake deletes temporary files whoever made them: a user's own copy must not be declared as such.
    goes = not DATASET.download.keep_raw and ownership.may_delete_betas(DATASET.root)
    return temp(paths) if goes else paths


def raw_files(wildcards):
    """What the voxels of a subject are extracted from."""
    if not NATIVE:
        return {"arrays": DATASET.inputs(wildcards.subject)}
    return {
        "tables": raw(nsd_keys.common_files(stimuli=False)),
        "subject": raw(subject_keys(wildcards.subject)),
        "sessions": raw(session_keys(wildcards.subject)),
    }


def stimulus_files(wildcards):
    """Where the images or labels of the stimuli are."""
    return raw([nsd_keys.STIMULI]) if NATIVE else DATASET.stimulus_inputs()


def design_files(wildcards):
    """Tables behind the split protocols that look at what all subjects were shown."""
    return raw([nsd_keys.EXPDESIGN]) if NATIVE else []


def truth_files(wildcards):
    """What is known of a simulated data set, and of no other."""
    return [f"{DATASET.root}/truth/features.h5"] if DATASET.kind == "twin" else []


def annotation_files(wildcards):
    """Where captions and objects of the stimuli are: COCO's files, or a lab's own trial tables."""
    if not NATIVE:
        return DATASET.caption_inputs()
    paths = [f"{DATASET.root}/{key}" for key in coco.KEYS]
    # A lab's own copy of NSD may be without them; what cannot do without then says where they are to be had.
    own = DATASET.kind == "nsd" and not DATASET.download.enabled
    return [path for path in paths if Path(path).is_file()] if own else paths


def judged_files(wildcards):
    """Where the objects of the stimuli are, if the judge is asked whether it sees them."""
    return annotation_files(wildcards) if "tiny_judge" in CONFIG.evaluation.images.networks else []


def caption_files(wildcards):
    """The annotations, where a target is made from captions."""
    return annotation_files(wildcards) if "captions" in CONFIG.targets[wildcards.target].reads else []
