"""Hours of every kind of job, by recorded runs where there are any and by a model of operations elsewhere.

The model: operations over what the device does in a second, or bytes over its bandwidth, whichever takes
longer. `figures` has its constants and says which of them were measured.
"""

import csv
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from percept.config import BaseConfig, GeneratorConfig, TargetConfig
from percept.datasets import nsd_keys
from percept.preflight import figures
from percept.preflight.memory import Training
from percept.preflight.sizes import stimuli
from percept.preflight.world import Subject, results

HOUR = 3600.0
CORES = 2  # with which the rates of the CPU were measured
DIRECT = ("pixels", "labels", "truth")  # targets that no network computes


@dataclass(frozen=True)
class Work:
    """Jobs of one kind: how many, the hours of the longest and of all, on the CPU or on a GPU.

    name : of the target, decoder or reconstruction; empty where all jobs of the rule are alike
    """

    rule: str
    name: str
    jobs: int
    longest: float
    total: float
    gpus: int
    origin: str


def recorded(cfg: BaseConfig, rule: str, name: str = "") -> list[float]:
    """Hours of jobs that ran before, by the benchmarks that Snakemake recorded of them."""
    found = []
    for path in sorted((results(cfg) / "benchmarks").rglob(f"{rule}.tsv")):
        if not name or name in path.parts:
            with path.open(encoding="utf-8") as file:
                found += [float(row["s"]) / HOUR for row in csv.DictReader(file, delimiter="\t")]
    return found


def on_gpu(flop: float, moved: float, half: bool) -> float:
    """Hours of some operations and of some traffic of memory on one GPU."""
    rate = figures.GPU_SHARE.value * figures.GPU_FLOPS["half" if half else "float32"].value
    return max(flop / rate, moved / figures.GPU_BANDWIDTH.value) / HOUR


def works(
    cfg: BaseConfig, subjects: Sequence[Subject], trained: Sequence[Training], gpus: bool
) -> list[Work]:
    """Every kind of job of a configuration.

    Parameters
    ----------
    gpus : whether there is a GPU for the jobs that can use one; without, they are computed by the processor
    """
    modelled = [
        *_data(cfg, subjects),
        *_targets(cfg, subjects, gpus),
        *_decoders(cfg, subjects, trained, gpus),
        *_generators(cfg, subjects, gpus),
        *_rest(cfg, subjects),
    ]
    return [_preferred(cfg, work) for work in modelled]


def _preferred(cfg: BaseConfig, work: Work) -> Work:
    """A kind of job by what was recorded of it in this folder, if anything was."""
    ran = recorded(cfg, work.rule, work.name)
    if not ran:
        return work
    total = work.jobs * statistics.fmean(ran)
    return replace(work, longest=max(ran), total=total, origin=f"recorded ({len(ran)})")


def _data(cfg: BaseConfig, subjects: Sequence[Subject]) -> Iterator[Work]:
    if cfg.dataset.kind != "nsd":
        hours, jobs = figures.STARTING.value / HOUR, len(cfg.dataset.subjects)
        yield Work("extract_voxels", "", jobs, hours, jobs * hours, 0, figures.STARTING.origin)
        return
    dataset = cfg.dataset
    fine = figures.FINE_SPACE if dataset.space == "func1mm" else 1
    kind = "nii.gz" if dataset.format == "nii.gz" else "hdf5"
    sizes, masking = figures.NSD_BETAS_GB[kind], figures.MASKING[dataset.format]
    n = {name: len(nsd_keys.sessions_of(dataset, name)) for name in dataset.subjects}
    each = [
        masking.value * fine * n[name] * sizes[name] / sizes["subj01"] / HOUR for name in dataset.subjects
    ]
    yield Work("extract_voxels", "", len(each), max(each), sum(each), 0, masking.origin)


def _targets(cfg: BaseConfig, subjects: Sequence[Subject], gpus: bool) -> Iterator[Work]:
    n = stimuli(cfg, subjects) if subjects else 0
    for name, target in cfg.targets.items():
        hours, asked, origin = n / figures.DIRECT_IMAGES.value / HOUR, 0, figures.DIRECT_IMAGES.origin
        if target.kind not in DIRECT:
            asked, origin = (target.n_gpus if gpus else 0), "model"
            precision = getattr(target, "computation", "float32")
            hours = _hours(1e9 * n * encoding_gflop(target), 0, asked, precision)
        hours += figures.STARTING.value / HOUR
        yield Work("encode_target", name, 1, hours, hours, asked, origin)


