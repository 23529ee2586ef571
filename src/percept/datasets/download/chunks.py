"""Where the chunks of an hdf5 data set lie in its file, reading as little of its index as possible.

One voxel is one chunk of NSD's betas, so a session has about 700,000 and an index of some 50 MB, in nodes
strewn between the data. The hdf5 library visits all of them, one after another. Here only the branches that
lead to wanted chunks are read, a whole level at a time. Format: HDF5 File Format Specification 3.0, sections
III.A.1 (version 1 B-trees), IV.A (object headers), IV.A.2.i (data layout message).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.datasets.download.source import Seekable, Source, gather
from percept.files import PerceptError

ENTRIES = 64  # entries per node: twice the library's K of 32, which only a rare file changes
RANK = 4  # trial, z, y, x
HEADER = np.dtype(
    [("signature", "S4"), ("kind", "u1"), ("level", "u1"), ("n", "<u2"), ("siblings", "<u8", 2)]
)
ENTRY = np.dtype([("size", "<u4"), ("filters", "<u4"), ("offset", "<u8", RANK + 1), ("child", "<u8")])
NODE = np.dtype([("header", HEADER), ("entries", ENTRY, ENTRIES)])
ABSENT = -1  # no such chunk in the file: its values are the fill value
LAYOUT = 0x08  # type of an object header message
EXTRAS = 0x34  # flags of a version 2 header: times, attribute limits, order; MATLAB and h5py set none
UNDEFINED = 2**64 - 1


class Unknown(Exception):  # noqa: N818
    """The index is of a kind that only the hdf5 library reads."""


@dataclass(frozen=True)
class Grid:
    """The data set of a session: (trial, z, y, x) int16, one uncompressed chunk per voxel.

    `shape` is (x, y, z), the axes of the NIfTI files; `fill` is the value of chunks that were never written;
    `offset` counts the bytes before the hdf5 content of the file, which addresses in it leave out.
    """

    n_trials: int
    shape: tuple[int, int, int]
    fill: int
    offset: int


def locate(
    source: Source, flat_index: NDArray[np.int64], shape: tuple[int, int, int] | None = None
) -> tuple[Grid, NDArray[np.int64]]:
    """The grid of a session, and the first byte of each wanted voxel, (voxel,), `ABSENT` if never written.

    Parameters
    ----------
    flat_index : (voxel,) positions in the C order of (x, y, z); any order, may repeat
    shape : (x, y, z) that the session must have

    Raises
    ------
    PerceptError : the file is damaged, not laid out as NSD's betas (names the fallback), or of another shape
    ValueError : voxels outside the volume
    """
    try:
        with h5py.File(Seekable(source), "r") as file:
            grid = _grid(file, source.name)
            voxels, back = np.unique(
                _in_file_order(flat_index, grid, shape, source.name), return_inverse=True
            )
            return grid, _starts(source, file, grid, voxels)[back]
    except (OSError, RuntimeError, KeyError) as error:  # what h5py raises for damaged files
        raise PerceptError(
            f"{source.name} cannot be read as hdf5 ({error}): it is damaged or something else. Delete the "
            "local copy and run the same command again, or set `dataset.format: nii.gz`."
        ) from error


def _in_file_order(
    flat_index: NDArray[np.int64], grid: Grid, shape: tuple[int, int, int] | None, name: str
) -> NDArray[np.int64]:
    """Positions in the C order of (z, y, x)."""
    if shape is not None and tuple(shape) != grid.shape:
        raise PerceptError(
            f"{name} holds volumes of {grid.shape} voxels (x, y, z), the mask {tuple(shape)}: voxels would "
            "be read from wrong places. Both must be of one subject and one `dataset.space`."
        )
    n_voxels = np.prod(grid.shape)
    if len(flat_index) and not 0 <= flat_index.min() <= flat_index.max() < n_voxels:
        raise ValueError(
            f"voxels {flat_index.min()} to {flat_index.max()} do not fit the {n_voxels} voxels of {name}"
        )
    return np.ravel_multi_index(np.unravel_index(flat_index, grid.shape)[::-1], grid.shape[::-1])


def _starts(source: Source, file: h5py.File, grid: Grid, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """First byte of each voxel; `voxels` in the order of the file, ascending, each once."""
    try:
        link = file.id.links.get_info(b"betas")  # h5o.get_info would walk the whole index, to measure it
        if link.type != h5py.h5l.TYPE_HARD or file.id.get_create_plist().get_sizes() != (8, 8):
            raise Unknown  # not an address, or none of 8 bytes
        root = _btree_address(source, link.u + grid.offset, grid.offset)
        return _descend(source, root, grid, voxels)
    except Unknown:
        return _scan(file["betas"])[voxels]


def _grid(file: h5py.File, name: str) -> Grid:
    betas = file.get("betas")
    if not isinstance(betas, h5py.Dataset):
        raise PerceptError(
            f"{name} has no data set `betas`, but {sorted(file)}: it is no file of NSD betas. Set "
            "`dataset.format: nii.gz`."
        )
    filters = betas.id.get_create_plist().get_nfilters()
    found = (betas.ndim, betas.dtype.str, betas.chunks, filters)
    expected = (RANK, "<i2", (len(betas), 1, 1, 1) if betas.ndim else None, 0)
    if found != expected:
        raise PerceptError(
            f"{name} is not laid out as NSD's betas are: `betas` is {betas.shape} {betas.dtype} in chunks "
            f"of {betas.chunks} with {filters} filters, where (trial, z, y, x) int16 in uncompressed chunks "
            "of (trial, 1, 1, 1) is needed to read single voxels. Set `dataset.format: nii.gz`, which "
            "reads whole files, or `hdf5`."
        )
    return Grid(betas.shape[0], betas.shape[:0:-1], int(betas.fillvalue), file.userblock_size)


def _scan(betas: h5py.Dataset) -> NDArray[np.int64]:
    """First byte of every chunk, (z y x,), by the library's own walk over the whole index."""
    addresses = np.full(np.prod(betas.shape[1:]), ABSENT, np.int64)

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        addresses[np.ravel_multi_index(chunk.chunk_offset[1:], betas.shape[1:])] = chunk.byte_offset

    betas.id.chunk_iter(note)
    return addresses


