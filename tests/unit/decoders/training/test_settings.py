"""Settings of a training: what a cluster is asked for, and what does not fit together."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from percept.decoders.training.job import Plan
from percept.decoders.training.settings import TrainingConfig


@pytest.mark.parametrize(
    ("device", "devices", "n"), [("cpu", 2, 0), ("auto", 1, 1), ("auto", 4, 4), ("cuda:1", 1, 1)]
)
def test_a_cluster_is_asked_for_the_gpus_that_are_used(device, devices, n):
    assert TrainingConfig(device=device, devices=devices).n_gpus == n


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_learning_rate_has_to_fall_again(epochs):
    with pytest.raises(ValidationError, match="set `peak_epochs` to less than `epochs`"):
        TrainingConfig(epochs=epochs)


def test_devices_share_a_batch_evenly():
    with pytest.raises(ValidationError, match="set `batch_size` to a multiple of 3"):
        TrainingConfig(devices=3)


@pytest.mark.parametrize(
    ("n_rows", "devices", "plan"),
    [
        (8859, 1, (32, 276, 66240)),  # MindEye's subject 1
        (64, 1, (32, 2, 480)),
        (63, 1, (32, 1, 240)),  # the last incomplete batch is left out
        (7, 1, (7, 1, 240)),  # fewer rows than a batch are one
        (7, 2, (6, 1, 240)),
    ],
)
def test_steps_are_whole_batches(n_rows, devices, plan):
    found = Plan.of(TrainingConfig(devices=devices), n_rows)
    assert (found.batch, found.steps_per_epoch, found.n_steps) == plan


def test_settings_need_no_torch():
    code = "import sys, percept.decoders.training.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "rise"),
    [
        ({"epochs": 40, "peak_epochs": 2}, 0.05),
        ({"epochs": 40, "peak_epochs": 2, "warmup": 0.25}, 0.25),
        ({"epochs": 1, "peak_epochs": 2, "warmup": 0.25}, 0.25),  # which then is not looked at
    ],
)
def test_the_rise_is_told_in_epochs_or_as_a_share_of_the_training(given, rise):
    assert TrainingConfig(**given).rise == rise
