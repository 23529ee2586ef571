"""Scoring rules against closed forms, in worlds whose best score is known, and without any signal."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from percept.evaluation import retrieval, scoring
from percept.evaluation.scoring import Calibration, Likelihood, Validation, choose, fit

N_TRAIN, N_TEST, MODES = 2000, 300, 12


def linear_world(seed=0, n=N_TRAIN, common=0.0, modes=MODES, snr=2.0):
    """Targets x ~ N(0, S), their Bayes estimates x_hat from x + noise, and A, C, S of x_hat = A x + N(0, C).

    `common` is added to every target and twice to every prediction.
    """
    rng = np.random.default_rng(seed)
    mode = np.arange(1, modes + 1)
    S, noise = 1 / mode, mode**0.5 / snr / mode
    x = rng.standard_normal((n, modes)) * np.sqrt(S)
    gain = S / (S + noise)
    predicted = gain * (x + rng.standard_normal(x.shape) * np.sqrt(noise))
    rotation = np.linalg.qr(np.random.default_rng(99).standard_normal((modes, modes)))[0]
    A, C = rotation.T @ np.diag(gain) @ rotation, rotation.T @ np.diag(gain**2 * noise) @ rotation
    return x @ rotation + common, predicted @ rotation + 2 * common, A, C, rotation.T @ np.diag(S) @ rotation


@pytest.fixture(scope="module")
def calibration():
    x, predicted, *_ = linear_world()
    return Calibration(predicted, x)


def top1(scores, pool=None):
    ranks = retrieval.rank(scores, np.arange(len(scores)))
    return retrieval.top_k(ranks, pool or len(scores), 1).mean()


def validation(x, predicted):
    ids = np.arange(len(x))
    return Validation(predicted, ids, x, ids)


@pytest.mark.parametrize("rule", scoring.RULES)
def test_rows_ask_and_columns_are_ranked_in_both_directions(calibration, rule):
    x, predicted, *_ = linear_world(1, n=9)
    scorer = fit(calibration, rule)
    assert scorer.image_from_brain(predicted[:4], x).shape == (4, 9)
    assert scorer.brain_from_image(predicted[:4], x).shape == (9, 4)


def test_cosine_is_that_of_scikit_learn():
    from sklearn.metrics.pairwise import cosine_similarity

    predicted, x = np.random.default_rng(0).standard_normal((2, 7, 5)).astype(np.float32)
    scorer = scoring.Cosine()
    np.testing.assert_allclose(
        scorer.image_from_brain(predicted, x[:4]), cosine_similarity(predicted, x[:4]), atol=1e-6
    )
    np.testing.assert_array_equal(
        scorer.brain_from_image(predicted, x[:4]), scorer.image_from_brain(predicted, x[:4]).T
    )


@settings(max_examples=20, deadline=None)
@given(common=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_the_centred_cosine_ignores_what_all_predictions_or_all_targets_share(common, scale):
    x, predicted, *_ = linear_world(0, n=200)
    plain = fit(Calibration(predicted, x), "centred_cosine").image_from_brain(predicted[:9], x[:11])
    moved = Calibration(scale * predicted + common, x - common)
    scores = fit(moved, "centred_cosine").image_from_brain(scale * predicted[:9] + common, x[:11] - common)
    np.testing.assert_allclose(scores, plain, atol=1e-6)


def test_a_row_of_zeros_scores_zero_and_not_nan():
    scores = scoring.Cosine().image_from_brain(np.zeros((2, 3)), np.ones((4, 3)))
    np.testing.assert_array_equal(scores, 0)


@pytest.fixture
def gaussian():
    """A diagonal world in a basis that is no orthonormal one, with the full matrices of the same world."""
    rng = np.random.default_rng(3)
    basis = rng.standard_normal((4, 4))
    slope, noise, spread = rng.uniform(0.2, 0.9, 4), rng.uniform(0.1, 0.5, 4), rng.uniform(0.5, 2, 4)
    variance = slope**2 * spread + noise
    scorer = Likelihood(np.full(4, 0.3), np.full(4, -0.2), basis, slope, noise, variance)
    back = np.linalg.inv(basis)  # u = x_hat basis, so x_hat = u back
    A, C, S = (
        back.T @ np.diag(slope) @ basis.T,
        back.T @ np.diag(noise) @ back,
        back.T @ np.diag(spread) @ back,
    )
    return scorer, A, C, S


def test_image_from_brain_is_the_gaussian_log_likelihood(gaussian):
    scorer, A, C, _ = gaussian
    predicted, x = np.random.default_rng(4).standard_normal((2, 6, 4))
    scores = scorer.image_from_brain(predicted, x[:3])
    peer = [
        [multivariate_normal.logpdf(p - 0.3, A @ (c + 0.2), C) for c in x[:3]] for p in predicted
    ]  # (brain, image)
    np.testing.assert_allclose(scores - scores[:, :1], np.array(peer) - np.array(peer)[:, :1], rtol=1e-9)


def test_brain_from_image_subtracts_the_marginal_log_likelihood(gaussian):
    scorer, A, C, S = gaussian
    predicted, x = np.random.default_rng(5).standard_normal((2, 6, 4))
    marginal = multivariate_normal(np.zeros(4), A @ S @ A.T + C)
    peer = np.array(
        [
            [
                multivariate_normal.logpdf(p - 0.3, A @ (c + 0.2), C) - marginal.logpdf(p - 0.3)
                for p in predicted
            ]
            for c in x[:3]
        ]
    )  # (image, brain)
    scores = scorer.brain_from_image(predicted, x[:3])
    np.testing.assert_allclose(scores - scores[:, :1], peer - peer[:, :1], rtol=1e-9)


def test_the_calibration_finds_the_map_and_the_noise_of_a_known_world(calibration):
    *_, A, C, S = linear_world()
    found = fit(calibration, "likelihood")
    to, back = found.basis, np.linalg.pinv(found.basis)
    np.testing.assert_allclose(back.T @ np.diag(found.slope) @ to.T, A, atol=0.06)
    np.testing.assert_allclose(back.T @ np.diag(found.noise) @ back, C, atol=0.02)
    np.testing.assert_allclose(back.T @ np.diag(found.variance) @ back, A @ S @ A.T + C, atol=0.05)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_likelihood_reaches_the_bayes_limit_where_cosine_does_not(calibration, seed):
    x, predicted, A, C, _ = linear_world(seed, n=N_TEST)
    precision = np.linalg.inv(C)
    expected = x @ A.T
    bayes = predicted @ precision @ expected.T - 0.5 * np.einsum("id,de,ie->i", expected, precision, expected)
    likelihood, cosine = (fit(calibration, rule) for rule in ("likelihood", "cosine"))
    limit = top1(bayes)
    assert top1(likelihood.image_from_brain(predicted, x)) > 0.93 * limit
    assert top1(cosine.image_from_brain(predicted, x)) < 0.9 * limit


def test_subtracting_the_marginal_is_what_ranks_brains(calibration):
    x, predicted, *_ = linear_world(1, n=N_TEST)
    scorer = fit(calibration, "likelihood")
    with_marginal = top1(scorer.brain_from_image(predicted, x))
    without = top1(scorer.image_from_brain(predicted, x).T)
    assert with_marginal > 1.3 * without


def test_likelihoods_are_calibrated(calibration):
    """Among equally likely images, what is given a probability of p is right in a share p of cases."""
    x, predicted, *_ = linear_world(5, n=1500)
    scores = fit(calibration, "likelihood").image_from_brain(predicted, x)
    bits = retrieval.posterior_bits(scores)
    probability = 2**bits / len(x)
    right = np.arange(len(x)) == scores.argmax(axis=1)
    assert probability.max(axis=1).mean() == pytest.approx(
        right.mean(), abs=3 * right.std() / np.sqrt(len(x)) + 0.02
    )


def embed(values, n_dims, seed=0):
    """The same geometry in many dimensions."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((n_dims, values.shape[1])))[0].T
    return (values @ basis).astype(np.float32)