def _descend(source: Source, root: int, grid: Grid, voxels: NDArray[np.int64]) -> NDArray[np.int64]:
    """First byte of each wanted chunk, by the branches of a version 1 B-tree that lead to one."""
    found = np.full(len(voxels), ABSENT, np.int64)
    level = [(root, 0, len(voxels))]  # nodes, each with the slice of `voxels` that it leads to
    while level:
        nodes = _nodes(source, np.array([address for address, _, _ in level], np.int64))
        below = []
        for node, (_, first, last) in zip(nodes, level, strict=True):
            keys = _keys(node, grid)
            branch = np.maximum(np.searchsorted(keys, voxels[first:last], side="right") - 1, 0)
            child = node["entries"]["child"].astype(np.int64)[branch] + grid.offset
            if node["header"]["level"] == 0:
                found[first:last] = np.where(keys[branch] == voxels[first:last], child, ABSENT)
            else:
                cuts = np.flatnonzero(np.diff(branch, prepend=-1, append=len(keys)))
                below += [(child[cut], first + cut, first + end) for cut, end in pairwise(cuts)]
        level = below
    return found


def _nodes(source: Source, addresses: NDArray[np.int64]) -> NDArray:
    """The B-tree nodes at these addresses, (node,) of `NODE`."""
    nodes = gather(source, addresses, NODE.itemsize).view(NODE)[:, 0]
    header = nodes["header"]
    if not (np.all(header["signature"] == b"TREE") and np.all(header["kind"] == 1)):
        raise PerceptError(
            f"the index of {source.name} is damaged: there is no node where one should be. Delete the local "
            "copy and run the same command again, or set `dataset.format: nii.gz`."
        )
    if header["n"].max() > ENTRIES:
        raise Unknown
    return nodes


def _keys(node: NDArray, grid: Grid) -> NDArray[np.int64]:
    """First voxel, in the C order of (z, y, x), of each entry of a node, (entry,)."""
    offset = node["entries"]["offset"][: node["header"]["n"]].astype(np.int64)
    n_x, n_y, _ = grid.shape
    return (offset[:, 1] * n_y + offset[:, 2]) * n_x + offset[:, 3]


def _btree_address(source: Source, header: int, offset: int) -> int:
    """Where the root of a data set's chunk index lies, from its object header at byte `header`."""
    for kind, body in _messages(source, header):
        if kind == LAYOUT:
            return _root(body) + offset
    raise Unknown


def _messages(source: Source, header: int) -> Iterator[tuple[int, bytes]]:
    """Type and body of the messages in the first block of an object header; the layout is always there."""
    start = source.read(header, min(header + 16, source.size))
    if start[0] == 1:
        at, size = 16, int.from_bytes(start[8:12], "little")
        head = struct.Struct("<HH4x")
    elif start[:5] == b"OHDR\x02" and not start[5] & EXTRAS:
        at = 6 + (1 << (start[5] & 3))
        size = int.from_bytes(start[6:at], "little")
        head = struct.Struct("<BHx")
    else:
        raise Unknown
    block = source.read(header + at, min(header + at + size, source.size))
    at = 0
    while at + head.size <= len(block):
        kind, size = head.unpack_from(block, at)
        yield kind, block[at + head.size : at + head.size + size]
        at += head.size + size


def _root(layout: bytes) -> int:
    """Address of the version 1 B-tree that a data layout message names."""
    version, kind, rank = layout[:3]
    address = int.from_bytes(layout[3:11], "little")
    if (version, kind, rank) != (3, 2, RANK + 1) or address == UNDEFINED:
        raise Unknown
    return address
