"""Features by stimulus in one file: written whole, read by id and by column, never mistaken for others."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.backbones.fingerprint import differences
from percept.files import PerceptError, atomic, open_hdf5

ALL = slice(None)


class Features:
    """An open features file: (stimulus, feature), flattened, of which any rows and columns can be read."""

    def __init__(self, file: h5py.File) -> None:
        data = file["features"]
        self.stimuli: NDArray[np.int32] = file["stimulus"][:]
        self.target = str(file.attrs.get("target", ""))
        self.fingerprint: dict[str, Any] = json.loads(file.attrs["fingerprint"])
        self.shape: tuple[int, ...] = data.shape[1:]
        self.n_dims = int(np.prod(self.shape))
        self.path = Path(file.filename)
        self._values = _flat_view(data)

    def read(self, stimuli: Sequence[int] | NDArray, columns: slice = ALL) -> NDArray[np.float32]:
        """Features (stimulus, feature) in the order asked, duplicates allowed; `columns` of the flat feature.

        Only what is asked for is read from the disk, and memory is the result alone.

        Raises
        ------
        PerceptError : a stimulus has no features in this file
        """
        return np.array(self._values[self._rows(np.asarray(stimuli)), columns])

    def _rows(self, stimuli: NDArray) -> NDArray[np.intp]:
        rows = np.searchsorted(self.stimuli, stimuli)
        known = self.stimuli[np.minimum(rows, len(self.stimuli) - 1)] == stimuli
        if not known.all():
            missing = np.unique(stimuli[~known])
            listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            raise PerceptError(
                f"{self.path} has no features of {len(missing)} of the stimuli asked for ({listed}); it "
                f"holds {len(self.stimuli)} stimuli of target {self.target!r}, so it was made for other "
                "sessions or another data set: delete it and run the same command again."
            )
        return rows


@contextmanager
def open_features(path: str | Path, fingerprint: dict[str, Any] | None = None) -> Iterator[Features]:
    """Open a features file for reading by rows and columns.

    Raises
    ------
    PerceptError : the file is damaged, or its fingerprint is not the expected one
    """
    with open_hdf5(path) as file:
        features = Features(file)
        if fingerprint is not None:
            check(features.fingerprint, fingerprint, path)
        yield features


def read(
    path: str | Path, stimuli: Sequence[int] | NDArray, fingerprint: dict[str, Any] | None = None
) -> NDArray[np.float32]:
    """Features (stimulus, ...) in the order asked, in the shape in which the target made them.

    Raises
    ------
    PerceptError : unknown stimuli, a damaged file, or a foreign fingerprint
    """
    with open_features(path, fingerprint) as features:
        return features.read(stimuli).reshape(-1, *features.shape)


def check(stored: dict[str, Any], expected: dict[str, Any], path: str | Path) -> None:
    """Refuse features that come from another backbone or other settings than expected.

    Raises
    ------
    PerceptError : names the file and every entry that differs
    """
    if differing := differences(stored, expected):
        pairs = "; ".join(
            f"{key}: {_entry(stored, key)} there, {_entry(expected, key)} here" for key in differing
        )
        raise PerceptError(
            f"{path} holds features with a foreign fingerprint ({pairs}): mixing features of two backbones "
            "gives wrong scores without any error. Delete the file to compute them anew, or restore the "
            "settings of the target."
        )


def write(
    path: str | Path,
    features: NDArray | Iterable[NDArray],
    stimulus: Sequence[int] | NDArray,
    fingerprint: dict[str, Any],
    target: str = "",
) -> None:
    """Write features atomically, a block at a time when they come as an iterable.

    Parameters
    ----------
    features : (stimulus, ...) array, or blocks of it in order
    stimulus : (stimulus,) ids, ascending and distinct

    Raises
    ------
    PerceptError : a feature is not finite
    ValueError : ids not ascending, or not one row per id
    """
    stimulus = np.asarray(stimulus, dtype=np.int32)
    if np.any(np.diff(stimulus) <= 0):
        raise ValueError(
            "the ids of the stimuli must be ascending and distinct: readers search them by bisection"
        )
    blocks = iter([features] if isinstance(features, np.ndarray) else features)
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        file["stimulus"] = stimulus
        file.attrs["fingerprint"] = json.dumps(fingerprint, sort_keys=True)
        file.attrs["target"] = target
        _fill(file, blocks, stimulus)


def _flat_view(data: h5py.Dataset) -> NDArray[np.float32]:
    """The values of a dataset as (row, everything else), mapped from the file where its layout allows.

    HDF5 cannot select a range of flattened columns; the map can, and our own files are contiguous.
    """
    shape = (data.shape[0], int(np.prod(data.shape[1:])))
    offset = data.id.get_offset()
    if offset is None:  # chunked or compressed by someone else
        return data[:].reshape(shape)
    return np.memmap(data.file.filename, data.dtype, mode="r", offset=offset, shape=shape)


def _fill(file: h5py.File, blocks: Iterator[NDArray], stimulus: NDArray[np.int32]) -> None:
    n_rows, done = len(stimulus), 0
    for block in blocks:
        block = np.asarray(block, dtype=np.float32)
        if "features" not in file:
            file.create_dataset("features", (n_rows, *block.shape[1:]), np.float32)
        if done + len(block) > n_rows:
            raise ValueError(f"more rows of features than the {n_rows} stimuli they belong to")
        _require_finite(block, stimulus[done:], file.attrs["target"])
        file["features"][done : done + len(block)] = block
        done += len(block)
    if done != n_rows:
        raise ValueError(f"{done} rows of features for {n_rows} stimuli")


def _require_finite(block: NDArray[np.float32], stimulus: NDArray[np.int32], target: str) -> None:
    bad = ~np.isfinite(block.reshape(len(block), -1)).all(axis=1)
    if bad.any():
        raise PerceptError(
            f"the features of stimulus {stimulus[: len(block)][bad][0]} (and {bad.sum() - 1} more of its "
            f"batch) of target {target!r} are not finite, so nothing can be trained on them: its image is "
            "damaged, or the backbone overflows in half precision."
        )


def _entry(fingerprint: dict[str, Any], key: str) -> Any:  # noqa: ANN401 (whatever json can hold)
    for part in key.split("."):
        fingerprint = fingerprint.get(part, {}) if isinstance(fingerprint, dict) else {}
    return "nothing" if fingerprint == {} else fingerprint
