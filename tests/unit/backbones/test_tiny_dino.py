"""The small DINO: its crops, its tower, its training, and the network that ships."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from percept.backbones import image, store, towers
from percept.backbones.catalogue import named
from percept.backbones.tiny import clip, crops, dino, trainer
from percept.backbones.tiny.crops import Crops, boxes_of, coloured, cropped
from percept.files import read_json
from tests.unit.backbones.tiny_scenes import held_out

STILL = Crops(large=(1, 1), small=(1, 1), flip=0, jitter=0, grey=0)  # views that change nothing
N_QUICK = 12


def pictures(n=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)


# Crops.


@given(
    low=st.floats(0.05, 1),
    high=st.floats(0.05, 1),
    flip=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 99),
)
def test_every_crop_lies_inside_the_picture_and_has_the_area_that_is_asked_for(low, high, flip, seed):
    area = min(low, high), max(low, high)
    maps = boxes_of(20, area, flip, np.random.default_rng(seed))
    half = np.abs(maps[:, [0, 1], [0, 1]])  # half sides, of a picture from -1 to 1
    assert np.all(np.abs(maps[:, :, 2]) + half <= 1 + 1e-9)
    share = half.prod(axis=1)
    assert np.all(share <= area[1] + 1e-9) and np.all(share >= area[0] * 0.74)  # a side is cut at the border
    assert np.all((maps[:, 0, 0] < 0) == bool(flip)) or flip == 0.5
    assert np.all(maps[:, 1, 1] > 0)  # never upside down


def test_the_whole_picture_without_changes_is_the_picture(monkeypatch):
    monkeypatch.setattr(crops, "ASPECT", 1.0)
    seen = pictures()
    large, small = cropped(seen, replace(STILL, n_local=1, local_size=64), np.random.default_rng(0))
    expected = torch.from_numpy(seen).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(large, torch.cat([expected, expected]), atol=1e-4, rtol=0)
    torch.testing.assert_close(small, expected, atol=1e-4, rtol=0)
    mirrored, _ = cropped(seen, replace(STILL, n_global=1, flip=1), np.random.default_rng(0))
    torch.testing.assert_close(mirrored, expected.flip(3), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("n_global", "n_local"), [(2, 0), (2, 4), (1, 1)])
def test_views_come_view_by_view_in_their_sizes(n_global, n_local):
    large, small = cropped(pictures(), Crops(n_global, n_local), np.random.default_rng(0))
    assert large.shape == (n_global * 5, 3, 64, 64) and small.shape == (n_local * 5, 3, 32, 32)
    assert large.min() >= 0 and large.max() <= 1
    again, _ = cropped(pictures(), Crops(n_global, n_local), np.random.default_rng(0))
    assert torch.equal(large, again)


@pytest.mark.parametrize(("grey", "equal"), [(0.0, False), (1.0, True)])
def test_grey_pictures_have_equal_channels(grey, equal):
    seen = coloured(torch.rand(3, 3, 8, 8), 0.3, grey, np.random.default_rng(0))
    assert torch.allclose(seen[:, 0], seen[:, 2]) == equal


# The tower.


def test_at_its_own_size_the_tower_is_that_of_open_clip_and_smaller_crops_have_fewer_places():
    tower = dino.build(0).student.encoder.eval()
    seen = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(tower(seen), tower.visual(seen))
    assert tower(torch.randn(3, 3, 32, 32)).shape == (3, dino.WIDTH)


def test_places_of_a_smaller_grid_are_those_of_the_full_one():
    full = torch.cat([torch.full((1, 2), 9.0), torch.full((64, 2), 5.0)])
    found = dino.positions(full, 16)
    torch.testing.assert_close(found, torch.cat([torch.full((1, 2), 9.0), torch.full((16, 2), 5.0)]))
    down = torch.arange(8.0).repeat_interleave(8)[:, None]  # grows from the first row of places to the last
    rows = dino.positions(torch.cat([torch.zeros(1, 1), down]), 16)[1:].reshape(4, 4)
    torch.testing.assert_close(rows, rows[:, :1].expand(4, 4))
    assert rows[:, 0].diff().min() > 1.5


# Training.


def job(folder, name="tiny_dino"):
    scenes = held_out(N_QUICK)
    return trainer.Job(scenes, scenes, folder / name, folder / f"work-{name}")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(dino, "NEIGHBOURS", 3)
    monkeypatch.setattr(dino, "FROZEN", 1)
    return replace(dino.RECIPE, steps=3, warmup=1, batch_size=4)


def test_a_training_leaves_a_folder_that_opens_as_an_image_encoder(tmp_path, quick):
    made = job(tmp_path)
    dino.train(made, quick)
    tower = towers.image_tower(made.folder, named("tiny_dino", "image")).float().eval()
    seen = held_out(N_QUICK).images
    found = tower(clip.normalised(seen)).detach().numpy()
    np.testing.assert_allclose(found, dino.embedded(dino.load(made.folder), seen), rtol=1e-4, atol=1e-5)
    assert {"untrained" in what for what in read_json(made.folder / "quality.json")} == {True, False}


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, quick, monkeypatch):
    """Teacher and centre are resumed with the student."""
    whole, parts = job(tmp_path, "whole"), job(tmp_path, "parts")
    dino.train(whole, quick)
    real, drawn = dino.cropped, []

    def stopping(*given):
        drawn.append(1)
        if len(drawn) == 3:
            raise InterruptedError
        return real(*given)

    monkeypatch.setattr(trainer, "CHECKPOINT_S", -1)  # after each step
    monkeypatch.setattr(dino, "cropped", stopping)
    with pytest.raises(InterruptedError):
        dino.train(parts, quick)
    dino.train(parts, quick)
    assert len(drawn) == 4  # two steps, the one that failed, and the same once more
    both = [(each.folder / towers.WEIGHTS).read_bytes() for each in (whole, parts)]
    assert both[0] == both[1]


def test_votes_are_weighted_by_similarity(monkeypatch):
    monkeypatch.setattr(dino, "NEIGHBOURS", 2)
    known = np.array([[2.0, 0], [0, 3], [-1, 0]])
    found = dino.vote(np.array([[5.0, 5.0]]), known, np.array([1, 0, 1]))
    np.testing.assert_allclose(found, np.exp(np.sqrt(0.5) / 0.07) * np.ones((1, 2)))


# What ships.


def test_the_shipped_network_is_small_and_better_than_an_untrained_one():
    folder = store.require("tiny_dino")
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 1.5e6
    measured = read_json(folder / "quality.json")
    trained = next(value for what, value in measured.items() if what.endswith("largest object's"))
    untrained = next(value for what, value in measured.items() if what.endswith("untrained"))
    assert trained > untrained + 0.03 and trained > measured["the same for always the most frequent category"]


def test_the_shipped_network_tells_scenes_apart():
    found = image.open_named("tiny_dino", device="cpu").encode(held_out(N_QUICK).images)
    assert found.shape == (N_QUICK, dino.WIDTH)
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(N_QUICK, dtype=bool)]
    assert cosines.mean() < 0.9  # of a collapsed network all would be 1
