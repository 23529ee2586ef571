"""What a download will do, known before its first byte: sizes, what is there already, room on the disk."""

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

from percept.config import DownloadConfig
from percept.datasets.download import transfer
from percept.datasets.download.bucket import Bucket, Refused, Remote, where
from percept.datasets.download.progress import readable
from percept.datasets.terms import require_terms as require_terms  # part of what this module offers
from percept.files import PerceptError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Plan:
    """The objects wanted, in the order asked, and their bytes: in all, already here, still to fetch."""

    remotes: tuple[Remote, ...]
    total: int
    present: int

    @property
    def to_fetch(self) -> int:
        """Bytes still to fetch."""
        return self.total - self.present


def preflight(keys: Iterable[str], root: str | Path, cfg: DownloadConfig) -> Plan:
    """Ask the server about every key and compare what is missing with the room on the disk.

    Raises
    ------
    Refused : keys that do not exist or may not be read, all of them in one message
    PerceptError : too little free space; names the bytes needed and the bytes free
    """
    return survey(Bucket(cfg), keys, Path(root))


def survey(bucket: Bucket, keys: Iterable[str], root: Path) -> Plan:
    """The body of `preflight`, over a bucket that is already open."""
    keys = list(dict.fromkeys(keys))
    for key in keys:
        target(root, key)  # refuses a key that leads out of `root`
    remotes, refused = look_up(bucket, keys)
    for status in sorted(refused, reverse=True):  # a key that does not exist is the plainer mistake
        raise Refused(status, sorted(refused[status]), bucket.cfg)
    plan = planned(remotes, root)
    free = shutil.disk_usage(existing_parent(root)).free
    if plan.to_fetch > free:
        raise PerceptError(
            f"{root} is too small: {readable(plan.to_fetch)} are still to fetch from {where(bucket.cfg)} "
            f"and only {readable(free)} are free ({plan.to_fetch} against {free} bytes), so the download "
            "would stop half way. Free some space, set `dataset.root` to a larger disk, or lower "
            "`dataset.subjects` or `dataset.sessions`."
        )
    return plan


def planned(remotes: Iterable[Remote], root: Path) -> Plan:
    """What fetching objects into `root` takes."""
    remotes = tuple(remotes)
    present = sum(transfer.have(target(root, remote.key), remote) for remote in remotes)
    return Plan(remotes, sum(remote.size for remote in remotes), present)


def target(root: Path, key: str) -> Path:
    """Where a key of the bucket lies below `root`.

    Raises
    ------
    ValueError : the key would lead out of `root`
    """
    parts = PurePosixPath(key).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ValueError(f"{key!r} is no key of the bucket: keys are relative paths without `..`")
    return root.joinpath(*parts)


def look_up(bucket: Bucket, keys: list[str]) -> tuple[list[Remote | None], dict[int, list[str]]]:
    """What the server tells of keys, None where it refuses; and the refused keys by status."""
    refused: dict[int, list[str]] = {}

    def look(key: str) -> Remote | None:
        try:
            return bucket.head(key)
        except Refused as error:
            refused.setdefault(error.status, []).append(key)
            return None

    return together(bucket, look, keys), refused


def together(bucket: Bucket, work: Callable[[T], R], items: list[T]) -> list[R]:
    """Do `work` on all items, `connections` at a time; the first error stops the others and is raised."""
    with ThreadPoolExecutor(bucket.cfg.connections, thread_name_prefix="download") as pool:
        futures = [pool.submit(work, item) for item in items]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:  # also an interrupt: no thread must outlive it
            bucket.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return [future.result() for future in futures]


def existing_parent(folder: Path) -> Path:
    """The folder itself, or the nearest above it that there is."""
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
