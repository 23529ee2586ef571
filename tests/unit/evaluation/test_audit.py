"""Every planted fault is caught by the check of its name; a clean study passes, seed after seed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from percept.evaluation import alignment, audit_data, audit_results, table
from percept.evaluation.audit import COLUMNS, Evidence, audit
from percept.evaluation.audit_data import Recorded
from percept.evaluation.decoder import score_decoder
from percept.evaluation.duplicates import SIDE, pictures, thumbnail
from percept.statistics import standard_error

from .test_images import scenes
from .worlds import Cosine, Gaussian, world

N_SESSIONS, N_IMAGES, N_TEST, N_VOXELS = 3, 60, 12, 25


def study(seed=0, snr=0.6):
    """Trials of 60 images shown three times over 3 sessions, and the responses of 25 voxels to them."""
    rng = np.random.default_rng(seed)
    stimulus = rng.permutation(np.repeat(np.arange(100, 100 + N_IMAGES), 3))
    split = np.where(stimulus < 100 + N_TEST, "test", np.where(stimulus < 118, "validation", "train"))
    per_session = len(stimulus) // N_SESSIONS
    trials = pd.DataFrame(
        {
            "session": np.repeat(np.arange(1, N_SESSIONS + 1), per_session),
            "run": np.tile(np.arange(per_session) // 11 + 1, N_SESSIONS),
            "stimulus": stimulus,
            "split": split,
            "fold": -1,
        }
    )
    signal = rng.normal(size=(N_IMAGES, N_VOXELS))[stimulus - 100]
    betas = 300 * (2 + snr * signal + rng.normal(size=signal.shape)) + 40 * trials[["session"]].to_numpy()
    return trials, np.rint(betas).astype(np.int16)


def statistics(betas, trials, rows, how):
    """Mean and sd of some trials, as a decoder's run would record them."""
    if how == "train":
        return Recorded(how, betas[rows].mean(axis=0), betas[rows].std(axis=0, ddof=1))
    parts = [betas[rows & (trials["session"] == s)] for s in np.unique(trials["session"])]
    return Recorded(how, np.stack([p.mean(axis=0) for p in parts]), np.stack([p.std(axis=0) for p in parts]))


# --- images -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs():
    return scenes(N_IMAGES, 50, 50, seed=3)


def look(photographs):
    return pictures(iter(photographs), np.arange(100, 100 + N_IMAGES))


def test_a_leaked_test_image_is_caught_by_its_pixels(photographs):
    trials, _ = study()
    leaked = photographs.copy()
    leaked[40] = photographs[5]  # 105 is a test image, 140 trains
    finding = audit_data.disjoint_pictures(look(leaked), trials)
    assert not finding.passed
    assert "(105, 140)" in finding.detail
    assert audit_data.disjoint_pictures(look(photographs), trials).passed


def test_a_validation_image_must_not_be_a_test_image_either(photographs):
    leaked = photographs.copy()
    leaked[15] = photographs[5]
    assert "(105, 115)" in audit_data.disjoint_pictures(look(leaked), study()[0]).detail


@pytest.mark.parametrize("change", ["noise", "brightness", "blur"])
def test_another_encoding_of_a_test_image_is_caught_by_its_thumbnail(photographs, change):
    copy = photographs[5].astype(float)
    changed = {
        "noise": copy + np.random.default_rng(0).normal(0, 3, copy.shape),
        "brightness": 0.8 * copy + 20,
        "blur": 0.9 * copy + 0.1 * np.roll(copy, 1, axis=0),
    }[change]
    leaked = photographs.copy()
    leaked[40] = np.clip(changed, 0, 255).astype(np.uint8)
    finding = audit_data.disjoint_pictures(look(leaked), study()[0])
    assert not finding.passed
    assert "nearly equal" in finding.detail


@pytest.mark.parametrize("seed", range(5))
def test_different_images_are_no_near_copies(seed):
    finding = audit_data.disjoint_pictures(look(scenes(N_IMAGES, 50, 50, seed=seed)), study(seed)[0])
    assert finding.passed
    assert "closest pair of 12 x 48" in finding.detail


