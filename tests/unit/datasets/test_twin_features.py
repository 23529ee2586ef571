"""The twin's feature space: channels that see what they are named for, components with natural variance."""

import numpy as np
import pytest

from percept.datasets import scenes
from percept.datasets.twin import features


def grating(angle_deg):
    """Bars along a direction, counted from horizontal, counter-clockwise as seen."""
    row, column = np.mgrid[:425, :425]
    angle = np.radians(angle_deg)
    across = column * np.sin(angle) + row * np.cos(angle)  # rows run downwards
    return np.repeat((127 + 100 * np.sin(across / 8))[..., None].astype(np.uint8), 3, axis=2)


@pytest.mark.parametrize(
    ("angle", "channel"), [(0, "horizontal"), (90, "vertical"), (45, "rising"), (135, "falling")]
)
def test_each_orientation_channel_prefers_its_own_bars(angle, channel):
    energy = features.early(grating(angle)).mean(axis=(0, 1))[4:]
    assert features.CHANNELS[4:][energy.argmax()] == channel
    assert energy.max() > 3 * np.sort(energy)[-3]


@pytest.mark.parametrize(
    ("colour", "channel", "sign"),
    [
        ((255, 0, 0), "red-green", 1),
        ((0, 255, 0), "red-green", -1),
        ((0, 0, 255), "blue-yellow", 1),
        ((255, 255, 0), "blue-yellow", -1),
    ],
)
def test_colour_channels_are_opponent_and_local(colour, channel, sign):
    image = np.full((425, 425, 3), 128, np.uint8)
    image[:60, 360:] = colour  # the upper right cell
    cells = features.early(image)[..., features.CHANNELS.index(channel)]
    assert cells.shape == (7, 7) and sign * cells[0, 6] > 0.9
    np.testing.assert_allclose(cells[2:, :5], 0, atol=1e-6)


def test_a_uniform_picture_has_luminance_and_no_contrast():
    cells = features.early(np.full((425, 425, 3), 51, np.uint8))
    np.testing.assert_allclose(cells[..., 0], 0.2, atol=1e-6)
    np.testing.assert_allclose(cells[..., 1:], 0, atol=1e-6)


def test_semantics_say_what_is_there_how_large_and_where():
    names = features.attributes()
    small = scenes.Object("cat", "black", "red", (0.0, 0.4, 0.1, 0.1), False)
    large = scenes.Object("person", "red", "red", (0.7, 0.3, 0.2, 0.5), False)
    scene = scenes.Scene(0, "living room", 0.6, 1, 0, (small, large), (0, 0))
    value = dict(zip(names, features.semantic(scene), strict=True))
    assert value["cat"] == pytest.approx(0.1) and value["animal"] == pytest.approx(0.1)
    assert value["person"] == pytest.approx(0.1**0.5, rel=1e-5) and value["car"] == 0
    assert value["inside"] > 0 and value["left-right"] > 0.2 and value["living room"] > 0


@pytest.fixture(scope="module")
def descriptions():
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((392, 392)) * np.arange(1, 393) ** -0.7
    maps = (rng.standard_normal((300, 392)) @ mixing.T).reshape(300, 7, 7, 8) * np.arange(1, 9)
    semantics = np.array([features.semantic(scenes.compose(0, i)) for i in range(300)])
    return maps.astype(np.float32), semantics


def test_blocks_have_variance_one_falling_from_mode_to_mode(descriptions):
    space = features.space(*descriptions)
    assert space.features.shape == (300, features.N_MODES) and space.features.dtype == np.float32
    variance = space.features.var(axis=0)
    for block in (variance[: features.N_EARLY], variance[features.N_EARLY :]):
        assert block.sum() == pytest.approx(1, rel=1e-4) and (np.diff(block) <= 1e-6).all()


def test_components_agree_with_scikit_learn(descriptions):
    from sklearn.decomposition import PCA

    space = features.space(*descriptions)
    ours = space.features[:, features.N_EARLY :]
    peer = PCA(features.N_SEMANTIC, svd_solver="full").fit_transform(descriptions[1].astype(float))
    peer /= np.sqrt(peer.var(axis=0).sum())
    np.testing.assert_allclose(np.abs(ours), np.abs(peer), atol=1e-4)


def test_features_are_the_described_axes_applied(descriptions):
    _, semantics = descriptions
    space = features.space(*descriptions)
    centred = semantics - semantics.mean(axis=0)
    np.testing.assert_allclose(
        centred @ space.semantic_axes, space.features[:, features.N_EARLY :], atol=1e-5
    )


def test_too_few_images_are_refused(descriptions):
    maps, semantics = descriptions
    with pytest.raises(ValueError, match=r"raise `dataset\.sessions`"):
        features.space(maps[: features.N_MODES], semantics[: features.N_MODES])
