import numpy as np
import pandas as pd
import pytest
import torch

from percept.backbones import store
from percept.backbones.tiny import data, vae
from percept.datasets.scenes import drawn
from percept.files import read_json
from tests.unit.backbones import tiny_parts
from tests.unit.backbones.tiny_scenes import held_out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_parts.write(tmp_path_factory.mktemp("parts")) / vae.NAME


@pytest.fixture(scope="module")
def network(folder):
    return vae.load(folder)


# Measures.


@pytest.mark.parametrize("error", [1, 2, 17, 255])
def test_the_signal_to_noise_ratio_of_a_constant_error(error):
    images = np.zeros((3, 4, 5, 3), np.uint8)
    np.testing.assert_allclose(
        vae.psnr(images + np.uint8(error), images), 20 * np.log10(255 / error), rtol=1e-12
    )


def test_it_agrees_with_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio

    one, other = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 5, 3), dtype=np.uint8)
    peer = [peak_signal_noise_ratio(b, a) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(vae.psnr(one, other), np.mean(peer), rtol=1e-12)


def test_darker_and_brighter_count_alike():
    images = np.full((1, 2, 2, 3), 100, np.uint8)
    assert vae.psnr(images - 30, images) == vae.psnr(images + 30, images)  # uint8 does not wrap around


def test_pictures_are_scaled_to_plus_and_minus_one_with_channels_first():
    images = np.zeros((2, 8, 16, 3), np.uint8)
    images[1, 5, 11, 2] = 255
    given = vae.normalised(images)
    assert given.shape == (2, 3, 8, 16) and given.min() == -1
    assert given[1, 2, 5, 11] == 1 and (given == 1).sum() == 1


# The network.


def test_latents_are_an_eighth_of_the_picture(network):
    assert vae.encode(network, np.zeros((2, 64, 96, 3), np.uint8)).shape == (2, 4, 8, 12)
    assert vae.decode(network, np.zeros((2, 4, 8, 12), np.float32)).shape == (2, 64, 96, 3)


def test_a_picture_does_not_depend_on_what_is_encoded_with_it(network, monkeypatch):
    images = held_out(7).images
    together = vae.encode(network, images)
    monkeypatch.setattr(vae, "AT_ONCE", 3)  # a ragged last one
    np.testing.assert_allclose(vae.encode(network, images), together, atol=1e-4)
    assert np.abs(vae.decode(network, together).astype(int) - vae.decode(network, together[:7])).max() <= 1


def test_the_scaling_factor_gives_latents_of_the_training_scenes_unit_spread(folder, network):
    scenes = tiny_parts.job(folder.parent, vae.NAME).train
    scaled = vae.encode(network, scenes.images) * network.config.scaling_factor
    np.testing.assert_allclose(scaled.std(), 1, rtol=1e-3)


def test_the_loss_is_the_sum_of_its_parts(network):
    torch.manual_seed(0)
    found = {name: float(value) for name, value in vae.loss(network, torch.zeros(2, 3, 64, 64)).items()}
    parts = found["absolute"] + vae.SQUARED * found["squared"] + vae.DIVERGENCE * found["divergence"]
    np.testing.assert_allclose(found["loss"], parts, rtol=1e-5)
    assert min(found.values()) > 0


def test_what_stands_out_of_its_row_is_found_and_the_row_itself_is_not():
    pictures = torch.zeros(1, 3, 5, 9) + torch.linspace(-1, 1, 5)[:, None]  # every row of its own colour
    pictures[0, :, 3, 4:6] = -1
    found = vae.standing_out(pictures)
    assert found.shape == (1, 1, 5, 9)
    assert (found[0, 0, 3, 4:6] > 0.9).all() and (found > 0).sum() == 2


@pytest.mark.parametrize(("contrast", "colour"), [(4.0, 0.0), (0.0, 1.0)])
def test_emphasis_changes_the_loss_of_a_picture_with_a_thing_in_it(network, contrast, colour):
    pictures = torch.zeros(1, 3, 64, 64)
    pictures[:, 0, 30:50, 20:40] = 1
    plain, emphasised = (
        float(vae.loss(network, pictures, *emphasis)["absolute"])
        for emphasis in ((0.0, 0.0), (contrast, colour))
        if torch.manual_seed(0)
    )
    assert emphasised > 1.01 * plain  # the barely trained network is wrong about the thing most of all


def test_the_history_counts_through_both_stages(folder):
    history = pd.read_csv(folder / "training.csv")
    assert history["step"].tolist() == [2, 4] and history["seconds"].is_monotonic_increasing


def test_a_trained_folder_is_whole_and_half_precise(folder):
    from safetensors import safe_open

    assert store.verify(folder) == []
    with safe_open(folder / "diffusion_pytorch_model.safetensors", "numpy") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}
    assert read_json(folder / store.MANIFEST)["name"] == vae.NAME
    assert "compose(seed=0, stimulus)" in (folder / "README.md").read_text()


# What is shipped.


@pytest.fixture(scope="module")
def own():
    return vae.load(store.SHIPPED / vae.NAME)


def test_the_shipped_network_is_small():
    assert (store.SHIPPED / vae.NAME / "diffusion_pytorch_model.safetensors").stat().st_size <= 3_000_000


def test_held_out_scenes_come_back_at_24_decibels_and_noise_costs_little(own):
    exact, noisy = vae.quality(own, held_out(100).images).values()
    assert exact >= 24
    assert exact - 1 <= noisy <= exact


def test_its_latents_have_unit_spread(own):
    scaled = vae.encode(own, held_out(100).images) * own.config.scaling_factor
    assert 0.95 < scaled.std() < 1.05


@pytest.mark.slow
def test_all_held_out_scenes_come_back_as_the_card_says(own):
    written = read_json(store.SHIPPED / vae.NAME / "quality.json")
    measured = vae.quality(own, drawn.draw(data.FIRST_HELD_OUT, 2000).images)
    assert measured == pytest.approx(written, abs=0.02)
