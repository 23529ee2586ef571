"""Ridge against scikit-learn and himalaya, against closed forms, and on data without signal."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GroupKFold

from percept.config import DecoderConfig, kinds
from percept.decoders import ridge
from percept.decoders.ridge import RidgeConfig, deal, fit
from percept.decoders.task import Task
from percept.files import PerceptError

SHAPES = [(30, 50, 7), (50, 30, 7), (40, 40, 3), (25, 60, 1)]  # dual, primal, square, one target
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)


def config(**settings):
    return RidgeConfig(target="any", device="cpu", **{"alphas": ALPHAS, "folds": 4, **settings})


def problem(n, p, t, noise=3.0, seed=0):
    """Responses and targets, float32 values in float64, with an offset and a spread of signal."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p)).astype(np.float32).astype(np.float64)
    weights = rng.standard_normal((p, t)) * np.linspace(0.05, 2, t)
    return X, X @ weights + noise * rng.standard_normal((n, t)) + 5


def naive(X, Y, folds, alpha):
    """Held-out predictions by fitting every fold with scikit-learn."""
    held_out = np.empty_like(Y)
    for rows in folds:
        others = np.setdiff1d(np.arange(len(X)), rows)
        held_out[rows] = Ridge(alpha=alpha).fit(X[others], Y[others]).predict(X[rows]).reshape(len(rows), -1)
    return held_out


def test_ridge_is_registered():
    assert kinds("percept.decoders", DecoderConfig)["ridge"] is RidgeConfig


@pytest.mark.parametrize(("n", "p", "t"), SHAPES)
@pytest.mark.parametrize("alpha", [1e-2, 1.0, 1e3])
def test_one_penalty_equals_scikit_learn(n, p, t, alpha):
    X, Y = problem(n, p, t)
    ours = fit(config(alphas=(alpha,), standardise=False), X, Y)
    peer = Ridge(alpha=alpha).fit(X, Y)
    new = np.random.default_rng(1).standard_normal((11, p))
    np.testing.assert_allclose(ours.predict(new), peer.predict(new).reshape(11, t), rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(ours.weights, peer.coef_.reshape(t, p).T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("n", "p", "t"), SHAPES)
def test_held_out_predictions_and_penalties_equal_fitting_every_fold(n, p, t):
    X, Y = problem(n, p, t)
    ours = fit(config(standardise=False), X, Y, seed=3)
    folds = deal(np.arange(n), 4, 3)
    held_out = {alpha: naive(X, Y, folds, alpha) for alpha in ALPHAS}
    loss = np.stack([((Y - held_out[alpha]) ** 2).sum(axis=0) for alpha in ALPHAS])
    np.testing.assert_array_equal(ours.alpha, np.array(ALPHAS)[loss.argmin(axis=0)])
    expected = np.stack([held_out[alpha][:, j] for j, alpha in enumerate(ours.alpha)], axis=1)
    np.testing.assert_allclose(ours.out_of_fold, expected, rtol=1e-3, atol=1e-3)
    r2 = (1 - loss / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)).mean(axis=1)
    np.testing.assert_allclose(ours.history.sort_values("alpha").r2, r2, rtol=1e-4, atol=1e-5)


def test_folds_of_groups_equal_the_splitter_of_scikit_learn():
    X, Y = problem(36, 20, 4)
    groups = np.repeat(np.arange(4), 9)  # as many groups as folds: only one way to deal them
    ours = fit(config(standardise=False, alphas=(10.0,)), X, Y, groups)
    folds = [test for _, test in GroupKFold(4).split(X, Y, groups)]
    np.testing.assert_allclose(ours.out_of_fold, naive(X, Y, folds, 10.0), rtol=1e-3, atol=1e-3)


def test_leaving_one_out_chooses_as_the_generalised_scikit_learn():
    X, Y = problem(30, 12, 6)
    ours = fit(config(folds=30, standardise=False), X, Y)
    peer = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X, Y)
    np.testing.assert_allclose(ours.alpha, peer.alpha_)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("n", "p"), [(40, 60), (60, 25)])
def test_agrees_with_himalaya_for_the_same_folds(n, p):
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV as HimalayaCV

    set_backend("numpy")
    X, Y = problem(n, p, 5)
    folds = deal(np.arange(n), 4, 0)
    splits = [(np.setdiff1d(np.arange(n), rows), rows) for rows in folds]
    peer = HimalayaCV(
        alphas=np.array(ALPHAS), fit_intercept=True, cv=splits, solver_params={"warn": False}
    ).fit(X, Y)
    ours = fit(config(standardise=False), X, Y)
    np.testing.assert_allclose(ours.alpha, peer.best_alphas_)
    np.testing.assert_allclose(ours.predict(X), peer.predict(X), rtol=1e-3, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-2, 1e3), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 99))