def test_duplicates_within_the_test_set_are_listed_as_a_warning(photographs):
    twice = photographs.copy()
    twice[7] = photographs[2]
    finding = audit_data.distinct_test_pictures(look(twice), study()[0])
    assert finding.passed
    assert finding.warning
    assert "[102, 107]" in finding.detail
    assert not audit_data.distinct_test_pictures(look(photographs), study()[0]).warning


def test_pictures_without_trials_are_not_compared(photographs):
    trials, _ = study()
    finding = audit_data.disjoint_pictures(look(photographs), trials[trials["split"] == "train"])
    assert finding.warning
    assert finding.detail == "nothing to compare"


@pytest.mark.parametrize("shape", [(SIDE, SIDE), (50, 37), (425, 425), (20, 9)])
def test_thumbnails_are_means_over_blocks(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = thumbnail(image)
    assert found.shape == (SIDE, SIDE, 3)
    if shape == (SIDE, SIDE):
        assert_array_equal(found, image)
    assert abs(found.mean() - image.mean()) < 8
    assert_allclose(thumbnail(np.full((*shape, 3), 77, np.uint8)), 77)


def test_equal_pixels_have_equal_digests_and_other_shapes_do_not():
    image = np.zeros((4, 6, 3), np.uint8)
    found = pictures([image, image.copy(), image.reshape(6, 4, 3)], np.arange(3))
    assert found.digest[0] == found.digest[1] != found.digest[2]


@pytest.mark.parametrize("other", ["train", "validation"])
def test_an_image_id_in_two_splits_is_caught(other):
    trials, _ = study()
    assert audit_data.disjoint_stimuli(trials).passed
    first = trials.index[trials["stimulus"] == 103][0]
    finding = audit_data.disjoint_stimuli(
        trials.assign(split=trials["split"].where(trials.index != first, other))
    )
    assert not finding.passed
    assert "103" in finding.detail


def test_an_image_in_training_and_validation_is_caught():
    trials, _ = study()
    first = trials.index[trials["stimulus"] == 130][0]
    moved = trials.assign(split=trials["split"].where(trials.index != first, "validation"))
    assert not audit_data.disjoint_stimuli(moved).passed


def test_held_out_runs_must_be_whole():
    trials, _ = study()
    trials = trials.assign(split="test", fold=trials["run"] + 10 * trials["session"])
    assert audit_data.disjoint_stimuli(trials).passed
    torn = trials.assign(fold=trials["fold"].where(trials.index != 4, 99))
    assert "runs in several folds: [(1, 1)]" in audit_data.disjoint_stimuli(torn).detail


def test_a_copied_response_is_caught():
    trials, betas = study()
    assert audit_data.distinct_responses(betas, trials).passed
    test = trials.index[trials["stimulus"] == 104][0]
    train = trials.index[trials["stimulus"] == 150][0]
    betas[train] = betas[test]
    finding = audit_data.distinct_responses(betas, trials)
    assert not finding.passed
    assert "104" in finding.detail


def test_empty_responses_are_no_copies():
    trials, betas = study()
    betas[[trials.index[trials["split"] == s][0] for s in ("test", "train")]] = 0
    assert audit_data.distinct_responses(betas, trials).passed


# --- trial order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_aligned_trials_pass_the_check_of_trial_order(seed):
    trials, betas = study(seed)
    finding = audit_data.trial_order(betas, trials, 200)
    assert finding.passed, finding.detail


@pytest.mark.parametrize("seed", range(10))
def test_shuffled_trials_are_caught(seed):
    trials, betas = study(seed)
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.arange(len(trials)).reshape(N_SESSIONS, -1), axis=1).ravel()
    finding = audit_data.trial_order(betas[order], trials, 200)
    assert not finding.passed
    assert "out of step" in finding.detail


@pytest.mark.parametrize("session", [1, 3])
def test_one_shuffled_session_is_named(session):
    trials, betas = study(snr=1.0)
    rows = np.flatnonzero(trials["session"] == session)
    betas[rows] = betas[np.random.default_rng(1).permutation(rows)]
    finding = audit_data.trial_order(betas, trials, 200)
    assert not finding.passed
    assert f"in sessions {session}:" in finding.detail


def test_trials_off_by_one_are_caught():
    trials, betas = study(snr=1.0)
    assert not audit_data.trial_order(np.roll(betas, 1, axis=0), trials, 200).passed


