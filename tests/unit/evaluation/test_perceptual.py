"""Two-way identification, distances and pairs over sets of images, hand-counted and against scipy."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from percept.evaluation import images, perceptual, retrieval
from percept.evaluation.imagesets import Distinct, Stimuli, batches, distinct, held, take
from percept.evaluation.perceptual import Seen, Shuffle
from percept.sections import ImagesConfig

from .test_images import scenes

PLAIN, BY_IMAGE = ImagesConfig(), ImagesConfig(alternatives=("by_image",))


@dataclass
class Means:
    """A network without weights: mean colours of an image's quarters as two layers. It counts its work."""

    layers: tuple[str, ...] = ("alexnet2", "effnet")
    fixed: bool = False
    classes: tuple[str, ...] = ()
    seen: int = 0

    def features(self, batch, antialias=None):
        self.seen += len(batch)
        height, width = (side // 2 for side in batch.shape[1:3])
        parts = [batch[:, :height, :width], batch[:, height:, :width], batch[:, :height, width:]]
        rows = np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=1).astype(np.float32)
        rows += bool(antialias)  # another answer, of the same correlations
        return dict.fromkeys(self.layers, rows)


def numbered(correlations):
    """As many images as rows, all different."""
    return Seen(distinct(scenes(len(correlations), 12, 13)))


def two_way(correlations, seen=None, how=PLAIN):
    correlations = np.asarray(correlations, dtype=np.float64)
    return {
        m.metric: m.values
        for m in perceptual.identification("clip", correlations, seen or numbered(correlations), how)
    }


# Orientation, ties, collapse. R[j, i]: reconstruction j with true image i.

ASYMMETRIC = [[0.5, 0.6, 0.7], [0.1, 0.2, 0.3], [0.0, 0.4, 0.8]]


def test_the_reconstruction_is_fixed_and_the_true_images_compete():
    # reconstruction 0: its own image (0.5) is below both others; 1: above one of them; 2: above both
    assert_array_equal(two_way(ASYMMETRIC)["clip"], [0, 0.5, 1])


def test_by_image_the_true_image_is_fixed_and_reconstructions_compete():
    # image 0: its own reconstruction (0.5) beats both others; 1: 0.2 is beaten by both; 2: beats both
    found = two_way(ASYMMETRIC, how=BY_IMAGE)
    assert_array_equal(found["clip_by_image"], [1, 0, 1])
    assert_array_equal(found["clip"], [0, 0.5, 1])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 9).flatmap(
        lambda n: arrays.arrays(np.float64, (n, n), elements=st.integers(-50, 50), unique=True)
    )
)
def test_without_ties_it_is_the_fields_strict_inequality(correlations):
    n = len(correlations)
    expected = [np.mean([row[i] < row[j] for i in range(n) if i != j]) for j, row in enumerate(correlations)]
    assert_allclose(two_way(correlations)["clip"], expected, atol=1e-12)


def test_a_tie_counts_half_where_the_fields_code_counts_nothing():
    assert_array_equal(two_way([[0.5, 0.5, 0.1], [0.9, 0.3, 0.3], [0, 0, 1]])["clip"], [0.75, 0.25, 1])


@pytest.mark.parametrize("n", [2, 5, 8])
def test_an_output_that_ignores_its_input_scores_exactly_half_in_mean(n):
    row = np.random.default_rng(n).permutation(n)
    for how, name in ((PLAIN, "clip"), (BY_IMAGE, "clip_by_image")):
        assert two_way(np.tile(row, (n, 1)), how=how)[name].mean() == pytest.approx(0.5, abs=1e-15)


def test_blank_outputs_score_exactly_half_each():
    assert_array_equal(two_way(np.zeros((4, 4)))["clip"], 0.5)


def test_equal_true_images_tie_with_each_other():
    seen = Seen(distinct(scenes(3, 12, 13)[[0, 1, 2, 0]]))
    correlations = np.eye(4)[:, [0, 1, 2, 0]] + np.eye(4)[:, [3, 1, 2, 3]]
    assert_array_equal(two_way(correlations, seen)["clip"], [1 - 0.5 / 3, 1, 1, 1 - 0.5 / 3])


def test_a_single_image_is_no_question():
    assert two_way([[1.0]]) == {}


def test_chance_is_one_half_of_the_whole_pool():
    (measure,) = perceptual.identification("clip", np.asarray(ASYMMETRIC), numbered(ASYMMETRIC), PLAIN)
    assert (measure.chance, measure.pool, measure.lower_is_better) == (0.5, 3, False)
    assert_allclose(np.diag(measure.if_true), measure.values)


# Sets of images under a network.


