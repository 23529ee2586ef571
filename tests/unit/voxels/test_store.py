"""The store is lossless, reads what is asked in any order, and refuses tables that do not fit."""

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.files import PerceptError, write_parquet
from percept.voxels import store

N_TRIALS, N_VOXELS, SESSIONS = 11, 7, (2, 5)  # 5 and 6 trials


@pytest.fixture(scope="module")
def betas():
    drawn = np.random.default_rng(3).integers(-32768, 32768, (N_TRIALS, N_VOXELS)).astype(np.int16)
    drawn[0, :2] = -32768, 32767
    return drawn


@pytest.fixture(scope="module")
def folder(tmp_path_factory, betas):
    made = tmp_path_factory.mktemp("subj01")
    write(made, betas)
    store.write_trials(made, trials())
    store.write_voxels(made, voxels(), {"floc_faces": ["OFA", "aTL-faces"]})
    return made


def write(folder, betas, **attrs):
    attrs = {"subject": "subj01", "scale": 300.0, **attrs}
    with store.writing(folder, betas.shape, len(SESSIONS), **attrs) as writer:
        writer.add(SESSIONS[0], betas[:5])
        writer.add(SESSIONS[1], betas[5:])


def trials(n=N_TRIALS):
    return pd.DataFrame(
        {"session": np.repeat(SESSIONS, (5, n - 5)).astype(np.int16), "stimulus": np.arange(n)}
    )


def voxels(n=N_VOXELS):
    names = pd.Series(["OFA", None, "OFA", None, None, None, None, None], dtype="str")[:n]
    return pd.DataFrame({"i": np.arange(n, dtype=np.int16), "floc_faces": names})


def test_betas_are_stored_without_loss_contiguous_and_little_endian(folder, betas):
    with h5py.File(folder / "betas.h5") as file:
        assert file["betas"].chunks is None and file["betas"].compression is None
        assert file["betas"].dtype == np.dtype("<i2")
        np.testing.assert_array_equal(file["betas"][:], betas)
        assert (file.attrs["subject"], file.attrs["scale"]) == ("subj01", 300.0)
        np.testing.assert_array_equal(file["sessions"][:], SESSIONS)
    np.testing.assert_array_equal(store.read_betas(folder, raw=True), betas)
    assert store.extent(folder) == (N_TRIALS, N_VOXELS)


def test_betas_are_read_as_percent_signal_change(folder, betas):
    found = store.read_betas(folder)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, betas / 300, rtol=1e-6)


rows = st.lists(st.integers(0, N_TRIALS - 1), max_size=20)
columns = st.lists(st.integers(0, N_VOXELS - 1), max_size=9)


@pytest.mark.parametrize("block", [1, 40, 1 << 20])
@settings(deadline=None)
@given(rows=rows, columns=columns)
def test_any_rows_and_columns_come_in_the_order_asked(folder, betas, block, rows, columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "BLOCK", block)
        rows, columns = np.array(rows, int), np.array(columns, int)
        np.testing.assert_array_equal(
            store.read_betas(folder, rows, columns, raw=True), betas[np.ix_(rows, columns)]
        )


@pytest.mark.parametrize("which", ["rows", "columns"])
def test_a_boolean_mask_selects_like_positions(folder, betas, which):
    n = N_TRIALS if which == "rows" else N_VOXELS
    mask = np.arange(n) % 3 == 1
    expected = betas[mask] if which == "rows" else betas[:, mask]
    np.testing.assert_array_equal(store.read_betas(folder, raw=True, **{which: mask}), expected)


def test_float_betas_keep_their_type_and_unit(tmp_path, betas):
    own = (betas / 7).astype(np.float32)
    write(tmp_path, own, scale=1.0, dtype="float32")
    assert store.read_betas(tmp_path, raw=True).dtype == np.float32
    np.testing.assert_array_equal(store.read_betas(tmp_path), own)


