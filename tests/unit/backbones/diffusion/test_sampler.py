"""What holds for every generator by diffusion."""

from dataclasses import replace

import numpy as np
import pytest

from percept.backbones import autoencoder, catalogue, diffusion
from percept.backbones.diffusion import SAMPLERS, Conditions
from percept.files import PerceptError
from tests.unit.backbones.diffusion.conftest import GENERATORS
from tests.unit.backbones.diffusion.networks import SIZE

every_generator = pytest.mark.parametrize("name", GENERATORS)


def rows(conditions, chosen):
    """Some images' conditions."""
    taken = {name: [part[i] for i in chosen] for name, part in conditions.given.items()}
    return Conditions(**{k: v if k == "prompts" else np.stack(v) for k, v in taken.items()})


def evaluations(sampler, run):
    """Rows that the denoising network was asked for, call by call."""
    seen = []
    hook = sampler.unet.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    try:
        run()
    finally:
        hook.remove()
    return seen


def test_every_loader_of_a_generator_has_a_sampler_that_is_tested_here():
    every = {name: entry for name, entry in catalogue.CATALOGUE.items() if "generator" in entry.roles}
    generators = {name: entry for name, entry in every.items() if entry.library == "diffusers"}
    assert SAMPLERS.keys() == {entry.loader for entry in generators.values()}
    assert SAMPLERS.keys() == {generators[name].loader for name in GENERATORS}


@every_generator
@pytest.mark.parametrize("strength", [1.0, 0.7])
def test_an_image_does_not_depend_on_its_batch(opened, conditions, name, strength):
    sampler, three = opened(name), conditions(name, 3, (*GENERATORS[name], "init"))
    together = sampler.sample(three, [5, 6, 7], strength=strength)
    alone = [sampler.sample(rows(three, [i]), [5 + i], strength=strength)[0] for i in range(3)]
    assert together.shape == (3, SIZE, SIZE, 3) and together.dtype == np.uint8
    np.testing.assert_allclose(together.astype(int), np.stack(alone).astype(int), atol=1)  # rounding


@every_generator
def test_a_seed_stands_for_one_image(opened, conditions, name):
    sampler, given = opened(name), conditions(name, 2)
    images = sampler.sample(given, [3, 4])
    np.testing.assert_array_equal(images, sampler.sample(given, [3, 4]))
    other = sampler.sample(given, [3, 8])
    np.testing.assert_allclose(images[0].astype(int), other[0].astype(int), atol=1)
    assert np.abs(images[1].astype(int) - other[1]).mean() > 2


@every_generator
def test_what_is_shown_matters(opened, conditions, name):
    sampler = opened(name)
    one, other = (sampler.sample(conditions(name, 1, seed=seed), [3]) for seed in (0, 1))
    assert np.any(one != other)


@every_generator
def test_strength_zero_is_the_image_as_the_autoencoder_gives_it_back(opened, conditions, name):
    sampler, given = opened(name), conditions(name, 2, (*GENERATORS[name], "init"))
    network = autoencoder.Autoencoder({}, sampler.pipeline.vae, sampler.size)
    images = sampler.sample(given, [1, 2], strength=0)
    np.testing.assert_array_equal(images, network.decode(network.encode(given.init)))


@every_generator
def test_strength_one_does_not_use_the_image(opened, conditions, name):
    sampler, given = opened(name), conditions(name, 2, (*GENERATORS[name], "init"))
    images = sampler.sample(given, [1, 2], strength=1)
    np.testing.assert_array_equal(images, sampler.sample(replace(given, init=None), [1, 2], strength=0.3))


@every_generator
@pytest.mark.parametrize(("strength", "n_steps"), [(1, 5), (0.8, 4), (0.41, 2), (0.2, 1), (0.1, 0)])
def test_only_the_steps_that_are_left_are_run(opened, conditions, name, strength, n_steps):
    sampler = opened(name, steps=5, scheduler="ddim")
    given = conditions(name, 2, (*GENERATORS[name][:1], "init"))
    seen = evaluations(sampler, lambda: sampler.sample(given, [1, 2], strength=strength))
    assert seen == [4] * n_steps  # two images, with and without their condition


@every_generator
@pytest.mark.parametrize("guidance", [0, 1])
def test_without_guidance_the_network_sees_each_image_once(opened, conditions, name, guidance):
    sampler, given = opened(name, scheduler="unipc"), conditions(name, 2, GENERATORS[name][:1])
    assert evaluations(sampler, lambda: sampler.sample(given, [1, 2], guidance=guidance)) == [2] * 3


