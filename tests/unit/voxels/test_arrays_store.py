"""Own data in the store: what a decoder loads is what the lab measured, z-scored per session."""

import numpy as np
import pandas as pd
import pytest

from percept.config import SplitConfig, VoxelsConfig
from percept.datasets import splits
from percept.datasets.arrays_config import ArraysDataset
from percept.files import PerceptError
from percept.voxels import normalise, reliability, store
from percept.voxels.arrays import store_subject

N_RUNS, N_TRIALS, N_VOXELS = 5, 11, 7


@pytest.fixture
def matrix():
    return np.random.default_rng(3).normal(2, 3, (N_RUNS * N_TRIALS, N_VOXELS)).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    def _write(matrix, stimulus=None):
        np.save(tmp_path / "b.npy", matrix)
        stimulus = np.arange(len(matrix)) % 4 if stimulus is None else stimulus
        runs = np.repeat(np.arange(N_RUNS), N_TRIALS)
        pd.DataFrame({"chunk": runs, "stimulus": stimulus}).to_csv(tmp_path / "t.csv", index=False)
        pd.DataFrame({"area": ["V1", "", "V2", "V2", "", "V1", ""]}).to_csv(tmp_path / "v.csv", index=False)
        return ArraysDataset(
            kind="arrays",
            subjects=["s1"],
            betas={"path": str(tmp_path / "b.npy")},
            trials={"path": str(tmp_path / "t.csv"), "columns": {"run": "chunk", "session": "chunk"}},
            voxels=str(tmp_path / "v.csv"),
        )

    return _write


def stored(dataset, folder, **config):
    trials = store_subject(dataset, VoxelsConfig(**config), "s1", folder)
    split = SplitConfig(protocol="leave-one-run-out", train_repeats="single", test_units=["single", "run"])
    store.write_trials(folder, splits.freeze(trials, split, "s1"))
    return folder


@pytest.mark.parametrize(
    ("roi", "columns"), [("all", [*range(7)]), ("mine", [2, 3]), ("areas", [0, 2, 3, 5])]
)
def test_a_decoder_loads_each_run_z_scored(write, matrix, tmp_path, roi, columns):
    folder = stored(write(matrix), tmp_path / "voxels")
    rois = {"mine": ("area:V2",), "areas": ("area",)}
    X, trials, voxels = normalise.load(folder, roi, "session", rois)
    runs = matrix[:, columns].astype(float).reshape(N_RUNS, N_TRIALS, -1)
    z = (runs - runs.mean(axis=1, keepdims=True)) / runs.std(axis=1, keepdims=True)
    np.testing.assert_allclose(X, z.reshape(X.shape), atol=1e-5)
    assert len(voxels) == len(columns)
    assert trials.fold.tolist() == np.repeat(np.arange(N_RUNS), N_TRIALS).tolist()


def test_betas_are_stored_as_float32_percent_signal_change(write, matrix, tmp_path):
    folder = stored(write(matrix), tmp_path / "voxels")
    np.testing.assert_array_equal(store.read_betas(folder, raw=True), matrix)
    np.testing.assert_array_equal(store.read_betas(folder), matrix)
    assert store.read_statistics(folder).scale == 1
    assert store.read_statistics(folder).sessions.tolist() == list(range(N_RUNS))


def test_ncsnr_is_that_of_the_z_scores(write, matrix, tmp_path):
    folder = stored(write(matrix), tmp_path / "voxels")
    X, trials, voxels = normalise.load(folder, "all", "session")
    np.testing.assert_allclose(voxels.ncsnr, reliability.ncsnr(X, trials.stimulus, 2), rtol=1e-5)
    assert np.isfinite(voxels.ncsnr).all()


def test_without_repeats_there_is_no_ncsnr(write, matrix, tmp_path):
    folder = stored(write(matrix, np.arange(len(matrix))), tmp_path / "voxels")
    assert store.read_voxels(folder).ncsnr.isna().all()
    assert store.read_voxels(folder).valid.all()


@pytest.mark.parametrize(("policy", "n_voxels"), [("drop", N_VOXELS - 1), ("zero", N_VOXELS)])
def test_a_voxel_that_is_constant_in_a_run_follows_the_policy(write, matrix, tmp_path, policy, n_voxels):
    matrix[N_TRIALS : 2 * N_TRIALS, 2] = 5
    folder = stored(write(matrix), tmp_path / "voxels", invalid=policy)
    X, _, voxels = normalise.load(folder, "all", "session")
    assert X.shape == (len(matrix), n_voxels)
    assert (~voxels.valid).sum() == n_voxels - (N_VOXELS - 1)
    kept = matrix if policy == "zero" else np.delete(matrix, 2, axis=1)
    np.testing.assert_array_equal(store.read_betas(folder), kept)


@pytest.mark.parametrize(
    ("policy", "constant", "message"),
    [
        ("error", slice(2, 3), "1 of 7 voxels of s1 of data set arrays are constant .*column 2 of the betas"),
        ("drop", slice(None), "7 of 7 voxels"),
    ],
)
def test_constant_voxels_can_be_an_error(write, matrix, tmp_path, policy, constant, message):
    matrix[:N_TRIALS, constant] = 5
    with pytest.raises(PerceptError, match=message):
        stored(write(matrix), tmp_path / "voxels", invalid=policy)
    assert not (tmp_path / "voxels" / "betas.h5").exists()