def encoding_gflop(target: TargetConfig) -> float:
    """Work of encoding one stimulus: an image, or all of its captions."""
    backbone, small = getattr(target, "backbone", ""), figures.TINY_GFLOP.value
    if target.kind == "clip_text":
        return figures.CAPTIONS * figures.CAPTION_GFLOP.get(backbone, small)
    side = getattr(target, "size", None) or figures.LATENT_SIDE
    return figures.ENCODING_GFLOP.get(backbone, small) * (side / figures.LATENT_SIDE) ** 2


def _hours(flop: float, moved: float, gpus: int, precision: str) -> float:
    if gpus:
        return on_gpu(flop, moved, precision != "float32")
    return flop / figures.CPU_FLOPS.value / HOUR


def _decoders(
    cfg: BaseConfig, subjects: Sequence[Subject], trained: Sequence[Training], gpus: bool
) -> Iterator[Work]:
    for training in trained:
        decoder = cfg.every_decoder[training.decoder]
        solved = not training.device
        asked = training.gpus if gpus else 0
        hours = (
            training.flop / figures.RIDGE_FLOPS.value / HOUR
            if solved and not asked
            else _hours(training.flop, training.moved, asked, getattr(_of(decoder), "precision", "float32"))
        )
        hours = hours / max(1, asked) + figures.STARTING.value / HOUR
        jobs = len(decoder.seeds) * len(subjects)
        yield Work("train_decoder", training.decoder, jobs, hours, jobs * hours, asked, "model")


def _of(decoder: Any) -> Any:  # noqa: ANN401 (settings of one of several kinds)
    """How a network is trained; nothing of a decoder that is solved."""
    return getattr(decoder, "training", None)


def passes(generator: GeneratorConfig) -> float:
    """Denoising steps of one image: of all samples, doubled by guidance, less what the low level saves."""
    steps = math.ceil(getattr(generator, "steps", 0) * getattr(generator, "strength", 1.0))
    doubled = 2 if getattr(generator, "guidance", 1.0) not in (0, 1.0) else 1
    return steps * doubled * getattr(generator, "samples", 1)


def _generators(cfg: BaseConfig, subjects: Sequence[Subject], gpus: bool) -> Iterator[Work]:
    most = max((subject.test_images for subject in subjects), default=0)
    for name, one in cfg.reconstructions.items():
        generator = one.generator
        if generator.chooses_from:
            continue
        backbone = getattr(generator, "backbone", None)
        denoised = figures.DENOISING_GFLOP.get(backbone, figures.TINY_GFLOP.value if backbone else 0)
        decoded = figures.DECODING_GFLOP if generator.n_gpus else figures.TINY_GFLOP.value
        per_image = 1e9 * (passes(generator) * denoised + getattr(generator, "samples", 1) * decoded)
        asked = generator.n_gpus if gpus else 0
        per_image *= 2  # of the predicted target, and of the true one
        hours = _hours(per_image, 0, asked, getattr(generator, "precision", "float32"))  # of one image
        jobs, starting = len(subjects), figures.STARTING.value / HOUR
        total = hours * sum(subject.test_images for subject in subjects) + jobs * starting
        hours = hours * most + starting
        yield Work("reconstruct_images", name, jobs, hours, total, asked, "model")


def _rest(cfg: BaseConfig, subjects: Sequence[Subject]) -> Iterator[Work]:
    figure = figures.SCORING if cfg.dataset.kind == "nsd" else figures.SCORING_SMALL
    n = len(cfg.dataset.subjects)
    rules = ["score_decoders", "audit_subject"]
    rules += ["score_reconstructions"] if cfg.reconstructions else []
    rules += ["leave_voxels_out"] if cfg.interpretation.leave_one_out else []
    for rule in rules:
        yield Work(rule, "", n, figure.value, n * figure.value, 0, figure.origin)


def wall(found: Sequence[Work], gpus: int, cores: int, download_hours: float) -> float:
    """Hours from the first job to the last, if stages follow one another and each is shared evenly.

    A stage takes at least its longest job, and at least its hours over what works on it: `gpus` GPUs, or
    `cores` cores, two to a job. The download comes first and has one line.
    """
    stages: dict[str, list[Work]] = {}
    for work in found:
        stages.setdefault(work.rule, []).append(work)
    return download_hours + sum(_of_stage(stage, gpus, cores) for stage in stages.values())


def _of_stage(stage: Sequence[Work], gpus: int, cores: int) -> float:
    shares = []
    for on_a_gpu, n in ((True, gpus), (False, cores // CORES)):
        jobs = [work for work in stage if bool(work.gpus) == on_a_gpu]
        shares.append(max((work.longest for work in jobs), default=0.0))
        shares.append(sum(work.total for work in jobs) / max(1, n))
    return max(shares)
