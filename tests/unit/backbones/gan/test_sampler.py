"""Images of embeddings by a small random generator, and the search for noise."""

import numpy as np
import pytest
import torch

from percept.backbones import image
from percept.backbones.gan import sampler
from percept.backbones.gan.generator import Generator, Size
from percept.backbones.gan.sampler import Sampler, Search
from percept.files import PerceptError

SIZE = Size((12, 8, 8, 6), (64,), latent=7, style=9, mapping=2, rate=1.0)  # 32 pixels


@pytest.fixture(scope="module")
def gan():
    torch.manual_seed(0)
    generator = Generator(SIZE).eval().requires_grad_(False)
    generator.mean.fill_(0.3)
    generator.spread.fill_(2.0)
    return Sampler(generator, "cpu")


@pytest.fixture(scope="module")
def encoder():
    return image.open_named("tiny_clip", "pooled", "cpu")


EMBEDDINGS = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
SEEDS = [5, 6, 7]


def test_images_of_z_zero_are_the_generators(gan):
    images = gan.draw(EMBEDDINGS)
    c = gan.generator.prepared(torch.from_numpy(EMBEDDINGS))
    np.testing.assert_array_equal(images, sampler.levels(gan.generator(torch.zeros(3, 7), c)))
    assert images.shape == (3, 32, 32, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(gan.draw(EMBEDDINGS), images)


def test_seeds_decide_the_noise_of_their_own_image(gan):
    images = gan.draw(EMBEDDINGS, SEEDS)
    np.testing.assert_array_equal(gan.draw(EMBEDDINGS, SEEDS), images)
    np.testing.assert_array_equal(gan.noise(3, SEEDS)[1], gan.noise(1, SEEDS[1:2])[0])
    assert (gan.draw(EMBEDDINGS, [5, 6, 8])[2] != images[2]).any()


@pytest.mark.parametrize(
    "wrong",
    [np.zeros((2, 63)), np.zeros((2, 8, 8)), np.full((2, 64), np.nan)],
    ids=["width", "tokens", "nan"],
)
def test_what_cannot_condition_the_network_is_refused(gan, wrong):
    with pytest.raises(PerceptError, match=r"reads finite vectors of 64 features: .*clip_image"):
        gan.draw(wrong.astype(np.float32))


def test_levels_are_scaled_rounded_and_clipped():
    given = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0])[None, None, None].expand(1, 3, 1, 5)
    assert sampler.levels(given)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_an_encoder_sees_tensors_as_it_sees_images_and_with_a_gradient(encoder):
    levels = np.random.default_rng(1).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    given = (torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 127.5 - 1).requires_grad_()
    found = sampler.seen(encoder, given)
    np.testing.assert_allclose(found.detach(), encoder.encode(levels), atol=1e-3)
    found.sum().backward()
    assert (given.grad.abs().flatten(1).sum(dim=1) > 0).all()


def nearness(gan, encoder, images):
    again = gan.conditions(encoder.encode(images))
    return (again * gan.conditions(EMBEDDINGS)).sum(dim=1).numpy()


@pytest.mark.parametrize("variable", ["z", "w"])
def test_optimised_noise_brings_every_image_nearer_to_its_embedding(gan, encoder, variable):
    search = Search(variable, steps=12, rate=0.1)
    images = gan.fitted(EMBEDDINGS, encoder, search, SEEDS)
    start = gan.draw(EMBEDDINGS, SEEDS if variable == "z" else None)
    assert (nearness(gan, encoder, images) > nearness(gan, encoder, start)).all()
    np.testing.assert_array_equal(gan.fitted(EMBEDDINGS, encoder, search, SEEDS), images)


def test_every_image_is_optimised_by_itself(gan, encoder):
    search = Search("w", steps=3, rate=0.05)
    together = gan.fitted(EMBEDDINGS, encoder, search, SEEDS)
    alone = gan.fitted(EMBEDDINGS[1:2], encoder, search, SEEDS[1:2])
    np.testing.assert_allclose(alone[0].astype(int), together[1], atol=1)
