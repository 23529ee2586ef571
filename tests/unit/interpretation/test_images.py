"""Images without a region: the noise stays, the roles that are not analysed too, and what is compared."""

from dataclasses import dataclass

import numpy as np
import pytest

from percept.decoders.predictions import Predictions, write_predictions
from percept.files import PerceptError
from percept.generators.inputs import Decoded
from percept.generators.roles import Made, Roles, noise_seeds
from percept.interpretation import images
from percept.interpretation.groups import Group
from percept.interpretation.images import Maker, Shots, comparison, effects, stretch
from percept.targets import store
from tests.unit.interpretation.world import linear, probe, responses

RNG = np.random.default_rng(0)
BOTH = responses(20, 120, RNG)
X, TRAIN = BOTH[:12], BOTH[12:]
WEIGHTS, LIGHT = RNG.normal(size=(20, 3)), RNG.normal(size=(4, 2))


@dataclass
class Painter:
    """Paints four pixels from the embedding, the low-level role, and noise of each image."""

    batch_size: int = 5

    def generate(self, roles, seed):
        noise = np.array([np.random.default_rng(one).normal() for one in noise_seeds(seed, roles.stimulus)])
        value = 128 + 20 * roles.semantic.sum(axis=1) + noise + roles.lowlevel[:, 0]
        pixels = value[:, None, None, None] + np.arange(12).reshape(2, 2, 3)
        return Made(pixels.clip(0, 255).astype(np.uint8))


def maker(**given):
    of = probe(linear(WEIGHTS), X, TRAIN)
    rows = np.array([1, 4, 7, 9])
    roles = Roles(rows.astype(np.int32) + 100, semantic=of.before[rows], lowlevel=LIGHT)
    settings = {"changed": {"semantic": np.ones(3, np.float32)}, "seed": 3} | given
    return of, Maker(Painter(), roles, rows, **settings)


def brightness(first, others):
    gaps = (np.abs(first.astype(float) - other).mean(axis=(1, 2, 3)) for other in others)
    return [{"image_brightness": gap} for gap in gaps]


def test_no_change_makes_the_same_image():
    _, own = maker()
    still = np.zeros((4, 3), np.float32)
    first, second = own.images([still, still])
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, Painter().generate(own.roles, 3).images)


def test_many_changes_at_once_are_the_changes_one_by_one():
    _, own = maker()
    moves = [RNG.normal(size=(4, 3)).astype(np.float32) for _ in range(3)]
    together = own.images(moves)
    for move, found in zip(moves, together, strict=True):
        np.testing.assert_array_equal(found, own.images([move])[0])


def test_a_role_that_is_rescaled_stretches_the_change():
    (_, plain), (_, stretched) = maker(), maker(changed={"semantic": np.full(3, 2, np.float32)})
    move = np.full((4, 3), 0.5, np.float32)
    np.testing.assert_array_equal(stretched.images([move])[0], plain.images([2 * move])[0])


def test_regions_have_a_null_of_their_size():
    of, own = maker()
    regions = [Group("roi", "a", np.arange(4)), Group("roi", "b", np.arange(15))]
    first, second = effects(of, regions, own, Shots(brightness, 6, 0))
    assert first.names == ("image_brightness",) and first.null.shape == (6, 1) and first.used == 1
    moved = of.after(np.arange(4))[own.shown] - of.before[own.shown]
    intact, *changed = own.images([np.zeros_like(moved), moved])
    expected = brightness(intact, changed)[0]["image_brightness"]
    np.testing.assert_allclose(first.changes[:, 0], expected)
    np.testing.assert_allclose(first.whole, expected.mean())
    assert second.size == 2 and second.whole[0] > 0


@pytest.fixture
def files(tmp_path):
    """Files of a role: true targets of sd 2 and 6, training predictions of sd 1 and 1."""
    rng = np.random.default_rng(1)
    true, said = rng.normal(size=(400, 2)) * [2, 6], rng.normal(size=(400, 2))
    ids = np.arange(400, dtype=np.int32)
    store.write(tmp_path / "index.json", true.astype(np.float32), ids, {"kind": "x"}, "x")
    rows = Predictions(said.astype(np.float32), ids, *(np.full(400, value) for value in (1, -1, -1)))
    write_predictions(tmp_path / "predictions.h5", {"train": rows}, {})
    return tmp_path / "predictions.h5", tmp_path / "index.json"


def test_a_change_is_stretched_as_predictions_are_rescaled(files):
    np.testing.assert_array_equal(stretch(Decoded(*files)), [1, 1])
    np.testing.assert_allclose(stretch(Decoded(*files, "cross_validated")), [2, 6], rtol=0.15)
    with pytest.raises(PerceptError, match="rescaled by the whole test set"):
        stretch(Decoded(*files, "transductive"))


def test_equal_images_do_not_differ_and_unlike_ones_do():
    compare = comparison("tiny_clip")
    scenes = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3)).astype(np.uint8)
    scenes[0] = 7
    same, other = compare(scenes, [scenes, scenes[[1, 2, 0]]])
    assert same.keys() == {"image_tiny_clip", "image_pixels"}
    for name in same:
        np.testing.assert_allclose(same[name], 0, atol=1e-6)
        assert other[name][1] > 0.01
    assert images._correlation(scenes, 255 - scenes)[1] == pytest.approx(-1)


def test_a_network_of_distances_is_refused(monkeypatch):
    from percept.backbones import metric

    monkeypatch.setattr(metric, "open_named", lambda name: metric.Lpips(None, ()))
    with pytest.raises(PerceptError, match="lpips_alex has none that can be compared by cosine"):
        comparison("lpips_alex")
