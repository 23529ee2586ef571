"""Clusters among directions: against scikit-learn, against closed forms, and on data without any."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score, silhouette_score

from percept.evaluation import clustering
from percept.evaluation.clustering import METHODS, agreement, separation, spherical_kmeans, unit
from percept.statistics import shuffled_items

SIZES = (9, 14, 7, 11)


def blobs(spread=0.15, n_dims=6, seed=0):
    """Unit vectors around four orthogonal directions, and which they are around."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(len(SIZES)), SIZES)
    return unit(np.eye(n_dims)[of] + spread * rng.normal(size=(len(of), n_dims))), of


@pytest.mark.parametrize("method", METHODS)
def test_directions_that_are_apart_are_found(method):
    rows, of = blobs()
    found = METHODS[method](rows, len(SIZES), np.random.default_rng(1), 4)
    assert adjusted_mutual_info_score(found, of) == pytest.approx(1)


@pytest.mark.parametrize("method", METHODS)
def test_length_plays_no_part(method):
    rows, _ = blobs(spread=0.6)
    scaled = rows * np.random.default_rng(2).uniform(0.1, 9, size=(len(rows), 1))
    one, other = (METHODS[method](unit(x), 3, np.random.default_rng(1), 4) for x in (rows, scaled))
    assert adjusted_mutual_info_score(one, other) == pytest.approx(1)


def test_every_vector_is_in_the_cluster_whose_centre_is_nearest_by_angle():
    rows, _ = blobs(spread=1.0, seed=3)
    labels = spherical_kmeans(rows, 5, np.random.default_rng(0), restarts=3)
    centres = unit(np.stack([rows[labels == cluster].sum(axis=0) for cluster in range(5)]))
    np.testing.assert_array_equal((rows @ centres.T).argmax(axis=1), labels)


def test_more_beginnings_never_fit_worse():
    rows, _ = blobs(spread=1.5, seed=4)

    def fit(restarts):
        labels = spherical_kmeans(rows, 6, np.random.default_rng(5), restarts)
        return sum(np.linalg.norm(rows[labels == one].sum(axis=0)) for one in range(6))

    assert fit(20) >= fit(1)


@pytest.mark.parametrize("n_clusters", [2, 7])
def test_no_cluster_is_empty_although_vectors_recur(n_clusters):
    rows = unit(np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 5, axis=0))
    labels = spherical_kmeans(rows, n_clusters, np.random.default_rng(0), 3)
    assert len(np.unique(labels)) == n_clusters


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_that_of_scikit_learn_also_of_every_shuffle(seed):
    rng = np.random.default_rng(seed)
    groups = rng.choice(["animal", "food", "vehicle"], 50, p=[0.6, 0.3, 0.1])
    labels = np.where(rng.random(50) < 0.6, np.unique(groups, return_inverse=True)[1], rng.integers(0, 5, 50))
    shuffles = shuffled_items(50, 7, rng)
    found = agreement(labels, groups, shuffles)
    assert found.value == pytest.approx(adjusted_mutual_info_score(labels, groups))
    expected = [adjusted_mutual_info_score(labels, groups[order]) for order in shuffles]
    np.testing.assert_allclose(found.null, expected, atol=1e-12)


def test_groups_agree_with_themselves_and_with_nothing_else():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, 300)
    found = agreement(groups, groups, shuffled_items(300, 400, rng))
    assert found.value == pytest.approx(1)
    assert abs(found.null.mean()) < 4 * found.null.std() / np.sqrt(400)


def test_a_single_group_agrees_with_nothing():
    found = agreement(np.zeros(5, int), np.zeros(5, int), shuffled_items(5, 3, np.random.default_rng(0)))
    assert np.isnan(found.value) and np.isnan(found.null).all()


def test_the_silhouette_is_that_of_scikit_learn():
    rows, of = blobs(spread=0.5)
    assert clustering.silhouette(rows, of) == pytest.approx(silhouette_score(rows, of, metric="cosine"))
    assert np.isnan(clustering.silhouette(rows, np.zeros(len(rows), int)))
    assert np.isnan(clustering.silhouette(rows, np.arange(len(rows))))


@pytest.mark.parametrize("method", METHODS)
def test_clusters_stand_out_from_a_cloud_where_there_are_some(method):
    rows, _ = blobs()
    _, apart = separation(rows, len(SIZES), method, np.random.default_rng(0), clouds=20, restarts=3)
    assert apart.value > apart.null.max() + 0.1
    noise = unit(np.random.default_rng(1).normal(size=rows.shape))
    _, none = separation(noise, len(SIZES), method, np.random.default_rng(0), clouds=20, restarts=3)
    assert none.null.min() < none.value < none.null.max()
    assert none.value > 0 or method == "agglomerative"  # which is why labels are not what is shuffled


def test_a_cloud_has_the_mean_and_the_covariance_up_to_length():
    """Rows near one direction, so that scaling to unit length changes little of them."""
    spread = np.array([[0.01, 0, 0], [0.012, 0.02, 0], [0, -0.01, 0.03]])
    rows = np.array([9.0, 2.0, 1.0]) / 9 + np.random.default_rng(0).normal(size=(900, 3)) @ spread.T
    rows = unit(rows)
    found = clustering.cloud(rows, np.random.default_rng(1))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    np.testing.assert_allclose(found.mean(axis=0), rows.mean(axis=0), atol=5e-3)
    np.testing.assert_allclose(np.cov(found.T), np.cov(rows.T), atol=1.5e-4)
    np.testing.assert_allclose(unit(np.ones((2, 4))), 0.5)
    assert (unit(np.zeros((1, 3))) == 0).all()
