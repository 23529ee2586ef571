"""Cached features by stimulus: read by id and by column, from any precision, never mistaken for others."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones.fingerprint import differences
from percept.files import PerceptError, inside, read_json, sha256
from percept.sections import Precision
from percept.targets import cache
from percept.targets.shards import ALL, FOLDER, Identity, Shard, damaged


class Features:
    """The features behind an index: (stimulus, feature), flattened, of which any part can be read.

    Files are mapped, so opening costs little and reading only what is asked for.

    Raises
    ------
    PerceptError : a file is absent, damaged, or not the one that the index describes
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        index = read_json(self.path)
        try:
            self.target = str(index["target"])
            self.fingerprint: dict[str, Any] = index["fingerprint"]
            self.precision: Precision = index["precision"]
            self.shape: tuple[int, ...] = tuple(index["shape"])
            self.shards = [_shard(self.path, entry, index) for entry in index["shards"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(self.path, f"it is no index of features ({error!r})") from error
        self.n_dims = int(np.prod(self.shape))
        self.stimuli: NDArray[np.int32] = np.concatenate([shard.stimuli for shard in self.shards])
        self._first_rows = np.cumsum([0, *(len(shard.stimuli) for shard in self.shards)])

    def read(self, stimuli: Sequence[int] | NDArray, columns: slice = ALL) -> NDArray[np.float32]:
        """Features (stimulus, feature) in the order asked, duplicates allowed; `columns` of the flat feature.

        Only what is asked for is read from the disk, and memory is the result alone.

        Raises
        ------
        PerceptError : a stimulus has no features here
        """
        rows = self._rows(np.asarray(stimuli))
        out = np.empty((len(rows), len(range(*columns.indices(self.n_dims)))), dtype=np.float32)
        number = np.searchsorted(self._first_rows, rows, side="right") - 1  # of the shard of each row
        for each in np.unique(number):
            where = np.flatnonzero(number == each)
            where = where[np.argsort(rows[where], kind="stable")]  # forward through the file
            self.shards[each].read_into(out, where, rows[where] - self._first_rows[each], columns)
        return out

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


def _shard(path: Path, entry: dict[str, Any], index: dict[str, Any]) -> Shard:
    """A file of the index, which has to be the one that it describes."""
    file = inside(path.parent, entry["file"], path)
    if not file.is_file():
        raise damaged(file, "it is absent, although the index names it")
    shard = Shard(file, entry.get("crc32"))
    check(shard.identity.fingerprint, index["fingerprint"], file)
    own = shard.identity
    found = (len(shard.stimuli), list(shard.layout.shape), own.precision, own.target)
    if found != (expected := (entry["rows"], index["shape"], index["precision"], index["target"])):
        raise damaged(file, f"it holds {found} (rows, shape, precision, target), the index says {expected}")
    return shard


@contextmanager
def open_features(path: str | Path, fingerprint: dict[str, Any] | None = None) -> Iterator[Features]:
    """Open the features behind an index for reading by rows and columns.

    Raises
    ------
    PerceptError : a file is absent or damaged, or the fingerprint is not the expected one
    """
    features = Features(path)
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


def verify(path: str | Path) -> None:
    """Compare the content of every file with its digest in the index; reads all of it.

    Raises
    ------
    PerceptError : names the files that differ
    """
    path = Path(path)
    entries = read_json(path)["shards"]
    wrong = [one["file"] for one in entries if sha256(path.parent / one["file"]) != one["sha256"]]
    if wrong:
        raise damaged(
            path.parent / wrong[0], f"its content is not what was written (and {len(wrong) - 1} more)"
        )


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
            "gives wrong scores without any error. Delete the `index.json` of the target to compute them "
            "anew, or restore the settings of the target."
        )


def write(
    path: str | Path,
    features: NDArray | Iterable[NDArray],
    stimulus: Sequence[int] | NDArray,
    fingerprint: dict[str, Any],
    target: str = "",
    precision: Precision = "float32",
) -> None:
    """Write features that are at hand, a block at a time when they come as an iterable; nothing is reused.

    Parameters
    ----------
    path : the index; the files go into a folder beside it
    features : (stimulus, ...) array, or blocks of it in order
    stimulus : (stimulus,) ids, ascending and distinct

    Raises
    ------
    PerceptError : a feature is not finite
    ValueError : ids not ascending, or not one row per id
    """
    path, stimulus = Path(path), np.asarray(stimulus, dtype=np.int32)
    if not len(stimulus) or np.any(np.diff(stimulus) <= 0):
        raise ValueError(
            "the ids of the stimuli must be ascending and distinct, because readers search them by "
            "bisection, and there has to be one"
        )
    _clear(path)
    blocks = iter([features] if isinstance(features, np.ndarray) else features)
    identity = Identity(target, fingerprint, precision)
    work = cache.Work(identity, stimulus, lambda batches: _cut(blocks, list(map(len, batches))), _undigested)
    try:
        cache.fill(path, work)
    except BaseException:
        _clear(path)
        raise


def _clear(path: Path) -> None:
    path.unlink(missing_ok=True)
    if (folder := path.parent / FOLDER).is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def _undigested(stimuli: NDArray) -> NDArray[np.uint64]:
    return np.zeros(len(stimuli), np.uint64)


def _cut(blocks: Iterator[NDArray], sizes: Sequence[int]) -> Iterator[NDArray]:
    """The same rows in pieces of the given sizes."""
    done, total, held = 0, sum(sizes), []
    for size in sizes:
        while sum(map(len, held)) < size:
            if (block := next(blocks, None)) is None:
                raise ValueError(f"{done + sum(map(len, held))} rows of features for {total} stimuli")
            held.append(np.asarray(block, dtype=np.float32))
        whole = np.concatenate(held) if len(held) > 1 else held[0]
        yield whole[:size]
        done, held = done + size, [whole[size:]]
    if any(map(len, held)) or next(blocks, None) is not None:
        raise ValueError(f"more rows of features than the {total} stimuli they belong to")


def _entry(fingerprint: dict[str, Any], key: str) -> Any:  # noqa: ANN401 (whatever json can hold)
    for part in key.split("."):
        fingerprint = fingerprint.get(part, {}) if isinstance(fingerprint, dict) else {}
    return "nothing" if fingerprint == {} else fingerprint
