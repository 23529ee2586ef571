"""Normalisation equals an independent computation, and never turns a bad voxel into NaN unnoticed."""

import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import zscore
from sklearn.preprocessing import StandardScaler

from percept.decoders.networks.box import around
from percept.files import PerceptError
from percept.voxels import normalise as normalisation
from percept.voxels import store
from percept.voxels.normalise import load, normalise

SESSIONS = (1, 2, 4, 7, 9)
N_TRIALS, N_VOXELS = 11, 7  # trials of each session
HOW = ("session", "session-train", "train", "none")


def make(seed=0, constant=()):
    """Betas, trial table and training rows; `constant` lists (session position, voxel, value)."""
    rng = np.random.default_rng(seed)
    session = np.repeat(SESSIONS, N_TRIALS)
    drift = rng.normal(0, 300, (len(SESSIONS), N_VOXELS)).repeat(N_TRIALS, axis=0)
    betas = (
        (rng.normal(660, 990, (len(session), N_VOXELS)) + drift).round().clip(-32767, 32767).astype(np.int16)
    )
    for position, voxel, value in constant:
        betas[position * N_TRIALS : (position + 1) * N_TRIALS, voxel] = value
    split = np.where(rng.random(len(session)) < 0.6, "train", "test")
    split[::N_TRIALS], split[1::N_TRIALS], split[2::N_TRIALS] = "train", "train", "validation"
    shown = np.arange(len(session), dtype=np.int32)
    trials = pd.DataFrame({"session": session.astype(np.int16), "stimulus": shown, "split": split})
    return betas, trials, (trials["split"] == "train").to_numpy(copy=True)


def statistics(betas, scale=300.0):
    blocks = betas.astype(float).reshape(len(SESSIONS), N_TRIALS, -1)
    return store.SessionStatistics(
        np.array(SESSIONS), blocks.mean(1).astype("f4"), blocks.std(1).astype("f4"), scale
    )


def by_session(betas, trials, transform):
    out = np.empty(betas.shape)
    for session in SESSIONS:
        rows = (trials["session"] == session).to_numpy()
        out[rows] = transform(betas[rows].astype(float), rows)
    return out


def reference(how, betas, trials, train):
    """The same by scipy and scikit-learn."""
    if how == "none":
        return betas / 300
    if how == "session":
        return by_session(betas, trials, lambda block, _: zscore(block, axis=0))
    if how == "session-train":
        return by_session(
            betas, trials, lambda block, rows: StandardScaler().fit(block[train[rows]]).transform(block)
        )
    scaler = StandardScaler().fit(betas[train].astype(float))
    n = train.sum()
    return scaler.transform(betas.astype(float)) * np.sqrt((n - 1) / n)  # ddof=1


@pytest.fixture
def folder(tmp_path):
    betas, trials, _ = make()
    return write(tmp_path, betas, trials)


def write(folder, betas, trials):
    with store.writing(folder, betas.shape, len(SESSIONS), subject="subj01", scale=300.0) as writer:
        for session in SESSIONS:
            writer.add(session, betas[trials["session"] == session])
    store.write_trials(folder, trials)
    names = ["V1v", None, "hV4", None, "V1d", "V1v", None]
    table = pd.DataFrame({"i": np.arange(7), "prf_visualrois": pd.Series(names, dtype="str")})
    store.write_voxels(folder, table)
    return folder


@pytest.mark.parametrize("how", HOW)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_agrees_with_scipy_and_scikit_learn(how, seed):
    betas, trials, train = make(seed)
    found = normalise(betas, trials, statistics(betas), how, train)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(how, betas, trials, train), rtol=2e-5, atol=2e-5)


def test_voxels_in_a_volume_have_unit_spread_in_every_session_and_nothing_lies_around_them():
    """Where only a mean of the volume is subtracted, units stay in the hundreds and the surroundings turn
    non-zero (the default of the code that VoxelCLIP was published with)."""
    betas, trials, train = make()
    assert betas.std() > 500
    X = normalise(betas, trials, statistics(betas), "session", train)
    where = around(np.random.default_rng(0).permutation(np.argwhere(np.ones((2, 2, 3))))[:N_VOXELS])
    volumes = where.scatter(X).reshape(len(X), -1)
    for session in SESSIONS:
        rows = (trials["session"] == session).to_numpy()
        np.testing.assert_allclose(volumes[rows][:, where.cell].std(axis=0), 1, rtol=1e-5)
        np.testing.assert_allclose(volumes[rows][:, where.cell].mean(axis=0), 0, atol=1e-5)
    around_them = np.delete(volumes, where.cell, axis=1)
    assert around_them.size > 0 and (around_them == 0).all()


@pytest.mark.parametrize("how", ["session-train", "train"])
def test_test_and_validation_trials_have_no_say(how):
    betas, trials, train = make()
    changed = betas.copy()
    changed[~train] = -changed[~train] // 2
    before = normalise(betas, trials, statistics(betas), how, train)
    after = normalise(changed, trials, statistics(changed), how, train)
    np.testing.assert_array_equal(after[train], before[train])
    assert not np.array_equal(after[~train], before[~train])


