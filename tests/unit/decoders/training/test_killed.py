"""MindEye, killed at any moment of its training and run again, leaves the files of a run that was not."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest
import torch

from percept.decoders.mindeye import MindEyeConfig
from percept.files import read_parquet
from tests.unit.decoders.made_up import contents, features, trained

KILLS = 20
STEPS = 80  # 40 images in batches of 16: two steps an epoch
PRELOADED = ["percept.decoders.training.fit", "percept.decoders.networks.mindeye", __name__]
CHECKPOINT = Path("work") / "checkpoint.pt"
TINY = MindEyeConfig(
    target="tokens",
    network={"width": 32, "blocks": 1, "projector_width": 24, "dropout": 0.1},
    prior={"depth": 1, "heads": 2, "head_width": 4, "timesteps": 6, "sampling_steps": 6},
    repeats="mixed",
    training={  # a checkpoint after every step
        "epochs": STEPS // 2, "batch_size": 16, "peak_epochs": 4, "device": "cpu", "checkpoint_minutes": 1e-9
    },
)  # fmt: skip


def train(folder: Path, path: Path) -> None:
    """Train, predict and draw samples on one thread."""
    torch.set_num_threads(1)
    trained(TINY, folder, path, seed=3)


@pytest.fixture(scope="module")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def run(processes, folder: Path, path: Path, killed_after: float | None = None) -> float:
    """Train in a process, killed so many seconds after its first checkpoint; the seconds from there on."""
    process = processes.Process(target=train, args=(folder, path))
    process.start()
    while process.is_alive() and not (folder / CHECKPOINT).exists():
        time.sleep(0.001)
    started = time.monotonic()
    process.join(killed_after)
    process.kill()
    process.join()
    assert killed_after is not None or process.exitcode == 0
    return time.monotonic() - started


def steps_saved(folder: Path) -> int:
    """Steps that the checkpoint of a killed training holds; 0 if it was over."""
    if not (folder / CHECKPOINT).exists():
        return 0
    stored = torch.load(folder / CHECKPOINT, weights_only=True)
    return 0 if stored["finished"] else stored["step"] % STEPS


@pytest.mark.slow
def test_files_after_a_kill_are_those_of_the_uninterrupted_training(tmp_path, processes):
    assert (TINY.losses.first, TINY.losses.second, TINY.training.ema) == ("bimixco", "softclip", None)
    path = features(tmp_path, "tokens", (3, 8), 60)
    took = run(processes, tmp_path / "whole", path)
    expected = contents(tmp_path / "whole")
    assert expected["history"]["step"][-1] == STEPS
    moments, resumed = random.Random(0), []
    for number in range(3 * KILLS):
        folder = tmp_path / str(number)
        run(processes, folder, path, killed_after=moments.uniform(0, took))
        saved = steps_saved(folder)
        run(processes, folder, path)
        assert contents(folder) == expected
        (record,) = read_parquet(folder / "history.parquet").attrs["training"]
        if saved:  # it was killed between its first step and its last
            assert record["resumed"] == saved
            resumed.append(saved)
        if len(resumed) == KILLS:
            break
    assert len(resumed) == KILLS and len(set(resumed)) > KILLS // 2
    assert min(resumed) < STEPS / 3 < 2 * STEPS / 3 < max(resumed)  # in both phases of the loss
