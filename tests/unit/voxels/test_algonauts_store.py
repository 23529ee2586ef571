"""A challenge subject in the store: lossless, standardised on training rows, silent about what it lacks."""

import numpy as np
import pytest

from percept.config import SplitConfig, VoxelsConfig
from percept.datasets import splits
from percept.evaluation import reliability
from percept.evaluation.table import Label
from percept.files import PerceptError
from percept.voxels import arrays, normalise, store
from tests.unit.datasets import challenge_tree as tiny


def stored(folder, test=True, protocol="algonauts23", **voxels):
    ds = tiny.write(folder / "tree", test=test)
    trials = arrays.store_subject(ds, VoxelsConfig(**voxels), "subj01", folder / "voxels")
    split = SplitConfig(
        protocol=protocol, validation_fraction=0.2, test_fraction=0.25, test_units=("average",)
    )
    trials = splits.freeze(trials, split, "subj01")
    store.write_trials(folder / "voxels", trials)
    return folder / "voxels", trials


def test_float32_responses_are_stored_bit_for_bit(tmp_path):
    folder, _ = stored(tmp_path, invalid="zero")
    made = tiny.subject().responses
    found = store.read_betas(folder, raw=True)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate([made["train"], made["test"]]))


@pytest.mark.parametrize("policy", ["drop", "zero"])
def test_a_vertex_of_nan_follows_the_policy(tmp_path, policy):
    folder, _ = stored(tmp_path, invalid=policy)
    X, _, voxels = normalise.load(folder, "all", "session-train")
    assert X.shape[1] == len(voxels) == tiny.N_LEFT + tiny.N_RIGHT - (policy == "drop")
    assert np.isfinite(X).all()
    if policy == "zero":
        np.testing.assert_array_equal(X[:, tiny.NAN_VERTEX], 0)


def test_a_vertex_of_nan_is_refused_where_the_policy_says_so(tmp_path):
    with pytest.raises(PerceptError, match=rf"1 of 64 voxels .* constant or NaN .*column {tiny.NAN_VERTEX}"):
        stored(tmp_path, invalid="error")


def test_vertices_are_standardised_again_on_training_rows(tmp_path):
    """The mean over repeats of z-scores has a variance below 1, another one in each vertex."""
    folder, trials = stored(tmp_path)
    raw = store.read_betas(folder, raw=True)
    X, _, _ = normalise.load(folder, "all", "session-train")
    train = (trials["split"] == "train").to_numpy()
    assert np.ptp(raw[train].std(axis=0)) > 0.1
    np.testing.assert_allclose(X[train].mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(X[train].std(axis=0), 1, rtol=1e-4)
    assert not np.allclose(X.std(axis=0), 1, rtol=1e-3)  # of test rows nothing was used


def test_the_tree_says_what_tests_and_validation_is_carved_from_training(tmp_path):
    _, trials = stored(tmp_path)
    assert (trials["split"].iloc[tiny.N_TRAIN :] == "test").all()
    assert set(trials["split"].iloc[: tiny.N_TRAIN]) == {"train", "validation"}


def test_without_test_responses_the_challenges_protocol_says_what_to_do(tmp_path):
    with pytest.raises(PerceptError, match=r"withholds responses.*`split\.protocol: random`"):
        stored(tmp_path, test=False)


def test_without_test_responses_test_images_can_be_carved_from_training(tmp_path):
    _, trials = stored(tmp_path, test=False, protocol="random")
    counted = splits.count(trials)
    assert counted["test"]["images"] > 3 and len(trials) == tiny.N_TRAIN


def test_without_repeats_there_are_no_rows_of_reliability(tmp_path, caplog):
    caplog.set_level("INFO")
    folder, trials = stored(tmp_path)
    voxels = store.read_voxels(folder)
    assert voxels["ncsnr"].isna().all() and "no image was shown twice" in caplog.text
    label = Label("algonauts", "algonauts23", "subj01", "voxels", "noise_ceiling")
    z, _, _ = normalise.load(folder, "all", "session")
    assert len(reliability.score_voxels(z, trials, voxels, label)) == 0
