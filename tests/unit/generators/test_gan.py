"""The generator of kind `gan`, with the shipped network: what z does, and what never enters."""

import numpy as np
import pytest

from percept.backbones import image
from percept.backbones.gan import sampler
from percept.config import plugin
from percept.files import PerceptError
from percept.generators import choose
from percept.generators.roles import Context, Roles, noise_seeds

N = 3
STIMULI = np.array([40, 7, 19], dtype=np.int32)
SEMANTIC = (5 * np.random.default_rng(0).standard_normal((N, 64))).astype(np.float32)
ROLES = Roles(STIMULI, SEMANTIC)
FAST = {"kind": "gan", "device": "cpu", "steps": 4, "samples": 3}
WAYS = ["zero", "optimised", "sampled"]


def build(**settings):
    return plugin("generators", {**FAST, **settings}).build(Context())


@pytest.fixture(scope="module")
def encoder():
    return image.open_named("tiny_clip", "pooled", "cpu")


def nearness(made, encoder, wanted=SEMANTIC):
    network = sampler.open_named("tiny_gan", "cpu")
    again, true = (network.conditions(values).numpy() for values in (encoder.encode(made.images), wanted))
    return (again * true).sum(axis=1)


@pytest.mark.parametrize("z", WAYS)
def test_the_same_seed_gives_the_same_images_one_by_one(z):
    generator = build(z=z)
    together = generator.generate(ROLES, seed=5)
    assert together.images.shape == (N, 64, 64, 3) and together.images.dtype == np.uint8
    assert len(together.details) == N and together.lowlevel is None
    np.testing.assert_array_equal(generator.generate(ROLES, seed=5).images, together.images)
    for row in range(N):
        alone = generator.generate(ROLES.rows(slice(row, row + 1)), seed=5)
        np.testing.assert_allclose(alone.images[0].astype(int), together.images[row], atol=2)
        assert alone.details[0].get("sample") == together.details[row].get("sample")


def test_z_of_zero_knows_no_seed_and_is_the_networks_own_image():
    generator = build()
    images = generator.generate(ROLES, seed=0).images
    np.testing.assert_array_equal(generator.generate(ROLES, seed=1).images, images)
    np.testing.assert_array_equal(images, sampler.open_named("tiny_gan", "cpu").draw(SEMANTIC))


def test_sampled_images_keep_the_one_nearest_to_the_decoded_embedding(encoder):
    generator = build(z="sampled")
    made = generator.generate(ROLES, seed=0)
    drawn = [
        sampler.open_named("tiny_gan", "cpu").draw(SEMANTIC, noise_seeds(0, STIMULI, n)) for n in range(3)
    ]
    network = sampler.open_named("tiny_gan", "cpu")
    embedded = np.stack([network.conditions(encoder.encode(images)).numpy() for images in drawn])
    expected = choose.similarity_to(embedded, network.conditions(SEMANTIC).numpy()).argmax(axis=0)
    assert [row["sample"] for row in made.details] == expected.tolist()
    for row, number in enumerate(expected):
        np.testing.assert_array_equal(made.images[row], drawn[number][row])
    assert (generator.generate(ROLES, seed=1).images != made.images).any()


def test_a_decoder_that_ranks_chooses_in_its_place():
    generator = build(z="sampled", samples=6)
    by_itself = generator.generate(ROLES, seed=0)
    ranked = generator.generate(Roles(STIMULI, SEMANTIC, ranking=-SEMANTIC), seed=0)
    assert [row["sample"] for row in ranked.details] != [row["sample"] for row in by_itself.details]


@pytest.mark.parametrize("variable", ["z", "w"])
def test_optimised_images_are_nearer_to_what_was_decoded(encoder, variable):
    made = build(z="optimised", variable=variable, steps=8).generate(ROLES, seed=0)
    start = sampler.open_named("tiny_gan", "cpu").draw(
        SEMANTIC, noise_seeds(0, STIMULI) if variable == "z" else None
    )
    before = nearness(type(made)(start), encoder)
    found = nearness(made, encoder)
    assert found.mean() > before.mean()
    np.testing.assert_allclose([row["similarity"] for row in made.details], found, atol=1e-4)


def test_shrunken_predictions_give_the_same_images():
    """A regression shrinks towards the mean of its training images; direction is all that conditions."""
    network = sampler.open_named("tiny_gan", "cpu").generator
    mean = network.mean.numpy()
    shrunken = (mean + 0.3 * (SEMANTIC - mean)).astype(np.float32)
    same = build().generate(Roles(STIMULI, shrunken), 0).images.astype(int)
    np.testing.assert_allclose(same, build().generate(ROLES, 0).images, atol=1)


def test_what_is_no_embedding_of_its_space_is_refused():
    with pytest.raises(PerceptError, match="reads finite vectors of 64 features"):
        build().generate(Roles(STIMULI, np.zeros((N, 5, 64), np.float32)), 0)


@pytest.mark.parametrize(
    ("z", "backbones", "takes"),
    [
        ("zero", ("tiny_gan",), ()),
        ("optimised", ("tiny_gan", "tiny_clip"), ()),
        ("sampled", ("tiny_gan", "tiny_clip"), ("ranking",)),
    ],
)
def test_settings_say_what_is_needed(z, backbones, takes):
    section = plugin("generators", {**FAST, "z": z})
    assert (section.backbones, section.takes, section.n_gpus) == (backbones, takes, 0)
    assert section.needs == ("semantic",)