@pytest.mark.parametrize("block", [1, 300, 1 << 20])
@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_moments_are_numpys_whatever_the_block(monkeypatch, betas, block, kind):
    monkeypatch.setattr(store, "BLOCK", block)
    mean, sd = store.moments(betas.astype(kind))
    np.testing.assert_allclose(mean, betas.mean(axis=0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(sd, betas.std(axis=0, dtype=float), rtol=1e-12)


@pytest.mark.parametrize("value", [0, 42, -32768, 0.1, 1e-30, 12345.678])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_voxel_has_an_sd_of_exactly_zero(value, dtype):
    mean, sd = store.moments(np.full((751, 3), value, dtype))
    assert (sd == 0).all()
    np.testing.assert_allclose(mean, value, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_spoils_its_voxel_only(bad):
    values = np.arange(12, dtype=np.float32).reshape(4, 3)
    values[2, 1] = bad
    mean, sd = store.moments(values)
    assert np.isnan(mean[1]) and np.isnan(sd[1])
    assert np.isfinite(mean[[0, 2]]).all() and (sd[[0, 2]] > 0).all()


def test_the_writer_says_which_voxels_are_invalid_in_a_session(tmp_path, betas):
    betas = betas.astype(np.float32)
    betas[:5, 2], betas[7, 4] = 3, np.nan
    with store.writing(tmp_path, betas.shape, 2, subject="s", scale=1.0, dtype="float32") as writer:
        assert np.flatnonzero(writer.add(1, betas[:5])).tolist() == [2]
        assert np.flatnonzero(writer.add(2, betas[5:])).tolist() == [4]


@pytest.mark.parametrize("columns", [None, [4, 1], np.arange(N_VOXELS) > 2])
def test_statistics_are_those_of_each_session(folder, betas, columns):
    stats = store.read_statistics(folder, columns)
    for row, rows in enumerate((slice(0, 5), slice(5, 11))):
        chosen = betas[rows] if columns is None else betas[rows][:, columns]
        np.testing.assert_allclose(stats.mean[row], chosen.mean(axis=0, dtype=float), rtol=1e-6)
        np.testing.assert_allclose(stats.sd[row], chosen.std(axis=0, dtype=float), rtol=1e-6)
    assert stats.sessions.tolist() == [2, 5] and stats.scale == 300


@pytest.mark.parametrize("block", [1, 30, 1 << 20])
def test_columns_are_dropped_from_betas_and_statistics_alike(tmp_path, betas, block, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", block)
    write(tmp_path, betas)
    keep = np.array([1, 0, 1, 1, 0, 1, 0], bool)
    before = store.read_statistics(tmp_path)
    store.keep_columns(tmp_path, keep)
    np.testing.assert_array_equal(store.read_betas(tmp_path, raw=True), betas[:, keep])
    after = store.read_statistics(tmp_path)
    np.testing.assert_array_equal(after.mean, before.mean[:, keep])
    np.testing.assert_array_equal(after.sd, before.sd[:, keep])
    assert after.scale == before.scale
    with h5py.File(tmp_path / "betas.h5") as file:
        assert file["betas"].chunks is None


@pytest.mark.parametrize("failure", [RuntimeError("boom"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_nothing(tmp_path, betas, failure):
    with (
        pytest.raises(type(failure)),
        store.writing(tmp_path, betas.shape, 2, subject="s", scale=1.0) as writer,
    ):
        writer.add(1, betas[:5])
        raise failure
    assert not list(tmp_path.iterdir())


def test_a_matrix_with_rows_missing_is_refused(tmp_path, betas):
    with (
        pytest.raises(PerceptError, match="5 of 11 trials in 1 of 2 sessions"),
        store.writing(tmp_path, betas.shape, 2, subject="s", scale=1.0) as writer,
    ):
        writer.add(1, betas[:5])
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_named_before_anything_is_written(tmp_path):
    with (
        pytest.raises(PerceptError, match=r"needs \d+\.\d\d GB for the betas.*GB left.*voxels\.extract"),
        store.writing(tmp_path, (1 << 40, 1 << 10), 1, subject="s", scale=1.0),
    ):
        pytest.fail("written all the same")
    assert not list(tmp_path.iterdir())


def test_tables_come_back_as_they_were(folder):
    pd.testing.assert_frame_equal(store.read_trials(folder), trials())
    back = store.read_voxels(folder)
    assert back["floc_faces"].fillna("").tolist() == voxels()["floc_faces"].fillna("").tolist()
    assert back.attrs["labels"] == {"floc_faces": ["OFA", "aTL-faces"]}


@pytest.mark.parametrize("n", [10, 12])
def test_a_trial_table_of_another_length_is_refused(folder, n):
    with pytest.raises(PerceptError, match=rf"{n} trials are listed, but betas\.h5 has 11 rows"):
        store.write_trials(folder, trials(n))


@pytest.mark.parametrize(
    ("sessions", "listed"),
    [((5, 2), "5, 2"), ((2, 6), "2, 6"), ((2,), "2"), ((2, 5, 2), "2, 5, 2")],
)
def test_a_trial_table_of_other_sessions_or_mixed_ones_is_refused(folder, sessions, listed):
    mixed = np.sort(np.arange(N_TRIALS) % len(sessions))
    with pytest.raises(
        PerceptError, match=rf"list the sessions {listed}, but betas\.h5 holds 2, 5, one after"
    ):
        store.write_trials(folder, trials().assign(session=np.array(sessions)[mixed]))


@pytest.mark.parametrize("n", [6, 8])
def test_a_voxel_table_of_another_length_is_refused(folder, n):
    with pytest.raises(PerceptError, match=rf"{n} voxels are listed, but betas\.h5 has 7 columns"):
        store.write_voxels(folder, voxels(n))


@pytest.mark.parametrize(("name", "read"), [("trials", store.read_trials), ("voxels", store.read_voxels)])
def test_tables_that_were_changed_behind_our_back_are_found_on_reading(tmp_path, betas, name, read):
    write(tmp_path, betas)
    write_parquet({"trials": trials(9), "voxels": voxels(5)}[name], tmp_path / f"{name}.parquet")
    with pytest.raises(PerceptError, match=r"betas\.h5 has"):
        read(tmp_path)


def test_a_missing_matrix_is_named(tmp_path):
    with pytest.raises(PerceptError, match=r"betas\.h5 does not exist: extract the voxels"):
        store.read_betas(tmp_path)


@pytest.mark.parametrize("keep", [0, 50, 0.6])
def test_a_truncated_matrix_is_named(tmp_path, betas, keep):
    write(tmp_path, betas)
    data = (tmp_path / "betas.h5").read_bytes()
    (tmp_path / "betas.h5").write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(PerceptError, match=r"betas\.h5 is truncated or damaged"):
        store.read_betas(tmp_path)