def test_a_weak_session_is_a_warning():
    trials, betas = study(snr=2.0)
    rows = np.flatnonzero(trials["session"] == 2)
    betas = betas.astype(float)
    betas[rows] += np.random.default_rng(0).normal(0, 5000, (len(rows), N_VOXELS))
    finding = audit_data.trial_order(betas, trials, 200)
    assert finding.passed
    assert finding.warning
    assert "weak or not significant: sessions 2" in finding.detail


def test_one_session_without_significance_among_good_ones_is_a_warning(monkeypatch):
    p_values = [0.001, 0.02, 0.001, 0.001]
    found = pd.DataFrame(
        {"session": range(1, 5), "n": 8, "reliability": [0.3, 0.15, 0.25, 0.28], "p_value": p_values}
    )
    monkeypatch.setattr(audit_data, "session_reliability", lambda *_: found)
    finding = audit_data.trial_order(*reversed(study()))
    assert finding.passed and finding.warning and "sessions 2" in finding.detail
    monkeypatch.setattr(
        audit_data, "session_reliability", lambda *_: found.assign(reliability=[0.3, 0.02, 0.25, 0.28])
    )
    assert not audit_data.trial_order(*reversed(study())).passed


def test_without_repeats_nothing_can_be_said():
    trials, betas = study()
    finding = audit_data.trial_order(betas, trials.assign(stimulus=np.arange(len(trials))), 50)
    assert finding.passed
    assert finding.warning


def test_sessions_with_few_repeats_are_left_out():
    trials, betas = study()
    lonely = trials["stimulus"].where(trials["session"] != 2, 1000 + trials.index)
    table_ = alignment.session_reliability(betas, trials.assign(stimulus=lonely), 50)
    assert table_["p_value"].isna().tolist() == [False, True, False]


def test_reliability_is_the_correlation_above_that_of_different_images():
    trials, betas = study(snr=1.0)
    found = alignment.session_reliability(betas, trials, 300)
    # one response against the mean of two others: 1 / sqrt(2) * 1 / sqrt(1.5)
    assert found["reliability"].mean() == pytest.approx(np.sqrt(1 / 3), abs=0.04)
    runs = trials.drop_duplicates(["session", "run", "stimulus"])  # repeats in one run are averaged
    assert found["n"].tolist() == runs["session"].value_counts().sort_index().tolist()


def test_noise_shared_within_a_run_is_no_alignment():
    rng = np.random.default_rng(0)
    n_runs, n_each = 10, 9
    stimulus = np.tile(np.repeat(np.arange(4), n_each), n_runs)
    trials = pd.DataFrame(
        {"session": 1, "run": np.repeat(np.arange(n_runs), 4 * n_each), "stimulus": stimulus}
    )
    block = np.repeat(np.arange(n_runs * 4), n_each)
    betas = rng.normal(size=(n_runs * 4, N_VOXELS))[block] + 0.1 * rng.normal(size=(len(block), N_VOXELS))
    p_value = alignment.session_reliability(betas, trials, 200)["p_value"].iloc[0]
    assert p_value > 0.01  # slow drifts make neighbours alike, not repeats


# --- normalisation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["session-train", "train"])
@pytest.mark.parametrize(
    ("source", "passed", "said"),
    [
        ("train", True, "recounted from"),
        ("test", False, "is that of test trials"),
        ("all", False, "is that of all trials, test included"),
        ("train and validation", False, "is of unknown origin"),
    ],
)
def test_statistics_are_traced_to_the_trials_they_come_from(how, source, passed, said):
    trials, betas = study()
    split = trials["split"].to_numpy()
    rows = {
        "train": split == "train",
        "test": split == "test",
        "all": split != "",
        "train and validation": split != "test",
    }[source]
    finding = audit_data.training_statistics(betas, trials, statistics(betas, trials, rows, how))
    assert finding.passed == passed
    assert said in finding.detail


