import sys
from pathlib import Path

from snakemake import jobs

# The library lies beside the Snakefile: importable in every script, also in jobs of a cluster, without
# being installed into each environment.
sys.path.insert(0, str(Path(workflow.basedir, "src")))

from percept import config as settings
from percept import provenance
from percept.datasets import nsd_keys, ownership
from percept.voxels import roi

provenance.prefer_source(workflow.basedir)  # also where another checkout is installed
CONFIG = settings.load(config)
config.clear()
config.update(settings.plain(CONFIG))  # from here on with the defaults filled in, and nothing else

DATASET = CONFIG.dataset
SUBJECTS = list(DATASET.subjects)
RESULTS = f"results/{DATASET.name}"
LOGS = f"logs/{DATASET.name}"
BENCHMARKS = f"{RESULTS}/benchmarks"
RUNS = [f"{name}/seed-{seed}" for name, decoder in CONFIG.decoders.items() for seed in decoder.seeds]
DECODED = sorted({decoder.roi for decoder in CONFIG.decoders.values()})
# One extraction holds the union of all ROI sets that something uses.
EXTRACTED = sorted({*CONFIG.voxels.extract, *DECODED})
UNION = roi.union(EXTRACTED, CONFIG.voxels.rois)


# The hash in `params: code=` says when code changed. Snakemake itself goes by when a script was written, which
# would repeat everything, downloads of 37 GiB too, after a touch, a checkout or a fresh clone.
jobs.get_script_mtime = lambda path: 0.0


wildcard_constraints:
    subject="|".join(SUBJECTS),
    session=r"\d{2}",
    target="|".join(CONFIG.targets),
    decoder="|".join(CONFIG.decoders),
    reconstruction="|".join(CONFIG.reconstructions) or "none",
    seed=r"\d+",


def code(script, *modules):
    """Hash of what a script may run; a rule that carries it reruns when that code changes."""
    return provenance.code_version(str(Path(workflow.basedir, "workflow/scripts", f"{script}.py")), *modules)


def section(path):
    """A part of the configuration as plain data, `a.b`: what a rule passes on is what it depends on."""
    here = config
    for key in path.split("."):
        here = here[key]
    return here


def growing(least):
    """A resource of a rule, MB or minutes: `least` at first, and as much again with each retry."""

    def grown(wildcards, attempt):
        return least * attempt

    return grown


def memory_mb(wildcards, input, attempt):
    """Memory for rules that hold a subject's voxels as float32 a few times over, and predictions as well."""
    held = [input.betas, *input.get("predictions", [])]
    return max(4000, round(8e-6 * sum(Path(path).stat().st_size for path in held))) * attempt


# Raw files: keys of the bucket are paths below the root of the native tree.


def raw(keys):
    """Paths of keys of the bucket."""
    return [f"{DATASET.root}/{key}" for key in keys]


def measured():
    """Settings of the data set without how NSD's files are fetched and who else is analysed.

    Another number of connections, or one more subject, must not fetch and decode all over again. A twin's and
    a lab's own stimuli are shared by its subjects, so there everything counts.
    """
    left_out = {"download", "terms_accepted", "subjects"} if DATASET.kind == "nsd" else set()
    return {key: value for key, value in section("dataset").items() if key not in left_out}


def extraction():
    """Settings that decide what the matrix of a subject holds.

    Labels, not names of sets: another decoder, or another name for the same voxels, needs no raw betas. Own
    arrays are stored whole. Normalisation is a choice of the reader.
    """
    policies = {key: section(f"voxels.{key}") for key in ("invalid", "missing_sessions")}
    if DATASET.kind == "arrays":
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
    """How a decoder reads its voxels: the normalisation, and its own ROI set where it has one."""
    name = CONFIG.decoders[wildcards.decoder].roi
    own = {key: labels for key, labels in section("voxels.rois").items() if key == name}
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
    if DATASET.kind == "arrays":
        return {"arrays": DATASET.inputs(wildcards.subject)}
    return {
        "tables": raw(nsd_keys.common_files(stimuli=False)),
        "subject": raw(subject_keys(wildcards.subject)),
        "sessions": raw(session_keys(wildcards.subject)),
    }


