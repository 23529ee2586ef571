import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, PNDMScheduler
from hypothesis import given
from hypothesis import strategies as st

from percept.backbones.diffusion import schedulers
from percept.files import PerceptError

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
PNDM = PNDMScheduler(skip_prk_steps=True, steps_offset=1, set_alpha_to_one=True, **NOISE)
unit = st.floats(0, 1)


def denoise(scheduler, true, noise, steps):
    """What becomes of `true` with the noise of the first step, if the network knows the noise exactly.

    It answers with the noise whatever the step: then only the right levels, in order, give the image back.
    """
    scheduler.set_timesteps(steps)
    latents = scheduler.add_noise(true, noise, scheduler.timesteps[:1].repeat(len(true)))
    for t in scheduler.timesteps:
        latents = scheduler.step(noise, t, latents).prev_sample
    return latents


def pair(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))


@pytest.mark.parametrize("name", schedulers.NAMES)
@pytest.mark.parametrize(
    ("steps", "skipped"), [(20, 0), (20, 1), (20, 3), (20, 18), (20, 19), (7, 4), (2, 1)]
)
def test_a_perfect_network_gives_the_image_back_wherever_it_begins(name, steps, skipped):
    true, noise = pair()
    scheduler = schedulers.begun_late(schedulers.named(name, PNDM), skipped)
    torch.testing.assert_close(denoise(scheduler, true, noise, steps), true, atol=2e-3, rtol=0)


def test_cutting_the_steps_of_pndm_does_not_give_the_image_back():
    """Why a late start warms up again: what the pipelines of diffusers 0.42 do leaves noise."""
    true, noise = pair()
    PNDM.set_timesteps(20)
    cut, PNDM.timesteps = PNDM.timesteps[5:], PNDM.timesteps
    latents = PNDM.add_noise(true, noise, cut[:1].repeat(2))
    for t in cut:
        latents = PNDM.step(noise, t, latents).prev_sample
    assert (latents - true).abs().max() > 0.05


@pytest.mark.parametrize("name", schedulers.NAMES)
@pytest.mark.parametrize("skipped", [0, 1, 4, 9])
def test_the_noise_levels_that_are_left_are_those_of_the_full_run(name, skipped):
    full, late = (schedulers.begun_late(schedulers.named(name, PNDM), k) for k in (0, skipped))
    for scheduler in (full, late):
        scheduler.set_timesteps(10, device="cpu")
    left = list(dict.fromkeys(full.timesteps.tolist()))[skipped:]
    assert list(dict.fromkeys(late.timesteps.tolist())) == left
    assert len(left) == 10 - skipped


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_a_full_run_is_the_schedulers_own(name):
    own = schedulers.named(name, PNDM)
    late = schedulers.begun_late(own, 0)
    for scheduler in (own, late):
        scheduler.set_timesteps(10)
    torch.testing.assert_close(late.timesteps, own.timesteps)
    assert late.config == own.config


@pytest.mark.parametrize("name", ["ddim", "unipc", "dpm"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_scheduler_by_name_keeps_what_the_network_was_trained_on(name, prediction):
    own = PNDMScheduler(skip_prk_steps=True, prediction_type=prediction, **NOISE)
    chosen = schedulers.named(name, own)
    assert chosen.config.prediction_type == prediction
    torch.testing.assert_close(chosen.alphas_cumprod, own.alphas_cumprod)


@pytest.mark.parametrize("name", ["ddim", "default"])
def test_latents_are_never_clipped(name):
    assert schedulers.named(name, DDIMScheduler(clip_sample=True)).config.clip_sample is False


@pytest.mark.parametrize(
    "own", [HeunDiscreteScheduler(), EulerDiscreteScheduler(), PNDMScheduler(skip_prk_steps=False)]
)
def test_a_scheduler_that_cannot_be_begun_late_is_refused_unless_another_is_named(own):
    with pytest.raises(PerceptError, match=f"{type(own).__name__}.*set `scheduler` to one of ddim, unipc"):
        schedulers.named("default", own)
    assert schedulers.named("unipc", own).order == 1


@pytest.mark.parametrize(
    ("steps", "strength", "skipped"),
    [(20, 0.85, 3), (50, 0.75, 13), (50, 0.8, 10), (100, 0.29, 71), (20, 1, 0), (20, 0, 20), (20, 0.04, 20)],
)
def test_strength_is_the_share_of_steps_that_are_run(steps, strength, skipped):
    assert schedulers.n_skipped(steps, strength) == skipped


@given(steps=st.integers(1, 200), one=unit, other=unit)
def test_a_greater_strength_never_skips_more(steps, one, other):
    weak, strong = (schedulers.n_skipped(steps, strength) for strength in sorted((one, other)))
    assert steps >= weak >= strong >= 0


@pytest.mark.parametrize("strength", [-0.01, 1.01, float("nan")])
def test_a_strength_outside_the_unit_interval_is_refused(strength):
    with pytest.raises(PerceptError, match="set `strength` from 0"):
        schedulers.n_skipped(20, strength)
