from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from percept.backbones.tiny import data
from percept.datasets.scenes import CATEGORIES, Object, Scene, captions, compose, drawn, paint
from percept.files import PerceptError
from tests.unit.backbones.tiny_scenes import held_out

N_NSD = 73_000


def noise(n, rows=5, columns=7):
    """Scenes of no meaning, of unequal axes, each with captions of its own."""
    images = np.random.default_rng(n).integers(0, 256, (n, rows, columns, 3), dtype=np.uint8)
    said = tuple(tuple(f"scene {k} in words {w}" for w in range(data.CAPTIONS)) for k in range(n))
    return data.Scenes(images, said, (("dog", "cat"),) * n, ("park",) * n)


# Drawing.


@pytest.mark.parametrize("first", [data.FIRST_TRAIN, data.FIRST_HELD_OUT])
def test_no_number_of_a_scene_is_one_of_nsd(first):
    assert first > N_NSD


def test_training_does_not_reach_the_held_out_scenes():
    assert data.FIRST_HELD_OUT - data.FIRST_TRAIN >= 100_000


def test_a_scene_is_the_same_whatever_is_drawn_with_it():
    several, alone = drawn.draw(data.FIRST_TRAIN, 4), drawn.draw(data.FIRST_TRAIN + 2, 1)
    np.testing.assert_array_equal(several.images[2], alone.images[0])
    assert (several.captions[2], several.objects[2], several.settings[2]) == (
        alone.captions[0],
        alone.objects[0],
        alone.settings[0],
    )


def test_descriptions_are_those_of_the_composed_scene():
    scenes = held_out(12)
    for number in range(12):
        scene = compose(drawn.SEED, data.FIRST_HELD_OUT + number)
        assert scenes.captions[number] == captions(scene)
        assert set(scenes.objects[number]) == set(scene.categories)
        assert scenes.settings[number] == scene.setting


