"""Own data: every input format gives the same betas, trials and voxels, and they are right."""

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from nilearn.signal import clean

from percept.datasets import arrays
from percept.datasets.arrays.betas import detrended
from percept.datasets.arrays.readers import read_array, read_rows
from tests.unit.datasets.arrays_lab import AREAS, N_RUNS, N_TRIALS, SHAPE, STIMULI, Lab


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def parts(lab, array, suffix, write):
    """One file per run, the run being the last axis or the first."""
    rows = np.split(np.arange(N_RUNS * N_TRIALS), N_RUNS)
    return [write(f"run{number}{suffix}", array(row)) for number, row in enumerate(rows)]


BETAS = {
    "npy": lambda lab: {"path": lab.array("b.npy", lab.matrix)},
    "npy float64": lambda lab: {"path": lab.array("b.npy", lab.matrix.astype(float))},
    "npy in Fortran order": lambda lab: {"path": lab.array("b.npy", np.asfortranarray(lab.matrix))},
    "h5": lambda lab: {"path": lab.array("b.h5", lab.matrix)},
    "hdf5 with a path": lambda lab: {"path": lab.array("b.hdf5", lab.matrix, "a/b"), "variable": "/a/b"},
    "parquet": lambda lab: {"path": lab.array("b.parquet", lab.matrix)},
    "mat 5": lambda lab: {"path": lab.array("old.mat", lab.matrix), "variable": "betas"},
    "mat 7.3": lambda lab: {"path": lab.array("new.mat", lab.matrix)},
    "a matrix per run": lambda lab: {"path": parts(lab, lambda row: lab.matrix[row], ".npy", lab.array)},
    "nii, nonzero": lambda lab: {"path": lab.nifti("b.nii", lab.volumes)},
    "nii.gz, mask": lambda lab: {
        "path": lab.nifti("b.nii.gz", lab.volumes),
        "mask": lab.nifti("m.nii.gz", lab.mask.astype(np.uint8)),
    },
    "mask with a fourth axis and -1": lambda lab: {
        "path": lab.nifti("b.nii.gz", lab.volumes),
        "mask": lab.nifti("m.nii", np.where(lab.mask, 2, -1)[..., None].astype(np.int16)),
    },
    "volumes per run": lambda lab: {
        "path": parts(lab, lambda row: lab.volumes[..., row], ".nii.gz", lab.nifti)
    },
    "in units of 1/300 percent": lambda lab: {"path": lab.array("b.npy", lab.matrix * 300.0), "scale": 300},
}


@pytest.mark.parametrize("betas", BETAS.values(), ids=BETAS)
def test_every_format_of_betas_gives_the_same_tables(lab, betas):
    voxels = lab.table("voxels.csv", lab.voxels)
    expected = arrays.read_subject(lab.dataset(voxels=voxels), "s1")
    found = arrays.read_subject(lab.dataset(betas=betas(lab), voxels=voxels), "s1")
    used = (lab.trials.stimulus != "rest").to_numpy()
    np.testing.assert_allclose(found[0], lab.matrix[used], rtol=1e-6)
    assert found[0].dtype == np.float32
    pd.testing.assert_frame_equal(found[1], expected[1])
    pd.testing.assert_frame_equal(found[2], expected[2])