@pytest.mark.parametrize("n_dims", [40, 1100])
def test_unused_dimensions_change_nothing(n_dims):
    x, predicted, *_ = linear_world(0, n=400)
    narrow, wide = Calibration(predicted, x), Calibration(embed(predicted, n_dims), embed(x, n_dims))
    for direction in scoring.DIRECTIONS:
        asked, expected = embed(predicted[:60], n_dims), getattr(fit(narrow, "likelihood"), direction)
        scores = getattr(fit(wide, "likelihood"), direction)(asked, embed(x[:60], n_dims))
        reference = expected(predicted[:60], x[:60])
        contrast, reference = scores - scores[:, :1], reference - reference[:, :1]
        np.testing.assert_allclose(contrast, reference, atol=0.02 * np.abs(reference).max())


@pytest.mark.parametrize(("n", "d"), [(300, 20), (50, 1400), (90, 1200)])
def test_principal_components_are_those_of_the_singular_value_decomposition(n, d):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 6)) * np.array([9, 7, 5, 4, 3, 2]) @ rng.standard_normal((6, d)) / np.sqrt(d)
    X = (X + 0.01 * rng.standard_normal((n, d)) + 3).astype(np.float32)
    found = scoring.principal_components(X, X.mean(axis=0, dtype=np.float64), 6)
    expected = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)[2][:6]
    np.testing.assert_allclose(np.abs(np.sum(found.T * expected, axis=1)), 1, atol=1e-3)


