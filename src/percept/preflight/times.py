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
from percept.preflight import asks, sizes
from percept.preflight.figures import GB
from percept.preflight.machine import Machine
from percept.preflight.work import Work
from percept.preflight.world import Subject

# Rules that ask by what they are given.
OF_DATA = ("extract_voxels", "train_decoder", "reconstruct_images", "reconstruct_splits")
ATTEMPTS = 2  # of a job: `retries: 1` in profiles/slurm/config.yaml, the second with twice the time
LISTED = 5  # jobs in one message
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
    cfg: BaseConfig, subjects: Sequence[Subject], fixed: Mapping[str, int]
) -> dict[tuple[str, str], int]:
    """Minutes of the longest job that is submitted, at its first attempt, by (rule, name).

    The name is that of `Work`: what a job is about. It is empty where all jobs of a rule ask for the same.

    Parameters
    ----------
    fixed : rule -> minutes, of rules that ask for the same whatever the data are, or were told what
        to ask for
    """
    betas = max((sizes.voxels(cfg, [subject]) for subject in subjects), default=0.0)
    gpus = asks.gpus(cfg)
    found = {}
    if cfg.dataset.kind == "nsd":
        found["extract_voxels", ""] = extracting(max(_raw(cfg, name) for name in cfg.dataset.subjects))
    if subjects:
        found |= {
            ("train_decoder", name): training(betas, n) for name, n in gpus.get("train_decoder", {}).items()
        }
    for rule in ("reconstruct_images", "reconstruct_splits"):
        found |= {(rule, name): generating(n) for name, n in gpus.get(rule, {}).items()}
    told = {(rule, ""): wanted for rule, wanted in fixed.items()}
    return {job: wanted for job, wanted in found.items() if job[0] not in fixed} | told


def of(minutes: Mapping[tuple[str, str], int], work: Work) -> int | None:
    """Minutes that jobs of a kind ask for, as of `asked`; None where that is not known."""
    return minutes.get((work.rule, work.name), minutes.get((work.rule, "")))


def _raw(cfg: BaseConfig, subject: str) -> float:
    """Bytes of the betas of a subject of NSD as they are fetched."""
    sessions = nsd_keys.sessions_of(cfg.dataset, subject)
    keys = [nsd_keys.key_betas(subject, session, cfg.dataset) for session in sessions]
    return sum(sizes.bytes_of(key, cfg.dataset) for key in keys)


def refusals(minutes: Mapping[tuple[str, str], int], where: Mapping[str, Machine]) -> Iterator[str]:
    """Partitions on which jobs get less time than they ask for.

    Parameters
    ----------
    minutes : as of `asked`
    """
    by_place = defaultdict(dict)
    for (rule, _), wanted in minutes.items():
        limit = where[rule].minutes if rule in where else None
        if limit is not None and wanted > limit:
            rules = by_place[where[rule]]
            rules[rule] = max(wanted, rules.get(rule, 0))
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
    works: Sequence[Work], minutes: Mapping[tuple[str, str], int], where: Mapping[str, Machine]
) -> Iterator[str]:
    """Rules on a cluster with jobs that cannot end in the attempts that they have.

    Parameters
    ----------
    minutes : as of `asked`
    """
    by_rule = defaultdict(list)
    for work in works:
        wanted, place = of(minutes, work), where.get(work.rule)
        if wanted is None or place is None or not place.cluster:
            continue
        if 60 * work.longest > had(wanted, place.minutes, work.resumes):
            by_rule[work.rule].append(work)
    for rule, late in by_rule.items():
        late.sort(key=lambda work: -work.longest)
        told = "; ".join(
            f"{rule}{' of ' * bool(work.name)}{work.name} asks for {of(minutes, work)} minutes and would "
            f"need {60 * work.longest:.0f} ({work.origin})"
            for work in late[:LISTED]
        )
        more = f"; and {len(late) - LISTED} more" if len(late) > LISTED else ""
        yield (
            f"{told}{more}: Slurm would end it before it is done, {_attempts(late[0])}. "
            f"{_remedy(late[0], where[rule])}"
        )


def had(wanted: int, limit: float | None, resumes: bool) -> float:
    """Minutes that a job has in all its attempts, each with as much more time as it asks for at first.

    Those of the last alone where each begins anew, and no attempt with more than the partition's limit.
    """
    each = [min(wanted * attempt, limit or math.inf) for attempt in range(1, ATTEMPTS + 1)]
    return sum(each) if resumes else each[-1]


def _attempts(work: Work) -> str:
    if work.resumes:
        return "also when it goes on with twice the time at its second attempt"
    return "also when it begins anew with twice the time at its second attempt"


def _remedy(work: Work, place: Machine) -> str:
    """What to ask for, within the limit of the partition where that suffices."""
    needed = 60 * work.longest
    wanted = math.ceil(1.5 * needed)
    if place.minutes is not None and wanted > place.minutes:
        if had(int(place.minutes), place.minutes, work.resumes) < needed:
            return (
                f"{place.name} lets a job run for {place.minutes:.0f} minutes: send it to a partition with a "
                "longer limit (`partition`, `gpu_partition` in profiles/slurm/site.yaml), and ask for more "
                f"there: `--set-resources {work.rule}:runtime={wanted}`."
            )
        wanted = int(place.minutes)
    return f"Ask for more: `--set-resources {work.rule}:runtime={wanted}`."
