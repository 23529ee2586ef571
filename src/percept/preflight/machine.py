"""What there is to run on: this machine, or a partition of a cluster, and the disks."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from percept.files import PerceptError
from percept.preflight import figures

MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
SECONDS = 20  # that a command is waited for


@dataclass(frozen=True)
class Machine:
    """Where jobs run.

    name : what messages call it
    ram : bytes of the largest node; None where that is not known
    gpus : how many one node has; gpu_bytes : memory of the largest, None where that is not known
    gpu_name : its type; of a partition every type, in the words of Slurm
    minutes : that a job may run; None without a limit
    """

    name: str
    cores: int
    ram: float | None
    gpus: int
    gpu_bytes: float | None = None
    gpu_name: str = ""
    cluster: bool = False
    minutes: float | None = None


def local() -> Machine:
    """Where this process runs, as the tools of the machine describe it."""
    listed = _asked("nvidia-smi", "--query-gpu=memory.total,name", "--format=csv,noheader,nounits") or ""
    gpus = [line.split(", ", 1) for line in listed.splitlines() if re.match(r"\d+, ", line)]
    sizes = [float(memory) * 2**20 for memory, _ in gpus]
    return Machine(
        "this machine", len(os.sched_getaffinity(0)), memory(), len(gpus), max(sizes, default=None),
        gpus[0][1] if gpus else "",
    )  # fmt: skip


def memory() -> float | None:
    """Bytes of memory that a process may have: of the machine, or of the container it runs in."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(MEMINFO), re.MULTILINE)
    bounds = [1024 * float(found[1])] if found else []
    bounds += [float(text)] if (text := _text(CGROUP).strip()).isdigit() else []
    return min(bounds, default=None)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def partition(name: str) -> Machine:
    """What the largest nodes of a partition have, and its time limit, by `sinfo`.

    Each figure is the largest over all kinds of nodes, and over all partitions of `a,b`. Slurm does not know
    the memory of GPUs: it is what is published of their types, and not known where one of them is not.

    Raises
    ------
    PerceptError : there is no `sinfo`, it does not answer, or there is no such partition
    """
    # Without `--exact` nodes that differ share a line, which has the least of each figure.
    answer = _asked("sinfo", "-h", "-e", "-p", name, "-o", "%c|%m|%G|%l")
    if answer is None:
        raise PerceptError(
            f"`sinfo` did not say what the partition {name} has: jobs are to go to Slurm, and nobody knows "
            "whether they fit. Run this where `sinfo` answers, such as a login node of the cluster, or "
            "without `--profile slurm` to compare with the machine itself."
        )
    nodes = [line.split("|") for line in answer.splitlines() if line.count("|") == 3]
    if not nodes:
        raise PerceptError(
            f"Slurm has no partition {name!r} here: every job that asks for it would be refused. Correct "
            "`partition` or `gpu_partition` in profiles/slurm/site.yaml; `sinfo -h -o %P` lists them."
        )
    gpus = [_gpus(gres) for *_, gres, _ in nodes]
    types = list(dict.fromkeys(kind for _, kinds in gpus for kind in kinds))
    limits = [minutes(limit) for *_, limit in nodes]
    return Machine(
        f"partition {name}", max(int(cores) for cores, *_ in nodes),
        2**20 * max(int(mb) for _, mb, *_ in nodes), max(n for n, _ in gpus),
        gpu_bytes=_largest(types),
        gpu_name=", ".join(filter(None, types)),
        cluster=True,
        minutes=None if None in limits else max(limits),
    )  # fmt: skip


def _largest(types: Sequence[str]) -> float | None:
    """Bytes of the largest GPU of these types; None where there is none, or one of them is not known."""
    known = [figures.gpu_memory(kind) for kind in types]
    if not known or None in known:
        return None
    return figures.GIB * max(one.value for one in known)


def minutes(limit: str) -> float | None:
    """A time limit of Slurm, `days-hours:minutes:seconds` from the right; None of `infinite` and the like."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return 1440 * days + 60 * hours + minutes + seconds / 60


def _gpus(gres: str) -> tuple[int, tuple[str, ...]]:
    """How many GPUs a node has, and of which types, by its generic resources: `gpu:a100:4(S:0-1),shard:8`.

    The type is empty where Slurm was told of none.
    """
    listed = re.findall(r"(?:^|,)gpu(?::([^:,()]+))?:(\d+)", gres.strip())
    return sum(int(count) for _, count in listed), tuple(kind for kind, _ in listed)


def _asked(*command: str) -> str | None:
    """What a command answers; None if there is none, or it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def existing(folder: Path) -> Path:
    """A folder, or the nearest above it that there is."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder."""
    return shutil.disk_usage(existing(folder)).free


def disk(folder: Path) -> int:
    """Which disk a folder is on."""
    return existing(folder).stat().st_dev
