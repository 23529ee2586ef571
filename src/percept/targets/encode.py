"""Compute the features of a target for a set of stimuli, a batch at a time, and store them.

A target is a `TargetConfig` with two methods: `blocks(source, stimuli)` yields float arrays (stimulus, ...)
in the order asked, and `fingerprint(source, stimuli)` says what identifies them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from percept.config import NativeTree, Section
from percept.files import PerceptError
from percept.targets import store

BATCH = 64  # stimuli at a time: 35 MB of 425 x 425 colour images


class Source(Protocol):
    """What a data set can tell about its stimuli; what it lacks, it does not have as a method."""

    def images(self, stimuli: Sequence[int]) -> NDArray[np.uint8]:
        """Images (stimulus, height, width, 3), in the order asked."""

    def labels(self, stimuli: Sequence[int]) -> Sequence[str]:
        """One category name per stimulus."""

    def truth(self, stimuli: Sequence[int]) -> NDArray[np.float32]:
        """Features (stimulus, mode) that generated the responses; simulations only."""


class Target(Protocol):
    """What `encode` needs of a target's section of the config."""

    kind: str

    def blocks(self, source: Source, stimuli: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
        """Features of the stimuli, in the order asked, some at a time."""

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """What identifies the features: settings, backbone, classes."""


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
        return store.read(self.root / "truth" / "features.h5", stimuli)


def source(dataset: Section) -> Source:
    """The stimuli of a data set, given its section of the config."""
    if isinstance(dataset, NativeTree):
        return NativeSource(Path(dataset.root), simulated=dataset.kind == "twin")
    from percept.datasets import arrays

    return arrays.source(dataset)


def shown(dataset: Section) -> NDArray[np.int32]:
    """Stimuli, (stimulus,) ascending ids, that some subject of a data set saw; no betas are read for it."""
    if isinstance(dataset, NativeTree):
        from percept.datasets import nsd_tables

        return nsd_tables.shown(dataset.root, dataset)
    from percept.datasets import arrays

    return np.array(sorted(arrays.catalogue(dataset).values()), dtype=np.int32)


def capability(source: Source, method: str, kind: str) -> Any:  # noqa: ANN401 (a bound method)
    """The method of a source by which a target reads, or an error that names both.

    Raises
    ------
    PerceptError : the data set has no such thing (measured data have no truth, NSD no single label)
    """
    found = getattr(source, method, None)
    if found is None:
        has = [name for name in ("images", "labels", "truth") if hasattr(source, name)]
        raise PerceptError(
            f"a target of kind `{kind}` reads the {method} of the stimuli, which this data set does not have "
            f"(it has: {', '.join(has)}): name a target of another kind under `targets`."
        )
    return found


def batches(stimuli: NDArray[np.int32], size: int = BATCH) -> Iterator[NDArray[np.int32]]:
    """Consecutive pieces of at most `size` stimuli."""
    for start in range(0, len(stimuli), size):
        yield stimuli[start : start + size]


def encode(cfg: Target, source: Source, stimuli: Sequence[int]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Features (stimulus, ...) of a target, in the order asked, with their fingerprint; all in memory."""
    stimuli = np.asarray(stimuli, dtype=np.int32)
    return np.concatenate(list(cfg.blocks(source, stimuli))), cfg.fingerprint(source, stimuli)


def encode_to(path: Path, name: str, cfg: Target, source: Source, stimuli: Sequence[int]) -> None:
    """Compute the features of the distinct stimuli and write them under the name of the target.

    A batch at a time: memory does not grow with the number of stimuli.
    """
    stimuli = np.unique(np.asarray(stimuli, dtype=np.int32))
    fingerprint = cfg.fingerprint(source, stimuli)
    store.write(path, cfg.blocks(source, stimuli), stimuli, fingerprint, target=name)
