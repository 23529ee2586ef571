import sys
from pathlib import Path

# The library lies beside the Snakefile: importable in every script, also in jobs of a cluster, without
# being installed into each environment.
sys.path.insert(0, str(Path(workflow.basedir, "src")))

from percept import config as settings
from percept import provenance
from percept.datasets import nsd

CONFIG = settings.load(config)
config.update(settings.plain(CONFIG))  # from here on with the defaults filled in

DATASET = CONFIG.dataset
SUBJECTS = list(DATASET.subjects)
RESULTS = f"results/{DATASET.name}"
LOGS = f"logs/{DATASET.name}"
BENCHMARKS = f"{RESULTS}/benchmarks"


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


def memory_mb(wildcards, input, attempt):
    """Memory for rules that hold a subject's voxels as float32 a few times over; grows with each retry."""
    return max(4000, round(6 * input.size_mb)) * attempt


def decoder_settings(wildcards):
    """The entry of the decoder, and what else its training depends on."""
    return section(f"decoders.{wildcards.decoder}")


def decoder_code(wildcards):
    """Hash of the training script and of the module that defines this kind of decoder, not of the others."""
    return code("train_decoder", type(CONFIG.decoders[wildcards.decoder]).__module__)


def target_code(wildcards):
    """Hash of the encoding script and of the module that defines this kind of target."""
    return code("encode_target", type(CONFIG.targets[wildcards.target]).__module__)


def generator_code(wildcards):
    """Hash of the reconstructing script and of the module that defines this kind of generator."""
    generator = CONFIG.reconstructions[wildcards.reconstruction].generator
    return code("reconstruct_images", type(generator).__module__)


def target_of(wildcards):
    """Cached features that a decoder is trained on."""
    target = CONFIG.decoders[wildcards.decoder].target
    return f"{RESULTS}/targets/{target}/features.h5"


def subject_voxels(wildcards):
    """The matrix and the two tables of a subject, which is all that decoding needs."""
    folder = f"{RESULTS}/voxels/{wildcards.subject}"
    return {name.split(".")[0]: f"{folder}/{name}" for name in ("betas.h5", "trials.parquet", "voxels.parquet")}


def all_trials(wildcards):
    """Trial tables of every subject: their stimuli are what a target has to cover."""
    return [f"{RESULTS}/voxels/{subject}/trials.parquet" for subject in SUBJECTS]


def decoder_runs(subject):
    """Folders (decoder, seed) of one subject below `decoders/` and `evaluation/`."""
    return [f"{subject}/{name}/seed-{seed}" for name, d in CONFIG.decoders.items() for seed in d.seeds]


def reconstruction_source(wildcards):
    """Predictions that become images, with the cached target; the first seed of the decoder is shown."""
    reconstruction = CONFIG.reconstructions[wildcards.reconstruction]
    decoder = CONFIG.decoders[reconstruction.decoder]
    run = f"{wildcards.subject}/{reconstruction.decoder}/seed-{decoder.seeds[0]}"
    return {
        "predictions": f"{RESULTS}/decoders/{run}/predictions.h5",
        "features": f"{RESULTS}/targets/{decoder.target}/features.h5",
        "trials": f"{RESULTS}/voxels/{wildcards.subject}/trials.parquet",
    }