def test_pictures_are_reduced_as_open_clip_prepares_them():
    from open_clip.transform import image_transform

    large = paint(compose(drawn.SEED, data.FIRST_HELD_OUT))
    peer = image_transform(data.SIDE, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bicubic")
    theirs = np.rint(peer(Image.fromarray(large)).numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    np.testing.assert_array_equal(drawn.reduced(large), theirs)


def box(category, left, top, width, height):
    return Object(category, "red", "blue", (left, top, width, height), False)


@pytest.mark.parametrize(
    ("objects", "order"),
    [
        ((box("cat", 0.1, 0.1, 0.2, 0.2), box("dog", 0.4, 0.4, 0.5, 0.5)), ("dog", "cat")),
        ((box("dog", 0.1, 0.1, 0.8, 0.5), box("cat", 0.1, 0.1, 0.8, 0.49)), ("cat", "dog")),  # hidden behind
        ((box("dog", 0.9, 0.1, 0.8, 0.5), box("cat", 0.1, 0.6, 0.3, 0.3)), ("cat", "dog")),  # mostly outside
        (
            (*[box("dog", x, 0.1, 0.2, 0.2) for x in (0, 0.3, 0.6)], box("cat", 0.3, 0.5, 0.3, 0.3)),
            ("cat", "dog"),
        ),
    ],
)
def test_objects_are_ordered_by_what_is_visible_of_the_largest(objects, order):
    scene = Scene(1, "park", 0.5, 1.0, 0.0, objects, (0, 1))
    assert drawn.visible(scene) == order


def test_the_main_object_comes_first():
    assert held_out(12).main == tuple(names[0] for names in held_out(12).objects)


# Storing.


def test_what_is_read_is_what_was_written(tmp_path):
    scenes = held_out(12)
    data.save(scenes, tmp_path)
    read = data.load(tmp_path)
    np.testing.assert_array_equal(read.images, scenes.images)
    assert (read.captions, read.objects, read.settings) == (scenes.captions, scenes.objects, scenes.settings)


def test_pictures_of_other_scenes_are_refused(tmp_path):
    data.save(noise(5), tmp_path)
    data.save(noise(7), tmp_path / "other")
    (tmp_path / "other" / "images.npz").replace(tmp_path / "images.npz")
    with pytest.raises(PerceptError, match="7 pictures but describes 5 scenes"):
        data.load(tmp_path)


def test_rows_are_taken_from_every_part():
    taken = noise(9).take(np.array([4, 0]))
    np.testing.assert_array_equal(taken.images, noise(9).images[[4, 0]])
    assert taken.captions == (noise(9).captions[4], noise(9).captions[0])
    assert len(taken) == len(taken.objects) == len(taken.settings) == 2


# Batches.


@given(step=st.integers(0, 10**6), seed=st.integers(0, 99), size=st.integers(1, 11))
@settings(max_examples=50, deadline=None)
def test_a_batch_is_a_function_of_seed_and_step(step, seed, size):
    one, again = (data.batch(noise(11), step, size, seed) for _ in range(2))
    np.testing.assert_array_equal(one.images, again.images)
    assert one.captions == again.captions
    assert len(set(one.rows)) == size
    assert all(said in noise(11).captions[row] for said, row in zip(one.captions, one.rows, strict=True))


def test_another_step_or_seed_is_another_batch():
    found = [tuple(data.batch(noise(200), *which).rows) for which in ((0, 8, 0), (1, 8, 0), (0, 8, 1))]
    assert len(set(found)) == 3


def test_every_scene_and_caption_has_its_turn():
    batches = [data.batch(noise(6), step, 3, 0) for step in range(200)]
    said = {text for batch in batches for text in batch.captions}
    assert said == {text for texts in noise(6).captions for text in texts}


def test_without_augmentation_pictures_are_as_drawn():
    batch = data.batch(noise(11), 3, 5, 0, augment=False)
    np.testing.assert_array_equal(batch.images, noise(11).images[batch.rows])


def test_augmentation_moves_by_at_most_two_pixels_and_never_mirrors():
    ramp = np.zeros((50, 9, 13, 3), dtype=np.uint8)
    ramp[:] = (10 * np.arange(13) + 40)[None, None, :, None]
    batch = data.batch(replace(noise(50), images=ramp), 0, 50, 0)
    moved = (batch.images[:, 4, 6].astype(float) - ramp[0, 4, 6]) / 10  # in columns, and by the gain
    assert np.all(np.diff(batch.images.astype(int), axis=2) >= 0)  # still rises to the right
    assert np.abs(moved).max() <= data.SHIFT + data.JITTER * ramp[0, 4, 6, 0] / 10 + 0.6
    assert np.ptp(moved) > 2


def test_augmentation_leaves_the_scenes_alone():
    scenes = noise(11)
    before = scenes.images.copy()
    data.batch(scenes, 0, 11, 0)
    np.testing.assert_array_equal(scenes.images, before)


# Spoiling.


def test_blur_is_a_gaussian_of_each_pictures_own_width():
    images, widths = noise(3, 16, 20).images, np.array([0.0, 0.7, 2.0])
    found = data.blurred(images, widths)
    np.testing.assert_array_equal(found[0], images[0])
    for number in (1, 2):
        width = (widths[number], widths[number], 0)
        peer = gaussian_filter(images[number].astype(np.float32), width, mode="reflect")
        np.testing.assert_allclose(found[number], peer, atol=1e-3)


def test_half_of_the_pictures_are_spoilt():
    images = noise(400).images
    same = (data.spoilt(images, (0, 1)) == images).all(axis=(1, 2, 3)).mean()
    assert 0.4 < same < 0.6


def test_spoiling_is_a_function_of_its_seed():
    images = noise(20).images
    np.testing.assert_array_equal(data.spoilt(images, (0, 1)), data.spoilt(images, (0, 1)))
    assert (data.spoilt(images, (0, 1)) != data.spoilt(images, (0, 2))).any()


# Words.


@pytest.mark.parametrize(
    ("category", "said"),
    [("dog", "A picture of a dog."), ("elephant", "A picture of an elephant."), ("tv", "A picture of a tv.")],
)
def test_the_bare_caption_has_the_right_article(category, said):
    assert data.prompt(category) == said


def test_presence_is_by_name():
    scenes = replace(noise(2), objects=(("dog", "cat"), ("bus",)))
    found = data.present(scenes, ("bus", "cat", "kite"))
    np.testing.assert_array_equal(found, [[False, True, False], [True, False, False]])


def test_every_category_of_the_catalogue_can_be_asked_for():
    assert len({data.prompt(name) for name in CATEGORIES}) == len(CATEGORIES)
