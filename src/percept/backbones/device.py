"""Where tensors are computed, and by how many threads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from percept.files import PerceptError
from percept.log import SHORT, full_memory


def use_threads(n: int) -> None:
    """Compute with `n` threads of the processor from here on; call it before torch is first imported.

    Torch takes every core it sees, so that jobs side by side on one machine slow each other down several
    times over. Snakemake limits the threads of shell commands, but not those of scripts.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(n)


def choose(device: str) -> str:
    """The device that a setting stands for: `auto` is a GPU where there is one, or what PERCEPT_DEVICE names.

    Raises
    ------
    PerceptError : a GPU was asked for where torch sees none, or Slurm gave this job one that torch cannot
        see: it would be held, unused, while the processor computes until the job's time is over
    """
    import torch

    device = os.environ.get("PERCEPT_DEVICE", device) if device == "auto" else device
    if device == "auto":
        given = os.environ.get("SLURM_JOB_GPUS")
        if given and not torch.cuda.is_available():
            built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU"
            raise PerceptError(
                f"Slurm gave this job the GPU {given}, and torch {torch.__version__} sees none: it is built "
                f"for {built}, which may not be what the node's driver is for (docs/environments.md, PyTorch "
                "for GPUs). To compute on the CPU all the same, set `device: cpu`, or PERCEPT_DEVICE=cpu in "
                "the environment of the run."
            )
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise PerceptError(
            f"the device {device!r} was asked for, but torch {torch.__version__} sees no GPU here: set "
            "`device: auto` to use the CPU, or run where `nvidia-smi` lists a GPU and torch is built for it."
        )
    return device


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Say which settings save memory where a GPU, or the machine, has too little of it.

    Parameters
    ----------
    what : what is computed inside, as in "while ..."
    remedy : the settings that need less memory

    Raises
    ------
    PerceptError : the memory did not suffice
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        full = full_memory(error)
        if full is None:
            raise
        where, tool, reason = full
        raise PerceptError(
            f"the memory of the {where} {SHORT} while {what} ({reason}): "
            f"{remedy}, and run the same command again; `{tool}` shows whether another process holds part "
            "of the memory."
        ) from error
