"""Fetch COCO's annotations of the photographs that NSD shows: their captions and objects."""

import logging
import zipfile
import zlib
from pathlib import Path

from percept.backbones.transfer import Remote, download, is_there, require_space
from percept.datasets import coco
from percept.files import PerceptError, atomic

log = logging.getLogger(__name__)
ARCHIVE = Remote(
    "annotations_trainval2017.zip",
    coco.ARCHIVE,
    size=252_907_541,
    sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)
UNPACKED = 1 << 30  # bytes of the four files, with room


def fetch(root: Path, archive: Remote = ARCHIVE) -> None:
    """Put captions and instances of both splits of COCO 2017 under `root`; the archive is removed afterwards.

    An archive that lies there already, whole, is not fetched again.

    Raises
    ------
    PerceptError : no connection, too little disk, or an archive without these files
    """
    target = root / "annotations" / archive.path
    fetched = is_there(archive, target)
    require_space(root, UNPACKED + (0 if fetched else archive.size or 0), "COCO's annotations")
    if not fetched:
        download(archive, target)
    unpack(target, root)
    target.unlink()


def unpack(archive: Path, root: Path) -> None:
    """Write the files of `coco.KEYS` from an archive that holds them under the same names.

    Raises
    ------
    PerceptError : the archive is damaged or lacks one of them
    """
    try:
        with zipfile.ZipFile(archive) as content:
            for key in coco.KEYS:
                log.info("unpacking %s", key)
                with (
                    content.open(key) as member,
                    atomic(root / key) as temporary,
                    temporary.open("wb") as out,
                ):
                    while block := member.read(1 << 20):
                        out.write(block)
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, RuntimeError) as error:
        raise PerceptError(
            f"{archive} does not hold COCO's annotations ({error}): captions and objects of the stimuli "
            f"cannot be read. Delete it and run the same command again, or put {', '.join(coco.KEYS)} "
            f"under {root} yourself."
        ) from error
