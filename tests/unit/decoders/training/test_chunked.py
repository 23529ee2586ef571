"""Gradient caching: the gradient of the whole batch from chunks of it."""

from contextlib import nullcontext

import pytest
import torch

from percept.decoders.training import chunked, seeds
from percept.decoders.training.learner import When
from tests.unit.decoders.training import learners

WHEN = When(0, 10, 5)
ROWS = 13


def batch() -> dict[str, torch.Tensor]:
    return {**learners.data(ROWS).tensors, "rows": torch.arange(ROWS)}


def gradients(learner: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.grad.clone() for name, value in learner.named_parameters() if value.grad is not None}


def chunk_by_chunk(size: int, dropout: float) -> tuple[dict[str, torch.Tensor], float]:
    """Gradients and loss by the engine's way."""
    learner, rows = learners.learner(dropout=dropout), batch()

    def forward(part: dict[str, torch.Tensor], index: int) -> dict[str, torch.Tensor]:
        seeds.seed_forward(5, 0, 0, index)
        return learner(part)

    parts = chunked.backward(
        rows,
        size,
        forward,
        lambda found: learner.loss(found, rows, WHEN),
        lambda scalar: scalar.backward(),
        lambda last: nullcontext(),
    )
    return gradients(learner), float(parts["loss"])


def with_one_graph(size: int, dropout: float) -> tuple[dict[str, torch.Tensor], float]:
    """The same by plain backpropagation through all chunks at once."""
    learner, rows = learners.learner(dropout=dropout), batch()
    found = []
    for index, span in enumerate(chunked.spans(ROWS, size)):
        seeds.seed_forward(5, 0, 0, index)
        found.append(learner(chunked.cut(rows, *span)))
    together = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    loss = learner.loss(together, rows, WHEN)["loss"]
    loss.backward()
    return gradients(learner), float(loss.detach())


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("size", [1, 5, 12, 13, 20])  # ragged last chunks, one chunk, more than there is
def test_gradients_are_those_of_the_whole_batch(size, dropout):
    found, loss = chunk_by_chunk(size, dropout)
    expected, expected_loss = with_one_graph(size, dropout)
    assert loss == pytest.approx(expected_loss, rel=1e-6)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


def test_without_chance_the_size_of_the_chunks_does_not_matter():
    small, one = chunk_by_chunk(3, 0.0)[0], with_one_graph(ROWS, 0.0)[0]
    for name, gradient in one.items():
        torch.testing.assert_close(small[name], gradient, rtol=1e-4, atol=1e-6)


def test_chance_is_the_same_in_both_passes_and_differs_between_chunks():
    """Dropout that differed between the passes would give another gradient; the same for all chunks, rows
    dropped alike.
    """
    learner = learners.learner(dropout=0.5)
    rows = {name: value[:1].repeat(2, *[1] * (value.ndim - 1)) for name, value in batch().items()}
    found = []
    for index in (0, 1, 0):
        seeds.seed_forward(5, 0, 0, index)
        found.append(learner(chunked.cut(rows, 0, 1))["out"])
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


class Large(torch.nn.Module):
    """Outputs of thousands with tiny gradients: their products are not within half precision."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(11, 200)

    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"out": self.layer(batch["x"]) * 2000}


def in_half_precision(size: int) -> torch.Tensor:
    """Gradient of the weights of `Large`, found under a loss that is scaled as for float16."""
    module, rows, scale = Large(), {"x": learners.data(ROWS).tensors["x"]}, 2.0**8

    def forward(part: dict[str, torch.Tensor], index: int = 0) -> dict[str, torch.Tensor]:
        with torch.autocast("cpu", torch.float16):
            return module(part)

    def loss(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"loss": (found["out"].float() / 2000).square().sum() / 1000}

    if size < ROWS:
        chunked.backward(
            rows, size, forward, loss, lambda one: (one * scale).backward(), lambda last: nullcontext()
        )
    else:
        (loss(forward(rows))["loss"] * scale).backward()
    return module.layer.weight.grad / scale


@pytest.mark.parametrize("size", [3, 12])
def test_chunks_in_half_precision_lose_no_small_gradient_and_overflow_nowhere(size):
    plain = in_half_precision(ROWS)
    assert plain.isfinite().all() and (plain != 0).all()
    torch.testing.assert_close(
        in_half_precision(size), plain, rtol=5e-3, atol=2e-3 * plain.abs().max().item()
    )
