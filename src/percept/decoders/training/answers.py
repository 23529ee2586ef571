"""From a trained network to what its decoder gives back: predictions, samples, weights and the record."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor, nn

from percept import config
from percept.backbones.device import memory_for
from percept.decoders import weights
from percept.decoders.predictions import SAMPLED
from percept.decoders.task import Block, Task
from percept.decoders.training.job import Job, Outcome
from percept.decoders.weights import Shapes
from percept.files import hash_text
from percept.sections import Precision, Section

Predict = Callable[[NDArray[np.float32]], NDArray[np.float32]]  # (row, voxel) -> (row, dim)
Sample = Callable[[NDArray[np.float32], NDArray], NDArray[np.float16]]  # and (row,) ids -> (row, sample, dim)
Network = TypeVar("Network", bound=nn.Module)
ROWS = 256  # predicted at a time
UNTRAINED = {"seeds", "training", "weights"}  # settings that are no part of what a checkpoint belongs to
SAMPLING = {
    "sampler",
    "sampling_steps",
    "samples",
    "guidance",
}  # nor those of the section `prior`: used after it
LESS_MEMORY = (
    "lower `prior.samples` if a prior draws them, or wait for what else computes there (what was trained is "
    "kept)"
)


def initialised(build: Callable[[], Network], seed: int) -> Network:
    """What `build` makes, its first weights drawn from `seed`; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def job(section: Section, task: Task, seed: int) -> Job:
    """Where a fit of this section keeps its checkpoints, and all that they belong to."""
    settings = {name: value for name, value in config.plain(section).items() if name not in UNTRAINED}
    if settings.get("prior"):
        settings["prior"] = {name: one for name, one in settings["prior"].items() if name not in SAMPLING}
    identity = hash_text(json.dumps([task.identity, settings], sort_keys=True), 64)
    return Job(task.work, seed, identity, task.name or settings["kind"], task.events)


def shapes(network: nn.Module, precision: str) -> Shapes:
    """Name -> (shape, dtype) of the weights to save; a single number is saved as one of a row.

    Whole numbers, such as the places of voxels, are no weights and stay whole.
    """
    return {
        name: (tuple(one.shape) or (1,), precision if one.is_floating_point() else "int64")
        for name, one in network.state_dict().items()
    }


def state(network: nn.Module, without: tuple[str, ...] = ()) -> dict[str, NDArray]:
    """Weights by name, as `shapes` declares them, in float32, or int64 where they are whole numbers; those of
    the modules `without` are left out.
    """
    named = network.state_dict().items()
    kept = {name: _plain(one) for name, one in named if not name.startswith(without)}
    return {name: one.reshape(one.shape or (1,)) for name, one in kept.items()}


def _plain(tensor: Tensor) -> NDArray:
    return (tensor.float() if tensor.is_floating_point() else tensor.long()).cpu().numpy()


def restore(network: nn.Module, path: str | Path, prefix: str = "") -> None:
    """Load the weights that a training saved, such as those of `fold-0/`, into a network of equal settings.

    Raises
    ------
    RuntimeError : the file holds weights of another network
    PerceptError : it is damaged
    """
    weights.require_whole(path)
    with safe_open(str(path), "pt") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]
        fill(network, {name.removeprefix(prefix): file.get_tensor(name) for name in names})


def fill(network: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Load tensors, all of them and no others, into a network; files know no scalars, networks do.

    Raises
    ------
    RuntimeError : the tensors are of another network
    """
    own = network.state_dict()
    network.load_state_dict({name: one.reshape(own.get(name, one).shape) for name, one in saved.items()})


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


def arithmetic(network: nn.Module, precision: Precision) -> torch.autocast:
    """Predict in the arithmetic that the network was trained and validated in."""
    half = precision != "float32"
    return torch.autocast(device_of(network).type, getattr(torch, precision) if half else None, enabled=half)


def in_batches(
    answer: Callable[[Tensor, slice], Tensor], X: NDArray[np.float32], n_rows: int = ROWS
) -> NDArray:
    """What `answer` gives for `n_rows` responses (row, voxel) at a time; it is told which rows they are."""
    found: NDArray | None = None
    for start in range(0, len(X), n_rows):
        rows = slice(start, min(start + n_rows, len(X)))
        part = answer(torch.from_numpy(np.ascontiguousarray(X[rows])), rows).numpy()
        if found is None:
            found = np.empty((len(X), *part.shape[1:]), part.dtype)
        found[rows] = part
    return np.empty((0, 0), np.float32) if found is None else found


def seeds(seed: int, stimulus: NDArray, n_samples: int) -> NDArray[np.int64]:
    """A seed for each sample of each row, (row, sample): of the stimulus and the sample's number, so that it
    depends neither on the other rows nor on how many samples there are.
    """
    drawn = [
        [
            np.random.SeedSequence([seed, int(one), k]).generate_state(1, np.uint64)[0]
            for k in range(n_samples)
        ]
        for one in stimulus
    ]
    return (np.array(drawn, dtype=np.uint64).reshape(len(drawn), n_samples) >> 1).astype(np.int64)


def blocks(
    task: Task,
    outcome: Outcome,
    tensors: dict[str, NDArray],
    predict: Predict,
    sample: Sample | None = None,
) -> Iterator[Block]:
    """A block for each group of responses, of all columns: predictions of one group lie in memory at a time.

    Weights, history and record come with the first. Samples are drawn for the group that images are made of.
    """
    said = {"tensors": tensors, "history": history(outcome), "record": outcome.record}
    for name, X in task.evaluate.items():
        with memory_for(f"predicting {name} by {task.name or 'the network'}", LESS_MEMORY):
            drawn = {name: sample(X, task.shown[name])} if sample and name == SAMPLED else {}
            predicted = {name: predict(X)}
        yield Block(slice(0, task.targets.n_dims), None, predicted, samples=drawn, **said)
        said = {"tensors": {}, "history": []}


def history(outcome: Outcome) -> list[dict[str, float]]:
    """A record per epoch, in plain numbers."""
    return outcome.history.astype(object).to_dict("records")