TABLES = {
    "csv": lambda lab: {"path": lab.table("t.csv", lab.trials)},
    "tsv": lambda lab: {"path": lab.table("t.tsv", lab.trials)},
    "parquet": lambda lab: {"path": lab.table("t.parquet", lab.trials)},
    "text with blanks": lambda lab: {"path": lab.table("t.txt", lab.trials)},
    "text without a header": lambda lab: {
        "path": lab.table("t.txt", lab.trials, header=False),
        "names": ["stimulus", "run"],
    },
    "csv without a header": lambda lab: {
        "path": lab.table("t.csv", lab.trials, header=False),
        "names": ["stimulus", "run"],
    },
    "other names": lambda lab: {
        "path": lab.table("t.csv", lab.trials.set_axis(["What", "chunk"], axis=1)),
        "columns": {"stimulus": "What", "run": "chunk"},
    },
    "runs as floats": lambda lab: {
        "path": lab.table("t.parquet", lab.trials.astype({"run": float})),
    },
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_format_of_the_trial_table_gives_the_same_trials(lab, table):
    trials = table(lab) | {"leave_out": ["rest"]}
    expected = arrays.read_subject(lab.dataset(), "s1")[1]
    pd.testing.assert_frame_equal(arrays.read_subject(lab.dataset(trials=trials), "s1")[1], expected)


def test_the_trial_table_follows_the_data_contract(lab):
    trials = arrays.read_subject(lab.dataset(), "s1")[1]
    used = lab.trials[lab.trials.stimulus != "rest"]
    names = [name for name in STIMULI if name != "rest"]
    assert trials.dtypes.astype(str).to_dict() == {
        "session": "int16",
        "run": "int16",
        "trial": "int16",
        "stimulus": "int32",
        "repeat": "int16",
        "shared": "bool",
    }
    assert [names[stimulus] for stimulus in trials.stimulus] == used.stimulus.tolist()
    assert trials.run.tolist() == used.run.tolist()
    assert ((trials.run - 1) * N_TRIALS + trials.trial - 1).tolist() == used.index.tolist()  # rest counts
    for _, repeats in trials.groupby("stimulus").repeat:
        assert repeats.tolist() == list(range(len(repeats)))
    assert set(trials.session) == {1}
    assert not trials.shared.any()


@pytest.mark.parametrize(
    ("column", "given", "expected"),
    [
        ("split", "test", "test"),
        ("split", "", "unused"),
        ("shared", "True", True),
        ("shared", 0, False),
        ("session", 4, 4),
    ],
)
def test_optional_columns_are_taken_over(lab, column, given, expected):
    path = lab.table("t.csv", lab.trials.assign(**{column: given}))
    trials = arrays.read_subject(lab.dataset(trials={"path": path}), "s1")[1]
    assert set(trials[column]) == {expected}


def test_repeats_of_the_table_are_kept(lab):
    backwards = lab.trials.groupby("stimulus").cumcount(ascending=False)
    path = lab.table("t.parquet", lab.trials.assign(nth=backwards))
    trials = {"path": path, "columns": {"repeat": "nth"}}
    assert arrays.read_subject(lab.dataset(trials=trials), "s1")[1]["repeat"].tolist() == backwards.tolist()


def test_sessions_come_one_after_the_other_with_their_betas(lab):
    lab.trials["session"] = np.resize([2, 1, 5, 4, 3], len(lab.trials))
    betas, trials, voxels = arrays.read_subject(
        lab.dataset(trials={"path": lab.table("t.csv", lab.trials)}), "s1"
    )
    order = np.argsort(lab.trials.session, kind="stable")
    np.testing.assert_array_equal(betas, lab.matrix[order])
    assert trials.session.tolist() == sorted(lab.trials.session)
    assert set(voxels.n_sessions) == {5}


def test_a_run_can_be_its_own_session(lab):
    path = lab.table("t.csv", lab.trials)
    dataset = lab.dataset(trials={"path": path, "columns": {"session": "run"}})
    trials = arrays.read_subject(dataset, "s1")[1]
    assert (trials.session == trials.run).all()
    assert trials.session.nunique() == N_RUNS


def test_subjects_fill_in_their_paths_and_share_their_ids(lab):
    for subject, stimuli in {"s1": ["a", "b"], "s2": ["c", "a"]}.items():
        lab.table(f"{subject}.csv", pd.DataFrame({"run": [1, 2], "stimulus": stimuli}))
        lab.array(f"{subject}.npy", lab.matrix[:2])
    dataset = lab.dataset(
        subjects=["s1", "s2"],
        betas={"path": lab.path("{subject}.npy")},
        trials={"path": lab.path("{subject}.csv")},
    )
    assert arrays.read_subject(dataset, "s1")[1].stimulus.tolist() == [0, 1]
    assert arrays.read_subject(dataset, "s2")[1].stimulus.tolist() == [2, 0]
    assert arrays.labels(dataset, [2, 0, 0]) == ["c", "a", "a"]
    assert dataset.inputs("s2") == [lab.path("s2.npy"), lab.path("s1.csv"), lab.path("s2.csv")]


ROIS = {
    "voxel table, csv": lambda lab: {"voxels": lab.table("v.csv", lab.voxels)},
    "voxel table, parquet": lambda lab: {"voxels": lab.table("v.parquet", lab.voxels)},
    "label per voxel": lambda lab: {
        "voxels": lab.array("v.npy", np.argwhere(lab.mask)),
        "rois": {"my-atlas": {"path": lab.array("l.npy", lab.atlas[lab.mask]), "names": AREAS}},
    },
    "label volume, looked up": lambda lab: {
        "voxels": lab.array("v.npy", np.argwhere(lab.mask)),
        "rois": {"my-atlas": {"path": lab.nifti("a.nii.gz", lab.atlas.astype(np.int16)), "names": AREAS}},
    },
    "label volume beside volumes": lambda lab: {
        "betas": {"path": lab.nifti("b.nii.gz", lab.volumes)},
        "rois": {"my-atlas": {"path": lab.nifti("a.nii.gz", lab.atlas.astype(np.int16)), "names": AREAS}},
    },
}


@pytest.mark.parametrize("rois", ROIS.values(), ids=ROIS)
def test_every_format_of_areas_gives_the_same_voxels(lab, rois):
    voxels = arrays.read_subject(lab.dataset(**rois(lab)), "s1")[2]
    assert voxels[["i", "j", "k"]].to_numpy().tolist() == np.argwhere(lab.mask).tolist()
    expected = [AREAS.get(number) for number in lab.atlas[lab.mask]]
    assert voxels.my_atlas.where(voxels.my_atlas.notna(), None).tolist() == expected
    assert voxels.attrs["labels"] == {"my_atlas": sorted(AREAS.values())}


def test_a_label_without_a_name_keeps_its_number(lab):
    path = lab.array("l.npy", lab.atlas[lab.mask])
    voxels = arrays.read_subject(lab.dataset(rois={"atlas": {"path": path, "names": {1: "V1v"}}}), "s1")[2]
    expected = {-1: None, 0: None, 1: "V1v", 2: "2", 3: "3"}
    assert voxels.atlas.tolist() == [expected[number] for number in lab.atlas[lab.mask]]


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, None), (1, "1"), (2.0, "2"), (np.nan, None), ("V3.0", "V3.0"), (True, "True"), (False, None)],
)
def test_cells_that_mean_no_area_are_null(lab, given, expected):
    table = pd.DataFrame({"V1": [given] * lab.matrix.shape[1]})
    voxels = arrays.read_subject(lab.dataset(voxels=lab.table("v.parquet", table)), "s1")[2]
    assert {None if pd.isna(area) else area for area in voxels.V1} == {expected}
    assert (voxels[["i", "j", "k"]] == -1).all(axis=None)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_known_ncsnr_is_taken_over(lab, suffix):
    ncsnr = np.linspace(0, 1, lab.matrix.shape[1])
    path = lab.table(f"v.{suffix}", pd.DataFrame({"ncsnr": ncsnr}))
    voxels = arrays.read_subject(lab.dataset(voxels=path), "s1")[2]
    np.testing.assert_allclose(voxels.ncsnr, ncsnr, rtol=1e-6)
    assert voxels.ncsnr.dtype == np.float32


