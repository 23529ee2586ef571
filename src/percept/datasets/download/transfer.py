"""One object onto the disk: continued where it stopped, verified, and at its name only when whole."""

import errno
import fcntl
import glob
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from percept.datasets.download import checksum
from percept.datasets.download.bucket import Bucket, Changed, Patience, Remote, Transient, where
from percept.datasets.download.progress import Progress
from percept.files import PerceptError, hash_text

log = logging.getLogger(__name__)


def part_of(path: Path, remote: Remote) -> Path:
    """Where the bytes of this version of an object gather: another ETag or size means another file."""
    return path.with_name(f"{path.name}.{hash_text(f'{remote.etag} {remote.size}')}.part")


def is_whole(path: Path, remote: Remote) -> bool:
    """Whether the file is there, with the size that the server tells."""
    return path.is_file() and path.stat().st_size == remote.size


def have(path: Path, remote: Remote) -> int:
    """Bytes of an object that need not be fetched again."""
    if is_whole(path, remote):
        return remote.size
    part = part_of(path, remote)
    present = part.stat().st_size if part.is_file() else 0
    return present if present <= remote.size else 0


def download(bucket: Bucket, remote: Remote, path: Path, meter: Progress) -> Path:
    """Bring one object to `path`, from where an earlier attempt stopped.

    A file that turns out damaged, or an object that changed meanwhile, starts again from its first byte, at
    most `retries` times. Two processes that want the same file take turns: the second finds it whole.

    Raises
    ------
    PerceptError : no more tries left, or the disk is full; names the key
    Refused : 403, 404
    Stopped : `bucket.stop` was set; the part stays
    """
    cause = ""
    for _ in range(bucket.cfg.retries + 1):
        part = part_of(path, remote)
        with _held(part) as file:
            if is_whole(path, remote):  # another process was first
                part.unlink()
                return path
            _remove_other_parts(path, part)
            try:
                _fill(bucket, remote, file, meter)
                cause = checksum.damage(part, remote, bucket)
            except Changed:
                cause = "it changed on the server during the download"
            if cause is None:
                os.fsync(file.fileno())
                part.replace(path)
                meter.file_done()
                return path
            log.warning("%s: %s; starting again from its first byte", remote.key, cause)
            meter.add(-min(part.stat().st_size, remote.size))
            part.unlink()
        remote = bucket.head(remote.key)
    raise PerceptError(_hopeless(bucket, remote, path, cause))


def _hopeless(bucket: Bucket, remote: Remote, path: Path, cause: str) -> str:
    return (
        f"{remote.key} from {where(bucket.cfg)} arrived damaged {bucket.cfg.retries + 1} times (last: "
        f"{cause}), so nothing was kept: decoding from damaged data would go unnoticed. Try again later or "
        "from another `dataset.download.endpoint`. If that server's ETags are no MD5 checksums, bring the "
        f"file by another way (`aws s3 cp --no-sign-request`) to {path}: a file of the right size is taken "
        "as it is."
    )


def _fill(bucket: Bucket, remote: Remote, file: BinaryIO, meter: Progress) -> None:
    """Append what is missing, through as many connections as it takes."""
    if file.seek(0, os.SEEK_END) > remote.size:
        file.truncate(0)
    patience = Patience(bucket, remote.key)
    while (start := file.seek(0, os.SEEK_END)) < remote.size:
        try:
            for block in bucket.stream(remote, start):
                _append(file, block, remote)
                meter.add(len(block))
        except Transient as error:
            patience.wait(error, progressed=file.tell() > start)


def _append(file: BinaryIO, block: bytes, remote: Remote) -> None:
    try:
        while block:  # unbuffered: a killed process loses nothing that was written
            block = block[file.write(block) :]
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise PerceptError(
            f"no space left for {remote.key} ({remote.size} bytes) at {file.name}: what arrived is kept, "
            "and the same command goes on from there. Free some space, raise the quota, or set "
            "`dataset.root` to a larger disk."
        ) from error


def _remove_other_parts(path: Path, part: Path) -> None:
    """Delete what earlier attempts left of other versions of the object."""
    for other in path.parent.glob(f"{glob.escape(path.name)}.*.part"):
        if other != part:
            other.unlink(missing_ok=True)


@contextmanager
def _held(part: Path) -> Iterator[BinaryIO]:
    """The part file, open to append, and this process alone with it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with part.open("ab", buffering=0) as file:
            _lock(file)
            # While this waited, the process before may have renamed the file to its final name.
            if _still_at(part, file):
                yield file
                return


def _still_at(part: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), part.stat())
    except FileNotFoundError:
        return False


def _lock(file: BinaryIO) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:  # some cluster file systems know no locks
        log.debug("no lock on %s: %s", file.name, error)