@every_generator
@pytest.mark.parametrize("scheduler", ["default", "ddim", "unipc", "dpm"])
def test_every_scheduler_starts_from_noise_and_from_an_image(opened, conditions, name, scheduler):
    sampler, given = opened(name, scheduler=scheduler), conditions(name, 2, (*GENERATORS[name], "init"))
    images = [sampler.sample(given, [1, 2], strength=strength, guidance=2) for strength in (1, 0.7)]
    assert images[0].shape == images[1].shape and np.any(images[0] != images[1])


def test_a_weaker_start_stays_nearer_to_the_image(opened, conditions):
    sampler = opened("sd15", steps=10, scheduler="ddim")
    given = conditions("sd15", 3, ("text", "init"))
    kept = sampler.sample(given, [1, 2, 3], strength=0).astype(float)
    away = [
        np.abs(sampler.sample(given, [1, 2, 3], strength=strength, guidance=1) - kept).mean()
        for strength in (0.1, 0.5, 0.9)
    ]
    assert away == sorted(set(away))


@every_generator
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_the_precision_gives_nearly_the_same_images(opened, conditions, name, precision):
    given = conditions(name, 2)
    exact, half = (opened(name, precision=p) for p in ("float32", precision))
    assert {str(p.dtype) for p in half.unet.parameters()} == {f"torch.{precision}"}
    assert str(half.pipeline.vae.dtype) == f"torch.{precision}"
    away = np.abs(exact.sample(given, [1, 2]).astype(int) - half.sample(given, [1, 2]))
    assert away.mean() < 4


def test_a_setting_of_unclip_is_refused_by_the_others(opened):
    with pytest.raises(PerceptError, match="cannot put noise of level 20 on its image embedding"):
        opened("versatile_diffusion", noise_level=20)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "0 denoising steps make no image"),
        ({"scheduler": "euler"}, "no scheduler 'euler'.*default, ddim, unipc, dpm"),
        ({"precision": "int8"}, "precision 'int8'.*float32, float16, bfloat16"),
    ],
)
def test_a_setting_that_does_not_exist_is_named(opened, settings, message):
    with pytest.raises(PerceptError, match=message):
        opened("sd15", **settings)


def test_a_backbone_that_makes_no_images_is_refused():
    with pytest.raises(PerceptError, match="'tiny_vae' serves as autoencoder"):
        diffusion.open_named("tiny_vae", device="cpu")


def test_a_backbone_that_was_not_fetched_names_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PerceptError, match="snakemake backbones --cores 1"):
        diffusion.open_named("sd14", device="cpu")


def ones(*shape):
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sd15", {"image": ones(2, 3)}, "sd15 reads init, prompts, text, but was given image"),
        ("sd15", {"prompts": ["a", "b"]}, "either text embeddings or prompts, not both"),
        ("sd15", {"text": None}, r"needs something to show.*it was given nothing"),
        ("sd15", {"text": ones(3, 11, 12)}, "2 seeds were given for 3 of `text`"),
        ("sd15", {"text": ones(2, 11, 13)}, r"\(any, 12\) per image, but those given are \(11, 13\)"),
        ("sd15", {"text": ones(2, 11, 12) * np.nan}, r"2 of 2 images \(first: row 0\) hold values"),
        ("stable_unclip", {"image": ones(2, 257, 20)}, r"shape \(20\) per image.*\(257, 20\)"),
        ("versatile_diffusion", {"image": ones(2, 256, 16)}, r"\(257, 16\).*\(256, 16\)"),
        ("ip_adapter_plus", {"image": ones(2, 14)}, r"\(17, 14\).*\(14,\)"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(opened, conditions, name, change, message):
    with pytest.raises(PerceptError, match=message):
        opened(name).sample(replace(conditions(name, 2), **change), [1, 2])


def test_an_image_to_start_from_alone_shows_nothing(opened, conditions):
    with pytest.raises(PerceptError, match=r"needs something to show.*it was given init"):
        opened("tiny_unclip").sample(conditions("tiny_unclip", 2, ("init",)), [1, 2])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"strength": 1.5}, "strength of 1.5 is none"),
        ({"strength": -0.1}, "strength of -0.1 is none"),
        ({"mixing": 1.2}, "mixing of 1.2 is none"),
    ],
)
def test_a_share_outside_the_unit_interval_is_refused(opened, conditions, how, message):
    given = conditions("tiny_unclip", 1, ("image", "init"))
    with pytest.raises(PerceptError, match=message):
        opened("tiny_unclip").sample(given, [1], **how)


def test_an_image_that_is_not_finite_is_never_returned(opened, conditions):
    sampler = opened("stable_unclip", precision="float16", scheduler="ddim")
    with pytest.raises(PerceptError, match=r"left the range of torch.float16.*precision: float32"):
        sampler.sample(conditions("stable_unclip", 1), [1], guidance=1e9)


def test_the_number_of_conditions_is_that_of_the_part_that_is_given():
    assert len(Conditions(prompts=["a", "b", "c"])) == 3 and len(Conditions()) == 0
