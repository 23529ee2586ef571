"""Gradient of a loss over more rows than fit in one forward pass (gradient caching, Gao et al. 2021).

The outputs of all rows are computed without a graph, chunk by chunk; the gradient of the loss with respect to
these outputs is found; then each chunk is computed again, with the same random numbers, and its outputs are
pulled along that gradient. By the chain rule this is the gradient of the loss over all rows.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

Rows = dict[str, Tensor]


def cut(batch: Rows, start: int, stop: int) -> Rows:
    """Rows start to stop of every tensor; a tensor without axes goes to all."""
    return {name: value[start:stop] if value.ndim else value for name, value in batch.items()}


def n_rows(batch: Rows) -> int:
    """Rows of a batch."""
    return next(len(value) for value in batch.values() if value.ndim)


def spans(n: int, size: int) -> list[tuple[int, int]]:
    """Consecutive ranges of at most `size` of `n` rows."""
    return [(start, min(start + size, n)) for start in range(0, n, size)]


def backward(
    batch: Rows,
    size: int,
    forward: Callable[[Rows, int], Rows],
    loss: Callable[[Rows], Rows],
    pull: Callable[[Tensor], None],
    section: Callable[[bool], AbstractContextManager[None]],
) -> Rows:
    """Gradients of a loss in `batch`, computed `size` rows at a time.

    Parameters
    ----------
    forward : (rows of the batch, number of the chunk) -> outputs (row, ...); seeds itself by the number
    loss : outputs of all rows -> ``loss`` and its parts, scalars
    pull : runs the backward pass of a scalar
    section : whether a chunk is the last -> what its second forward pass and its backward pass run in

    Returns
    -------
    parts of the loss, as `loss` gave them
    """
    chunks = [cut(batch, *span) for span in spans(n_rows(batch), size)]
    with torch.no_grad():
        found = [forward(rows, index) for index, rows in enumerate(chunks)]
    leaves = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    del found
    wanted = {name: _wide(leaf).requires_grad_() for name, leaf in leaves.items() if leaf.is_floating_point()}
    parts = loss(leaves | wanted)
    gradients = torch.autograd.grad(parts["loss"], list(wanted.values()), materialize_grads=True)
    pulls = dict(zip(wanted, gradients, strict=True))
    for index, (start, stop) in enumerate(spans(n_rows(batch), size)):
        with section(stop == n_rows(batch)):
            outputs = forward(chunks[index], index)
            pull(_along(outputs, cut(pulls, start, stop)))
    return {name: part.detach() for name, part in parts.items()}


def _along(outputs: Rows, pulls: Rows) -> Tensor:
    """A scalar whose gradient with respect to the outputs is `pulls`."""
    pulled = [
        (_wide(outputs[name]) * pull).sum() for name, pull in pulls.items() if outputs[name].requires_grad
    ]
    return sum(pulled)


def _wide(x: Tensor) -> Tensor:
    """In float32 or better: no scale of the loss keeps the pulls, and their sum, within half precision."""
    return x if x.dtype == torch.float64 else x.float()
