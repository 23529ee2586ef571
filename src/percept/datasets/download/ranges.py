"""Single voxels of a session's hdf5 betas, without the rest: from the bucket over HTTP ranges, or from disk.

Session 1 of subj01 is 1,094 MB as hdf5; the 15,724 voxels of nsdgeneral are 24 MB of it.
"""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from percept.config import DownloadConfig
from percept.datasets.download import chunks
from percept.datasets.download.bucket import Changed
from percept.datasets.download.progress import readable
from percept.datasets.download.source import LocalFile, RemoteFile, Source, gather
from percept.files import PerceptError

log = logging.getLogger(__name__)

Shape = tuple[int, int, int]


def read_session(
    key: str, cfg: DownloadConfig, flat_index: ArrayLike, shape: Shape | None = None
) -> NDArray[np.int16]:
    """Betas of some voxels of a session in the bucket, (trial, voxel) int16, 300 per percent signal change.

    About 50 MB move for the 15,724 voxels of nsdgeneral in subj01, in some thousand small requests, instead
    of the 467 MB of the nii.gz file. Values are those of the whole file, bit by bit.

    Parameters
    ----------
    flat_index : (voxel,) positions in the C order of (x, y, z), the axes of the NIfTI files; any order
    shape : (x, y, z) of the mask that `flat_index` comes from, to be compared with the session's

    Raises
    ------
    Refused : 403, 404
    PerceptError : another layout than NSD's (names the fallback), another shape than the mask's, a server
        without ranges or out of reach, an object replaced meanwhile
    ValueError : voxels outside the volume
    """
    source = RemoteFile(key, cfg)
    try:
        betas = read(source, flat_index, shape)
    except Changed as error:
        raise PerceptError(
            f"{key} was replaced on the server while its voxels were read, and a mixture of two versions "
            "would be wrong: nothing was kept. Run the same command again."
        ) from error
    log.info(
        "%s: %s of %s in %d requests", key, readable(source.n_read), readable(source.size), source.n_requests
    )
    return betas


def read_local(path: str | Path, flat_index: ArrayLike, shape: Shape | None = None) -> NDArray[np.int16]:
    """Betas of some voxels of a session's hdf5 file, (trial, voxel) int16, without loading the session.

    Parameters and errors are those of `read_session`.
    """
    with LocalFile(path) as source:
        return read(source, flat_index, shape)


def read(source: Source, flat_index: ArrayLike, shape: Shape | None = None) -> NDArray[np.int16]:
    """The body of `read_session` and `read_local`, over any source."""
    grid, starts = chunks.locate(source, np.asarray(flat_index, np.int64), shape)
    present = starts != chunks.ABSENT
    betas = np.full((len(starts), grid.n_trials), grid.fill, "<i2")
    betas[present] = gather(source, starts[present], betas.itemsize * grid.n_trials).view("<i2")
    return np.ascontiguousarray(betas.T)
