"""Randomness as a function of the seed and the step: nothing to save, the same again after a resume.

A checkpoint therefore holds the state of every generator by holding the step.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

ORDER, FORWARD, VALIDATION = 1, 2, 3  # what a stream of numbers is for


def order(seed: int, epoch: int, n_rows: int) -> NDArray[np.int64]:
    """The permutation of the rows in which an epoch passes them."""
    return np.random.default_rng([seed, epoch, ORDER]).permutation(n_rows)


def drawing(seed: int, step: int) -> np.random.Generator:
    """The generator that a batch is drawn with: the same on every device."""
    return np.random.default_rng([seed, step])


def seed_forward(seed: int, step: int, rank: int, chunk: int = 0) -> None:
    """Seed torch's generators for the forward pass of some rows of a step."""
    _seed(seed, step, FORWARD, rank, chunk)


def seed_validation(seed: int) -> None:
    """Seed torch's generators for a validation: the same noise each time, so that scores compare."""
    _seed(seed, 0, VALIDATION)


@contextmanager
def untouched(device: torch.device) -> Iterator[None]:
    """Torch's generators as they were, once the block ends."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


def _seed(*entropy: int) -> None:
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]))
