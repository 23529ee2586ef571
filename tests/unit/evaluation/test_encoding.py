"""The challenge's metric against closed forms, and the rows that it makes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from percept.config import EvaluationConfig
from percept.evaluation import encoding
from percept.evaluation.table import Label

N_IMAGES, N_VERTICES = 37, 11
FEW = EvaluationConfig(bootstrap=200, permutations=199)
LABEL = Label("algonauts", "algonauts23", "subj01", "encoding", "clip", "clip")


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def pair(rng):
    measured = rng.normal(size=(N_IMAGES, N_VERTICES))
    return measured + rng.normal(size=measured.shape), measured


def test_r_is_that_of_numpy(pair):
    expected = [np.corrcoef(p, m)[0, 1] for p, m in zip(*(each.T for each in pair), strict=True)]
    np.testing.assert_allclose(encoding.correlations(*pair), expected, rtol=1e-6)


def test_weights_are_repetitions(pair, rng):
    counts = rng.multinomial(N_IMAGES, np.full(N_IMAGES, 1 / N_IMAGES), size=3)
    found = encoding.correlations(*pair, counts)
    for row, count in zip(found, counts, strict=True):
        drawn = [np.repeat(each, count, axis=0) for each in pair]
        np.testing.assert_allclose(row, encoding.correlations(*drawn), rtol=1e-5)


@given(scale=st.floats(0.01, 100), shift=st.floats(-1000, 1000))
def test_r_does_not_depend_on_units(scale, shift):
    rng = np.random.default_rng(0)
    p, m = rng.normal(size=(2, 20, 3))
    np.testing.assert_allclose(
        encoding.correlations(scale * p + shift, m), encoding.correlations(p, m), atol=1e-4
    )


@pytest.mark.parametrize("level", [0.0, 1.0, 0.1, 1e6])
def test_a_prediction_that_does_not_vary_tells_nothing_and_a_response_that_does_not_has_no_r(pair, level):
    flat = np.full_like(pair[0], level)
    np.testing.assert_array_equal(encoding.correlations(flat, pair[1]), np.zeros(N_VERTICES))
    assert np.isnan(encoding.correlations(pair[0], flat)).all()


def test_blocks_of_vertices_change_nothing(pair, monkeypatch):
    whole = encoding.correlations(*pair)
    monkeypatch.setattr(encoding, "VERTICES_AT_ONCE", 4)  # 11 = 4 + 4 + 3
    np.testing.assert_array_equal(encoding.correlations(*pair), whole)


@pytest.mark.parametrize(
    ("r", "ceiling", "expected"),
    [
        (0.5, 0.25, 100), (0.3, 0.36, 25), (0.6, 0.5, 72), (-0.9, 0.5, 0), (0, 0.5, 0), (0.9, 0.5, 100),
        (1, 1, 100), (0.01, 0, 100), (0, 0, 0), (-0.01, 0, 0), (1e-8, 0, 1), (np.nan, 0.5, np.nan),
    ],
)  # fmt: skip
def test_the_score_is_the_share_of_the_ceiling_cut_at_both_ends(r, ceiling, expected):
    """1e-8 squared is 1 % of the floor of 1e-14."""
    np.testing.assert_allclose(encoding.challenge_score([r], [ceiling]), [expected], rtol=1e-9)


unit = st.floats(0, 1)


@given(arrays(float, 7, elements=st.floats(-1, 1)), arrays(float, 7, elements=unit), unit)
def test_a_better_prediction_never_scores_less(r, ceiling, gain):
    low, high = (
        encoding.challenge_score(r, ceiling),
        encoding.challenge_score(np.minimum(r + gain, 1), ceiling),
    )
    assert np.all((low >= 0) & (low <= high) & (high <= 100))


@pytest.mark.parametrize("counts", [(5, 0, 0), (0, 4, 0), (0, 0, 7), (11, 23, 125), (1, 1, 1)])
def test_the_noise_ceiling_is_that_of_unequal_repeats(counts):
    n1, n2, n3 = counts
    n_repeats = np.repeat([1, 2, 3], counts)
    voxels = pd.DataFrame({"ncsnr": [0.3, 0.8]})
    snr = voxels["ncsnr"].to_numpy()
    expected = snr**2 / (snr**2 + (n3 / 3 + n2 / 2 + n1) / sum(counts))
    np.testing.assert_allclose(encoding.ceiling_of(voxels, n_repeats, "shared1000"), expected, rtol=1e-12)


def test_who_knows_the_signal_reaches_the_ceiling(rng):
    """Images shown once, signal-to-noise 0.7: r^2 of the true signal is the noise ceiling, 0.49 / 1.49."""
    signal = 0.7 * rng.normal(size=(20_000, 9))
    measured = signal + rng.normal(size=signal.shape)
    ceiling = encoding.ceiling_of(pd.DataFrame({"ncsnr": [0.7] * 9}), np.ones(20_000), "random")
    r = encoding.correlations(signal, measured)
    np.testing.assert_allclose(r**2 / ceiling, 1, atol=0.06)


@pytest.mark.parametrize(("protocol", "known"), [("algonauts23", True), ("random", False)])
def test_the_organisers_ceilings_hold_for_their_test_images_alone(protocol, known):
    voxels = pd.DataFrame({"noise_ceiling": np.float32([0.2, 0.4]), "ncsnr": [np.nan, np.nan]})
    found = encoding.ceiling_of(voxels, np.ones(4), protocol)
    assert (found is not None) == known
    if known:
        np.testing.assert_allclose(found, [0.2, 0.4], rtol=1e-6)


@pytest.mark.parametrize("released", [{}, {"noise_ceiling": [np.nan]}])
def test_without_repeats_and_without_release_nobody_knows_the_ceiling(released):
    voxels = pd.DataFrame({"ncsnr": [np.nan], **released})
    assert encoding.ceiling_of(voxels, np.ones(3), "algonauts23") is None


def test_the_unshuffled_pairing_is_r_and_shuffled_ones_are_around_zero(pair, rng):
    shuffles = np.stack([np.arange(N_IMAGES), *(rng.permutation(N_IMAGES) for _ in range(400))])
    found = encoding.null(*pair, shuffles)
    np.testing.assert_allclose(found[0], encoding.correlations(*pair), atol=1e-6)
    assert abs(found[1:].mean()) < 0.02
    np.testing.assert_allclose(
        found[1:].var(axis=0).mean(), 1 / (N_IMAGES - 1), rtol=0.15
    )  # exact in expectation


def scored(pair, ceiling, sets=None, settings=FEW):
    sets = {"all": np.ones(N_VERTICES, bool), "V1": np.arange(N_VERTICES) < 4} if sets is None else sets
    return encoding.score(*pair, sets, ceiling, LABEL, settings)


def test_every_set_has_mean_and_median_of_r_and_of_the_score(pair):
    ceiling = np.linspace(0.3, 0.9, N_VERTICES)
    rows, r = scored(pair, ceiling)
    own = rows[rows["control"].isna() & (rows["roi"] == "V1")].set_index("metric")["value"]
    score = np.minimum(np.maximum(r, 0) ** 2 / ceiling, 1)[:4]
    expected = {"vertex_r": r[:4].mean(), "vertex_r_median": np.median(r[:4]), "challenge": score.mean(),
                "challenge_median": np.median(score)}  # fmt: skip
    assert set(own.index) == set(expected)
    for metric, value in expected.items():
        assert own[metric] == pytest.approx(value, rel=1e-5)
    assert set(rows["n"]) == {N_IMAGES} and set(rows["unit"]) == {"average"}


def test_without_ceilings_there_are_no_rows_of_the_score(pair):
    rows, _ = scored(pair, None)
    assert set(rows["metric"]) == {"vertex_r", "vertex_r_median"}


def test_the_score_is_of_vertices_with_a_ceiling_and_says_how_many(pair):
    ceiling = np.linspace(0.3, 0.9, N_VERTICES)
    ceiling[[0, 1, 2, 3, 6]] = np.nan  # all of V1, and one more
    rows, r = scored(pair, ceiling)
    own = rows[rows["control"].isna()].set_index(["roi", "metric"])
    assert set(own.loc["V1"].index) == {"vertex_r", "vertex_r_median"}
    known = np.isfinite(ceiling)
    expected = np.minimum(np.maximum(r[known], 0) ** 2 / ceiling[known], 1).mean()
    assert own.loc[("all", "challenge"), "value"] == pytest.approx(expected, rel=1e-5)
    assert own.loc[("all", "challenge"), "note"] == "6 vertices"
    assert own.loc[("all", "vertex_r"), "note"] == "11 vertices"
    assert own.loc[("V1", "vertex_r"), "note"] == "4 vertices"


@pytest.mark.parametrize("ceiling", [None, np.full(N_VERTICES, 0.5)])
def test_the_interval_holds_the_value_and_the_control_lies_below_it(pair, ceiling):
    rows, _ = scored(pair, ceiling)
    own = rows[rows["control"].isna() & (rows["roi"] == "all")].set_index("metric")
    shuffled = rows[rows["control"] == "shuffled"].set_index("metric")
    assert ((own["ci_low"] <= own["value"]) & (own["value"] <= own["ci_high"])).all()
    assert (own["p_value"] <= 1 / 200 + 1e-12).all()
    assert (shuffled["value"] < own["ci_low"].loc[shuffled.index]).all()


def test_independent_pairs_score_chance(rng):
    rows, _ = scored(rng.normal(size=(2, N_IMAGES, N_VERTICES)), None)
    own = rows[rows["control"].isna() & (rows["metric"] == "vertex_r") & (rows["roi"] == "all")].iloc[0]
    assert own["ci_low"] < 0 < own["ci_high"] and own["p_value"] > 0.01


def test_the_interval_of_r_has_the_width_of_theory():
    """One vertex, 400 images, true r 0.6: the standard error is (1 - r^2) / sqrt(n)."""
    rng = np.random.default_rng(1)
    measured = rng.normal(size=(400, 1))
    predicted = 0.6 * measured + 0.8 * rng.normal(size=measured.shape)
    rows, r = encoding.score(predicted, measured, {"all": np.ones(1, bool)}, None, LABEL, FEW)
    row = rows[rows["control"].isna()].iloc[0]
    assert (row["ci_high"] - row["ci_low"]) == pytest.approx(2 * 1.96 * (1 - r[0] ** 2) / 20, rel=0.2)


def test_a_vertex_that_does_not_vary_is_left_out_and_not_zero(pair):
    pair[1][:, 2] = 5.0
    rows, r = scored(pair, None)
    assert np.isnan(r[2])
    own = rows[rows["control"].isna() & (rows["roi"] == "all") & (rows["metric"] == "vertex_r")].iloc[0]
    assert own["value"] == pytest.approx(np.nanmean(r), rel=1e-5) and "10 vertices" in own["note"]


def vertex_table():
    return pd.DataFrame(
        {
            "hemisphere": ["lh", "lh", "rh"], "vertex": [4, 7, 2], "streams": ["early", None, "ventral"],
            "ncsnr": np.nan,
        }
    )  # fmt: skip


def test_sets_are_those_with_voxels_and_each_hemisphere():
    found = encoding.sets_of(vertex_table(), {"mine": ("streams:ventral",), "none": ("streams:parietal",)})
    assert found["left hemisphere"].tolist() == [True, True, False] and found["mine"].tolist() == [
        False,
        False,
        True,
    ]
    assert found["all"].all() and "none" not in found and "parietal" not in found
    assert "left hemisphere" not in encoding.sets_of(vertex_table().drop(columns="hemisphere"))


def test_what_has_to_be_said_is_said():
    voxels = vertex_table()
    voxels.attrs["labels"] = {"streams": ["early", "ventral", "parietal"]}
    said = encoding.notes(voxels.assign(file_column=[0, 1, 0]), "random", "session-train", None)
    for part in (
        "session-train",
        "not available: the noise ceiling",
        "not the challenge's test set",
        "streams:parietal",
    ):
        assert part in said
    silent = encoding.notes(vertex_table(), "random", "session", np.ones(3))
    assert silent == "responses z-scored: session"


@pytest.mark.parametrize("ceiling", [None, np.array([0.5, 0.5, 0.2])])
def test_each_vertex_has_its_place_and_its_score(ceiling):
    found = encoding.per_vertex(vertex_table(), np.float32([0.5, -0.2, 0.1]), ceiling)
    assert found["vertex"].tolist() == [4, 7, 2] and found["hemisphere"].tolist() == ["lh", "lh", "rh"]
    expected = [np.nan] * 3 if ceiling is None else [50, 0, 5]
    np.testing.assert_allclose(found["challenge"], expected, rtol=1e-5)
