"""A training under way as a checkpoint, and back.

Everything random is a function of seed and step (`seeds`), so the step stands for the state of every random
number generator.
"""

import logging
import time
from typing import Any

import torch

from percept.decoders.training import checkpoint
from percept.decoders.training.loop import Loop

log = logging.getLogger(__name__)


def save(loop: Loop, mark: str) -> None:
    """Write the checkpoint. What it holds is looked at first: what is lost never replaces what is good."""
    loop.check()
    if loop.fabric.is_global_zero:
        with loop.meter.aside():
            checkpoint.write(loop.job.checkpoint, pack(loop, mark))
    loop.saved_at = time.monotonic()


def pack(loop: Loop, mark: str) -> checkpoint.Stored:
    """All that the rest of the training depends on."""
    return {
        "mark": mark,
        "finished": False,
        "step": loop.step,
        "weights": loop.learner.state_dict(),
        "optimiser": loop.optimiser.optimizer.state_dict(),
        "schedule": loop.schedule.state_dict(),
        "scaler": loop.fabric.strategy.precision.state_dict(),
        "average": None if loop.average is None else loop.average.tensors,
        "selection": loop.selection.state(),
        "history": loop.history,
        "recent": loop.ledger.rows,
        "meter": loop.meter.state(),
    }


def resume(loop: Loop, stored: checkpoint.Stored) -> None:
    """Go on from a checkpoint of the same training."""
    loop.learner.load_state_dict(stored["weights"])
    loop.optimiser.optimizer.load_state_dict(stored["optimiser"])
    loop.schedule.load_state_dict(stored["schedule"])
    loop.fabric.strategy.precision.load_state_dict(stored["scaler"])
    if loop.average is not None:
        loop.average.load(stored["average"])
    loop.selection.load(stored["selection"], loop.placed)
    loop.history, loop.ledger.rows = stored["history"], stored["recent"]
    loop.meter.load(stored["meter"])
    loop.step = loop.resumed = stored["step"]
    log.info("%s: resumed at step %d of %d", loop.job.name, loop.step, loop.plan.n_steps)


def finish(loop: Loop, mark: str) -> checkpoint.Stored:
    """Put the chosen weights in place and write the last checkpoint, which holds them alone."""
    loop.check()
    if loop.selection.weights is not None:
        loop.learner.load_state_dict(loop.selection.weights)
    elif loop.average is not None:
        loop.average.swap()
    loop.meter.tick()
    stored = {
        "mark": mark,
        "finished": True,
        "history": loop.history,
        "record": record(loop),
        "weights": loop.learner.state_dict(),
    }
    if loop.fabric.is_global_zero:
        checkpoint.write(loop.job.checkpoint, stored)
    return stored


def record(loop: Loop) -> dict[str, Any]:
    """What is worth knowing about the run."""
    epochs = loop.step // loop.plan.steps_per_epoch
    validated = loop.cfg.select == "validation" and loop.validation is not None
    return {
        "parameters": sum(parameter.numel() for parameter in loop.learner.parameters()),
        "steps": loop.step,
        "epochs": epochs,
        "chosen_epoch": loop.selection.epoch if validated else epochs,
        "stopped_early": loop.step < loop.plan.n_steps,
        "resumed": loop.resumed,
        "batch_size": loop.plan.batch,
        "device": device_name(loop.device),
        "devices": loop.cfg.devices,
        "precision": loop.cfg.precision,
        "memory_estimate_mb": round(loop.estimate.total / 1e6, 1),
        **loop.meter.record(),
    }


def device_name(device: torch.device) -> str:
    """Name of a GPU, or the type of another device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