def test_predictions_without_signal_leave_chance():
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((2, 500, 8))
    test_x, test_noise = rng.standard_normal((2, N_TEST, 8))
    for rule in scoring.RULES:
        scorer = fit(Calibration(noise, x), rule)
        for direction in scoring.DIRECTIONS:
            assert top1(getattr(scorer, direction)(test_noise, test_x), 10) == pytest.approx(0.1, abs=0.05)


def test_predictions_opposed_to_the_target_are_not_used():
    x, predicted, *_ = linear_world(0, n=500)
    scorer = fit(Calibration(-predicted, x), "likelihood")
    assert scorer.basis.shape == (MODES, 0)
    np.testing.assert_array_equal(scorer.image_from_brain(-predicted[:3], x[:4]), np.zeros((3, 4)))


@pytest.mark.parametrize("rule", scoring.RULES)
def test_a_perfect_decoder_ranks_every_image_first(rule):
    x = np.random.default_rng(0).standard_normal((200, 10))
    scorer = fit(Calibration(x, x), rule)
    for direction in scoring.DIRECTIONS:
        scores = getattr(scorer, direction)(x[:50], x[:50])
        assert np.isfinite(scores).all() and top1(scores) == 1


def test_one_hot_targets_of_a_few_categories_can_be_scored():
    rng = np.random.default_rng(0)
    one_hot = np.eye(8)[rng.integers(0, 8, 90)]
    predicted = 0.3 * one_hot + 0.1 * rng.standard_normal((90, 8)) + 0.1
    for rule in scoring.RULES:
        scores = fit(Calibration(predicted, one_hot), rule).image_from_brain(predicted, np.eye(8))
        assert np.mean(scores.argmax(axis=1) == one_hot.argmax(axis=1)) > 0.8


@pytest.mark.parametrize(
    ("n", "d", "expected"), [(9000, 64, 64), (9000, 2000, 512), (400, 2000, 100), (3, 5, 1)]
)
def test_no_more_directions_than_the_images_allow(n, d, expected):
    calibration = Calibration(np.broadcast_to(0.0, (n, d)), np.broadcast_to(0.0, (n, d)))
    assert calibration.ranks[-1] == expected and calibration.ranks == sorted(set(calibration.ranks))


@pytest.mark.parametrize("shapes", [((5, 3), (4, 3)), ((5, 3), (5, 2)), ((5,), (5,))])
def test_predictions_and_targets_have_to_match(shapes):
    with pytest.raises(ValueError, match="must be matrices of one shape"):
        Calibration(*(np.zeros(shape) for shape in shapes))


def test_an_unknown_rule_is_named_with_those_that_exist(calibration):
    with pytest.raises(ValueError, match="no scoring rule 'correlation'; there are: cosine, centred"):
        fit(calibration, "correlation")


def test_validation_chooses_the_likelihood_where_it_helps(calibration):
    x, predicted, *_ = linear_world(7, n=N_TEST)
    chosen = choose(calibration, validation(x, predicted))
    assert chosen.rules["image_from_brain"] == "likelihood" and chosen.ranks["image_from_brain"] == MODES
    test_x, test_predicted, *_ = linear_world(8, n=N_TEST)
    best = fit(calibration, "likelihood")
    for direction in scoring.DIRECTIONS:
        ours = top1(getattr(chosen, direction)(test_predicted, test_x))
        assert ours >= top1(getattr(scoring.Cosine(), direction)(test_predicted, test_x))
        again = getattr(chosen.by_rule["likelihood"], direction)(test_predicted, test_x)
        np.testing.assert_array_equal(again, getattr(best, direction)(test_predicted, test_x))