def test_units_and_offsets_of_voxels_do_not_matter(scale, shift, seed):
    X, Y = problem(30, 12, 3, seed=seed)
    factor = scale ** np.random.default_rng(seed).uniform(0, 1, 12)  # another unit for every voxel
    ours, moved = fit(config(), X, Y), fit(config(), X * factor + shift * factor, Y)
    np.testing.assert_allclose(
        moved.predict(X * factor + shift * factor), ours.predict(X), rtol=0.02, atol=0.02
    )


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_predictions_follow_units_and_offset_of_the_targets(scale, shift):
    X, Y = problem(30, 12, 3)
    ours, moved = fit(config(), X, Y), fit(config(), X, Y * scale + shift)
    np.testing.assert_array_equal(ours.alpha, moved.alpha)
    tolerance = 1e-4 * (abs(shift) + 10 * scale)
    np.testing.assert_allclose(moved.predict(X), ours.predict(X) * scale + shift, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize(("n", "p"), [(80, 20), (400, 30)])
def test_a_noiseless_map_is_recovered(n, p):
    X, Y = problem(n + 50, p, 5, noise=0)
    ours = fit(config(alphas=(1e-3, 1.0, 1e3)), X[:n], Y[:n])
    assert (ours.alpha == 1e-3).all()
    np.testing.assert_allclose(ours.predict(X[n:]), Y[n:], atol=1e-3)
    np.testing.assert_allclose(ours.out_of_fold, Y[:n], atol=5e-3)


def test_pure_noise_is_predicted_by_its_mean_and_said_so(caplog):
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((200, 30)), rng.standard_normal((200, 50)) + 7
    with caplog.at_level(logging.WARNING):
        ours = run(config(alphas=(1e1, 1e3, 1e7)), X, Y)
    new = rng.standard_normal((40, 30))
    predicted = np.concatenate(
        [block.predicted["new"] for block in run(config(alphas=(1e7,)), X, Y, new)], axis=1
    )
    np.testing.assert_allclose(predicted, np.broadcast_to(Y.mean(axis=0), (40, 50)), atol=0.01)
    assert np.mean(ours[0].tensors["alpha"] == 1e7) > 0.5
    assert "chose the largest penalty tried, 1e+07" in caplog.text


class InMemory:
    """Targets of stimuli 0, 1, ... that lie in memory, remembering the widest range read at once."""

    def __init__(self, Y):
        self.Y, self.n_dims, self.widest = Y.astype(np.float32), Y.shape[1], 0

    def read(self, stimuli, columns):
        self.widest = max(self.widest, columns.stop - columns.start)
        return self.Y[np.asarray(stimuli), columns]


def run(cfg, X, Y, new=None, groups=None):
    rows = np.arange(len(X))
    evaluate = {} if new is None else {"new": new.astype(np.float32)}
    task = Task(X.astype(np.float32), rows, rows if groups is None else groups, InMemory(Y), evaluate)
    return list(cfg.train(task, 0))


@pytest.mark.parametrize("batch", [1, 3, 7, 100])
@pytest.mark.parametrize("per_target", [True, False])
def test_columns_solved_in_batches_equal_the_whole(batch, per_target):
    X, Y = problem(30, 20, 7)
    cfg = config(n_targets_batch=batch, per_target_alpha=per_target)
    whole, blocks = fit(config(per_target_alpha=per_target), X, Y), run(cfg, X, Y, X)
    assert [block.columns.start for block in blocks] == list(range(0, 7, batch))
    for name, expected in (("out_of_fold", whole.out_of_fold), ("predicted", whole.predict(X))):
        parts = [block.out_of_fold if name == "out_of_fold" else block.predicted["new"] for block in blocks]
        np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=1e-3, atol=1e-3)
    alphas = np.concatenate([block.tensors["alpha"] for block in blocks])
    np.testing.assert_array_equal(alphas, whole.alpha)
    assert per_target or len(set(alphas)) == 1


def test_one_penalty_for_all_is_the_one_with_the_best_mean_score():
    X, Y = problem(40, 60, 6)
    separate, shared = fit(config(), X, Y), fit(config(per_target_alpha=False), X, Y)
    assert len(set(separate.alpha)) > 1
    best = separate.history.alpha[separate.history.r2.idxmax()]
    np.testing.assert_array_equal(shared.alpha, best)
    assert shared.history.alpha.tolist() == [best]


@given(
    groups=st.lists(st.integers(0, 9), min_size=2, max_size=60).filter(lambda found: len(set(found)) > 1),
    n_folds=st.integers(2, 12),
)
def test_every_row_is_held_out_once_and_no_group_is_divided(groups, n_folds):
    folds = deal(np.array(groups), n_folds, seed=1)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(groups)))
    assert len(folds) == min(n_folds, len(set(groups))) and all(len(rows) for rows in folds)
    members = [{groups[row] for row in rows} for rows in folds]
    assert sum(map(len, members)) == len(set(groups))


