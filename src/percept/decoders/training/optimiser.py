"""AdamW, its groups, the schedule of its learning rate, and the average of the weights."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from percept.decoders.training.settings import TrainingConfig

BETAS = (0.9, 0.999)  # where beta1 is not cycled
BETA1_CYCLE = (0.85, 0.95)  # at the highest learning rate, at the ends (Smith 2018; torch's defaults)
FUSED = {"cpu", "cuda"}  # devices with one kernel for the whole update


def trained(module: nn.Module) -> list[nn.Parameter]:
    """Parameters that a gradient changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def groups(module: nn.Module, cfg: TrainingConfig) -> list[dict[str, Any]]:
    """Parameters for AdamW in two groups: those that decay, and the others.

    ``matrices``: tensors of two and more axes decay; biases, gains and scalars do not. ``all_but_biases``:
    every parameter decays whose name does not contain "bias" (reference code of Scotti et al. 2023, whose
    exception for LayerNorm matches no name).
    """
    named = [(name, value) for name, value in module.named_parameters() if value.requires_grad]
    decays = {
        "matrices": lambda name, value: value.ndim >= 2,
        "all_but_biases": lambda name, value: "bias" not in name,
    }
    chosen = [(value, decays[cfg.decayed](name, value)) for name, value in named]
    return [
        {"params": [value for value, decayed in chosen if decayed], "weight_decay": cfg.weight_decay},
        {"params": [value for value, decayed in chosen if not decayed], "weight_decay": 0.0},
    ]


def adamw(module: nn.Module, cfg: TrainingConfig) -> AdamW:
    """The optimiser, in one kernel for all parameters where the device has one."""
    device = next(iter(module.parameters())).device.type
    filled = [group for group in groups(module, cfg) if group["params"]]
    return AdamW(filled, lr=cfg.learning_rate, betas=BETAS, fused=device in FUSED)


def scheduler(optimiser: AdamW, cfg: TrainingConfig, n_steps: int) -> LRScheduler:
    """What sets the learning rate of each of `n_steps`, as `learning_rate` gives it in closed form."""
    if cfg.schedule == "one_cycle":
        return one_cycle(optimiser, cfg, n_steps)
    return LambdaLR(optimiser, lambda step: learning_rate(cfg, n_steps, step) / cfg.learning_rate)


def one_cycle(optimiser: AdamW, cfg: TrainingConfig, n_steps: int) -> OneCycleLR:
    """Half a cosine up to the highest learning rate over the share `cfg.rise`, then half a cosine down."""
    low, high = BETA1_CYCLE
    return OneCycleLR(
        optimiser,
        max_lr=cfg.learning_rate,
        total_steps=n_steps,
        pct_start=_rise(cfg, n_steps),
        div_factor=cfg.start_divisor,
        final_div_factor=cfg.end_divisor,
        cycle_momentum=cfg.cycle_momentum,
        base_momentum=low,
        max_momentum=high,
    )


def learning_rate(cfg: TrainingConfig, n_steps: int, step: int) -> float:
    """The learning rate at a step, in closed form.

    ``steps``: learning_rate x step_factor^k after k times `step_epochs` epochs.

    ``one_cycle``: with u = cfg.rise x n_steps - 1, the step at which it is highest,
    low + (high - low) (1 - cos(pi step / u)) / 2 up to there, then
    end + (high - end) (1 + cos(pi (step - u) / (n_steps - 1 - u))) / 2.
    """
    if cfg.schedule == "steps":
        epoch = step * cfg.epochs // n_steps
        return cfg.learning_rate * cfg.step_factor ** (epoch // cfg.step_epochs)
    low = cfg.learning_rate / cfg.start_divisor
    up = _rise(cfg, n_steps) * n_steps - 1
    if step <= up:
        return _cosine(low, cfg.learning_rate, step / up)
    return _cosine(cfg.learning_rate, low / cfg.end_divisor, (step - up) / (n_steps - 1 - up))


def _rise(cfg: TrainingConfig, n_steps: int) -> float:
    """Share of the steps in which the learning rate rises: a rise of one step is none (and divides by 0)."""
    return cfg.rise if cfg.rise * n_steps > 1 else 0.0


def _cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2


def finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers of tensors of one device are finite; waits for the device once."""
    largest = torch._foreach_norm([one.detach() for one in tensors if one.numel()], math.inf)
    return bool(torch.stack(largest).isfinite().all())


class Average:
    """Exponential moving average of the trained parameters.

    After step t the average m becomes d m + (1 - d) w, d = min(decay, (1 + t) / (10 + t)): the first,
    random weights are forgotten quickly.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.parameters = trained(module)
        self.tensors: list[Tensor] = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights after step `step`, from 0, into the average."""
        kept = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.tensors, [parameter.data for parameter in self.parameters], 1 - kept)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages as the weights of the module, without a copy, while the block runs."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def swap(self) -> None:
        """Exchange weights and averages."""
        for index, parameter in enumerate(self.parameters):
            parameter.data, self.tensors[index] = self.tensors[index], parameter.data

    def load(self, tensors: list[Tensor]) -> None:
        """Continue from saved averages."""
        for mine, saved in zip(self.tensors, tensors, strict=True):
            mine.copy_(saved)
