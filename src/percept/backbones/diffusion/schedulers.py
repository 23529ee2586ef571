"""Schedules of denoising: by name, and begun late, for a start from an image."""

from typing import Any

from percept.files import PerceptError

CLASSES = {
    "ddim": "DDIMScheduler",
    "unipc": "UniPCMultistepScheduler",
    "dpm": "DPMSolverMultistepScheduler",
}
NAMES = ("default", *CLASSES)


def named(name: str, own: Any) -> Any:  # noqa: ANN401 (a scheduler of diffusers)
    """The scheduler `name` with the noise levels of a network's `own`, which is what `default` stands for.

    None clips what it predicts: latents do not lie in [-1, 1].

    Raises
    ------
    PerceptError : no such scheduler, or one that cannot be begun late
    """
    import diffusers

    if name not in NAMES:
        raise PerceptError(
            f"there is no scheduler {name!r}: set `scheduler` to one of {', '.join(NAMES)} (`default` is "
            "what the network was published with; unipc and dpm need few steps)."
        )
    kind = type(own) if name == "default" else getattr(diffusers, CLASSES[name])
    clips = issubclass(kind, (diffusers.DDIMScheduler, diffusers.DDPMScheduler))
    chosen = kind.from_config(own.config, **({"clip_sample": False} if clips else {}))
    slow = isinstance(chosen, diffusers.PNDMScheduler) and not chosen.config.skip_prk_steps
    if slow or chosen.order != 1 or float(chosen.init_noise_sigma) != 1:
        raise PerceptError(
            f"the network's own scheduler, {kind.__name__}, takes several evaluations per step or scales its "
            "noise, so that it cannot be begun at an image: set `scheduler` to one of "
            f"{', '.join(CLASSES)}."
        )
    return chosen


def n_skipped(steps: int, strength: float) -> int:
    """How many of the first steps an image of `strength` in [0, 1] stands in for.

    0.85 of 20 steps are 17, so that the first 3 are skipped (MindEye); 1 skips none, 0 all.

    Raises
    ------
    PerceptError : a strength outside [0, 1]
    """
    if not 0 <= strength <= 1:
        raise PerceptError(
            f"a strength of {strength} is none: set `strength` from 0 (the low-level image as it is) to 1 "
            "(the low-level image is not used)."
        )
    return steps - int(steps * strength + 1e-9)  # 0.29 * 100 is 28.999...


def begun_late(scheduler: Any, skipped: int) -> Any:  # noqa: ANN401
    """A scheduler of the same class and settings that leaves out the first `skipped` steps.

    Pipelines ask a scheduler for its steps and walk through them: so one that names fewer is all that a
    pipeline without a start of its own needs.
    """

    class Late(type(scheduler)):
        """The scheduler, without its first steps."""

        def set_timesteps(self, *given: Any, **named: Any) -> None:  # noqa: ANN401
            """As ever, then without the first ones."""
            super().set_timesteps(*given, **named)
            if skipped:
                _leave_out(self, skipped)

    return Late.from_config(scheduler.config)


def _leave_out(scheduler: Any, skipped: int) -> None:  # noqa: ANN401
    """Steps and noise levels from `skipped` on.

    PNDM visits its second step twice, to warm up: a late start warms up at its own second step. (Cutting the
    doubled list instead, as img2img pipelines do, leaves the image one noise level behind its steps.)
    """
    import torch

    if hasattr(scheduler, "plms_timesteps"):
        once = torch.cat([scheduler.timesteps[:1], scheduler.timesteps[2:]])[skipped:]
        scheduler.timesteps = torch.cat([once[:2], once[1:]])
        return
    scheduler.timesteps = scheduler.timesteps[skipped:]
    if hasattr(scheduler, "sigmas"):
        scheduler.sigmas = scheduler.sigmas[skipped:]
