"""Files of the bucket onto the disk: exactly those asked for, resumable, verified, whole or absent.

>>> require_terms(config.dataset.terms_accepted)  # doctest: +SKIP
>>> fetch(["nsddata/experiments/nsd/nsd_expdesign.mat"], "nsd", config.dataset.download)  # doctest: +SKIP

`ranges.read_session` reads single voxels of a session's hdf5 betas without fetching the file.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from percept.config import DownloadConfig
from percept.datasets.download import transfer
from percept.datasets.download.bucket import Bucket, Refused, Remote
from percept.datasets.download.plan import Plan, preflight, require_terms, survey, target, together
from percept.datasets.download.progress import Progress, readable
from percept.files import PerceptError

__all__ = ["Plan", "Refused", "fetch", "preflight", "require_terms"]

log = logging.getLogger(__name__)


def fetch(keys: Iterable[str], root: str | Path, cfg: DownloadConfig) -> list[Path]:
    """Paths of `keys` below `root`, in the order given, after fetching those that are not there.

    Access is anonymous. A file whose size is the server's is left as it is. Any other gathers in a `.part`
    file beside its place, continues there after a dropped connection or a killed job, is verified
    (`checksum.damage` says how) and renamed to its name only when whole. `cfg.connections` files come at the
    same time, the largest first. With `cfg.enabled` false nothing is fetched, and every file must be there.

    Raises
    ------
    Refused : 403 or 404; names the keys and what it means
    PerceptError : too little disk space, the server out of reach, a file damaged on every attempt; a file
        absent although `cfg.enabled` is false
    """
    root = Path(root)
    keys = list(keys)
    paths = [target(root, key) for key in keys]
    if not cfg.enabled:
        _require_present(paths)
        return paths
    bucket = Bucket(cfg)
    plan = survey(bucket, keys, root)
    missing = [remote for remote in plan.remotes if not transfer.is_whole(target(root, remote.key), remote)]
    missing.sort(key=lambda remote: -remote.size)  # the longest would otherwise run alone at the end
    log.info("%d files, %s still to fetch into %s", len(missing), readable(plan.to_fetch), root)
    total = sum(remote.size for remote in missing)
    with Progress(total, total - plan.to_fetch, len(missing)) as meter:

        def bring(remote: Remote) -> Path:
            return transfer.download(bucket, remote, target(root, remote.key), meter)

        together(bucket, bring, missing)
    return paths


def _require_present(paths: list[Path]) -> None:
    absent = [str(path) for path in paths if not path.is_file()]
    if absent:
        raise PerceptError(
            f"{len(absent)} files are missing, the first is {absent[0]}, and `dataset.download.enabled` is "
            "false: nothing is fetched. Put them there (the tree is the bucket's), or set "
            "`dataset.download.enabled: true`."
        )
