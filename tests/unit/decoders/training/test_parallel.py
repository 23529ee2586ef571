"""Several processes that share each batch: the same loss, the same gradient, no script run twice."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from percept.decoders.training import chunked, parallel
from percept.decoders.training.learner import When
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError
from tests.unit.decoders.training import learners
from tests.unit.source import REPOSITORY

N, ROWS = 2, 6
WHEN = When(0, 10, 5)


def rank(index: int, folder: str) -> None:
    """One of two processes: the gradient of its share, averaged over both."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=index, world_size=N)
    learner, batch = learners.learner(dropout=0.0).double(), whole_batch()
    mine = chunked.cut(batch, index * ROWS // N, (index + 1) * ROWS // N)
    found = parallel.gather(learner(mine))
    learner.loss(found, batch, WHEN)["loss"].backward()
    for value in learner.parameters():
        dist.all_reduce(value.grad)
        value.grad /= N
    torch.save([value.grad for value in learner.parameters()], f"{folder}/{index}.pt")
    dist.destroy_process_group()


def whole_batch() -> dict[str, torch.Tensor]:
    """In float64: how float32 is rounded depends on the processor."""
    tensors = learners.data(ROWS).tensors.items()
    numbers = {name: value.double() if value.is_floating_point() else value for name, value in tensors}
    return {**numbers, "rows": torch.arange(ROWS)}


def test_the_averaged_gradient_of_the_shares_is_that_of_the_whole_batch(tmp_path):
    mp.start_processes(rank, args=(str(tmp_path),), nprocs=N, start_method="fork")
    learner, batch = learners.learner(dropout=0.0).double(), whole_batch()
    learner.loss(learner(batch), batch, WHEN)["loss"].backward()
    for index in range(N):
        found = torch.load(tmp_path / f"{index}.pt", weights_only=True)
        for gradient, value in zip(found, learner.parameters(), strict=True):
            expected = torch.zeros_like(value) if value.grad is None else value.grad
            torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


SCRIPT = """
    from pathlib import Path

    Path("runs").open("a").write("run\\n")  # no guard: a second run of the script would add a line

    from percept import log

    log.to_file("script.log")

    import numpy as np

    from percept.decoders.training.fit import Job, fit
    from percept.decoders.training.settings import TrainingConfig
    from percept.files import PerceptError
    from tests.unit.decoders.training import learners

    def train(name, module, **changes):
        cfg = TrainingConfig(epochs=4, batch_size=8, device="cpu", **changes)
        job = Job(Path(name), seed=3, identity="", name="toy")
        outcome = fit(module, learners.data(43), learners.data(9, seed=1), cfg, job)
        np.savez(name, **learners.weights(module))
        outcome.history.to_parquet(f"{name}.parquet")
        return outcome

    for chunk in (None, 3):
        for devices in (1, 2):
            module = learners.learner(dropout=0.0)
            train(f"{devices}-{chunk}", module, devices=devices, chunk=chunk)
    try:
        train("broken", learners.Broken(), devices=2)
    except PerceptError as error:
        Path("message").write_text(str(error))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_trains_on_two_processes_as_on_one(tmp_path):
    import pandas as pd

    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "SLURM_NTASKS": "1"}
    command = [sys.executable, "script.py"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "runs").read_text() == "run\n"
    alone = dict(np.load(tmp_path / "1-None.npz"))
    for name in ("1-3", "2-None", "2-3"):
        other = dict(np.load(tmp_path / f"{name}.npz"))
        for key, value in alone.items():
            np.testing.assert_allclose(other[key], value, rtol=1e-4, atol=1e-6)
        histories = [pd.read_parquet(tmp_path / f"{each}.parquet") for each in ("1-None", name)]
        pd.testing.assert_frame_equal(*(each.drop(columns="seconds") for each in histories), rtol=1e-4)
    assert "loss is not finite" in (tmp_path / "message").read_text()
    assert "toy: epoch 4" in (tmp_path / "script.log").read_text()  # said by a process, in the script's log


def test_gpus_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for changes in ({"devices": 4}, {"device": "cuda:2"}, {"device": "cuda:1", "devices": 2}):
        with pytest.raises(PerceptError, match=r"torch sees 2 here.*training.devices"):
            parallel.fabric_for(TrainingConfig(**changes))


def test_a_batch_systems_own_tasks_are_not_ours(monkeypatch):
    for name, value in {"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "job", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert parallel.fabric_for(TrainingConfig(device="cpu")).world_size == 1


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_leaves_the_batch_as_it_is(precision):
    fabric = parallel.fabric_for(TrainingConfig(device="cpu", precision=precision))
    module = fabric.setup_module(Doubling())
    x = torch.tensor([1.0 + 2**-20])
    assert torch.equal(module(x), 2 * x)


class Doubling(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dtype == torch.float32
        return 2 * x


def test_new_processes_do_not_see_the_script():
    script = sys.modules["__main__"]
    with parallel._no_script():
        assert not hasattr(sys.modules["__main__"], "__file__")
    assert sys.modules["__main__"] is script


def test_a_log_goes_on_in_the_same_files(tmp_path, monkeypatch):
    import logging

    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    path = Path(tmp_path / "log")
    path.write_text("before\n")
    parallel.log_to([str(path)])
    assert parallel.logs() == [str(path)]
    logging.getLogger("percept").warning("after")
    assert path.read_text().startswith("before\n") and "after" in path.read_text()


STOPPED = """
    import sys
    from pathlib import Path

    import numpy as np

    from percept.decoders.training.fit import Job, fit
    from percept.decoders.training.settings import TrainingConfig
    from tests.unit.decoders.training import learners

    name = sys.argv[1]
    cfg = TrainingConfig(epochs=60, batch_size=8, device="cpu", devices=2, checkpoint_minutes=1e-5)
    module = learners.learner()
    outcome = fit(module, learners.data(43), learners.data(9, seed=1), cfg, Job(Path(name), 3, "", "toy"))
    np.savez(name, resumed=outcome.record["resumed"], **learners.weights(module))
"""


@pytest.mark.slow
def test_a_signal_stops_all_processes_once_their_training_is_saved(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(STOPPED))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}

    def start(name: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "script.py", name], cwd=tmp_path, env=environment)

    stopped = start("parts")
    while stopped.poll() is None and not (tmp_path / "parts" / "checkpoint.pt").exists():
        time.sleep(0.01)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == -signal.SIGTERM
    assert not (tmp_path / "parts.npz").exists()
    assert start("parts").wait() == start("whole").wait() == 0
    parts, whole = (dict(np.load(tmp_path / f"{name}.npz")) for name in ("parts", "whole"))
    assert parts.pop("resumed") > 0 == whole.pop("resumed")
    assert learners.same(parts, whole)
