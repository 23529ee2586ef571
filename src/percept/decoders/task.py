"""What every decoder is given, and what it gives back.

A kind of decoder is a `DecoderConfig` with two more methods: `tensors(n_voxels, n_dims)` names the weights
that it saves (name -> shape and dtype), and `train(task, seed)` yields `Block`s, each a range of target
columns.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from percept.decoders.weights import Shapes


class Targets(Protocol):
    """Features of stimuli, such as `percept.targets.store.Features`."""

    n_dims: int

    def read(self, stimuli: NDArray, columns: slice) -> NDArray[np.float32]:
        """Features (stimulus, column) in the order asked."""


@dataclass(frozen=True)
class Task:
    """What a decoder is trained on.

    X : (row, voxel) float32, training responses
    stimulus : (row,) the image of each row; groups : (row,) rows of one group stay in one cross-validation
    fold targets : features of the stimuli, read a range of columns at a time
    evaluate : name -> (row, voxel), responses to predict from
    """

    X: NDArray[np.float32]
    stimulus: NDArray[np.int32]
    groups: NDArray
    targets: Targets
    evaluate: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """A trained decoder's answer for a range of target columns.

    out_of_fold : (row, column), predictions of the training rows by models that did not see their group
    predicted : name -> (row, column), for each entry of `Task.evaluate`
    tensors : name -> weights, first axis the columns, or the whole tensor when it has no such axis
    history : a record per step of the fit, in plain numbers: small arrays that live on, allocated among large
        ones that do not, would keep the freed memory from being used again
    """

    columns: slice
    out_of_fold: NDArray[np.float32]
    predicted: dict[str, NDArray[np.float32]]
    tensors: dict[str, NDArray]
    history: list[dict[str, float]]


class Trainable(Protocol):
    """What `train_and_predict` needs of a decoder's section of the config."""

    def tensors(self, n_voxels: int, n_dims: int) -> Shapes:
        """Weights that will be saved."""

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit and predict, a range of target columns at a time."""
