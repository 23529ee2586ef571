import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine

from percept.files import PerceptError
from percept.generators import choose

SAMPLES, IMAGES = 4, 5
EMBEDDED = np.random.default_rng(0).standard_normal((SAMPLES, IMAGES, 3, 2))
DECODED = np.random.default_rng(1).standard_normal((IMAGES, 3, 2))
PICTURES = np.random.default_rng(2).integers(0, 256, (SAMPLES, IMAGES, 6, 7, 3), dtype=np.uint8)


def test_similarity_is_the_cosine_of_each_sample_to_its_own_images_embedding():
    found = choose.similarity_to(EMBEDDED, DECODED)
    for sample in range(SAMPLES):
        for image in range(IMAGES):
            peer = 1 - cosine(EMBEDDED[sample, image].ravel(), DECODED[image].ravel())
            assert found[sample, image] == pytest.approx(peer)


def test_likeness_is_the_mean_cosine_to_the_other_samples():
    found = choose.likeness(EMBEDDED)
    for image in range(IMAGES):
        flat = EMBEDDED[:, image].reshape(SAMPLES, -1)
        for sample in range(SAMPLES):
            peers = [1 - cosine(flat[sample], flat[other]) for other in range(SAMPLES) if other != sample]
            assert found[sample, image] == pytest.approx(np.mean(peers))


def test_the_odd_one_out_is_no_medoid():
    embedded = np.ones((5, 1, 8)) + 0.01 * np.random.default_rng(3).standard_normal((5, 1, 8))
    embedded[2] *= -1
    assert np.argmin(choose.likeness(embedded)[:, 0]) == 2


@given(st.lists(st.permutations(range(SAMPLES)), min_size=IMAGES, max_size=IMAGES))
def test_each_image_keeps_its_own_best_sample(ranks):
    scores = np.array(ranks).T / SAMPLES
    chosen = choose.best(PICTURES, scores)
    for image, rank in enumerate(ranks):
        winner = rank.index(SAMPLES - 1)
        np.testing.assert_array_equal(chosen.images[image], PICTURES[winner, image])
        assert chosen.details[image] == {"sample": winner, "similarity": (SAMPLES - 1) / SAMPLES}


def test_of_equal_samples_the_first_is_kept():
    chosen = choose.best(PICTURES, np.ones((SAMPLES, IMAGES)))
    assert [row["sample"] for row in chosen.details] == [0] * IMAGES


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_whose_similarity_is_not_finite_does_not_win(value):
    scores = np.ones((SAMPLES, IMAGES))
    scores[2, 1] = value
    with pytest.raises(PerceptError, match=r"1 of 20 samples .* not finite.*`precision`"):
        choose.best(PICTURES, scores)


@pytest.mark.parametrize("score", [choose.likeness, lambda e: choose.similarity_to(e, DECODED)])
def test_an_embedding_that_overflowed_is_found_by_its_similarity(score):
    embedded = EMBEDDED.copy()
    embedded[1, 2, 0, 0] = np.inf
    with np.errstate(invalid="ignore"), pytest.raises(PerceptError, match="not finite"):
        choose.best(PICTURES, score(embedded))


def test_a_single_sample_has_no_similarity():
    chosen = choose.first(PICTURES[:1])
    np.testing.assert_array_equal(chosen.images, PICTURES[0])
    assert chosen.details == [{"sample": 0}] * IMAGES


def test_an_embedding_without_length_is_similar_to_none():
    assert np.all(choose.similarity_to(np.zeros((2, 3, 4)), np.ones((3, 4))) == 0)