def test_session_uses_the_trials_of_the_test_too():
    betas, trials, train = make()
    changed = betas.copy()
    changed[~train] //= 2
    before = normalise(betas, trials, statistics(betas), "session", train)
    after = normalise(changed, trials, statistics(changed), "session", train)
    assert not np.array_equal(after[train], before[train])


@pytest.mark.parametrize("how", HOW)
def test_the_input_is_left_alone(how):
    betas, trials, train = make()
    kept = betas.copy()
    normalise(betas, trials, statistics(betas), how, train)
    np.testing.assert_array_equal(betas, kept)


@pytest.mark.parametrize("how", ["session-train", "train"])
def test_rows_may_be_positions_or_a_mask(how):
    betas, trials, train = make()
    mask = normalise(betas, trials, statistics(betas), how, train)
    np.testing.assert_array_equal(
        normalise(betas, trials, statistics(betas), how, np.flatnonzero(train)), mask
    )


@pytest.mark.parametrize("how", ["session", "session-train", "train"])
@pytest.mark.parametrize("value", [0, 42])
def test_a_voxel_that_is_constant_in_a_session_is_zero_there_and_logged(how, value, caplog):
    betas, trials, train = make(constant=[(1, 3, value)])
    with caplog.at_level(logging.WARNING, normalisation.__name__):
        found = normalise(betas, trials, statistics(betas), how, train)
    there = (trials["session"] == SESSIONS[1]).to_numpy()
    assert (found[there, 3] == 0).all()
    assert np.isfinite(found).all()
    assert "1 of 7 voxels are constant or not finite in some session" in caplog.text
    healthy = np.arange(N_VOXELS) != 3
    np.testing.assert_allclose(
        found[:, healthy], reference(how, betas, trials, train)[:, healthy], rtol=2e-5, atol=2e-5
    )