@pytest.fixture(scope="module")
def shown():
    return scenes(9, 24, 26)


def test_two_way_and_distance_are_those_of_scipys_correlation(shown):
    made = scenes(9, 24, 26, seed=4)
    rows = [Means().features(each)["effnet"] for each in (made, shown)]
    expected = cdist(*rows, metric="correlation")
    ((number, measures),) = perceptual.network(Means(), Seen(distinct(shown)), [distinct(made)], PLAIN)
    two, distance = measures
    assert (number, two.metric, distance.metric) == (0, "alexnet2", "effnet")
    assert_allclose(distance.values, np.diag(expected), atol=1e-6)
    assert_allclose(distance.if_true, expected, atol=1e-6)
    assert distance.lower_is_better
    assert_allclose(two.values, [(row > row[j]).sum() / 8 for j, row in enumerate(expected)])


@pytest.mark.parametrize("batch_size", [1, 4, 9, 32])
def test_batches_change_nothing(shown, batch_size):
    made = scenes(9, 24, 26, seed=4)
    how = [ImagesConfig(batch_size=size) for size in (batch_size, 9)]
    found = [
        list(perceptual.network(Means(), Seen(distinct(shown)), [distinct(made)], one, False)) for one in how
    ]
    for one, other in zip(found[0][0][1], found[1][0][1], strict=True):
        assert_allclose(one.if_true, other.if_true, atol=1e-6)


def test_true_images_are_looked_at_once_for_all_sets_and_so_are_equal_ones(shown):
    network, mean = Means(), np.broadcast_to(shown[0], shown.shape)
    sets = [distinct(each) for each in (scenes(9, 24, 26, seed=4), mean, shown[[0, 0, 1, 1, 2, 2, 3, 3, 4]])]
    found = dict(perceptual.network(network, Seen(distinct(shown)), sets, PLAIN))
    assert network.seen == 9 + 9 + 1 + 4  # the first of the third set is the one of the second
    assert found[1][0].values.mean() == pytest.approx(0.5, abs=1e-12)
    assert len(set(found[1][0].if_true[:, 0])) == 1


def test_antialiasing_is_asked_of_the_network_and_named(shown):
    seen, sets = Seen(distinct(shown)), [distinct(shown)]
    ((_, measures),) = perceptual.network(Means(), seen, sets, PLAIN, antialias=True)
    assert [measure.metric for measure in measures] == ["alexnet2_antialias", "effnet_antialias"]


def test_features_that_do_not_vary_correlate_with_nothing():
    rows = np.array([[2, 2, 2, 2], [1, 2, 3, 4]], dtype=np.float32)
    assert_allclose(perceptual.unit(rows) @ perceptual.unit(rows).T, [[0, 0], [0, 1]], atol=1e-6)


def test_pixels_are_correlated_at_the_common_size(shown):
    made = scenes(9, 50, 40, seed=4)
    ((_, measures),) = perceptual.pixels(Seen(distinct(shown)), [distinct(made)], PLAIN)
    assert [measure.metric for measure in measures] == ["pixcorr", "pixel_two_way"]
    assert_allclose(measures[0].if_true, images.pixel_correlations(made, shown))
    ranks = retrieval.rank(measures[0].if_true, np.arange(9))
    assert_allclose(measures[1].values, retrieval.two_way(ranks))


# Pair by pair.


def difference(batch, shown):
    return np.abs(batch.astype(float) - shown).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_pairs_are_those_of_the_images_and_of_the_shuffled_partners(shown, batch_size):
    made, other = scenes(9, 24, 26, seed=4), scenes(9, 24, 26, seed=5)
    partner = np.roll(np.arange(9), 2)
    metric = perceptual.Pairwise("lpips", np.asarray, difference, lower_is_better=True)
    sets = [distinct(made), distinct(other)]
    found = dict(perceptual.pairwise(metric, Seen(distinct(shown)), sets, Shuffle((1,), partner), batch_size))
    (first,), (second,) = found[0], found[1]
    assert_allclose(first.values, difference(made, shown))
    assert_allclose(second.values, difference(other, shown))
    assert_allclose(second.shuffled, difference(other, shown[partner]))
    assert first.shuffled is None and first.lower_is_better


@pytest.mark.parametrize(
    ("columns", "antialias", "name"),
    [(False, False, "ssim"), (True, False, "ssim_columns"), (False, True, "ssim_antialias")],
)
def test_ssim_by_pairs_is_ssim(columns, antialias, name):
    made, shown = scenes(2, 300, 280, seed=3), scenes(2, 300, 280)
    metric = perceptual.ssim(antialias, columns)
    values = metric.values(metric.prepare(made), metric.prepare(shown))
    assert metric.metric == name
    assert np.allclose(values, images.ssim(made, shown), atol=1e-9) == (name == "ssim")


