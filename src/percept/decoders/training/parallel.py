"""Several devices that share each batch: Fabric's data-parallel processes, and every row seen by the loss."""

import itertools
import logging
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing import ProcessExitedException

from percept.backbones.device import choose
from percept.decoders.training.fabric import DDPStrategy, Fabric, LightningEnvironment, MixedPrecision
from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError
from percept.log import FORMAT

MIXED = {"float16": "16-mixed", "bfloat16": "bf16-mixed"}
STARTED_BY = ("MASTER_PORT", "MASTER_ADDR", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")  # left by a launch


class Autocast(MixedPrecision):
    """Mixed precision that leaves the batch as it is: operations round what they compute in half precision,
    targets and weights of a mixture stay exact.
    """

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401 (Fabric's signature)
        """The batch itself."""
        return data

    def unscale_gradients(self, optimizer: torch.optim.Optimizer) -> None:
        """Divide the gradients by the scale of the loss; the fused step then knows that this is done."""
        if self.scaler is not None:
            self.scaler.unscale_(optimizer)


def fabric_for(cfg: TrainingConfig) -> Fabric:
    """Devices and precision of the settings, not launched yet.

    Raises
    ------
    PerceptError : more GPUs than there are, or one GPU named where several are asked for
    """
    device = torch.device(choose(cfg.device))
    _check(device, cfg)
    plugins: list[Any] = [LightningEnvironment()]  # a batch system's own tasks are none of our processes
    if cfg.precision in MIXED:
        plugins.append(Autocast(MIXED[cfg.precision], device=device.type))
    several = cfg.devices > 1
    return Fabric(
        accelerator=device.type,
        devices=cfg.devices if several or device.type == "cpu" else [device.index or 0],
        strategy=_strategy() if several else "auto",
        plugins=plugins,
    )


def _strategy() -> DDPStrategy:
    """Processes started afresh; gradients are summed where they lie."""
    return DDPStrategy(start_method="spawn", gradient_as_bucket_view=True)


def _check(device: torch.device, cfg: TrainingConfig) -> None:
    if device.type != "cuda":
        return
    n = torch.cuda.device_count()
    if cfg.devices > n or (device.index or 0) >= n or (cfg.devices > 1 and device.index is not None):
        raise PerceptError(
            f"training asks for {cfg.devices} GPU(s) on the device {cfg.device!r}, but torch sees {n} here: "
            "set `training.devices` to at most that number, and `training.device` to auto where it is more "
            "than one; `nvidia-smi` and CUDA_VISIBLE_DEVICES say which are visible."
        )


def launch(fabric: Fabric, function: Callable[[Fabric], None]) -> None:
    """Run function(fabric) in a new process per device, and wait for all.

    The processes do not run the script again that this one is running (Snakemake's scripts have no guard).

    Raises
    ------
    PerceptError : a process was killed
    """
    before = {name: os.environ.get(name) for name in STARTED_BY}
    try:
        with _no_script():
            fabric.launch(function)
    except ProcessExitedException as error:
        raise PerceptError(
            f"one of the processes that share the training ended without a word ({error}): most often the "
            "memory of the machine did not suffice. The last checkpoint is whole: run the same command "
            "again, with more memory or fewer `training.devices`."
        ) from error
    finally:
        _restore(before)


@contextmanager
def _no_script() -> Iterator[None]:
    """Hide the main module, which new processes would otherwise run once more to import it."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def unshare(learner: nn.Module) -> None:
    """Give this process weights of its own: started processes share the memory of what they are given."""
    for tensor in itertools.chain(learner.parameters(), learner.buffers()):
        tensor.data = tensor.data.clone()


def logs() -> list[str]:
    """Files that the log of this process goes to; an empty name is stderr."""
    return [getattr(handler, "baseFilename", "") for handler in logging.getLogger().handlers]


def log_to(files: list[str]) -> None:
    """Continue the log of the process that started this one; without files, warnings go to stderr."""
    handlers = [logging.FileHandler(file) if file else logging.StreamHandler() for file in files]
    if handlers:
        logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers, force=True)


def agree(fabric: Fabric, *flags: bool) -> list[bool]:
    """Each flag, true if it is true on any device; waits for all devices."""
    if fabric.world_size == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.int32, device=fabric.device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def gather(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Outputs of all devices, (rows of all, ...), from those of each; the rows of device 0 come first.

    Every device then computes the same loss of all rows. Its gradient is passed on to the rows of this device
    alone, times the number of devices, because the devices' gradients of the weights are averaged: together
    that is the gradient of the one loss. Outputs that the loss does not use get a gradient of zero, so that
    all devices have a gradient for the same weights.
    """
    floating = {name: value for name, value in found.items() if value.is_floating_point()}
    gathered = dict(zip(floating, _Gather.apply(*floating.values()), strict=True))
    return {name: gathered[name] if name in gathered else _of_all(value) for name, value in found.items()}


class _Gather(torch.autograd.Function):
    """Rows of all devices; backward, the rows of this one."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        return tuple(_of_all(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN401
        rank, n = dist.get_rank(), dist.get_world_size()
        return tuple(gradient.chunk(n)[rank] * n for gradient in gradients)


def _of_all(tensor: Tensor) -> Tensor:
    parts = [
        torch.empty_like(tensor, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size())
    ]
    dist.all_gather(parts, tensor.detach().contiguous())
    return torch.cat(parts)
