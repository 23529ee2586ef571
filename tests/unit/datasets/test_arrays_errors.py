"""Own data: every mistake in a lab's files is named, with the files and the numbers that do not fit."""

import os

import h5py
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from percept.datasets import arrays
from percept.files import PerceptError
from tests.unit.datasets.arrays_lab import AFFINE, SHAPE, Lab


class MakesAFile:
    """Unpickling this makes a file: whether it was unpickled can be seen."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mknod, (self.path,)


def with_nan(lab):
    matrix = lab.matrix.copy()
    matrix[12, 3] = matrix[30, 3] = np.nan
    return lab.array("b.npy", matrix)


def ragged(lab):
    np.save(lab.path("b.npy"), np.array([MakesAFile(lab.path("unpickled"))]), allow_pickle=True)
    return lab.path("b.npy")


def two_arrays(lab):
    path = lab.array("b.h5", lab.matrix)
    with h5py.File(path, "a") as file:
        file["g/other"] = np.zeros(3)
    return path


def truncated(lab, name):
    path = lab.nifti(name, lab.volumes) if "nii" in name else lab.array(name, lab.matrix)
    with open(path, "r+b") as file:
        file.truncate(os.path.getsize(path) // 2)
    return path


def text(lab, name):
    (lab.folder / name).write_text("these are no betas")
    return lab.path(name)


SHIFTED = AFFINE + np.array([[0, 0, 0, 5], *np.zeros((3, 4))])

BETAS = {
    "rows of matrix and table": (
        lambda lab: {"path": lab.array("b.npy", lab.matrix[:54])},
        r"b\.npy has 54 trials, .*trials\.csv has 55 rows",
    ),
    "volumes and table": (
        lambda lab: {"path": lab.nifti("b.nii.gz", lab.volumes[..., :50])},
        r"b\.nii\.gz has 50 trials, .*trials\.csv has 55 rows",
    ),
    "mask of another shape": (
        lambda lab: {
            "path": lab.nifti("b.nii", lab.volumes),
            "mask": lab.nifti("m.nii", lab.mask.astype(np.uint8).transpose(1, 0, 2)),
        },
        r"m\.nii has the shape \(8, 7, 9\) and .*b\.nii \(7, 8, 9\)",
    ),
    "mask elsewhere": (
        lambda lab: {
            "path": lab.nifti("b.nii", lab.volumes),
            "mask": lab.nifti("m.nii", lab.mask.astype(np.uint8), SHIFTED),
        },
        "same shape but different affines",
    ),
    "mask of four axes": (
        lambda lab: {"path": lab.nifti("b.nii", lab.volumes), "mask": lab.nifti("m.nii", lab.volumes)},
        r"m\.nii has the shape \(7, 8, 9, 55\), but a mask or atlas is one volume",
    ),
    "empty mask": (
        lambda lab: {
            "path": lab.nifti("b.nii", lab.volumes),
            "mask": lab.nifti("m.nii", np.zeros(SHAPE, np.uint8)),
        },
        "holds no voxel",
    ),
    "nothing varies": (
        lambda lab: {"path": lab.nifti("b.nii", np.ones_like(lab.volumes))},
        "the mask nonzero of .*b.nii holds no voxel",
    ),
    "runs of another shape": (
        lambda lab: {"path": [lab.nifti("a.nii", lab.volumes), lab.nifti("b.nii", lab.volumes[:6])]},
        r"b\.nii has the shape \(6, 8, 9\) and .*a\.nii \(7, 8, 9\)",
    ),
    "mask for a matrix": (
        lambda lab: {"path": lab.array("b.npy", lab.matrix), "mask": "m.nii"},
        "is a matrix .* to which no mask 'm.nii' can be applied",
    ),
    "matrix and volumes": (
        lambda lab: {"path": [lab.array("b.npy", lab.matrix), lab.nifti("b.nii", lab.volumes)]},
        "mixes matrices and volumes",
    ),
    "matrices of unequal width": (
        lambda lab: {"path": [lab.array("a.npy", lab.matrix), lab.array("b.npy", lab.matrix[:, 1:])]},
        r"b\.npy has \d+ voxels and .*a\.npy \d+",
    ),
    "three axes": (
        lambda lab: {"path": lab.array("b.npy", lab.matrix[None])},
        r"has the shape \(1, 55, \d+\), but betas are a matrix",
    ),
    "one volume": (
        lambda lab: {"path": lab.nifti("b.nii", lab.volumes[..., 0])},
        r"has the shape \(7, 8, 9\), but volumes as trials need four axes",
    ),
    "NaN": (
        lambda lab: {"path": with_nan(lab)},
        r"NaN or infinite values in 1 of \d+ voxels and 2 of 55 trials; the first is in row 12, voxel 3",
    ),
    "NaN in volumes": (
        lambda lab: {
            "path": lab.nifti("b.nii", np.where(lab.volumes == lab.volumes.max(), np.inf, lab.volumes))
        },
        r"NaN or infinite values in 1 of \d+ voxels and 1 of 55",
    ),
    "pickled": (lambda lab: {"path": ragged(lab)}, r"b\.npy is not a plain npy array.*Pickled arrays"),
    "text in npy": (lambda lab: {"path": text(lab, "b.npy")}, "is not a plain npy array"),
    "strings": (
        lambda lab: {"path": lab.array("b.npy", lab.matrix.astype(str))},
        "holds values of type <U.*real numbers",
    ),
    "complex": (lambda lab: {"path": lab.array("b.npy", lab.matrix * 1j)}, "values of type complex64"),
    "a text column in parquet": (
        lambda lab: {"path": lab.table("b.parquet", lab.trials)},
        "values of type object",
    ),
    "cells in mat": (
        lambda lab: {"path": lab.array("old.mat", np.array([lab.matrix, "a"], dtype=object))},
        "values of type object",
    ),
    "two arrays in h5": (lambda lab: {"path": two_arrays(lab)}, "no array is named .*holds betas, g/other"),
    "absent variable in h5": (
        lambda lab: {"path": lab.array("b.h5", lab.matrix), "variable": "beta"},
        "there is no array 'beta'; the file holds betas",
    ),
    "absent variable in mat": (
        lambda lab: {"path": lab.array("old.mat", lab.matrix), "variable": "beta"},
        "there is no array 'beta'; the file holds betas",
    ),
    "absent variable in mat 7.3": (
        lambda lab: {"path": lab.array("new.mat", lab.matrix), "variable": "beta"},
        "there is no array 'beta'; the file holds betas",
    ),
    "truncated h5": (lambda lab: {"path": truncated(lab, "b.h5")}, "b.h5 is not readable as HDF5"),
    "truncated parquet": (lambda lab: {"path": truncated(lab, "b.parquet")}, "b.parquet is not readable"),
    "truncated npy": (lambda lab: {"path": truncated(lab, "b.npy")}, "b.npy is not a plain npy array"),
    "truncated nii.gz": (lambda lab: {"path": truncated(lab, "b.nii.gz")}, "cannot be read to its end"),
    "truncated nii": (lambda lab: {"path": truncated(lab, "b.nii")}, "cannot be read to its end"),
    "truncated mat": (lambda lab: {"path": truncated(lab, "old.mat")}, "is not readable as a mat file"),
    "no NIfTI": (lambda lab: {"path": text(lab, "b.nii")}, "is not readable as NIfTI"),
    "absent": (
        lambda lab: {"path": lab.path("absent.npy")},
        r"absent\.npy is not there \(paths are relative to",
    ),
    "absent volumes": (lambda lab: {"path": lab.path("absent.nii.gz")}, r"absent\.nii\.gz is not there"),
    "unknown format": (lambda lab: {"path": text(lab, "b.xlsx")}, r"not from \.xlsx"),
}


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


@pytest.mark.parametrize(("betas", "message"), BETAS.values(), ids=BETAS)
def test_betas_that_cannot_be_used_are_named(lab, betas, message):
    with pytest.raises(PerceptError, match=message):
        arrays.read_subject(lab.dataset(betas=betas(lab)), "s1")
    assert not (lab.folder / "unpickled").exists()


TRIALS = {
    "no such column": (
        lambda table: table.rename(columns={"run": "block"}),
        {},
        r"\(subject s1\) has no column 'run'; its columns are stimulus, block",
    ),
    "no column of that name": (
        lambda table: table,
        {"columns": {"session": "day"}},
        "has no column 'day'; its columns are stimulus, run",
    ),
    "too few names": (
        lambda table: table,
        {"names": ["stimulus"]},
        r"has 2 columns, but .* lists 1 \(stimulus\)",
    ),
    "a gap": (
        lambda table: table.assign(stimulus=table.stimulus.replace("cat", "")),
        {},
        "rows have no stimulus",
    ),
    "run is text": (
        lambda table: table.assign(run="first"),
        {},
        "column 'run', used as run, .* first is 'first'",
    ),
    "run is missing": (lambda table: table.assign(run=""), {}, "must hold whole numbers"),
    "half a run": (lambda table: table.assign(run=1.5), {}, "must hold whole numbers"),
    "a huge run": (lambda table: table.assign(run=40000), {}, "whole numbers up to 32767"),
    "session under another name": (
        lambda table: table.assign(day="monday"),
        {"columns": {"session": "day"}},
        "column 'day', used as session",
    ),
    "nothing left": (lambda table: table.assign(stimulus="rest"), {}, "no trial remains after"),
    "a repeat twice": (
        lambda table: table.assign(repeat=0),
        {},
        r"repeat 0 of stimulus '\w+' occurs more than once \(again in row \d+",
    ),
    "an unknown split": (
        lambda table: table.assign(split="dev"),
        {},
        "'dev' in row 0 .* is no split; there are train",
    ),
}


@pytest.mark.parametrize(("change", "settings", "message"), TRIALS.values(), ids=TRIALS)
def test_trial_tables_that_cannot_be_used_are_named(lab, change, settings, message):
    trials = {"path": lab.table("t.csv", change(lab.trials)), "leave_out": ["rest"]} | settings
    with pytest.raises(PerceptError, match=message):
        arrays.read_subject(lab.dataset(trials=trials), "s1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "t.csv is not readable as a table"),
        ("t.csv", b"run,stimulus\n1,a,b,c\n2,a\n1,2,3,4,5\n", "t.csv is not readable as a table"),
        ("t.txt", b"\xff\xfe\x00\x81", "t.txt is not readable as a table"),
        ("t.parquet", b"PAR1", "t.parquet is not readable as parquet"),
    ],
)
def test_damaged_tables_are_named(lab, name, content, message):
    (lab.folder / name).write_bytes(content)
    with pytest.raises(PerceptError, match=message):
        arrays.read_subject(lab.dataset(trials={"path": lab.path(name)}), "s1")


def test_missing_stimuli_in_parquet_are_named(lab):
    path = lab.table("t.parquet", lab.trials.assign(stimulus=lab.trials.stimulus.replace("cat", None)))
    with pytest.raises(PerceptError, match="some rows have no stimulus"):
        arrays.read_subject(lab.dataset(trials={"path": path}), "s1")


def test_a_run_that_is_interrupted_cannot_be_detrended(lab):
    path = lab.table("t.csv", lab.trials.assign(run=np.resize([1, 1, 1, 2], 55)))
    betas = {"path": lab.array("b.npy", lab.matrix), "detrend": "linear"}
    with pytest.raises(PerceptError, match=r"run 1 of session 1 goes on in row 4 .* after another run"):
        arrays.read_subject(lab.dataset(betas=betas, trials={"path": path}), "s1")


def moved(lab):
    return lab.voxels.assign(i=lab.voxels.i.to_numpy()[::-1])


def doubled(lab):
    return lab.voxels.iloc[[0, 1, 1, *range(3, len(lab.voxels))]]


VOXELS = {
    "rows": (
        lambda lab: {"voxels": lab.table("v.csv", lab.voxels[1:])},
        r"v\.csv has \d+ rows, but the betas of",
    ),
    "twice": (lambda lab: {"voxels": lab.table("v.csv", doubled(lab))}, "voxel 2 .* of an earlier one"),
    "two columns": (
        lambda lab: {"voxels": lab.array("v.npy", np.argwhere(lab.mask)[:, :2])},
        r"v\.npy has the shape \(\d+, 2\), but coordinates",
    ),
    "text coordinates": (
        lambda lab: {"voxels": lab.table("v.csv", lab.voxels.assign(j="left"))},
        "column 'j' must hold numbers",
    ),
    "text ncsnr": (
        lambda lab: {"voxels": lab.table("v.csv", lab.voxels.assign(ncsnr="high"))},
        "column 'ncsnr' must hold numbers",
    ),
    "other voxels than the mask": (
        lambda lab: {
            "betas": {"path": lab.nifti("b.nii", lab.volumes)},
            "voxels": lab.table("v.csv", moved(lab)),
        },
        "voxel 0 .* has the coordinates .* but in the masked volumes it is",
    ),
    "labels of other voxels": (
        lambda lab: {"rois": {"a": {"path": lab.array("a.npy", np.ones(3))}}},
        r"a\.npy has 3 labels, but there are \d+ voxels",
    ),
    "labels that are no numbers of areas": (
        lambda lab: {"rois": {"a": {"path": lab.array("a.npy", np.full(lab.matrix.shape[1], 1.5))}}},
        "no whole numbers",
    ),
    "atlas of another shape": (
        lambda lab: {
            "betas": {"path": lab.nifti("b.nii", lab.volumes)},
            "rois": {"a": {"path": lab.nifti("a.nii", lab.atlas[:, :7].astype(np.int16))}},
        },
        r"a\.nii has the shape \(7, 7, 9\) and .*b\.nii \(7, 8, 9\)",
    ),
    "atlas without coordinates": (
        lambda lab: {"rois": {"a": {"path": lab.nifti("a.nii", lab.atlas.astype(np.int16))}}},
        r"voxels of subject s1 lie at \[-1 -1 -1\].*needs the coordinates of every voxel",
    ),
    "atlas too small for the coordinates": (
        lambda lab: {
            "voxels": lab.table("v.csv", lab.voxels),
            "rois": {"a": {"path": lab.nifti("a.nii", lab.atlas[:4].astype(np.int16))}},
        },
        r"a\.nii has the shape \(4, 8, 9\), but the voxels",
    ),
}


@pytest.mark.parametrize(("changes", "message"), VOXELS.values(), ids=VOXELS)
def test_voxels_and_areas_that_do_not_fit_are_named(lab, changes, message):
    with pytest.raises(PerceptError, match=message):
        arrays.read_subject(lab.dataset(**changes(lab)), "s1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"betas": {"path": "{subj}/b.npy"}}, r"has the placeholder \{subj\}; the only one is \{subject\}"),
        ({"betas": {"path": ["{}.npy"]}}, "the only one is {subject}"),
        ({"voxels": "v{.csv"}, "unmatched braces"),
        ({"subjects": ["s1", "s2", "s1"]}, "subject 's1' is listed more than once"),
        ({"subjects": []}, "at least 1 item"),
        ({"rois": {"valid": {"path": "a.npy"}}}, "an atlas cannot be called 'valid'"),
        ({"trials": {"path": "t.csv", "columns": {"image": "x"}}}, "columns.image"),
        ({"betas": {"path": "b.npy", "scale": 0}}, "greater than 0"),
        ({"beta": {}}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(lab, changes, message):
    with pytest.raises(ValidationError, match=message):
        lab.dataset(**changes)


def test_a_volume_of_nan_alone_is_reported_and_not_masked(lab):
    lab.volumes[0, 0, 0] = np.nan
    with pytest.raises(PerceptError, match=r"NaN or infinite values in 1 of \d+ voxels and 55 of 55 trials"):
        arrays.read_subject(lab.dataset(betas={"path": lab.nifti("b.nii", lab.volumes)}), "s1")


def test_the_errors_above_are_not_of_the_fixture(lab):
    betas, trials, voxels = arrays.read_subject(lab.dataset(), "s1")
    assert betas.shape == (len(trials), len(voxels))
    assert isinstance(lab.trials, pd.DataFrame)
