"""Agreement of distances against scipy, its null and interval on known data, and maps."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import spearmanr
from sklearn.manifold import trustworthiness

from percept.evaluation import similarity
from percept.evaluation.clustering import unit
from percept.evaluation.similarity import cosine_distances, rsa, rsa_interval
from percept.statistics import permutation_p, shuffled_items


def spaces(noise, n_items=30, n_dims=5, seed=0):
    """Distances in a space, and in a noisy view of it with other dimensions."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_items, n_dims))
    view = rows @ rng.normal(size=(n_dims, 40)) / np.sqrt(n_dims) + noise * rng.normal(size=(n_items, 40))
    return cosine_distances(unit(rows)), cosine_distances(unit(view))


def test_distances_are_those_of_scipy(rng):
    rows = rng.normal(size=(9, 4))
    np.testing.assert_allclose(cosine_distances(unit(rows)), cdist(rows, rows, "cosine"), atol=1e-12)


@pytest.mark.parametrize("noise", [0.0, 1.0, 50.0])
def test_agreement_is_the_rank_correlation_over_pairs_also_of_every_shuffle(noise):
    first, second = spaces(noise)
    pairs = np.triu_indices(30, 1)
    shuffles = shuffled_items(30, 5, np.random.default_rng(1))
    found = rsa(first, second, shuffles)
    assert found.value == pytest.approx(spearmanr(first[pairs], second[pairs]).statistic)
    moved = [second[order][:, order][pairs] for order in shuffles]
    np.testing.assert_allclose(found.null, [spearmanr(first[pairs], one).statistic for one in moved])


def test_a_space_agrees_with_itself_and_with_none_that_is_independent():
    shuffles = shuffled_items(30, 300, np.random.default_rng(2))
    first, second = spaces(noise=0.5)
    assert rsa(first, first, shuffles).value == pytest.approx(1)
    related = rsa(first, second, shuffles)
    assert permutation_p(related.value, related.null) == pytest.approx(1 / 301)
    assert abs(related.null.mean()) < 0.02


def test_p_values_of_independent_spaces_are_spread_evenly():
    found = []
    for seed in range(40):
        first, second = spaces(noise=1e6, n_items=12, seed=seed)
        against = rsa(first, second, shuffled_items(12, 60, np.random.default_rng(seed)))
        found.append(permutation_p(against.value, against.null))
    assert 0.3 < np.mean(found) < 0.7 and np.mean(np.array(found) < 0.1) < 0.3


def test_the_interval_holds_the_value_and_copies_add_nothing():
    """Unrelated spaces stay near 0: with pairs of copies, at distance 0 in both, they would agree."""
    first, second = spaces(noise=1e6, n_items=25)
    low, high = rsa_interval(first, second, 200, 0.95, np.random.default_rng(0))
    assert low < 0 < high and high - low < 0.5
    first, second = spaces(noise=0.7, n_items=60)
    low, high = rsa_interval(first, second, 200, 0.95, np.random.default_rng(0))
    value = rsa(first, second, np.empty((0, 60), int)).value
    assert low < value < high < 1


@pytest.mark.parametrize("how", ["pca", "tsne"])
def test_a_map_keeps_clusters_together(how):
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(3), 15)
    rows = unit(np.eye(6)[of] + 0.1 * rng.normal(size=(45, 6)))
    places = similarity.layout(rows, how, seed=0)
    assert places.shape == (45, 2) and places.min() == 0 and places.max() == pytest.approx(1)
    own = np.linalg.norm(places[:, None] - places[None], axis=2)
    within = np.array([own[of == one][:, of == one].max() for one in range(3)])
    between = min(own[of == a][:, of == b].min() for a, b in ((0, 1), (0, 2), (1, 2)))
    assert within.max() < 3 * between
    np.testing.assert_array_equal(places, similarity.layout(rows, how, seed=0))


def test_in_the_plane_a_map_by_components_is_the_plane_itself(rng):
    angles = rng.uniform(0, 2 * np.pi, 30)
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert similarity.neighbours_kept(rows, rows) == 1
    shuffled = similarity.neighbours_kept(rows, rows[rng.permutation(30)])
    assert shuffled == pytest.approx(10 / 29, abs=0.12)
    assert trustworthiness(rows, rows, n_neighbors=10) == 1  # the library's measure of the same
