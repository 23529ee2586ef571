"""Hours of every kind of job, by recorded runs where there are any and by the model of `work` elsewhere."""

import csv
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from percept.config import BaseConfig, GeneratorConfig
from percept.datasets import nsd_keys
from percept.preflight import asks, figures, gans, pools
from percept.preflight.gans import Gan
from percept.preflight.memory import Training, solving
from percept.preflight.shapes import shape_of
from percept.preflight.sizes import stimuli
from percept.preflight.work import HOUR, STARTING, Work, computing, encoding, seen_gflop
from percept.preflight.world import Subject, results

Asked = Mapping[str, Mapping[str, int]]  # GPUs that jobs ask for, as of `asks.gpus`
FOLDS = 5  # of ridge, unless its section says otherwise: an encoding model has no such setting
CORES = 2  # with which the rates of the CPU were measured


@dataclass(frozen=True)
class Known:
    """What the hours go by: subjects, the largest training of each decoder, GANs, and images of each pool."""

    subjects: Sequence[Subject]
    trained: Sequence[Training]
    gans: Sequence[Gan] = ()
    pools: Mapping[str, int] = field(default_factory=dict)


def recorded(cfg: BaseConfig, rule: str, name: str = "") -> list[float]:
    """Hours of jobs that ran before, by the benchmarks that Snakemake recorded of them."""
    found = []
    for path in sorted((results(cfg) / "benchmarks").rglob(f"{rule}.tsv")):
        if set(filter(None, name.split("/"))) <= set(path.parts):
            with path.open(encoding="utf-8") as file:
                found += [float(row["s"]) / HOUR for row in csv.DictReader(file, delimiter="\t")]
    return found


def works(cfg: BaseConfig, known: Known, gpus: bool, records: bool) -> list[Work]:
    """Every kind of job of a configuration.

    Parameters
    ----------
    gpus : whether there is a GPU for the jobs that can use one; without, they are computed by the processor
    records : whether what was recorded here says something of these GPUs; jobs without one go by it anyway
    """
    subjects = known.subjects
    asked = {rule: names if gpus else dict.fromkeys(names, 0) for rule, names in asks.gpus(cfg).items()}
    modelled = [
        *_data(cfg),
        *_targets(cfg, subjects, asked),
        *pools.works(cfg, known.pools, gpus),
        *_decoders(cfg, known, asked),
        *gans.works(known.gans, gpus),
        *_generators(cfg, subjects, asked),
        *_splits(cfg, subjects, asked),
        *_votes(cfg, subjects, asked),
        *_encodings(cfg, subjects),
        *_rest(cfg, asked),
    ]
    return [_preferred(cfg, work) if records or not work.gpus else work for work in modelled]


def _preferred(cfg: BaseConfig, work: Work) -> Work:
    """A kind of job by what was recorded of it in this folder, if anything was."""
    ran = recorded(cfg, work.rule, work.name)
    if not ran:
        return work
    total = work.jobs * statistics.fmean(ran)
    return replace(work, longest=max(ran), total=total, origin=f"recorded ({len(ran)})")


def _data(cfg: BaseConfig) -> Iterator[Work]:
    if cfg.dataset.kind != "nsd":
        jobs = len(cfg.dataset.subjects)
        yield Work("extract_voxels", "", jobs, STARTING, jobs * STARTING, 0, figures.STARTING.origin)
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


def _targets(cfg: BaseConfig, subjects: Sequence[Subject], asked: Asked) -> Iterator[Work]:
    n = stimuli(cfg, subjects) if subjects else 0
    for name, target in cfg.targets.items():
        gpus = asked["encode_target"][name]
        hours, origin = encoding(target, n, gpus)
        hours += STARTING
        yield Work("encode_target", name, 1, hours, hours, gpus, origin, resumes=True)


def _decoders(cfg: BaseConfig, known: Known, asked: Asked) -> Iterator[Work]:
    for training in known.trained:
        decoder = cfg.every_decoder[training.decoder]
        solved, gpus = not training.device, asked["train_decoder"][training.decoder]
        hours = (
            training.flop / figures.RIDGE_FLOPS.value / HOUR
            if solved and not gpus
            else computing(training.flop, training.moved, gpus, getattr(_of(decoder), "precision", "float32"))
        )
        hours = hours / max(1, gpus) + STARTING
        jobs = len(decoder.seeds) * len(known.subjects)
        yield Work(
            "train_decoder", training.decoder, jobs, hours, jobs * hours, gpus, "model", resumes=not solved
        )


def _of(decoder: Any) -> Any:  # noqa: ANN401 (settings of one of several kinds)
    """How a network is trained; nothing of a decoder that is solved."""
    return getattr(decoder, "training", None)


def passes(generator: GeneratorConfig) -> float:
    """Denoising steps of one image: of all samples, doubled by guidance, less what the low level saves."""
    steps = math.ceil(getattr(generator, "steps", 0) * getattr(generator, "strength", 1.0))
    doubled = 2 if getattr(generator, "guidance", 1.0) not in (0, 1.0) else 1
    return steps * doubled * getattr(generator, "samples", 1)


