"""Memory is known before training begins."""

import pytest
import torch
from torch import nn

from percept.decoders.training import preflight
from percept.decoders.training.learner import Data, When
from percept.decoders.training.preflight import Estimate
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError
from tests.unit.decoders.training import learners


class Wide(learners.Contrastive):
    """One matrix and one ReLU: per row, the input of each and the sign are kept for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.only = nn.Linear(learners.N_IN, 1000)

    def forward(self, batch):
        return {"out": self.only(batch["x"]).relu()}


def estimated(batch_size: int = 8, **changes: object) -> Estimate:
    learner, data = Wide(), learners.data(20)
    cfg = TrainingConfig(device="cpu", batch_size=batch_size, **changes)
    batch = preflight.probe(learner, data, When(0, 10, 2), seed=0)
    return preflight.estimate(learner, data, cfg, batch_size, preflight.kept_bytes(learner, batch))


def test_the_estimate_is_of_weights_and_rows():
    n = sum(value.numel() for value in Wide().parameters())
    found = estimated(ema=0.9)
    assert (found.gradients, found.optimiser, found.average, found.best) == (4 * n, 8 * n, 4 * n, 4 * n)
    assert found.weights == 4 * n + 8  # and a counter
    assert found.data == 20 * (learners.N_IN + learners.N_OUT) * 4
    assert found.total == found.to_come + found.data + found.weights


def test_what_is_not_asked_for_takes_nothing():
    found = estimated(select="last")
    assert found.average == found.best == 0


def test_activations_grow_with_the_rows_of_a_forward_pass():
    row = (learners.N_IN + 1000) * 4  # the input of the matrix and the output of the ReLU
    assert estimated(8).activations == pytest.approx(8 * row, rel=0.02)
    assert estimated(32).activations == pytest.approx(32 * row, rel=0.02)
    assert estimated(32, chunk=4).activations == pytest.approx(4 * row, rel=0.02)


def estimate_of(to_come: int, best: int) -> Estimate:
    return Estimate(1, 1, to_come - best, 0, 0, best, 0)


def test_what_does_not_fit_is_refused_with_the_settings_that_help(monkeypatch):
    monkeypatch.setattr(preflight, "available", lambda device: 5_000_000_000)
    with pytest.raises(
        PerceptError, match=r"mindeye of subj01 needs.* 7 GB .*5 GB are free.*batch_size.*bfloat16"
    ):
        preflight.room(estimate_of(7_000_000_000, 1), torch.device("cpu"), "mindeye of subj01")


def test_the_best_weights_make_room_on_a_gpu_before_anything_is_refused(monkeypatch):
    monkeypatch.setattr(preflight, "available", lambda device: 50)
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert preflight.room(estimate_of(50, 10), gpu, "toy") == gpu
    assert preflight.room(estimate_of(55, 10), gpu, "toy") == cpu
    with pytest.raises(PerceptError, match="needs about"):
        preflight.room(estimate_of(61, 10), gpu, "toy")


def test_where_free_memory_is_unknown_nothing_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "MEMINFO", tmp_path / "none")
    assert preflight.room(estimate_of(10**18, 0), torch.device("cpu"), "toy") == torch.device("cpu")


def test_free_memory_is_read(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight, "MEMINFO", tmp_path / "meminfo")
    (tmp_path / "meminfo").write_text("MemTotal:       32 kB\nMemAvailable:    7 kB\n")
    assert preflight.available(torch.device("cpu")) == 7 * 1024


def test_a_single_row_can_be_looked_at():
    learner, data = Wide(), learners.data(1)
    batch = preflight.probe(learner, Data(1, data.tensors), When(0, 1, 1), seed=0)
    one, two = preflight.kept_bytes(learner, batch).tolist()
    assert one == two > 0