@pytest.mark.parametrize("how", ["session-train", "train"])
def test_normalised_responses_are_their_own_evidence(how):
    trials, betas = study()
    split = trials["split"].to_numpy()
    for rows, passed in ((split == "train", True), (split == "test", False)):
        recorded = statistics(betas, trials, rows, how)
        each = np.searchsorted([1, 2, 3], trials["session"]) if how == "session-train" else 0
        mean, sd = (np.atleast_2d(x)[each] for x in (recorded.mean, recorded.sd))
        X = ((betas - mean) / sd).astype(np.float32)
        assert audit_data.training_statistics(X, trials, Recorded(how)).passed == passed


def test_rows_per_session_serve_for_statistics_over_all_sessions():
    trials, betas = study()
    recorded = statistics(betas, trials, (trials["split"] == "train").to_numpy(), "train")
    repeated = Recorded("train", np.tile(recorded.mean, (3, 1)), np.tile(recorded.sd, (3, 1)))
    assert audit_data.training_statistics(betas, trials, repeated).passed


@pytest.mark.parametrize(("how", "warning"), [("session", True), ("none", False)])
def test_other_normalisations_pass_with_what_there_is_to_know(how, warning):
    trials, betas = study()
    finding = audit_data.training_statistics(betas, trials, Recorded(how))
    assert finding.passed
    assert finding.warning == warning


def test_statistics_of_held_out_runs_are_not_recounted():
    trials, betas = study()
    finding = audit_data.training_statistics(betas, trials.assign(fold=1), Recorded("train"))
    assert finding.warning


def test_constant_voxels_do_not_matter_but_all_of_them_are_no_pass():
    trials, betas = study()
    betas[:, 3] = 7
    recorded = statistics(betas, trials, (trials["split"] == "train").to_numpy(), "session-train")
    recorded.mean[:, 3] = np.nan
    assert audit_data.training_statistics(betas, trials, recorded).passed
    assert not audit_data.training_statistics(np.full_like(betas, 7), trials, recorded).passed


# --- results ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(label, settings):
    predictions, candidates = world(n_images=60, n_dims=3, noise=0.9)
    scorer = Gaussian(0.9)
    one = replace(label, scoring="likelihood")
    return score_decoder(predictions, candidates, scorer, one, settings).rows, predictions, candidates, scorer


def swapped(rows):
    names = {"image_from_brain": "brain_from_image", "brain_from_image": "image_from_brain"}
    return rows.assign(direction=rows["direction"].map(names).astype("string"))


def test_published_numbers_are_recounted(result):
    finding = audit_results.direction_labels(*result)
    assert finding.passed, finding.detail


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scorer", [Cosine(), Gaussian(0.9)])
def test_a_swapped_direction_is_caught(label, settings, seed, scorer):
    quick = settings.model_copy(update={"bootstrap": 2, "permutations": 2})
    predictions, candidates = world(n_images=60, n_dims=3, noise=0.9, seed=seed)
    rows = score_decoder(predictions, candidates, scorer, label, quick).rows
    assert audit_results.direction_labels(rows, predictions, candidates, scorer).passed
    finding = audit_results.direction_labels(swapped(rows), predictions, candidates, scorer)
    assert not finding.passed
    assert "the value of the other direction" in finding.detail


def test_a_transposed_score_matrix_is_caught(result, label, settings):
    _, predictions, candidates, scorer = result

    class Swapped(Gaussian):
        def image_from_brain(self, predicted, candidates):
            return super().image_from_brain(predicted, candidates).T

        def brain_from_image(self, predicted, candidates):
            return super().brain_from_image(predicted, candidates).T

    rows = score_decoder(predictions, candidates, Swapped(0.9), label, settings).rows
    finding = audit_results.direction_labels(rows, predictions, candidates, scorer)
    assert not finding.passed
    assert "labels do not fit" in finding.detail


@pytest.mark.parametrize("n_rows", [1, 3])
def test_recounting_knows_repeats_and_duplicates(label, settings, n_rows):
    predictions, candidates = world(n_rows=n_rows, noise=0.5)
    features = candidates.features.copy()
    features[4] = features[9]
    candidates = candidates._replace(features=features)
    rows = score_decoder(predictions, candidates, Cosine(), label, settings).rows
    assert audit_results.direction_labels(rows, predictions, candidates, Cosine()).passed


def test_a_changed_number_is_caught(result):
    rows, *rest = result
    here = (rows["metric"] == "top1") & (rows["pool"] == 60) & rows["control"].isna()
    finding = audit_results.direction_labels(rows.assign(value=rows["value"].mask(here, 0.9)), *rest)
    assert not finding.passed