def test_the_table_shows_what_every_option_scored(calibration):
    x, predicted, *_ = linear_world(7, n=120)
    table = choose(calibration, validation(x, predicted), pool=50).table
    assert table.columns.tolist() == scoring.TABLE
    assert set(table.direction) == set(scoring.DIRECTIONS) and set(table.scoring) == set(scoring.RULES)
    assert (table.groupby("direction").chosen.sum() == 1).all() and (table.pool == 50).all()
    row = table[(table.direction == "image_from_brain") & (table.scoring == "cosine")].iloc[0]
    assert row.top1 == pytest.approx(top1(scoring.Cosine().image_from_brain(predicted, x), 50))


@pytest.mark.parametrize("margin", [0.0, 1.0])
def test_equal_scores_keep_the_simpler_rule(margin):
    x = np.random.default_rng(0).standard_normal((300, 6))
    chosen = choose(Calibration(x, x), validation(x[:40], x[:40]), margin=margin)  # every rule is perfect
    assert set(chosen.rules.values()) == {"cosine"} and set(chosen.ranks.values()) == {None}


@pytest.mark.parametrize(("margin", "expected"), [(0.0, "likelihood"), (1e6, "cosine")])
def test_a_challenger_has_to_win_by_the_margin(calibration, margin, expected):
    x, predicted, *_ = linear_world(7, n=N_TEST)
    assert choose(calibration, validation(x, predicted), margin=margin).rules["image_from_brain"] == expected


def test_a_common_component_makes_raw_cosine_lose(calibration):
    x, predicted, *_ = linear_world(0, common=5.0)
    val_x, val_predicted, *_ = linear_world(7, n=N_TEST, common=5.0)
    chosen = choose(Calibration(predicted, x), validation(val_x, val_predicted))
    scores = chosen.table.set_index(["direction", "scoring"]).top1
    assert (
        scores["image_from_brain", "centred_cosine"].item()
        > scores["image_from_brain", "cosine"].item() + 0.05
    )


@pytest.mark.parametrize("n", [0, 2])
def test_a_direction_with_several_brains_per_image_follows_the_other(calibration, n):
    x, predicted, *_ = linear_world(7, n=N_TEST)
    ids = np.arange(N_TEST)
    repeated = Validation(np.tile(predicted, (n, 1)), np.tile(ids, n), x, ids) if n else None
    chosen = choose(calibration, repeated)
    rule = "likelihood" if n else scoring.UNVALIDATED
    assert chosen.rules == dict.fromkeys(scoring.DIRECTIONS, rule)
    assert set(chosen.table.direction) == ({"image_from_brain"} if n else set())
    assert set(chosen.by_rule) == set(scoring.RULES)


def test_calibration_leaves_its_input_as_it_was(calibration):
    x, predicted, *_ = linear_world()
    fit(calibration, "likelihood")
    np.testing.assert_array_equal(calibration.predicted, predicted)
    np.testing.assert_array_equal(calibration.targets, x)


def test_ridge_scored_by_likelihood_comes_close_to_the_limit_of_its_world():
    """A small version of `benchmarks/ridge.py scoring`: voxels, ridge, held-out predictions, top-1."""
    from percept.decoders.ridge import RidgeConfig
    from percept.decoders.ridge import fit as fit_ridge

    rng = np.random.default_rng(0)
    S = 1 / np.arange(1, 17)
    W = rng.standard_normal((60, 16))

    def sample(n):
        x = rng.standard_normal((n, 16)) * np.sqrt(S)
        limiting = rng.standard_normal(x.shape) * np.sqrt(S * np.arange(1, 17) ** 1.5 / 25)
        return x, (x + limiting) @ W.T + 0.5 * rng.standard_normal((n, 60))

    (x, y), (test_x, test_y) = sample(1500), sample(N_TEST)
    noise = 0.25 * np.eye(60) + (W * S * np.arange(1, 17) ** 1.5 / 25) @ W.T
    t, J = np.linalg.solve(noise, test_y.T).T @ W, W.T @ np.linalg.solve(noise, W)
    oracle = top1(t @ test_x.T - 0.5 * np.einsum("id,de,ie->i", test_x, J, test_x))
    ridge = fit_ridge(RidgeConfig(target="truth", alphas=(1.0, 10.0, 100.0), device="cpu"), y, x)
    calibration, predicted = Calibration(ridge.out_of_fold, x), ridge.predict(test_y)
    scores = {
        rule: top1(fit(calibration, rule).image_from_brain(predicted, test_x)) for rule in scoring.RULES
    }
    assert scores["likelihood"] > max(scores["cosine"], scores["centred_cosine"])
    assert 0.55 * oracle < scores["likelihood"] < oracle + 0.05
