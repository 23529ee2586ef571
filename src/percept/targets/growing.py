"""Features of a range of ids while they are made: rows are appended, and a killed job goes on from there."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError
from percept.targets.shards import Identity, Layout, pack, read_inputs, read_layout, unpack

SUFFIX = ".partial"


class Growing:
    """A file that is not finished: the features of `stimuli`, of which the first `done` are there.

    Batches lie on a grid of `batch_size` rows, so that a resumed job forms the same batches, and the same
    bytes, as one that was never killed.
    """

    def __init__(self, path: Path, identity: Identity, stimuli: NDArray[np.int32], batch_size: int) -> None:
        self.path, self.identity, self.batch_size = path, identity, batch_size
        self.stimuli = stimuli
        self.layout: Layout | None = None  # known with the first batch
        self.done = 0

    def stored(self) -> NDArray[np.int32]:
        """Stimuli whose rows an earlier job left here and made safe.

        The last batch that was written is not counted: each one is flushed to disk before the next, so after
        a power cut it alone may be torn.
        """
        layout = self._layout_left()
        if layout is None:
            return self.stimuli[:0]
        rows = min((self.path.stat().st_size - layout.start) // layout.row_bytes, len(self.stimuli))
        whole = len(self.stimuli) if rows == len(self.stimuli) else rows // self.batch_size * self.batch_size
        return self.stimuli[: max(0, whole - 1) // self.batch_size * self.batch_size]

    def resume(self, inputs: NDArray[np.uint64]) -> None:
        """Go on after the `stored` stimuli, if they were computed from `inputs`; else from the beginning."""
        layout = self._layout_left() if len(inputs) else None
        if layout is None or not np.array_equal(read_inputs(layout, self.path)[: len(inputs)], inputs):
            self.path.unlink(missing_ok=True)
            return
        self.layout, self.done = layout, len(inputs)
        os.truncate(self.path, layout.start + self.done * layout.row_bytes)

    def batches(self) -> list[NDArray[np.int32]]:
        """What is still to be made."""
        return [
            self.stimuli[first : first + self.batch_size]
            for first in range(self.done, len(self.stimuli), self.batch_size)
        ]

    @property
    def complete(self) -> bool:
        """Whether every row is there."""
        return self.done == len(self.stimuli)

    def append(self, block: NDArray, inputs: NDArray[np.uint64]) -> None:
        """Add the features (row, ...) of the next stimuli, made from `inputs`, and flush them to disk.

        Raises
        ------
        PerceptError : a feature is not finite, as computed or as stored
        ValueError : features of another shape than before
        """
        rows = self.stimuli[self.done : self.done + len(block)]
        packed = _finite(np.asarray(block, dtype=np.float32), rows, self.identity)
        if self.layout is None:
            self.layout = Layout(self.identity, self.stimuli, tuple(block.shape[1:]))
            start = self.layout.header + bytes(8 * len(self.stimuli)) + self.stimuli.astype("<i4").tobytes()
            self.path.write_bytes(start)
        if block.shape[1:] != self.layout.shape:
            raise ValueError(f"features of shape {block.shape[1:]} after features of {self.layout.shape}")
        with self.path.open("r+b") as file:
            file.seek(len(self.layout.header) + 8 * self.done)
            file.write(inputs.astype("<u8").tobytes())
            file.seek(self.layout.start + self.done * self.layout.row_bytes)
            file.write(packed)
            file.flush()
            os.fsync(file.fileno())
        self.done += len(block)

    def _layout_left(self) -> Layout | None:
        """The layout of what an earlier job left, if it is of the same features of the same stimuli."""
        try:
            layout = read_layout(self.path)
        except (PerceptError, FileNotFoundError):
            return None
        mine = layout.identity.same(self.identity) and np.array_equal(layout.stimuli, self.stimuli)
        return layout if mine else None


def _finite(block: NDArray[np.float32], rows: NDArray[np.int32], identity: Identity) -> NDArray:
    """The block as it is stored; refused if a value is not finite, here or there."""
    packed = pack(block, identity.precision)
    good = np.isfinite(unpack(packed, identity.precision)).reshape(len(block), -1).all(axis=1)
    if good.all():
        return packed
    first = np.flatnonzero(~good)[0]
    place = f"the features of stimulus {rows[first]} (and {(~good).sum() - 1} more of its batch) of target "
    if np.isfinite(block[first]).all():
        largest = np.abs(block[first]).max()
        raise PerceptError(
            f"{place}{identity.target!r} reach {largest:g}, which {identity.precision} cannot hold: set "
            "`precision: bfloat16` for this target, which has the range of float32 in the same space, or "
            "`precision: float32`."
        )
    raise PerceptError(
        f"{place}{identity.target!r} are not finite, so nothing can be trained on them: its image is "
        "damaged, or the backbone overflows in half precision (then set `computation: bfloat16` or "
        "`float32`)."
    )