def test_ambiguous_rows_cannot_be_recounted(result):
    rows, *rest = result
    with pytest.raises(ValueError, match="2 rows publish two_way image_from_brain in a pool of 60"):
        audit_results.direction_labels(table.concat([rows, rows.assign(unit="single")]), *rest)


def test_the_asymmetric_case_is_counted_as_by_hand():
    finding = audit_results.directions_differ()
    assert finding.passed
    assert "1/3 and 2/3" in finding.detail


def test_a_transposition_in_retrieval_fails_the_asymmetric_case(monkeypatch):
    real = audit_results.retrieval.image_from_brain

    def transposed(*arrays):
        question = real(*arrays)
        return question._replace(scores=question.scores.T)

    monkeypatch.setattr(audit_results.retrieval, "image_from_brain", transposed)
    finding = audit_results.directions_differ()
    assert not finding.passed
    assert "image_from_brain" in finding.detail


def test_shuffled_pairings_are_at_chance(result):
    finding = audit_results.shuffled_at_chance(result[0], 200)
    assert finding.passed, finding.detail
    assert "quantities at chance" in finding.detail


def test_a_shuffled_pairing_above_chance_is_caught(result):
    rows = result[0]
    bad = (rows["control"] == "shuffled").fillna(False) & (rows["metric"] == "top1")
    finding = audit_results.shuffled_at_chance(rows.assign(value=rows["value"].mask(bad, 0.2)), 200)
    assert not finding.passed
    assert "top1 image_from_brain" in finding.detail


@pytest.mark.parametrize(("n_quantities", "passes"), [(3, False), (100, True)])
def test_what_counts_as_off_chance_depends_on_how_many_quantities_are_looked_at(result, n_quantities, passes):
    """4.1 standard errors: of three quantities a fault, of a hundred one that luck explains."""
    rows = result[0]
    one = rows[(rows["metric"] == "top1") & (rows["control"] == "shuffled").fillna(False)].iloc[[0]]
    table = pd.concat([one] * n_quantities, ignore_index=True).assign(value=one["chance"].item())
    error = standard_error(table["ci_low"], table["ci_high"])[0] / np.sqrt(200)
    table.loc[0, "value"] += 4.1 * error
    assert audit_results.shuffled_at_chance(table, 200).passed == passes


def test_negative_bits_of_shuffled_pairings_are_no_fault(result):
    rows = result[0]
    bits = rows[(rows["metric"] == "bits") & (rows["control"] == "shuffled").fillna(False)]
    assert (bits["value"] < 0).all()
    assert audit_results.shuffled_at_chance(bits, 200).passed


def test_without_a_shuffled_pairing_there_is_a_warning(result):
    rows = result[0]
    assert audit_results.shuffled_at_chance(rows[rows["control"].isna()], 200).warning


def limited(label, value, limit, width=0.05, metric="top1"):
    record = {"metric": metric, "value": value, "ci_low": value - width, "ci_high": value + width, "n": 100}
    return table.rows(label, [{**record, "limit_oracle": limit}])


@pytest.mark.parametrize(
    ("value", "limit", "width", "metric", "passed"),
    [
        (0.5, 0.7, 0.05, "top1", True),
        (0.75, 0.7, 0.05, "top1", True),  # within the error of either
        (0.95, 0.7, 0.05, "top1", False),
        (1.0, 0.99, 0.0, "top1", True),  # a perfect score has no bootstrap error
        (1.0, 0.6, 0.0, "top1", False),
        (5.0, 4.0, 0.2, "bits", False),
        (90.0, 4.0, 0.2, "median_rank", True),  # lower is better
    ],
)
def test_nothing_beats_its_limit_by_more_than_three_errors(label, value, limit, width, metric, passed):
    finding = audit_results.below_limit(limited(label, value, limit, width, metric))
    assert finding.passed == passed
    assert passed or f"{metric} average {value:.3f} > limit_oracle {limit:.3f}" in finding.detail


def test_ahead_of_the_finite_data_reference_is_a_warning(label):
    rows = limited(label, 0.6, 0.9).assign(limit_finite=0.3)
    finding = audit_results.below_limit(rows)
    assert finding.passed
    assert finding.warning
    assert "top1 average 0.600 > limit_finite 0.300" in finding.detail


