import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from percept.backbones import autoencoder, catalogue, store
from percept.backbones.resize import resized
from percept.files import PerceptError

SCALING = 0.3


def network(seed=0, sample_size=32):
    """An autoencoder of three halvings with random weights, unlike in every width."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=3,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=sample_size,
        scaling_factor=SCALING,
    ).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    network().save_pretrained(root / "tiny_vae")
    store.write_manifest(root / "tiny_vae", "tiny_vae")
    return root


@pytest.fixture
def opened(folder, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(folder))

    def get(**settings):
        return autoencoder.open_named("tiny_vae", device="cpu", **{"size": 32, **settings})

    return get


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), dtype=np.uint8)


def test_a_latent_is_the_mode_of_the_posterior_times_the_scaling_factor(opened, images):
    vae = opened()
    unit = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    pixels = interpolate(unit, (32, 32), mode="bilinear", antialias=True) * 2 - 1
    with torch.no_grad():
        mean = vae.network.encode(pixels).latent_dist.mean
    np.testing.assert_allclose(vae.encode(images), mean * SCALING, rtol=1e-5, atol=1e-7)


def test_two_encodings_of_an_image_are_equal(opened, images):
    vae = opened()
    with torch.no_grad():
        assert vae.network.encode(torch.zeros(1, 3, 32, 32)).latent_dist.std.min() > 0.01  # a sample differs
    np.testing.assert_array_equal(vae.encode(images), vae.encode(images))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 47), (1, 5), (425, 425), (16, 64)])
@pytest.mark.parametrize("size", [32, 48])
def test_images_of_any_size_are_encoded_at_one(opened, height, width, size):
    vae = opened(size=size)
    latents = vae.encode(np.full((2, height, width, 3), 128, np.uint8))
    assert latents.shape == (2, *vae.latent_shape) == (2, 3, size // 8, size // 8)
    assert latents.dtype == np.float32 and np.isfinite(latents).all()


def test_resizing_agrees_with_pillow():
    image = np.random.default_rng(1).integers(0, 256, (1, 60, 90, 3), dtype=np.uint8)
    peer = np.asarray(Image.fromarray(image[0]).resize((32, 32), Image.Resampling.BILINEAR))
    ours = resized(image, 32, antialias=True)[0].permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(ours, peer, atol=1)  # Pillow rounds, twice


def test_decoding_undoes_the_scaling(opened):
    vae = opened()
    latents = np.random.default_rng(2).standard_normal((2, 3, 4, 4)).astype(np.float32)
    with torch.no_grad():
        decoded = vae.network.decode(torch.from_numpy(latents / SCALING)).sample
    expected = np.rint(np.clip((decoded.numpy() + 1) / 2, 0, 1) * 255).transpose(0, 2, 3, 1)
    images = vae.decode(latents)
    assert images.dtype == np.uint8 and images.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(images, expected, atol=1)
    assert (images == expected).mean() > 0.99


@given(value=st.floats(-3, 3))
def test_a_decoded_value_is_rounded_and_never_wraps(value):
    byte = autoencoder._to_bytes(torch.full((1, 3, 1, 2), value))
    assert np.all(np.abs(byte - np.clip((value + 1) * 127.5, 0, 255)) <= 0.5 + 1e-4)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (5, 5), (7, 7), (2, 6)])
def test_latents_of_any_size_are_decoded(opened, height, width):
    assert opened().decode(np.zeros((2, 3, height, width))).shape == (2, 8 * height, 8 * width, 3)


def test_more_images_than_fit_in_one_pass_are_encoded_and_decoded_in_parts(opened, images, monkeypatch):
    vae = opened()
    whole = vae.encode(images)
    monkeypatch.setattr(autoencoder, "AT_ONCE", 2 * 32**2)
    np.testing.assert_allclose(vae.encode(images), whole, atol=1e-5)
    assert vae.decode(whole).shape == (3, 32, 32, 3)


def test_no_images_have_no_latents_and_no_latents_show_no_images(opened):
    vae = opened(size=48)
    latents = vae.encode(np.zeros((0, 40, 56, 3), np.uint8))
    assert latents.shape == (0, *vae.latent_shape) and latents.dtype == np.float32
    images = vae.decode(np.zeros((0, 3, 2, 6), np.float32))
    assert images.shape == (0, 16, 48, 3) and images.dtype == np.uint8


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_the_precision_gives_nearly_the_same_latents(opened, images, precision):
    half = opened(precision=precision)
    assert str(half.network.dtype) == f"torch.{precision}"
    latents = half.encode(images)
    assert latents.dtype == np.float32
    np.testing.assert_allclose(latents, opened().encode(images), atol=0.02)


def test_the_size_is_that_of_the_catalogue_unless_given(opened):
    own = catalogue.named("tiny_vae").settings.get("size", 32)
    assert opened(size=None).size == own and opened(size=48).size == 48


@pytest.mark.parametrize("size", [20, -8, 33])
def test_a_size_that_cannot_be_halved_is_refused(opened, size):
    with pytest.raises(PerceptError, match=rf"a size of {size} px does not fit.*multiple of 8, such as"):
        opened(size=size)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((2, 8, 8), "uint8"), ((2, 8, 8, 1), "uint8"), ((2, 8, 8, 3), "float32"), ((8, 8, 3), "uint8")],
)
def test_anything_but_colour_images_is_refused(opened, shape, kind):
    with pytest.raises(ValueError, match="images are uint8"):
        opened().encode(np.zeros(shape, kind))


def test_grey_images_are_colour_images_of_equal_channels(opened):
    grey = np.random.default_rng(3).integers(0, 256, (2, 32, 32, 1), dtype=np.uint8)
    assert opened().encode(np.repeat(grey, 3, axis=-1)).shape == (2, 3, 4, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_latents_that_are_not_finite_are_counted(opened, bad):
    latents = np.zeros((4, 3, 4, 4))
    latents[2, 1, 0, 3] = bad
    with pytest.raises(PerceptError, match=r"1 of 4 images \(first: row 2\).*NaN in the voxels"):
        opened().decode(latents)


@pytest.mark.parametrize("shape", [(2, 4, 4, 4), (3, 4, 4), (2, 48)])
def test_latents_of_another_network_are_refused(opened, shape):
    with pytest.raises(PerceptError, match=r"reads \(image, 3, row, column\).*`vae_latent`"):
        opened().decode(np.zeros(shape))


def test_the_fingerprint_follows_weights_and_settings(opened, folder, tmp_path, monkeypatch):
    mine = opened().fingerprint()
    assert mine == opened().fingerprint()
    assert {"name", "revision", "size", "precision", "weights_sha256", "probe"} <= mine.keys()
    assert opened(size=64).fingerprint()["probe"] != mine["probe"]
    network(seed=1).save_pretrained(tmp_path / "tiny_vae")
    store.write_manifest(tmp_path / "tiny_vae", "tiny_vae")
    monkeypatch.setenv("PERCEPT_BACKBONES", str(tmp_path))
    other = autoencoder.open_named("tiny_vae", device="cpu").fingerprint()
    assert other["weights_sha256"] != mine["weights_sha256"] and other["probe"] != mine["probe"]


def test_a_backbone_of_another_role_is_refused():
    with pytest.raises(PerceptError, match="'tiny_clip' serves as image"):
        autoencoder.open_named("tiny_clip")
