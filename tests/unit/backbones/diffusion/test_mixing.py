"""Image and text together: where a mixing ends at either alone, and what lies between."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from percept.backbones.diffusion import Conditions, unclip
from percept.backbones.diffusion.unclip import text_weight

BOTH = ("tiny_unclip", "stable_unclip", "versatile_diffusion", "ip_adapter", "ip_adapter_plus")
both = pytest.mark.parametrize("name", BOTH)


@both
@pytest.mark.parametrize("guidance", [1, 4])
def test_a_mixing_of_zero_is_the_image_alone(opened, conditions, name, guidance):
    sampler, given = opened(name), conditions(name, 2, ("image", "text"))
    images = sampler.sample(given, [1, 2], mixing=0, guidance=guidance)
    alone = sampler.sample(replace(given, text=None), [1, 2], guidance=guidance)
    np.testing.assert_array_equal(images, alone)
    other = replace(given, text=given.text + 1)
    np.testing.assert_array_equal(images, sampler.sample(other, [1, 2], mixing=0, guidance=guidance))


@both
@pytest.mark.parametrize("part", ["text", "prompts"])
def test_a_mixing_of_one_is_the_text_alone(opened, conditions, name, part):
    sampler, given = opened(name), conditions(name, 2, ("image", part))
    images = sampler.sample(given, [1, 2], mixing=1)
    other = replace(given, image=given.image + 1)
    np.testing.assert_array_equal(images, sampler.sample(other, [1, 2], mixing=1))


@both
def test_text_alone_needs_no_image(opened, conditions, name):
    sampler, given = opened(name), conditions(name, 2, ("image", "text"))
    alone = sampler.sample(replace(given, image=None), [1, 2])
    np.testing.assert_array_equal(alone, sampler.sample(given, [1, 2], mixing=1))


@both
@pytest.mark.parametrize("mixing", [None, 0.4])
def test_in_between_both_matter(opened, conditions, name, mixing):
    sampler, given = opened(name), conditions(name, 2, ("image", "text"))
    images = sampler.sample(given, [1, 2], mixing=mixing)
    for part in ("image", "text"):
        other = replace(given, **{part: getattr(given, part) * -1})
        assert np.any(images != sampler.sample(other, [1, 2], mixing=mixing))


@both
def test_a_mixture_does_not_depend_on_its_batch(opened, conditions, name):
    sampler, given = opened(name), conditions(name, 3, ("image", "text"))
    together = sampler.sample(given, [5, 6, 7], mixing=0.4)
    for i in range(3):
        one = Conditions(image=given.image[i : i + 1], text=given.text[i : i + 1])
        alone = sampler.sample(one, [5 + i], mixing=0.4)[0]
        np.testing.assert_allclose(together[i].astype(int), alone.astype(int), atol=1)


def test_versatile_diffusion_mixes_as_brain_diffuser_unless_told_otherwise(opened, conditions):
    sampler = opened("versatile_diffusion")
    given = conditions("versatile_diffusion", 2, ("image", "text"))
    np.testing.assert_array_equal(sampler.sample(given, [1, 2]), sampler.sample(given, [1, 2], mixing=0.4))


@pytest.mark.parametrize("scheduler", ["ddim", "unipc"])
@pytest.mark.parametrize("guidance", [1, 3])
def test_a_composed_step_is_the_weighted_mean_of_the_two_predictions(opened, conditions, scheduler, guidance):
    """With one step, latents are affine in the prediction: a mixture of images is the mixture's image."""
    sampler = opened("stable_unclip", steps=1, scheduler=scheduler)
    given, latents = conditions("stable_unclip", 2, ("image", "text")), {}
    sampler.pipeline.vae.requires_grad_(False)
    for mixing in (0, 0.25, 1):
        run = sampler._start(None, [1, 2], 0, (guidance, mixing))
        latents[mixing] = sampler._denoise(given, run)
    torch.testing.assert_close(latents[0.25], 0.75 * latents[0] + 0.25 * latents[1], rtol=1e-4, atol=1e-5)
    assert (latents[0] - latents[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("parts", "mixing", "expected"),
    [
        (("image",), None, 0),
        (("image",), 0.4, 0),
        (("text",), 0.4, 1),
        (("prompts",), None, 1),
        (("image", "text"), None, None),
        (("image", "prompts"), 0.4, 0.4),
    ],
)
def test_the_weight_of_the_text_follows_from_what_is_given(conditions, parts, mixing, expected):
    assert text_weight(conditions("tiny_unclip", 2, parts), mixing) == expected


def test_nothing_of_a_composition_stays_behind(opened):
    network = opened("stable_unclip").unet
    before = (len(network._forward_hooks), len(network._forward_pre_hooks))
    with pytest.raises(RuntimeError, match="stop"), unclip.composed(network, 1, 0.5, torch.zeros(1, 11, 12)):
        raise RuntimeError("stop")
    assert (len(network._forward_hooks), len(network._forward_pre_hooks)) == before