def test_a_session_where_a_voxel_is_invalid_has_no_say_in_its_training_statistics():
    betas, trials, train = make(constant=[(1, 3, 0)])
    found = normalise(betas, trials, statistics(betas), "train", train)
    elsewhere = (trials["session"] != SESSIONS[1]).to_numpy()
    column = betas[:, 3].astype(float)
    used = column[train & elsewhere]
    np.testing.assert_allclose(
        found[elsewhere, 3], (column[elsewhere] - used.mean()) / used.std(ddof=1), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("how", ["session-train", "train"])
@pytest.mark.parametrize("value", [17, 0.1, 1234.567])
def test_a_voxel_that_is_constant_over_the_training_trials_only_is_zero(how, value):
    betas, trials, train = make()
    betas = betas.astype(np.float32)
    betas[train, 2] = value
    found = normalise(betas, trials, statistics(betas), how, train)
    assert (found[:, 2] == 0).all()
    assert np.isfinite(found).all()


@pytest.mark.parametrize("how", HOW)
def test_a_voxel_with_nan_becomes_zero_in_that_session_and_is_logged(how, caplog):
    betas, trials, train = make()
    betas = betas.astype(np.float32)
    betas[N_TRIALS + 4, 5] = np.nan
    with caplog.at_level(logging.WARNING, normalisation.__name__):
        found = normalise(betas, trials, statistics(betas), how, train)
    assert np.isfinite(found).all()
    assert (found[N_TRIALS : 2 * N_TRIALS, 5] == 0).all()
    assert "1 of 7 voxels" in caplog.text


def test_healthy_voxels_are_not_worth_a_warning(caplog):
    betas, trials, train = make()
    for how in HOW:
        normalise(betas, trials, statistics(betas), how, train)
    assert caplog.text == ""


@pytest.mark.parametrize("n_left", [0, 1])
def test_session_train_refuses_sessions_without_training_trials(n_left):
    betas, trials, train = make()
    train[(trials["session"] == 4).to_numpy()] = False
    train[2 * N_TRIALS : 2 * N_TRIALS + n_left] = True
    with pytest.raises(
        PerceptError, match=r"sessions \[4\] have fewer than 2 training trials.*`session`.*`train`"
    ):
        normalise(betas, trials, statistics(betas), "session-train", train)


def test_train_copes_with_a_session_without_training_trials():
    betas, trials, train = make()
    train[(trials["session"] == 4).to_numpy()] = False
    found = normalise(betas, trials, statistics(betas), "train", train)
    np.testing.assert_allclose(found, reference("train", betas, trials, train), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("n_left", [0, 1])
def test_train_refuses_a_split_without_training_trials(n_left):
    betas, trials, _ = make()
    with pytest.raises(PerceptError, match=f"there are {n_left} training trials"):
        normalise(betas, trials, statistics(betas), "train", np.arange(n_left))


@pytest.mark.parametrize(
    ("how", "message"), [("zscore", "unknown normalisation"), ("train", "needs train_rows")]
)
def test_misuse_is_named(how, message):
    betas, trials, _ = make()
    with pytest.raises(ValueError, match=message):
        normalise(betas, trials, statistics(betas), how)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize(("roi", "columns"), [("V1", [0, 4, 5]), ("hV4", [2]), ("all", range(7))])
def test_load_gives_the_columns_of_the_set_with_their_tables(folder, how, roi, columns):
    betas, trials, train = make()
    X, found_trials, voxels = load(folder, roi, how)
    assert X.dtype == np.float32
    np.testing.assert_allclose(X, reference(how, betas, trials, train)[:, columns], rtol=2e-5, atol=2e-5)
    assert voxels["i"].tolist() == list(columns)
    assert voxels.index.tolist() == list(range(len(columns)))
    pd.testing.assert_frame_equal(found_trials, trials)


def test_load_takes_sets_of_the_config_and_training_rows_of_a_fold(folder):
    betas, trials, _ = make()
    fold = np.arange(len(trials)) % 3 != 0
    X, _, voxels = load(folder, "mine", "train", {"mine": ("prf-visualrois:hV4", "prf-visualrois:V1d")}, fold)
    assert voxels["prf_visualrois"].tolist() == ["hV4", "V1d"]
    np.testing.assert_allclose(X, reference("train", betas, trials, fold)[:, [2, 4]], rtol=2e-5, atol=2e-5)


def test_load_names_what_cannot_be_selected(folder):
    with pytest.raises(PerceptError, match="no ROI set 'V9'"):
        load(folder, "V9", "none")


@pytest.mark.parametrize("how", HOW)
def test_the_statistics_that_were_applied_are_recorded(folder, tmp_path, how):
    betas, _, _ = make()
    X, applied = normalisation.load_recorded(folder, "V1", how)
    normalisation.write_statistics(tmp_path / "normalisation.h5", applied)
    back = normalisation.read_statistics(tmp_path / "normalisation.h5")
    assert back.how == how and back.sessions.tolist() == list(SESSIONS)
    raw = betas[:, [0, 4, 5]].astype(float)
    rebuilt = (raw - back.mean.repeat(N_TRIALS, axis=0)) / back.sd.repeat(N_TRIALS, axis=0)
    np.testing.assert_allclose(X, rebuilt, rtol=2e-5, atol=2e-5)


MASKS = {"ventral": ("prf-visualrois:hV4", "prf-visualrois:V1d"), "V1": ("prf-visualrois",)}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("mask", ["all", "ventral", "hV4"])
def test_a_mask_sets_all_else_to_zero_and_keeps_the_width(folder, how, mask, tmp_path):
    whole, _ = normalisation.load_recorded(folder, "all", how)
    X, applied = normalisation.load_recorded(folder, "all", how, MASKS, mask=mask)
    columns = {"all": range(7), "ventral": [2, 4], "hV4": [2]}[mask]
    inside = np.isin(np.arange(7), columns)
    assert X.shape == whole.shape and applied.kept.tolist() == inside.tolist()
    np.testing.assert_array_equal(X[:, inside], whole[:, inside])
    assert (X[:, ~inside] == 0).all()  # exactly, in rows that train as in those that validate and test
    normalisation.write_statistics(tmp_path / "normalisation.h5", applied)
    assert normalisation.read_statistics(tmp_path / "normalisation.h5").kept.tolist() == inside.tolist()


def test_a_mask_selects_among_the_voxels_of_the_roi_by_place_not_by_number(folder):
    """Index 1 of the public code meant set 2 here and set 1 there; a name means the same everywhere."""
    X, applied = normalisation.load_recorded(folder, "V1", "none", MASKS, mask="ventral")
    assert applied.kept.tolist() == [
        name in ("hV4", "V1d") for name in load(folder, "V1", "none", MASKS)[2]["prf_visualrois"]
    ]
    assert (X[:, ~applied.kept] == 0).all() and (X[:, applied.kept] != 0).any()


@pytest.mark.parametrize(
    ("roi", "mask", "message"),
    [
        ("hV4", "V2", "selects none|none of the 1 voxels"),
        ("hV4", "V9", "no ROI set 'V9'"),
        ("all", "bodies", "no atlas 'floc-bodies'"),
        ("all", "mistaken", "has no label 'V7'"),
    ],
)
def test_a_mask_that_cannot_be_is_named(folder, roi, mask, message):
    custom = {"mistaken": ("prf-visualrois:V7",)}
    with pytest.raises(PerceptError, match=message):
        normalisation.load_recorded(folder, roi, "none", custom, mask=mask)


def test_a_region_that_this_subject_lacks_is_empty_and_named_in_the_log(folder, caplog):
    caplog.set_level("INFO")
    labels = {"some": ("prf-visualrois:hV4", "prf-visualrois:V3d")}
    _, applied = normalisation.load_recorded(folder, "all", "none", labels, mask="some")
    assert np.flatnonzero(applied.kept).tolist() == [2]
    assert "no voxel of this subject carries prf-visualrois:V3d" in caplog.text
    assert "the mask some keeps 1 of 7 voxels of all" in caplog.text


@pytest.mark.parametrize("content", [None, b"", b"not hdf5"])
def test_a_damaged_record_is_named(tmp_path, content):
    path = tmp_path / "normalisation.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PerceptError, match=r"normalisation\.h5 is missing or damaged.*cannot be audited"):
        normalisation.read_statistics(path)
