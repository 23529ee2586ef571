"""The whole look ahead, and everything that cannot work."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from percept.config import BaseConfig
from percept.files import PerceptError
from percept.preflight import (
    figures,
    gans,
    hours,
    machine,
    memory,
    pools,
    problems,
    sizes,
    times,
    work,
    world,
)
from percept.preflight.gans import Gan
from percept.preflight.hours import Known
from percept.preflight.machine import Machine
from percept.preflight.memory import Generation, Training
from percept.preflight.shapes import shape_of
from percept.preflight.sizes import Stored
from percept.preflight.work import Work
from percept.preflight.world import Subject

RULES = (
    "train_decoder", "score_decoders", "audit_subject", "encode_target", "encode_pool", "train_gan",
    "reconstruct_images", "reconstruct_splits", "vote_images", "score_reconstructions", "score_splits",
    "leave_voxels_out",
)  # fmt: skip


@dataclass(frozen=True)
class Fixed:
    """Rule -> what its jobs are submitted with, where the data do not matter; empty on one machine."""

    minutes: Mapping[str, int] = field(default_factory=dict)
    megabytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outlook:
    """What a configuration takes, and where; `works` there, `on_gpus` where each job that asks has one.

    pools : images of each pool that is used, 0 where there are none yet
    minutes : that jobs ask for, as of `times.asked`
    """

    cfg: BaseConfig
    subjects: list[Subject]
    trained: list[Training]
    gans: list[Gan]
    pools: dict[str, int]
    made: list[Generation]
    stored: list[Stored]
    works: list[Work]
    on_gpus: list[Work]
    asked: dict[str, float]
    minutes: dict[tuple[str, str], int]
    where: dict[str, Machine]
    download: float


def look(cfg: BaseConfig, where: Mapping[str, Machine], fixed: Fixed | None = None) -> Outlook:
    """Everything that is known before anything runs.

    Parameters
    ----------
    where : rule -> the machine or partition that its jobs go to, of `RULES` at least
    fixed : what rules ask for whatever the data are
    """
    fixed = fixed or Fixed()
    subjects = world.subjects(cfg)
    trained = memory.trainings(cfg, subjects)
    of_runs = dict(_predictions(cfg, subjects))
    saved = {one.decoder: one.saved for one in trained}
    seeds = {name: len(decoder.seeds) for name, decoder in cfg.every_decoder.items()}
    decoders = sum(sum(each) * seeds[name] for name, each in of_runs.items())
    decoders += sum(n * seeds[name] * len(subjects) for name, n in saved.items())
    games, outside = gans.trainings(cfg), pools.counted(cfg)
    passing = {
        "decoders": max((one.checkpoint for one in trained), default=0.0),
        "gans": sum(one.checkpoint for one in games),
    }
    lasting = {
        "decoders": decoders,
        "gans": sum(one.saved for one in games),
        "pools": pools.stored(cfg, outside),
    }
    stored = list(sizes.on_disk(cfg, subjects, lasting, passing))
    largest = max((n for each in of_runs.values() for n in each), default=0.0)
    cluster = any(place.cluster for place in where.values())
    has_gpus = any(place.gpus for place in where.values())
    known = Known(subjects, trained, games, outside)
    download = sum(one.to_come + one.passing for one in stored if one.stage == "download")
    return Outlook(
        cfg=cfg,
        subjects=subjects,
        trained=trained,
        gans=games,
        pools=outside,
        made=memory.generations(cfg),
        stored=stored,
        # What ran here before says nothing of the GPUs of a cluster, nor of any where this machine has none.
        works=hours.works(cfg, known, gpus=has_gpus or cluster, records=not cluster),
        on_gpus=hours.works(cfg, known, gpus=True, records=has_gpus and not cluster),
        asked={**problems.needs(cfg, subjects, trained, largest), **fixed.megabytes},
        minutes=times.asked(cfg, subjects, fixed.minutes),
        where=dict(where),
        download=download / figures.BANDWIDTH.value / work.HOUR,
    )


def _predictions(cfg: BaseConfig, subjects: Sequence[Subject]) -> Iterator[tuple[str, list[float]]]:
    """Bytes of the predictions of one seed of each decoder, of every subject."""
    for name, decoder in cfg.every_decoder.items():
        shape = shape_of(decoder.target, cfg)
        if shape is not None:
            yield name, [sizes.predictions(decoder, subject, shape, cfg) for subject in subjects]


def places(partitions: Mapping[str, str]) -> tuple[dict[str, Machine], list[str]]:
    """Where the jobs of each rule go, and what is wrong with that.

    Parameters
    ----------
    partitions : rule -> partition of Slurm; empty where jobs run on this machine
    """
    here, found, wrong = machine.local(), {}, []
    if not partitions:
        return dict.fromkeys(RULES, here), wrong
    for name in dict.fromkeys(partitions.values()):
        try:
            found[name] = machine.partition(name)
        except PerceptError as error:
            wrong.append(str(error))
            found[name] = Machine(f"partition {name}", 1, None, 1, cluster=True)
    return {rule: found.get(partitions.get(rule, ""), here) for rule in (*RULES, *partitions)}, wrong


def refusals(outlook: Outlook) -> list[str]:
    """Everything that cannot work, at once."""
    cfg = outlook.cfg
    return [
        *problems.terms(cfg), *problems.inputs(cfg), *pools.missing(cfg, outlook.pools),
        *problems.networks(cfg),
        *problems.folders(cfg, outlook.stored), *problems.disks(outlook.stored),
        *problems.memories(outlook.asked, outlook.where),
        *problems.gpus(outlook.trained, outlook.gans, outlook.where),
        *problems.absent_gpus(cfg, outlook.where),
        *problems.images(outlook.made, outlook.where),
        *times.refusals(outlook.minutes, outlook.where),
        *times.overruns(outlook.works, outlook.minutes, outlook.where),
    ]  # fmt: skip
