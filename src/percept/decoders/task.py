"""What every decoder is given, and what it gives back.

A kind of decoder is a `DecoderConfig` with two more methods: `tensors(n_voxels, shape)` names the weights
that it saves (name -> shape and dtype), and `train(task, seed)` yields `Block`s, each a range of target
columns. One that is `located` needs to know where its voxels are: its `tensors` takes their table as well.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.decoders.weights import Shapes

FITTED = "fitted"  # group of predictions of training images by the model that was trained on them


class Targets(Protocol):
    """Features of stimuli, such as `percept.targets.store.Features`."""

    shape: tuple[int, ...]  # of the features of one stimulus
    n_dims: int

    def read(self, stimuli: NDArray, columns: slice) -> NDArray[np.float32]:
        """Features (stimulus, column) in the order asked."""


@dataclass(frozen=True)
class Task:
    """What a decoder is trained on.

    Attributes
    ----------
    X : (row, voxel) float32, training responses
    stimulus : (row,) the image of each row
    groups : (row,) rows of one group stay in one cross-validation fold
    targets : features of the stimuli, read a range of columns at a time
    evaluate : name -> (row, voxel), responses to predict from: validation, test/average, ..., and `fitted`
    shown : name -> (row,) the image behind each of these rows; only those of `validation` may be looked up
    extra : further targets, by their names in the config
    voxels : rows of the table of voxels (i, j, k, atlases, ncsnr), in the order of the columns of X; None
        where nobody knows
    initial : weights of the encoder that another decoder trained, by name, where this one begins with them
    work : folder for what lets an interrupted training go on; it goes when the results are whole
    events : folder for what TensorBoard shows; it stays
    code : hash of the code that trains
    name : what messages call the training, such as "mindeye of subj01, seed 0"
    """

    X: NDArray[np.float32]
    stimulus: NDArray[np.int32]
    groups: NDArray
    targets: Targets
    evaluate: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    shown: Mapping[str, NDArray[np.int32]] = field(default_factory=dict)
    extra: Mapping[str, Targets] = field(default_factory=dict)
    voxels: pd.DataFrame | None = None
    initial: Mapping[str, NDArray] = field(default_factory=dict)
    work: Path = Path("work")
    events: Path = Path("tensorboard")
    code: str = ""
    name: str = ""

    @cached_property
    def identity(self) -> str:
        """Hash of all that a training depends on besides its settings and its seed; test rows are no part."""
        digest = hashlib.sha256(self.code.encode())
        held_out = [
            one[name]
            for one in (self.evaluate, self.shown)
            for name in sorted(one)
            if not name.startswith(("test/", FITTED))
        ]
        for array in (self.X, self.stimulus, self.groups, *held_out):
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array))
        for axis in ("i", "j", "k") if self.voxels is not None else ():
            digest.update(np.asarray(self.voxels.get(axis, ()), dtype=np.int64))
        for name in sorted(self.initial):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.initial[name]))
        for name, targets in {"": self.targets, **self.extra}.items():
            fingerprint = getattr(targets, "fingerprint", None)
            digest.update(json.dumps([name, targets.shape, fingerprint], sort_keys=True).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Block:
    """A trained decoder's answer for a range of target columns.

    Attributes
    ----------
    columns : which of the flat target
    out_of_fold : (row, column), predictions of the training rows by models that did not see their group; None
        from decoders that do not cross-validate
    predicted : name -> (row, column), for each entry of `Task.evaluate`
    tensors : name -> weights, first axis the columns, or the whole tensor when it has no such axis
    history : a record per step of the fit, in plain numbers: small arrays that live on, allocated among large
        ones that do not, would keep the freed memory from being used again
    samples : name -> (row, sample, column), for decoders that make several predictions of an image
    record : what the training took, in plain numbers and words
    """

    columns: slice
    out_of_fold: NDArray[np.float32] | None
    predicted: dict[str, NDArray[np.float32]]
    tensors: dict[str, NDArray]
    history: list[dict[str, float]]
    samples: dict[str, NDArray[np.float16]] = field(default_factory=dict)
    record: dict[str, float | str | None] = field(default_factory=dict)


class Trainable(Protocol):
    """What `train_and_predict` needs of a decoder's section of the config (see `DecoderConfig`)."""

    unit: Literal["average", "single"] | None
    cross_validates: bool
    samples: int
    located: bool  # whether `tensors` takes a third argument, the table of voxels (see `Task.voxels`)

    def tensors(self, n_voxels: int, shape: tuple[int, ...]) -> Shapes:
        """Weights that will be saved, for targets of `shape` per stimulus."""

    def train(self, task: Task, seed: int) -> Iterator[Block]:
        """Fit and predict, a range of target columns at a time."""