# Sets of images.


class Source:
    def images(self, stimuli):
        return np.stack([np.full((3, 4, 3), stimulus, np.uint8) for stimulus in stimuli])


def test_images_are_read_some_at_a_time_in_any_order():
    stimuli = Stimuli(Source(), np.array([9, 4, 7, 4]))
    assert_array_equal(take(stimuli, np.array([3, 0, 2]))[:, 0, 0, 0], [4, 9, 7])
    assert [len(batch) for batch in batches(stimuli, 3)] == [3, 1]
    assert_array_equal(np.concatenate(list(batches(stimuli, 3)))[:, 0, 0, 0], [9, 4, 7, 4])


def test_equal_images_are_found_by_content_wherever_they_come_from():
    found = distinct(Stimuli(Source(), np.array([9, 4, 7, 4, 9])))
    assert_array_equal(found.number, [0, 1, 2, 1, 0])
    assert_array_equal(found.rows, [0, 1, 2])
    assert found.digests == distinct(Source().images([9, 4, 7, 4, 9])).digests
    assert sum(map(len, found.batches(2))) == 3


def test_images_of_equal_bytes_and_other_shape_are_different():
    flat = np.zeros((2, 3, 4, 3), np.uint8)
    assert distinct(flat).digests != distinct(flat.reshape(2, 4, 3, 3)).digests
    assert isinstance(distinct(flat), Distinct)


@pytest.mark.parametrize(("most", "kept"), [(4 * 3 * 4 * 3, True), (4 * 3 * 4 * 3 - 1, False)])
def test_a_small_set_is_held_in_memory_and_a_large_one_is_left_where_it_is(most, kept):
    stimuli = Stimuli(Source(), np.array([9, 4, 7, 4]))
    found = held(stimuli, most)
    assert isinstance(found, np.ndarray) == kept and (found is stimuli) != kept
    assert_array_equal(found[np.array([1, 2])], stimuli[np.array([1, 2])])


def test_images_in_memory_are_held_as_they_are():
    images = np.broadcast_to(np.zeros((5, 6, 3), np.uint8), (4, 5, 6, 3))
    assert held(images) is images


# What was chosen among images of other sets.


def chosen_among():
    """Two sets, one that takes each image from one of them, and one with an image of its own."""
    first, second = scenes(9, 24, 26, seed=4), scenes(9, 24, 26, seed=5)
    mixed = np.where((np.arange(9) % 2)[:, None, None, None].astype(bool), first, second)
    partly = mixed.copy()
    partly[3] = 255 - partly[3]
    return [first, second, mixed, partly]


@pytest.mark.parametrize("batch_size", [1, 4, 20])
def test_images_that_other_sets_have_are_looked_at_once_with_the_same_result(shown, batch_size):
    sets = chosen_among()
    how = ImagesConfig(batch_size=batch_size)
    network, seen = Means(), Seen(distinct(shown))
    together = dict(perceptual.network(network, seen, list(map(distinct, sets)), how))
    assert network.seen == len(shown) + 9 + 9 + 0 + 1
    for number, each in enumerate(sets):
        ((_, alone),) = perceptual.network(Means(), seen, [distinct(each)], how)
        for one, other in zip(together[number], alone, strict=True):
            assert_allclose(one.if_true, other.if_true, atol=1e-12)
            assert_allclose(one.values, other.values, atol=1e-12)


@pytest.mark.parametrize("batch_size", [1, 4, 20])
@pytest.mark.parametrize("shuffled", [(), (0, 1, 2, 3), (2,)])
def test_pairs_that_other_sets_have_are_compared_once_with_the_same_result(shown, batch_size, shuffled):
    sets, looked = chosen_among(), []

    def counted(batch):
        looked.extend(batch)
        return np.asarray(batch)

    partner = np.roll(np.arange(9), 2)
    metric = perceptual.Pairwise("lpips", counted, difference)
    seen, shuffle = Seen(distinct(shown)), Shuffle(shuffled, partner)
    found = dict(perceptual.pairwise(metric, seen, list(map(distinct, sets)), shuffle, batch_size))
    for number, each in enumerate(sets):
        (one,) = found[number]
        assert_allclose(one.values, difference(each, shown))
        if number in shuffled:
            assert_allclose(one.shuffled, difference(each, shown[partner]))
    if len(shuffled) != 1 and batch_size == 1:  # the third set costs nothing, the fourth its own image
        assert len(looked) == (9 if shuffled else 0) + 9 + 9 + 9 + 1