def test_folds_follow_the_seed():
    groups = np.arange(40)
    assert all(map(np.array_equal, deal(groups, 5, 1), deal(groups, 5, 1)))
    assert not all(map(np.array_equal, deal(groups, 5, 1), deal(groups, 5, 2)))


@pytest.mark.parametrize("groups", [[3, 3, 3, 3], [0] * 9])
def test_a_single_image_cannot_be_cross_validated(groups):
    with pytest.raises(PerceptError, match="at least two images"):
        deal(np.array(groups), 5, 0)


def test_repeats_in_other_folds_would_be_cheating():
    """Targets are noise, but repeats of an image share them: only ungrouped folds can exploit it."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(40), 3)
    X = rng.standard_normal((40, 100))[image] + 0.3 * rng.standard_normal((120, 100))
    Y = rng.standard_normal((40, 20))[image]
    apart = fit(config(alphas=(10.0,)), X, Y).history.r2.item()
    together = fit(config(alphas=(10.0,)), X, Y, groups=image).history.r2.item()
    assert apart > 0.5 and together < 0.05


@pytest.mark.parametrize("constant", [0.0, 3.0, -1e4])
def test_constant_voxels_and_constant_targets_do_no_harm(constant):
    X, Y = problem(30, 12, 3)
    X_more = np.concatenate([X, np.full((30, 2), constant)], axis=1)
    Y_more = np.concatenate([Y, np.full((30, 1), constant)], axis=1)
    ours, more = fit(config(), X, Y), fit(config(), X_more, Y_more)
    np.testing.assert_allclose(more.predict(X_more)[:, :3], ours.predict(X), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(more.predict(X_more)[:, 3], constant, atol=1e-3 * max(1, abs(constant)))


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [((1e3, 1e4, 1e5), "smallest penalty tried, 1000"), ((1e-3, 1e-2), "largest penalty tried, 0.01")],
)
def test_a_grid_that_ends_before_the_best_penalty_is_reported(alphas, expected, caplog):
    X, Y = problem(60, 40, 12)
    with caplog.at_level(logging.WARNING):
        run(config(alphas=alphas), X, Y[:, 6:])
    assert expected in caplog.text and "100 % of the targets" in caplog.text


def test_a_grid_that_holds_the_best_penalty_is_silent(caplog):
    X, Y = problem(60, 20, 12, noise=4.0)
    with caplog.at_level(logging.WARNING):
        run(config(alphas=(1e-4, 1.0, 10.0, 100.0, 1e6)), X, Y[:, 6:])
    assert caplog.text == ""


@pytest.mark.parametrize(("weights", "saved"), [("float32", True), ("float16", True), ("none", False)])
def test_saved_tensors_are_those_announced_and_reproduce_the_predictions(weights, saved):
    X, Y = problem(30, 12, 3)
    cfg = config(weights=weights)
    (block,) = run(cfg, X, Y, X)
    announced = cfg.tensors(12, (3,))
    assert {name: value.shape for name, value in block.tensors.items()} == {
        name: shape for name, (shape, _) in announced.items()
    }
    assert ("weights" in announced) == saved
    if saved:
        tensors = block.tensors
        standardised = (X - tensors["voxel_mean"]) / tensors["voxel_scale"]
        predicted = standardised @ tensors["weights"].T + tensors["intercept"]
        np.testing.assert_allclose(predicted, block.predicted["new"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_hundreds_of_thousands_of_targets_fit_in_little_memory():
    """200,000 targets of 100 images, 80 MB as float32 and 160 MB as float64, in less than 150 MB on top."""
    import threading
    from pathlib import Path

    def anonymous():
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3

    X, small = problem(100, 40, 500)
    targets = InMemory(np.tile(small, 400))
    task = Task(X.astype(np.float32), np.arange(100), np.arange(100), targets)
    next(iter(config(alphas=(10.0, 100.0)).train(task, 0)))  # torch's own memory
    peak, done = [anonymous()], threading.Event()
    sampler = threading.Thread(
        target=lambda: [peak.append(anonymous()) for _ in iter(lambda: done.wait(0.01), True)]
    )
    sampler.start()
    widths = [
        block.columns.stop - block.columns.start for block in config(alphas=(10.0, 100.0)).train(task, 0)
    ]
    done.set()
    sampler.join()
    assert sum(widths) == 200_000 and targets.widest == 2048
    assert max(peak) - peak[0] < 150


def test_the_device_is_the_one_asked_for():
    torch = pytest.importorskip("torch")
    design = ridge.Design.of(config(), *problem(20, 9, 2)[:1], np.arange(20))
    assert design.U.device == torch.device("cpu") and design.U.dtype == torch.float64
