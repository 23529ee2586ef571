"""What a data set can tell about its stimuli: images, captions, objects, labels, or the truth behind them."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from percept.config import NativeTree, Section
from percept.files import PerceptError, open_hdf5

KNOWN = ("images", "labels", "truth")  # what a data set has, or has not; texts may be missing in part
READ = 64  # stimuli at a time: 35 MB of 425 x 425 colour images


class Source(Protocol):
    """What a data set can tell about its stimuli; what it lacks, it does not have as a method."""

    def images(self, stimuli: Sequence[int]) -> NDArray[np.uint8]:
        """Images (stimulus, height, width, 3), in the order asked."""

    def captions(self, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
        """What people said that each image shows; at least one caption per stimulus."""

    def objects(self, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
        """Names of the categories of objects visible in each image, the largest first."""

    def labels(self, stimuli: Sequence[int]) -> Sequence[str]:
        """One category name per stimulus."""

    def truth(self, stimuli: Sequence[int]) -> NDArray[np.float32]:
        """Features (stimulus, mode) that generated the responses; simulations only."""


@dataclass(frozen=True)
class NativeSource:
    """Stimuli of a data set that is laid out as NSD's bucket.

    `simulated` says whether the folder belongs to the twin, which alone has a truth to read.
    """

    root: Path
    simulated: bool = False

    def images(self, stimuli: Sequence[int]) -> NDArray[np.uint8]:
        """Images (stimulus, 425, 425, 3) of 0-based NSD ids."""
        from percept.datasets import nsd

        return nsd.read_stimuli(self.root, np.asarray(stimuli))

    def captions(self, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
        """COCO's captions, five or so per image; errors as of `coco.captions`."""
        from percept.datasets import coco

        return coco.captions(self.root, stimuli)

    def objects(self, stimuli: Sequence[int]) -> list[tuple[str, ...]]:
        """COCO's categories visible in NSD's crop, the largest first; errors as of `coco.objects`."""
        from percept.datasets import coco

        return coco.objects(self.root, stimuli)

    def truth(self, stimuli: Sequence[int]) -> NDArray[np.float32]:
        """Features (stimulus, mode) from which the twin generated its responses.

        Raises
        ------
        PerceptError : measured data, which have no known truth
        """
        if not self.simulated:
            raise PerceptError(
                f"the target `truth` was asked for, but {self.root} holds measured data: the features behind "
                "measured responses are unknown. Use it with `dataset.kind: twin`, or name another target."
            )
        with open_hdf5(self.root / "truth" / "features.h5") as file:
            return _rows(file, np.asarray(stimuli))


def _rows(file: h5py.File, stimuli: NDArray) -> NDArray[np.float32]:
    known = file["stimulus"][:]
    rows = np.searchsorted(known, stimuli)
    foreign = stimuli[known[np.minimum(rows, len(known) - 1)] != stimuli]
    if foreign.size:
        raise PerceptError(
            f"{file.filename} knows nothing about stimulus {foreign[0]}, which this twin has no image of: "
            "its files are of two different simulations. Delete the folder of the twin and run the same "
            "command again."
        )
    return file["features"][:][rows].astype(np.float32)


def source(dataset: Section) -> Source:
    """The stimuli of a data set, given its section of the config."""
    if isinstance(dataset, NativeTree):
        return NativeSource(Path(dataset.root), simulated=dataset.kind == "twin")
    from percept.datasets import algonauts, arrays

    return {"arrays": arrays.source, "algonauts": algonauts.source}[dataset.kind](dataset)


def shown(dataset: Section) -> NDArray[np.int32]:
    """Stimuli, (stimulus,) ascending ids, that some subject of a data set saw; no betas are read for it.

    In a challenge these are also the images whose responses are withheld.
    """
    if isinstance(dataset, NativeTree):
        from percept.datasets import nsd_tables

        return nsd_tables.shown(dataset.root, dataset)
    from percept.datasets import algonauts, arrays

    if dataset.kind == "algonauts":
        return algonauts.catalogue(dataset)
    return np.array(sorted(arrays.catalogue(dataset).values()), dtype=np.int32)


def capability(source: Source, method: str, kind: str) -> Any:  # noqa: ANN401 (a bound method)
    """The method of a source by which a target reads, or an error that names both.

    Raises
    ------
    PerceptError : the data set has no such thing (measured data have no truth, NSD no single label)
    """
    found = getattr(source, method, None)
    if found is None:
        has = [name for name in KNOWN if hasattr(source, name)]
        raise PerceptError(
            f"a target of kind `{kind}` reads the {method} of the stimuli, which this data set does not have "
            f"(it has: {', '.join(has)}): name a target of another kind under `targets`."
        )
    return found


class Watched:
    """A source that notes a digest of what is read about each stimulus, while it is read.

    Cached features are kept only where the images (or captions, ...) that they were computed from are still
    the same; `reads` names the methods that count. The first digest of a text makes those of all `stimuli`,
    because the annotations of a data set are one large file, which is read as a whole.
    """

    def __init__(self, source: Source, reads: Collection[str], stimuli: Sequence[int] = ()) -> None:
        self._source, self._reads, self._stimuli = source, tuple(reads), tuple(map(int, stimuli))
        self._noted: dict[str, dict[int, bytes]] = {name: {} for name in self._reads}

    def __getattr__(self, name: str) -> Callable[[Sequence[int]], Any]:
        method = getattr(self._source, name)  # where there is none, hasattr says so
        noted = self._noted.get(name)
        if noted is None:
            return method

        def read(stimuli: Sequence[int]) -> Any:  # noqa: ANN401 (an array or a list)
            values = method(stimuli)
            noted.update({int(one): _digest(value) for one, value in zip(stimuli, values, strict=True)})
            return values

        return read

    def digests(self, stimuli: Sequence[int]) -> NDArray[np.uint64]:
        """Digest, (stimulus,), of what is read about each stimulus; read now where it was not read before."""
        for name, noted in self._noted.items():
            unread = [int(one) for one in stimuli if int(one) not in noted]
            if unread and name != "images":
                others = [one for one in self._stimuli if one not in noted]
                getattr(self, name)(list(dict.fromkeys([*unread, *others])))
                continue
            for first in range(0, len(unread), READ):
                getattr(self, name)(unread[first : first + READ])
        joined = [b"".join(self._noted[name][int(one)] for name in self._reads) for one in stimuli]
        return np.array([int.from_bytes(_digest(one)[:8], "little") for one in joined], dtype=np.uint64)


def _digest(value: Any) -> bytes:  # noqa: ANN401 (an array, a string, a tuple of strings)
    if isinstance(value, np.ndarray):
        return hashlib.sha256(np.ascontiguousarray(value).reshape(-1).view(np.uint8)).digest()
    return hashlib.sha256(value if isinstance(value, bytes) else repr(value).encode()).digest()
