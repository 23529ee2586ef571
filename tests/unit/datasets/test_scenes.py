"""Scenes: the same picture for the same id, objects where the record says, words that fit."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.datasets import scenes
from percept.datasets.scenes.catalogue import COLOURS, PAINTS
from percept.datasets.scenes.paint import BACKDROPS, GROUNDS, _primitives

ids = st.tuples(st.integers(0, 3), st.integers(0, 72_999))


@given(ids)
@settings(max_examples=15, deadline=None)
def test_a_picture_depends_on_seed_and_id_alone(key):
    seed, stimulus = key
    first = scenes.paint(scenes.compose(seed, stimulus))
    scenes.paint(scenes.compose(seed, stimulus + 1))
    again = scenes.paint(scenes.compose(seed, stimulus))
    assert first.shape == (425, 425, 3) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("other", [(0, 8), (1, 7)], ids=["other id", "other seed"])
def test_another_id_or_seed_gives_another_picture(other):
    assert scenes.compose(0, 7) != scenes.compose(*other)
    assert (scenes.paint(scenes.compose(0, 7)) != scenes.paint(scenes.compose(*other))).mean() > 0.5


@given(ids)
@settings(max_examples=200, deadline=None)
def test_every_object_belongs_to_its_setting_and_is_in_view(key):
    scene = scenes.compose(*key)
    assert 1 <= len(scene.objects) <= 4
    for thing in scene.objects:
        left, top, width, height = thing.box
        assert thing.category in scenes.SETTINGS[scene.setting].categories
        assert left + width / 2 > 0 and left + width / 2 < 1 and 0 < top < top + height < 1.1
    assert scene.categories == tuple(n for n in scenes.CATEGORIES if n in {t.category for t in scene.objects})


@given(ids)
@settings(max_examples=200, deadline=None)
def test_five_captions_name_what_the_scene_holds_and_where(key):
    scene = scenes.compose(*key)
    said = scenes.captions(scene)
    plural = {"person": "people", "bus": "buses", "couch": "couches", "bench": "benches"}
    assert len(said) == 5
    for text in (said[0], said[1], said[2], said[4]):
        assert scenes.SETTINGS[scene.setting].phrase.lower() in text.lower()
        for name in scene.categories:
            assert re.search(rf"\b({name}s?|{plural.get(name, name)})\b", text.lower()), (name, text)
        assert "a orange" not in text and "a umbrella" not in text and "  " not in text


def test_there_are_enough_categories_and_all_of_them_occur():
    seen = {name for i in range(800) for name in scenes.compose(0, i).categories}
    assert seen == set(scenes.CATEGORIES) and len(seen) >= 10
    assert {scenes.compose(0, i).setting for i in range(300)} == set(scenes.SETTINGS)


@pytest.mark.parametrize("name", scenes.CATEGORIES)
def test_every_shape_is_drawn_in_its_own_colour_inside_its_box(name):
    category = scenes.CATEGORIES[name]
    for kind, paint, numbers in _primitives(name):
        assert kind in "ERPL" and (paint in PAINTS or paint in "mndl")
        corners = numbers[:4] if kind in "ERL" else numbers
        assert len(numbers) == {"E": 4, "R": 5, "L": 5}.get(kind, len(numbers)) and len(numbers) % 2 == (
            kind in "RL"
        )
        assert corners.min() >= 0 and corners.max() <= 1
    setting = next(s for s in scenes.SETTINGS.values() if name in s.categories)
    box = (0.3, 0.3, 0.4, 0.4)
    colour = category.colours[0]
    thing = scenes.Object(name, colour, "purple", box, False)
    empty, full = (
        scenes.paint(scenes.Scene(0, setting.name, 0.5, 1.0, 0.0, objects, (0, 0))).astype(int)
        for objects in ((), (thing,))
    )
    changed = (np.abs(empty - full).max(axis=2) > 8).nonzero()
    rows, columns = changed[0] / 425, changed[1] / 425
    assert len(rows) > 0.02 * 425**2 * 0.16
    inside = (rows > 0.27) & (rows < 0.73) & (columns > 0.27) & (columns < 0.73)
    assert inside.all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_mirroring_turns_an_object_around(mirrored):
    thing = scenes.Object("dog", "white", "red", (0.2, 0.2, 0.6, 0.6), mirrored)
    image = scenes.paint(scenes.Scene(0, "park", 0.5, 1.0, 0.0, (thing,), (0, 0))).astype(int)
    white = (image.min(axis=2) > 215)[100:220]
    left, right = white[:, 85:212].sum(), white[:, 213:340].sum()
    assert (right > left) == mirrored  # the head of an unmirrored dog is on the left


@pytest.mark.parametrize("setting", scenes.SETTINGS.values(), ids=lambda s: s.name)
def test_every_setting_has_its_painters_and_known_categories(setting):
    assert setting.backdrop in BACKDROPS and setting.ground in GROUNDS
    assert set(setting.categories) <= set(scenes.CATEGORIES)
    assert all(set(scenes.CATEGORIES[name].colours) <= set(COLOURS) for name in setting.categories)


@pytest.mark.parametrize("light", [0.75, 1.1])
def test_light_brightens_the_picture(light):
    scene = scenes.compose(0, 3)
    lit = scenes.paint(scenes.Scene(**{**vars(scene), "light": light})).mean()
    neutral = scenes.paint(scenes.Scene(**{**vars(scene), "light": 0.95})).mean()
    assert (lit > neutral) == (light > 0.95)
