"""The download as a whole: compared with the disk once, before the first byte of the first job.

Every job looks at its own files again, but a disk that is too small for all of them would otherwise be
noticed after days. It is no rule of the workflow: whatever depended on one would be fetched again when the
rule's output was missing.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from percept import files
from percept.config import DownloadConfig
from percept.datasets.download.bucket import Bucket
from percept.datasets.download.plan import existing_parent, look_up, planned
from percept.datasets.download.progress import readable
from percept.files import PerceptError

log = logging.getLogger(__name__)


def check_once(keys: Iterable[str], root: str | Path, cfg: DownloadConfig, record: Path) -> dict[str, int]:
    """Bytes of all files together: in all, already there, still to fetch; written to `record`.

    A record of the same files in the same place is taken as it is; jobs that start together take turns. Keys
    that the server refuses are logged and not counted: the job that wants them says what is wrong.

    Raises
    ------
    PerceptError : too little free space; names the bytes needed and the bytes free
    """
    keys = sorted(set(keys))
    about = files.hash_text("\n".join([str(root), *keys]))
    record.parent.mkdir(parents=True, exist_ok=True)
    with _alone(record.parent):
        if record.exists() and (known := files.read_json(record)).get("files") == about:
            return known
        bucket = Bucket(cfg)
        remotes, refused = look_up(bucket, keys)
        for status, missing in refused.items():
            log.warning("%d files are refused (%d), the first is %s", len(missing), status, missing[0])
        plan = planned([remote for remote in remotes if remote], Path(root))
        log.info("in all %s, still to fetch %s", readable(plan.total), readable(plan.to_fetch))
        free = shutil.disk_usage(existing_parent(Path(root))).free
        if plan.to_fetch > free:
            raise PerceptError(_too_small(root, plan.to_fetch, free, cfg))
        found = {"files": about, "total": plan.total, "present": plan.present, "to_fetch": plan.to_fetch}
        files.write_json(found, record)
        return found


def _too_small(root: str | Path, needed: int, free: int, cfg: DownloadConfig) -> str:
    bound = "" if cfg.keep_raw else (
        " That is an upper bound, since the betas of a subject are deleted once its voxels are extracted, "
        "but sessions arrive in no fixed order."
    )  # fmt: skip
    return (
        f"{root} is too small for all that the configuration needs: {readable(needed)} are still to fetch "
        f"and only {readable(free)} are free ({needed} against {free} bytes), so nothing was fetched.{bound} "
        "Free some space, set `dataset.root` to a larger disk, lower `dataset.subjects` or "
        "`dataset.sessions`, or set `dataset.format: hdf5-ranges`, which keeps no raw betas."
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold a folder, so that others who ask for it wait."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:  # some cluster file systems know no locks
            log.debug("no lock on %s: %s", folder, error)
        yield
    finally:
        os.close(handle)
