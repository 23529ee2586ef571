"""What `auto` stands for, and what is said where a GPU, or the machine, has too little memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from percept.backbones.device import choose, memory_for
from percept.files import PerceptError


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_slurm_gave_and_torch_cannot_see_is_not_held_unused(monkeypatch):
    assert choose("auto") == "cpu"
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    with pytest.raises(PerceptError, match=r"gave this job the GPU 3.*built for (CUDA|the CPU)"):
        choose("auto")
    assert choose("cpu") == "cpu"
    monkeypatch.setenv("PERCEPT_DEVICE", "cpu")
    assert choose("auto") == "cpu"
    with pytest.raises(PerceptError, match="sees no GPU here"):
        choose("cuda")


def test_a_full_gpu_is_told_with_what_was_computed_and_what_needs_less():
    message = (
        r"while making images \(CUDA out of memory\): lower `batch_size`, and run .* again; `nvidia-smi`"
    )
    with (
        pytest.raises(PerceptError, match=message) as caught,
        memory_for("making images", "lower `batch_size`"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)


@pytest.mark.parametrize(
    ("take", "reason"),
    [
        (lambda: torch.empty(1 << 50), "can't allocate memory: you tried to allocate 4503599627370496 bytes"),
        (lambda: np.empty(1 << 50), "Unable to allocate 8.00 PiB"),
        (lambda: bytearray(1 << 60), "nothing more is known"),
    ],
    ids=["torch", "numpy", "python"],
)
def test_a_full_machine_is_told_alike(take, reason):
    message = rf"of the machine .* while making images \({reason}.*\): lower `batch_size`.*`free -h`"
    with pytest.raises(PerceptError, match=message), memory_for("making images", "lower `batch_size`"):
        take()


@pytest.mark.parametrize("error", [RuntimeError("shapes"), ValueError("x"), KeyboardInterrupt()])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, memory_for("making images", "nothing"):
        raise error
    assert caught.value is error


def test_torch_is_not_imported_for_it():
    code = (
        "import sys\nfrom percept.backbones.device import memory_for\n"
        "try:\n    with memory_for('x', 'y'):\n        raise RuntimeError\n"
        "except RuntimeError:\n    assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
