"""Which weights are kept, and when waiting ends."""

import pytest
import torch

from percept.decoders.training.selection import Selection
from percept.decoders.training.settings import TrainingConfig


def seen(losses: list[float], **settings: object) -> Selection:
    selection = Selection.by(TrainingConfig(**settings), validates=True)
    for epoch, loss in enumerate(losses, start=1):
        selection.see(loss, epoch, lambda onto, epoch=epoch: {"epoch": torch.tensor(epoch)})
    return selection


@pytest.mark.parametrize(("losses", "epoch"), [([3, 2, 1], 3), ([1, 2, 3], 1), ([2, 1, 1, 3], 2)])
def test_the_first_of_the_best_validations_is_kept(losses, epoch):
    selection = seen(losses)
    assert selection.epoch == epoch and int(selection.weights["epoch"]) == epoch


@pytest.mark.parametrize(("losses", "over"), [([2, 1, 3, 3], True), ([2, 3, 1, 3], False), ([1, 2], False)])
def test_patience_counts_validations_since_the_best(losses, over):
    assert seen(losses, patience=2).exhausted is over


def test_without_patience_nothing_ends_early():
    assert not seen([1.0] + [2.0] * 500).exhausted


def test_the_last_weights_need_no_copy():
    assert seen([3, 2], select="last").weights is None


def test_without_validation_there_is_nothing_to_wait_for():
    assert Selection.by(TrainingConfig(patience=1), validates=False).patience is None


def test_a_selection_survives_a_checkpoint():
    before = seen([2, 1, 3], patience=4)
    after = Selection.by(TrainingConfig(patience=4), validates=True)
    after.load(before.state(), lambda weights: weights)
    assert after == before