def stimulus_files(wildcards):
    """Where the images or labels of the stimuli are."""
    return DATASET.stimulus_inputs() if DATASET.kind == "arrays" else raw([nsd_keys.STIMULI])


def design_files(wildcards):
    """Tables behind the split protocols that look at what all subjects were shown."""
    return [] if DATASET.kind == "arrays" else raw([nsd_keys.EXPDESIGN])


def truth_files(wildcards):
    """What is known of a simulated data set, and of no other."""
    return [f"{DATASET.root}/truth/features.h5"] if DATASET.kind == "twin" else []


# What one job reads of the stages before it.


def decoder_section(wildcards):
    """Settings of a decoder; how often it is trained is not among what one training depends on."""
    return {key: value for key, value in section(f"decoders.{wildcards.decoder}").items() if key != "seeds"}


def decoder_code(wildcards):
    """Hash of the training script and of the module of this kind of decoder, not of the others."""
    return code("train_decoder", type(CONFIG.decoders[wildcards.decoder]).__module__)


def target_code(wildcards):
    """Hash of the encoding script and of the module of this kind of target."""
    return code("encode_target", type(CONFIG.targets[wildcards.target]).__module__)


def generator_code(wildcards):
    """Hash of the reconstructing script and of the module of this kind of generator."""
    generator = CONFIG.reconstructions[wildcards.reconstruction].generator
    return code("reconstruct_images", type(generator).__module__)


def target_section(wildcards):
    """Settings of a target."""
    return section(f"targets.{wildcards.target}")


def generator_section(wildcards):
    """Settings of a generator."""
    return section(f"reconstructions.{wildcards.reconstruction}.generator")


def target_gpus(wildcards):
    """GPUs that encoding a target asks for."""
    return CONFIG.targets[wildcards.target].n_gpus


def decoder_gpus(wildcards):
    """GPUs that training a decoder asks for."""
    return CONFIG.decoders[wildcards.decoder].n_gpus


def generator_gpus(wildcards):
    """GPUs that a generator asks for."""
    return CONFIG.reconstructions[wildcards.reconstruction].generator.n_gpus


def features_of(decoder):
    """Cached features that a decoder predicts."""
    return f"{RESULTS}/targets/{CONFIG.decoders[decoder].target}/features.h5"


def voxels_of(subject):
    """The matrix and the two tables of a subject."""
    folder = f"{RESULTS}/voxels/{subject}"
    return {
        name: f"{folder}/{name}.{'h5' if name == 'betas' else 'parquet'}"
        for name in ("betas", "trials", "voxels")
    }


def training_files(wildcards):
    """What a decoder is trained on."""
    return {**voxels_of(wildcards.subject), "features": features_of(wildcards.decoder)}


def scoring_files(wildcards):
    """What scoring a decoder reads: predictions, the features they predict, and on the twin the limits."""
    run = f"{wildcards.subject}/{wildcards.decoder}/seed-{wildcards.seed}"
    files = {
        "predictions": f"{RESULTS}/decoders/{run}/predictions.h5",
        "features": features_of(wildcards.decoder),
        "trials": voxels_of(wildcards.subject)["trials"],
    }
    if DATASET.kind == "twin":
        files["limits"] = f"{RESULTS}/evaluation/{wildcards.subject}/limits.parquet"
    return files


def reconstruction_files(wildcards):
    """Predictions that become images, with the features they predict; the first seed is shown."""
    decoder = CONFIG.reconstructions[wildcards.reconstruction].decoder
    run = f"{wildcards.subject}/{decoder}/seed-{CONFIG.decoders[decoder].seeds[0]}"
    return {
        "predictions": f"{RESULTS}/decoders/{run}/predictions.h5",
        "features": features_of(decoder),
        "trials": voxels_of(wildcards.subject)["trials"],
    }


