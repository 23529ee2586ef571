"""Compute the features of a target for a set of stimuli, a batch at a time, and store them.

A target is a `TargetConfig` with two methods: `blocks(source, stimuli, batches)` yields float arrays
(stimulus, ...) batch by batch, and `fingerprint(source, stimuli)` says what identifies them.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from percept.backbones.device import memory_for
from percept.sections import Precision
from percept.targets import cache
from percept.targets.shards import Identity
from percept.targets.sources import NativeSource, Source, Watched, capability, shown, source

__all__ = [
    "NativeSource", "Source", "Target", "ahead", "batches_of", "capability", "encode", "encode_to", "shown",
    "source",
]  # fmt: skip

LESS_MEMORY = (
    "lower `batch_size` of the target, set its `computation` to float16 or bfloat16 (kinds that have that "
    "setting), or its `device` to cpu"
)
T = TypeVar("T")
Ids = NDArray[np.int32]


class Target(Protocol):
    """What `encode` needs of a target's section of the config.

    reads : which methods of the source the features depend on
    """

    kind: str
    reads: tuple[str, ...]
    precision: Precision
    batch_size: int

    def blocks(self, source: Source, stimuli: Ids, batches: Sequence[Ids]) -> Iterator[NDArray[np.float32]]:
        """Features of each of the batches, which are pieces of the stimuli, in order."""

    def fingerprint(self, source: Source, stimuli: Ids) -> dict[str, Any]:
        """What identifies the features of these stimuli: settings, backbone, classes."""


def batches_of(stimuli: Ids, size: int) -> list[Ids]:
    """Consecutive pieces of at most `size` stimuli."""
    return [stimuli[start : start + size] for start in range(0, len(stimuli), size)]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made in a thread of its own while the caller works on this one."""
    end = object()
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, items, end)
        while (item := waiting.result()) is not end:
            waiting = reader.submit(next, items, end)
            yield item


def encode(cfg: Target, source: Source, stimuli: Sequence[int]) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Features (stimulus, ...) of a target, in the order asked, with their fingerprint; all in memory."""
    stimuli = np.asarray(stimuli, dtype=np.int32)
    blocks = cfg.blocks(source, stimuli, batches_of(stimuli, cfg.batch_size))
    return np.concatenate(list(blocks)), cfg.fingerprint(source, stimuli)


def encode_to(
    path: Path, name: str, cfg: Target, source: Source, stimuli: Sequence[int], *, code: str = ""
) -> None:
    """Bring the cached features of the distinct stimuli up to date; `path` is the index, `name` the target's.

    Computed is only what is not there yet, from the same inputs by the same `code` (hash of what computes
    them). A batch at a time: memory does not grow with the number of stimuli, and a killed job loses two
    batches at most.

    Raises
    ------
    PerceptError : the source lacks what the target reads, a feature is not finite, or a GPU has too little
        memory
    """
    stimuli = np.unique(np.asarray(stimuli, dtype=np.int32))
    watched = Watched(source, cfg.reads, stimuli)
    with memory_for(f"encoding the target {name!r}", LESS_MEMORY):
        identity = Identity(name, cfg.fingerprint(watched, stimuli), cfg.precision, code)
        work = cache.Work(
            identity,
            stimuli,
            lambda batches: cfg.blocks(watched, stimuli, batches),
            watched.digests,
            cfg.batch_size,
        )
        cache.fill(path, work)
