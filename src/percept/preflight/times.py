"""Minutes that rules ask a cluster for, jobs that need more, and partitions that do not give as many.

Slurm lets a job of more minutes than its partition allows wait for ever (`PartitionTimeLimit`). So it is
submitted with what there is (rules/slurm_guard.py), which may not be enough. Rules whose time depends on the
data set, or on a GPU, ask by the functions here; the others say their minutes themselves.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from percept.config import BaseConfig
from percept.datasets import nsd_keys
from percept.preflight import sizes
from percept.preflight.figures import GB
from percept.preflight.hours import Work
from percept.preflight.machine import Machine
from percept.preflight.memory import Training
from percept.preflight.world import Subject

# Rules that ask by what they are given.
OF_DATA = ("extract_voxels", "train_decoder", "reconstruct_images", "reconstruct_splits")
DISK = 10e6  # bytes that a busy shared disk reads in a second


def extracting(n_bytes: float) -> int:
    """Minutes to read the `n_bytes` of a subject: half an hour, and what a busy disk takes for them."""
    return 30 + round(n_bytes / DISK / 60)


def training(n_bytes: float, gpus: int) -> int:
    """Minutes to train a decoder on betas of `n_bytes`: of a whole subject of NSD, 1 GB, or of fewer.

    MindEye took others 17 hours on the smallest GPU that it fits; a training that is stopped goes on.
    """
    return round(60 * (12 if gpus else 4) * max(1.0, n_bytes / GB))


def generating(gpus: int) -> int:
    """Minutes to make the images of a test set; a job that is stopped goes on where it was."""
    return 600 if gpus else 120


def asked(
    cfg: BaseConfig, subjects: Sequence[Subject], trained: Sequence[Training], fixed: Mapping[str, int]
) -> dict[str, int]:
    """Minutes of the longest job of every rule that is submitted, at its first attempt.

    Parameters
    ----------
    fixed : rule -> minutes, of rules that ask for the same whatever the data are, or were told what
        to ask for
    """
    betas = max((sizes.voxels(cfg, [subject]) for subject in subjects), default=0.0)
    found = {}
    if cfg.dataset.kind == "nsd":
        found["extract_voxels"] = extracting(max(_raw(cfg, name) for name in cfg.dataset.subjects))
    if trained:
        found["train_decoder"] = training(betas, max(one.gpus for one in trained))
    generators = [one.generator for one in cfg.reconstructions.values() if not one.generator.chooses_from]
    if generators:
        found["reconstruct_images"] = generating(max(one.n_gpus for one in generators))
    return found | dict(fixed)


def _raw(cfg: BaseConfig, subject: str) -> float:
    """Bytes of the betas of a subject of NSD as they are fetched."""
    sessions = nsd_keys.sessions_of(cfg.dataset, subject)
    keys = [nsd_keys.key_betas(subject, session, cfg.dataset) for session in sessions]
    return sum(sizes.bytes_of(key, cfg.dataset) for key in keys)


def refusals(minutes: Mapping[str, int], where: Mapping[str, Machine]) -> Iterator[str]:
    """Partitions on which jobs get less time than they ask for."""
    by_place = defaultdict(dict)
    for rule, wanted in minutes.items():
        limit = where[rule].minutes if rule in where else None
        if limit is not None and wanted > limit:
            by_place[where[rule]][rule] = wanted
    for place, rules in by_place.items():
        most = sorted(rules.items(), key=lambda one: -one[1])
        told = ", ".join(f"{rule} {wanted} minutes" for rule, wanted in most)
        yield (
            f"{place.name} lets a job run for {place.minutes:.0f} minutes, and jobs ask for more ({told}): "
            "they would be submitted with what there is, and end before they are done if they need what they "
            "ask for. Send them to a partition with a longer limit (`partition`, `gpu_partition` in "
            "profiles/slurm/site.yaml); or say that it suffices: "
            f"`--set-resources {most[0][0]}:runtime={place.minutes:.0f}`."
        )


def overruns(
    works: Sequence[Work], minutes: Mapping[str, int], where: Mapping[str, Machine]
) -> Iterator[str]:
    """Rules on a cluster of which the longest job needs more time than it asks for."""
    longest: dict[str, Work] = {}
    for work in works:
        if work.rule not in longest or work.longest > longest[work.rule].longest:
            longest[work.rule] = work
    for rule, work in longest.items():
        needed, asked = 60 * work.longest, minutes.get(rule)
        if asked is not None and needed > asked and rule in where and where[rule].cluster:
            of = f" of {work.name}" if work.name else ""
            yield (
                f"{rule}{of} asks for {asked} minutes and would need {needed:.0f} ({work.origin}): Slurm "
                "would end it before it is done. Ask for more: "
                f"`--set-resources {rule}:runtime={math.ceil(1.5 * needed)}`."
            )