@pytest.mark.parametrize("detrend", ["none", "linear"])
def test_a_voxel_that_is_constant_in_a_session_is_not_valid(lab, detrend):
    lab.matrix[lab.trials.run == 3, 4] = 812.3
    betas = {"path": lab.array("b.npy", lab.matrix), "detrend": detrend}
    trials = {"path": lab.table("t.csv", lab.trials), "columns": {"session": "run"}}
    voxels = arrays.read_subject(lab.dataset(betas=betas, trials=trials), "s1")[2]
    assert np.flatnonzero(~voxels.valid).tolist() == [4]
    assert voxels.n_valid_sessions[4] == N_RUNS - 1
    assert (voxels.n_sessions == N_RUNS).all()


def test_detrending_agrees_with_nilearn_on_the_full_time_course(lab):
    betas = {"path": lab.array("b.npy", lab.matrix), "detrend": "linear"}
    found = arrays.read_subject(lab.dataset(betas=betas), "s1")[0]
    runs = np.split(lab.matrix.astype(float), N_RUNS)
    peer = np.concatenate([clean(run, detrend=True, standardize=None) for run in runs])
    np.testing.assert_allclose(found, peer[lab.trials.stimulus != "rest"], atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(2, 9), min_size=1, max_size=4),
    slope=st.floats(-50, 50),
    offset=st.floats(-1000, 1000),
)
def test_detrending_does_not_see_a_line_in_a_run(lengths, slope, offset):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    trials = pd.DataFrame({"session": 1, "run": runs})
    noise = np.random.default_rng(0).normal(size=(len(runs), 3))
    line = np.concatenate([np.arange(length) for length in lengths]) * slope + offset * runs
    lined = detrended(noise + line[:, None], trials)
    np.testing.assert_allclose(lined, detrended(noise, trials), atol=1e-3)
    np.testing.assert_array_equal(detrended(np.stack([line, line], axis=1), trials), 0)


NUMBERS = st.sampled_from([np.float32, np.float64, np.int16, np.uint8, np.bool_])
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=6)


@settings(max_examples=60, deadline=None)
@given(
    array=NUMBERS.flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)),
    name=st.sampled_from(["a.npy", "a.h5", "a.hdf5", "a.parquet", "old.mat", "new.mat"]),
)
def test_a_matrix_comes_back_from_every_format(tmp_path_factory, array, name):
    path = tmp_path_factory.mktemp("arrays")
    lab = Lab.__new__(Lab)
    lab.folder = path
    found = read_array(path / lab.array(name, array), "betas" if name.endswith("h5") else None)
    np.testing.assert_array_equal(found, array)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.integers(0, 8), min_size=1, max_size=12), suffix=st.sampled_from(["npy", "h5"]))
def test_rows_come_in_the_order_asked_for(tmp_path_factory, rows, suffix):
    path = tmp_path_factory.mktemp("rows") / f"a.{suffix}"
    array = np.arange(9 * 4).reshape(9, 4)
    if suffix == "npy":
        np.save(path, array)
    else:
        with h5py.File(path, "w") as file:
            file["images"] = array
    np.testing.assert_array_equal(read_rows(path, None, np.array(rows)), array[rows])


def test_the_fixture_has_unequal_axes(lab):
    n_voxels = lab.mask.sum()
    assert len({*SHAPE, N_RUNS, N_TRIALS, n_voxels, len(STIMULI)}) == 6  # 7 stimuli with rest, 7 columns
    assert lab.matrix.shape == (N_RUNS * N_TRIALS, n_voxels)