def _making(generator: GeneratorConfig, gpus: int) -> float:
    """Hours of one image of a generator, without those of starting."""
    backbone = getattr(generator, "backbone", None)
    denoised = figures.DENOISING_GFLOP.get(backbone, figures.TINY_GFLOP.value if backbone else 0)
    decoded = figures.DECODING_GFLOP if generator.n_gpus else figures.TINY_GFLOP.value
    per_image = 1e9 * (passes(generator) * denoised + getattr(generator, "samples", 1) * decoded)
    return computing(per_image, 0, gpus, getattr(generator, "precision", "float32"))


def _generators(cfg: BaseConfig, subjects: Sequence[Subject], asked: Asked) -> Iterator[Work]:
    for name, gpus in asked.get("reconstruct_images", {}).items():
        hours = 2 * _making(cfg.reconstructions[name].generator, gpus)  # of predicted and of true targets
        each = [subject.test_images * hours + STARTING for subject in subjects]
        yield _each("reconstruct_images", name, each, gpus)


def _splits(cfg: BaseConfig, subjects: Sequence[Subject], asked: Asked) -> Iterator[Work]:
    """Images of training and validation stimuli, and the comparison of three splits with what was seen."""
    for name, gpus in asked.get("reconstruct_splits", {}).items():
        one = cfg.reconstructions[name]
        each = 2 * one.splits.images * _making(one.generator, gpus) + STARTING
        yield _each("reconstruct_splits", name, [each] * len(subjects), gpus)
    for name, gpus in asked.get("score_splits", {}).items():
        shown = [cfg.reconstructions[one].splits for one in asks.splits(cfg)]
        flop = sum(1e9 * 3 * 2 * one.images * seen_gflop(one.network) for one in shown)
        hours = computing(flop, 0, gpus, "float32") + _scoring(cfg).value
        yield Work("score_splits", name, len(subjects), hours, len(subjects) * hours, gpus, "assumed")


def _votes(cfg: BaseConfig, subjects: Sequence[Subject], asked: Asked) -> Iterator[Work]:
    """All votes of a subject: each network looks once at the images of predicted and of true targets."""
    generators = [one.generator for one in cfg.reconstructions.values()]
    looked = {(name, network) for one in generators for name in one.chooses_from for network in one.backbones}
    per_image = 2e9 * sum(seen_gflop(network) for _, network in looked)
    for name, gpus in asked.get("vote_images", {}).items():
        hours = computing(per_image, 0, gpus, "float32")
        yield _each("vote_images", name, [one.test_images * hours + STARTING for one in subjects], gpus)


def _each(rule: str, name: str, hours: Sequence[float], gpus: int) -> Work:
    """Jobs that make images, one for each subject; a batch that is made is not made again."""
    return Work(rule, name, len(hours), max(hours, default=0.0), sum(hours), gpus, "model", resumes=True)


def _encodings(cfg: BaseConfig, subjects: Sequence[Subject]) -> Iterator[Work]:
    """Encoding models; where it is not known how many features there are, as long as other tables take."""
    for name, one in cfg.encodings.items():
        shape, assumed = shape_of(one.target, cfg), _scoring(cfg)
        n = len(subjects)
        if shape is None:
            yield Work("encode_responses", name, n, assumed.value, n * assumed.value, 0, assumed.origin)
        else:
            penalties = len(one.alphas) if one.method == "ridge" else 1
            rates = [
                solving(sum(subject.train_images(cfg.split.validation_fraction)), math.prod(shape),
                        subject.of(one.roi), penalties, FOLDS)
                / figures.RIDGE_FLOPS.value / HOUR + STARTING
                for subject in subjects
            ]  # fmt: skip
            yield Work("encode_responses", name, n, max(rates, default=0.0), sum(rates), 0, "model")
        yield Work("score_encoding", name, n, assumed.value, n * assumed.value, 0, assumed.origin)


def _scoring(cfg: BaseConfig) -> figures.Figure:
    return figures.SCORING if cfg.dataset.kind == "nsd" else figures.SCORING_SMALL


def _rest(cfg: BaseConfig, asked: Asked) -> Iterator[Work]:
    figure, n = _scoring(cfg), len(cfg.dataset.subjects)
    rules = ["score_decoders", "audit_subject"]
    rules += [rule for rule in ("score_reconstructions", "leave_voxels_out") if rule in asked]
    rules += ["analyse_latents"] if set(cfg.evaluation.latents.decoders) & set(cfg.decoders) else []
    for rule in rules:
        gpus = asked.get(rule, {}).get("", 0)
        resumes = rule == "score_decoders"  # trainings that are scored stay so
        yield Work(rule, "", n, figure.value, n * figure.value, gpus, figure.origin, resumes)


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
