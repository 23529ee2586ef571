import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.files import PerceptError
from percept.report import ranking

from .pictures import STIMULUS, items


def shares(ranks, metric="tiny_clip", stimulus=None):
    """Items whose two-way value is what a rank means: the share of the other images that are beaten."""
    ranks = np.asarray(ranks, dtype=float)
    stimulus = np.arange(len(ranks)) if stimulus is None else stimulus
    value = 1 - (ranks - 1) / max(len(ranks) - 1, 1)
    return pd.DataFrame({"metric": metric, "control": None, "stimulus": stimulus, "value": value})


@settings(deadline=None, max_examples=20)
@given(order=st.permutations(range(1, 13)))
def test_ranks_come_back_from_the_share_of_others_that_are_beaten(order):
    found = ranking.by_two_way(shares(order), np.arange(12))
    np.testing.assert_allclose(found.ranks, order)
    assert found.metric == "tiny_clip"


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        (["pixcorr", "pixel_two_way", "tiny_clip", "clip"], "clip"),
        (["pixel_two_way", "tiny_clip"], "tiny_clip"),
        (["ssim", "pixel_two_way"], "pixel_two_way"),
        (["ssim", "pixcorr"], None),
    ],
)
def test_what_follows_meaning_ranks_before_what_follows_pixels(metrics, expected):
    table = pd.concat([shares([1, 2, 3], metric) for metric in metrics])
    assert ranking.by_two_way(table, np.arange(3)).metric == expected


def test_a_metric_that_misses_an_image_does_not_rank():
    table = pd.concat([shares([1, 2, 3], "clip").iloc[:2], shares([3, 1, 2], "pixel_two_way")])
    found = ranking.by_two_way(table, np.arange(3))
    assert found.metric == "pixel_two_way" and found.ranks.tolist() == [3, 1, 2]


def test_controls_do_not_rank():
    own, control = shares([2, 1]), shares([1, 2]).assign(control="recovery")
    assert ranking.by_two_way(pd.concat([control, own]), np.arange(2)).ranks.tolist() == [2, 1]


def test_ranks_follow_the_order_of_the_stimuli_asked_for():
    table = shares([1, 2, 3], stimulus=[30, 10, 20])
    assert ranking.by_two_way(table, np.array([10, 20, 30])).ranks.tolist() == [2, 3, 1]


def test_the_mean_is_over_methods_by_one_metric_that_all_have():
    first = pd.concat([shares([1, 2, 3], "clip"), shares([3, 2, 1], "tiny_clip")])
    second = shares([1, 3, 2], "tiny_clip")
    found = ranking.mean_ranks([first, second], np.arange(3))
    assert found.metric == "tiny_clip" and found.ranks.tolist() == [2, 2.5, 1.5]


@pytest.mark.parametrize("tables", [[], [items(metrics=("pixcorr",))]])
def test_without_two_way_scores_everything_is_rank_one_and_says_so(tables):
    found = ranking.mean_ranks(tables, STIMULUS)
    assert found.metric is None and set(found.ranks) == {1} and "Not ranked" in found.told(11)


def test_a_ranking_tells_its_pool_and_its_metric():
    assert (
        ranking.Ranking(np.ones(3), "clip").told(982) == "rank of the seen image among 982 by CLIP, 1 is best"
    )


def test_rows_are_found_by_id_and_a_foreign_id_is_refused():
    assert ranking.rows_of(np.array([8, 70]), STIMULUS).tolist() == [4, 0]
    with pytest.raises(PerceptError, match="stimulus 5 was reconstructed but is not among the 11"):
        ranking.rows_of(np.array([70, 5]), STIMULUS)
