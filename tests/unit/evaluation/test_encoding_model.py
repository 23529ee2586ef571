"""The linear encoding model against scikit-learn, and what it predicts for images without responses."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from percept.config import EncodingConfig, SplitConfig, VoxelsConfig
from percept.datasets import splits
from percept.evaluation import encoded, encoding_model, submission
from percept.files import PerceptError
from percept.targets import store as targets
from percept.voxels import arrays, store
from tests.unit.datasets import challenge_tree as tiny

N_TRAIN, N_OTHER, N_FEATURES, N_VOXELS = 50, 17, 23, 7


@pytest.fixture
def world():
    rng = np.random.default_rng(5)
    features = rng.normal(3, rng.uniform(0.1, 9, N_FEATURES), (N_TRAIN + N_OTHER, N_FEATURES)).astype(
        np.float32
    )
    weights = rng.normal(size=(N_FEATURES, N_VOXELS)) / features.std(axis=0)[:, None]
    responses = (features @ weights + rng.normal(size=(len(features), N_VOXELS))).astype(np.float32)
    return features[:N_TRAIN], responses[:N_TRAIN], features[N_TRAIN:]


def settings(**changes):
    return EncodingConfig(**{"target": "features", **changes})


@pytest.mark.parametrize("n_components", [1, 6, 23])
def test_least_squares_is_the_baseline_of_the_challenge(world, n_components):
    train, responses, other = world
    peer = make_pipeline(StandardScaler(), PCA(n_components, svd_solver="full"), LinearRegression())
    expected = peer.fit(train.astype(float), responses).predict(other.astype(float))
    (found,) = encoding_model.fit_predict(settings(components=n_components), train, responses, [other])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("alpha", [0.1, 30.0, 1e4])
@pytest.mark.parametrize("n_components", [6, None])
def test_ridge_penalises_the_components(world, alpha, n_components):
    train, responses, other = world
    n = N_FEATURES if n_components is None else n_components
    peer = make_pipeline(StandardScaler(), PCA(n, svd_solver="full"), Ridge(alpha))
    expected = peer.fit(train.astype(float), responses).predict(other.astype(float))
    chosen = settings(components=n_components, method="ridge", alphas=(alpha,))
    (found,) = encoding_model.fit_predict(chosen, train, responses, [other])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("method", ["least_squares", "ridge"])
def test_other_images_never_change_a_prediction(world, method):
    """Components and scaling come from training images alone."""
    train, responses, other = world
    chosen = settings(components=5, method=method)
    first, second = encoding_model.fit_predict(chosen, train, responses, [other, 100 * other[::-1]])
    (alone,) = encoding_model.fit_predict(chosen, train, responses, [other[:1]])
    np.testing.assert_allclose(first[:1], alone, rtol=1e-5)
    assert not np.allclose(first, second[::-1])


@pytest.mark.parametrize("method", ["least_squares", "ridge"])
def test_batches_of_voxels_change_nothing(world, method, monkeypatch):
    train, responses, other = world
    (whole,) = encoding_model.fit_predict(settings(method=method), train, responses, [other])
    monkeypatch.setattr(encoding_model, "VOXELS_AT_ONCE", 3)  # 7 = 3 + 3 + 1
    (parts,) = encoding_model.fit_predict(settings(method=method), train, responses, [other])
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_more_components_than_images_are_as_many_as_there_are(world):
    train, responses, other = world
    (found,) = encoding_model.fit_predict(settings(components=500), train, responses, [other])
    (all_of_them,) = encoding_model.fit_predict(settings(components=None), train, responses, [other])
    np.testing.assert_array_equal(found, all_of_them)


def test_a_feature_that_does_not_vary_in_training_is_left_out(world):
    train, responses, other = world
    (expected,) = encoding_model.fit_predict(settings(), train, responses, [other])
    flat = [
        np.hstack([rows, np.full((len(rows), 1), 0.1 + at, np.float32)])
        for at, rows in enumerate((train, other))
    ]
    (found,) = encoding_model.fit_predict(settings(), flat[0], responses, [flat[1]])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_features_that_are_all_alike_are_refused(world):
    with pytest.raises(PerceptError, match="all alike"):
        encoding_model.fit_predict(settings(), np.ones_like(world[0]), world[1], [world[2]])


# On a challenge tree, from files.


@pytest.fixture(params=["algonauts23", "random"])
def stored(request, tmp_path):
    """A challenge subject in the store whose responses are linear in the features of its images."""
    made = tiny.subject()
    ids = np.concatenate(list(made.stimulus.values()))
    rng = np.random.default_rng(2)
    features = rng.normal(size=(len(ids), 4)).astype(np.float32)
    truth = (features @ rng.normal(size=(4, tiny.N_LEFT + tiny.N_RIGHT)) * 0.3 + 0.7).astype(np.float32)
    held = request.param == "random"  # the organisers keep their responses: an own test set
    ds = tiny.write(tmp_path / "tree", test=not held)
    for part, rows in (("train", truth[: tiny.N_TRAIN]), ("test", truth[tiny.N_TRAIN :])):
        for side, values in made.sides(rows).items():
            path = ds.folder("subj01") / f"{part_folder(part)}/{side}_{part_name(part)}_fmri.npy"
            if path.is_file():
                if part == "train" and side == "rh":
                    values[0, tiny.NAN_VERTEX - tiny.N_LEFT] = np.nan
                np.save(path, values)
    targets.write(tmp_path / "index.json", features[np.argsort(ids)], np.sort(ids), {"kind": "own"}, "own")
    trials = arrays.store_subject(ds, VoxelsConfig(), "subj01", tmp_path / "voxels")
    split = SplitConfig(protocol=request.param, test_fraction=0.2, test_units=("average",))
    store.write_trials(tmp_path / "voxels", splits.freeze(trials, split, "subj01"))
    return ds, tmp_path, truth


def part_name(part):
    return {"train": "training", "test": "test"}[part]


def part_folder(part):
    return {"train": "training_split/training_fmri", "test": "test_split/test_fmri"}[part]


VOXELS = {"rois": {}, "normalisation": "session-train"}


def encode(stored, withheld):
    _, folder, _ = stored
    chosen = settings(components=None, target="own")
    return encoding_model.encode(chosen, folder / "voxels", folder / "index.json", VOXELS, withheld)


def test_linear_responses_are_predicted_and_those_withheld_in_the_units_of_the_release(stored):
    from percept.datasets import algonauts

    ds, folder, truth = stored
    withheld = algonauts.withheld(ds, "subj01")
    found = encode(stored, withheld)
    np.testing.assert_allclose(found.predicted, found.measured, atol=1e-3)
    kept = np.delete(truth, tiny.NAN_VERTEX, axis=1)
    np.testing.assert_allclose(found.withheld, kept[tiny.N_TRAIN :][: len(withheld)], atol=1e-3)
    encoded.write(found, folder / "predictions.h5")
    again = encoded.read(folder / "predictions.h5")
    for name, values in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_a_submission_has_every_vertex_of_the_release_and_zero_where_none_is_predicted(stored):
    from percept.datasets import algonauts

    ds, folder, truth = stored
    withheld = algonauts.withheld(ds, "subj01")
    found = encode(stored, withheld)
    sizes = submission.sizes_of(ds.folder("subj01"))
    made = submission.full(found.withheld, found.columns, store.read_voxels(folder / "voxels"), sizes)
    submission.write(made, folder / "submission")
    read = {side: np.load(folder / f"submission/{side}_pred_test.npy") for side in sizes}
    expected = truth[tiny.N_TRAIN :][: len(withheld)].copy()
    expected[:, tiny.NAN_VERTEX] = 0
    assert {values.dtype for values in read.values()} == {np.dtype("float32")}
    np.testing.assert_allclose(np.hstack([read["lh"], read["rh"]]), expected, atol=1e-3)


def test_a_submission_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(PerceptError, match="submission of rh"):
        submission.write({"lh": np.zeros((2, 3)), "rh": np.full((2, 3), np.inf)}, tmp_path)


def test_leaving_runs_out_is_refused(stored):
    _, folder, _ = stored
    trials = store.read_trials(folder / "voxels")
    trials["run"] = np.arange(len(trials)) % 2 + 1
    frozen = splits.freeze(trials, SplitConfig(protocol="leave-one-run-out"), "subj01")
    store.write_trials(folder / "voxels", frozen)
    with pytest.raises(PerceptError, match="leaves out 2 runs"):
        encode(stored, np.empty(0, np.int32))
