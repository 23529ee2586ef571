"""Losses that are read late: means, and the first that is not finite."""

import math

import pytest
import torch

from percept.decoders.training.ledger import Fault, Ledger


def noted(rows: list[dict[str, float]]) -> Ledger:
    ledger = Ledger()
    for step, row in enumerate(rows):
        ledger.note(step, {name: torch.tensor(value) for name, value in row.items()})
    return ledger


def test_means_are_over_the_steps_that_have_a_part():
    ledger = noted([{"loss": 1.0, "early": 4.0}, {"loss": 3.0, "late": 8.0}])
    assert ledger.settle() is None
    assert ledger.means() == {"loss": 2.0, "early": 4.0, "late": 8.0}
    assert ledger.rows == [] and ledger.means() == {}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_part_is_named_rather_than_the_sum(value):
    fault = noted([{"loss": 1.0, "prior": 1.0}, {"loss": value, "prior": value}, {"loss": value}]).settle()
    assert isinstance(fault, Fault) and (fault.step, fault.part) == (1, "prior")


def test_a_sum_that_overflows_is_found_too():
    assert noted([{"loss": math.inf, "prior": 1e38}]).settle().part == "loss"


def test_half_precision_is_read_in_float32():
    ledger = Ledger()
    ledger.note(0, {"loss": torch.tensor(2.0, dtype=torch.bfloat16), "part": torch.tensor(1.0)})
    ledger.settle()
    assert ledger.rows == [{"loss": 2.0, "part": 1.0}]