def scores_of(subject, name):
    """One file of scores for every decoder run and reconstruction of a subject."""
    folder = f"{RESULTS}/evaluation/{subject}"
    made = [f"{folder}/{run}/{name}.parquet" for run in RUNS]
    return made + [f"{folder}/reconstructions/{each}/{name}.parquet" for each in CONFIG.reconstructions]


def subject_results(subject):
    """Everything that is made for one subject alone."""
    sheets = [f"{RESULTS}/generators/{subject}/{each}/sheet.png" for each in CONFIG.reconstructions]
    return [
        *scores_of(subject, "scores"),
        *sheets,
        f"{RESULTS}/evaluation/{subject}/comparisons.parquet",
        f"{RESULTS}/evaluation/{subject}/noise_ceiling.parquet",
        f"{RESULTS}/evaluation/{subject}/audit.parquet",
        f"{RESULTS}/voxels/{subject}/summary.png",
    ]


def subject_matrix(wildcards):
    """The matrix and the two tables of a subject."""
    return voxels_of(wildcards.subject)


def items_of_subject(wildcards):
    """Values of every item, of all decoders and reconstructions of a subject."""
    return scores_of(wildcards.subject, "items")


def reconstructed_decoder(wildcards):
    """Settings of the decoder whose predictions a reconstruction shows."""
    decoder = CONFIG.reconstructions[wildcards.reconstruction].decoder
    return {"name": decoder, **section(f"decoders.{decoder}")}


def audited_files(wildcards):
    """Everything that the audit of a subject looks at; per run, in the order of `RUNS`."""
    runs = [f"{wildcards.subject}/{run}" for run in RUNS]
    return {
        **voxels_of(wildcards.subject),
        "predictions": [f"{RESULTS}/decoders/{run}/predictions.h5" for run in runs],
        "normalisation": [f"{RESULTS}/decoders/{run}/normalisation.h5" for run in runs],
        "features": [features_of(run.split("/")[0]) for run in RUNS],
        "scores": [f"{RESULTS}/evaluation/{run}/scores.parquet" for run in runs],
        "stimuli": stimulus_files(wildcards),
    }


def all_scores(wildcards):
    """Scores, values of the items, and what else the report shows, of every subject."""
    each = {
        name: [f"{RESULTS}/evaluation/{subject}/{name}.parquet" for subject in SUBJECTS]
        for name in ("comparisons", "noise_ceiling", "audit")
    }
    runs = [f"{RESULTS}/decoders/{subject}/{run}" for subject in SUBJECTS for run in RUNS]
    return {
        "scores": [path for subject in SUBJECTS for path in scores_of(subject, "scores")],
        "per_item": [path for subject in SUBJECTS for path in scores_of(subject, "items")],
        **each,
        "voxels": [voxels_of(subject)["voxels"] for subject in SUBJECTS],
        "summaries": [f"{RESULTS}/voxels/{subject}/summary.png" for subject in SUBJECTS],
        "sheets": [
            f"{RESULTS}/generators/{subject}/{name}/sheet.png"
            for subject in SUBJECTS
            for name in CONFIG.reconstructions
        ],
        "histories": [f"{run}/history.parquet" for run in runs],
        "answers": [
            f"{RESULTS}/evaluation/{subject}/{run}/answers.parquet" for subject in SUBJECTS for run in RUNS
        ],
    }


def recorded_files(wildcards):
    """Files whose content the manifest records: what every number rests on."""
    matrices = [path for subject in SUBJECTS for path in voxels_of(subject).values()]
    splits = [f"{RESULTS}/datasets/{subject}/split.parquet" for subject in SUBJECTS]
    return matrices + splits + [f"{RESULTS}/targets/{target}/features.h5" for target in CONFIG.targets]


def subject_anatomy(wildcards):
    """The voxel table of a subject, its matrix, and the mean volume where there is one."""
    files = voxels_of(wildcards.subject)
    mean = [] if DATASET.kind == "arrays" else raw([nsd_keys.key_mean(wildcards.subject, DATASET.space)])
    return {"betas": files["betas"], "voxels": files["voxels"], "mean": mean}