def test_without_limits_nothing_is_compared(result):
    assert audit_results.below_limit(result[0]).detail == "no limit is known"


# --- all together -------------------------------------------------------------------------------------


def evidence(seed, result, photographs, **changes):
    trials, betas = study(seed)
    recorded = statistics(betas, trials, (trials["split"] == "train").to_numpy(), "session-train")
    rows, predictions, candidates, scorer = result
    clean = Evidence(
        "subj01",
        "ridge",
        trials,
        look(photographs),
        betas,
        recorded,
        predictions,
        candidates,
        scorer,
        rows,
        200,
    )
    return replace(clean, **changes)


@pytest.mark.parametrize("seed", range(4))
def test_a_clean_study_passes_every_check(seed, result, photographs):
    found = audit(evidence(seed, result, photographs))
    assert list(found.columns) == COLUMNS
    assert found["passed"].all(), found[["check", "detail"]].to_string()
    assert (found["level"] == "pass").all()
    assert set(found["check"]) == {
        "disjoint-images",
        "no-test-image-in-training",
        "duplicates",
        "no-test-response-in-training",
        "trial-order",
        "statistics-from-training",
        "shuffled-at-chance",
        "below-limit",
        "direction-labels",
        "directions-differ",
    }


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("leaked-test-image", "no-test-image-in-training"),
        ("shuffled-trials", "trial-order"),
        ("statistics-from-test", "statistics-from-training"),
        ("swapped-direction", "direction-labels"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_each_planted_fault_fails_its_own_check_and_no_other(fault, check, seed, result, photographs):
    trials, betas = study(seed)
    leaked = photographs.copy()
    leaked[40] = photographs[5]
    rng = np.random.default_rng(seed)
    order = rng.permuted(np.arange(len(trials)).reshape(N_SESSIONS, -1), axis=1).ravel()
    train, test = ((trials["split"] == s).to_numpy() for s in ("train", "test"))
    changes = {
        "leaked-test-image": {"pictures": look(leaked)},
        "shuffled-trials": {
            "betas": betas[order],
            "recorded": statistics(betas[order], trials, train, "session-train"),
        },
        "statistics-from-test": {"recorded": statistics(betas, trials, test, "session-train")},
        "swapped-direction": {"rows": swapped(result[0])},
    }[fault]
    found = audit(evidence(seed, result, photographs, **changes))
    assert found.loc[~found["passed"], "check"].tolist() == [check]
    assert found.loc[~found["passed"], "level"].tolist() == ["fail"]


def test_checks_without_evidence_are_left_out(result):
    found = audit(Evidence("subj02", rows=result[0]))
    assert found["check"].tolist() == ["shuffled-at-chance", "below-limit", "directions-differ"]
    assert found["decoder"].isna().all()
    assert set(found["subject"]) == {"subj02"}


def test_warnings_pass(result, photographs):
    found = audit(evidence(0, result, photographs, recorded=Recorded("session"))).set_index("check")
    assert found.loc["statistics-from-training", "level"] == "warning"
    assert found["passed"].all()


def test_categories_are_audited_by_runs(label, settings):
    rng = np.random.default_rng(0)
    stimulus, run = np.tile(np.repeat(np.arange(8), 3), 10), np.repeat(np.arange(10), 24)
    trials = pd.DataFrame({"session": 1, "run": run, "stimulus": stimulus, "split": "test", "fold": run})
    X = np.eye(8)[stimulus] + 0.5 * rng.normal(size=(240, 8))
    predictions = SimpleNamespace(predicted=X, stimulus=stimulus, n_repeats=np.ones(240), run=run)
    _, candidates = world(n_images=8, n_dims=8)
    candidates = candidates._replace(features=np.eye(8), stimulus=np.arange(8))
    rows = score_decoder(predictions, candidates, Gaussian(0.5), label, settings).rows
    found = audit(
        Evidence(
            "subj01",
            "ridge",
            trials,
            None,
            X,
            Recorded("train"),
            predictions,
            candidates,
            Gaussian(0.5),
            rows,
        )
    )
    assert found["passed"].all(), found[["check", "detail"]].to_string()
