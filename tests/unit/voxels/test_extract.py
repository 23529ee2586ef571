"""A subject's matrix and voxel table: what is in them, and what is said when they cannot be made."""

import shutil
import sys
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from percept.files import PerceptError
from percept.voxels import extract, roi, store

sys.path.append(str(Path(__file__).parents[1] / "datasets"))
import s3_server as server

SHAPE = (7, 8, 9)
BETAS_FOLDER = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"


@pytest.fixture
def run(dataset, voxels_config, tmp_path):
    """Extract with some settings of the two sections; returns folder and sessions."""

    def go(voxels=None, name="out", **settings):
        config = voxels_config(**(voxels or {}))
        return tmp_path / name, extract.extract_subject(
            dataset(**settings), config, "subj01", tmp_path / name
        )

    return go


@pytest.fixture
def copy(tree, tmp_path):
    """A copy of the tree that a test may damage."""
    shutil.copytree(tree.root, tmp_path / "nsd")
    return tmp_path / "nsd"


def union(tree, *atlases):
    return np.any([tree.rois[atlas] > 0 for atlas in atlases], axis=0)


def stacked(tree, inside):
    """Betas of the masked voxels of both sessions, by plain indexing: (trial, voxel)."""
    return np.concatenate([tree.betas[session][inside].T for session in (1, 2)])


@pytest.mark.parametrize("form", ["nii.gz", "hdf5"])
def test_betas_are_the_raw_integers_in_c_order_of_the_union(run, tree, form):
    folder, sessions = run({"invalid": "zero"}, format=form)
    inside = union(tree, "nsdgeneral", "prf-visualrois", "floc-faces")
    assert sessions == [1, 2]
    stored = store.read_betas(folder, raw=True)
    assert stored.dtype == np.int16
    np.testing.assert_array_equal(stored, stacked(tree, inside))
    voxels = store.read_voxels(folder)
    np.testing.assert_array_equal(voxels[["i", "j", "k"]], np.argwhere(inside))


def test_a_mask_is_what_is_labelled_and_not_what_differs_from_zero(run, tree):
    folder, _ = run({"extract": ("nsdgeneral",), "invalid": "zero"})
    assert store.extent(folder)[1] == (tree.rois["nsdgeneral"] > 0).sum()
    assert store.extent(folder)[1] < (tree.rois["nsdgeneral"] != 0).sum()


def test_the_table_names_the_labels_of_every_atlas(run, tree):
    folder, _ = run({"invalid": "zero"})
    voxels = store.read_voxels(folder)
    numbers = tree.rois["prf-visualrois"][voxels["i"], voxels["j"], voxels["k"]]
    names = ["V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"]
    expected = [names[number - 1] if number > 0 else "" for number in numbers]
    assert voxels["prf_visualrois"].fillna("").tolist() == expected
    assert voxels["nsdgeneral"].notna().sum() == (tree.rois["nsdgeneral"] > 0).sum()
    assert {"i", "j", "k"} <= set(voxels.columns)
    assert voxels["i"].dtype == voxels["n_sessions"].dtype == np.int16


def test_ncsnr_is_that_of_the_release_at_the_place_of_the_voxel(run, tree):
    folder, _ = run({"invalid": "zero"})
    voxels = store.read_voxels(folder)
    expected = tree.ncsnr[voxels["i"], voxels["j"], voxels["k"]].astype(np.float32)
    np.testing.assert_array_equal(voxels["ncsnr"], expected)
    assert voxels["ncsnr"].isna().sum() == 1


def test_session_statistics_are_those_of_numpy_in_double_precision(run, tree):
    folder, _ = run({"invalid": "zero"})
    stats = store.read_statistics(folder)
    inside = union(tree, "nsdgeneral", "prf-visualrois", "floc-faces")
    assert stats.scale == 300
    np.testing.assert_array_equal(stats.sessions, [1, 2])
    for row, session in enumerate((1, 2)):
        raw = tree.betas[session][inside].astype(float)
        np.testing.assert_allclose(stats.mean[row], raw.mean(axis=1), rtol=1e-6)
        np.testing.assert_allclose(stats.sd[row], raw.std(axis=1), rtol=1e-6)


def place(voxels, ijk):
    return (voxels[["i", "j", "k"]] == np.array(ijk)).all(axis=1)


def test_zero_keeps_invalid_voxels_and_flags_them(run, tree):
    voxels = store.read_voxels(run({"invalid": "zero"})[0])
    for kind, n_valid in {"zero": 1, "constant": 1, "no_ncsnr": 2}.items():
        row = voxels[place(voxels, tree.bad[kind])].iloc[0]
        assert (row["n_valid_sessions"], row["n_sessions"], row["valid"]) == (n_valid, 2, False)
    assert (~voxels["valid"]).sum() == 3


def test_drop_leaves_exactly_the_invalid_voxels_out_of_matrix_table_and_statistics(run, tree):
    all_folder, _ = run({"invalid": "zero"}, name="all")
    folder, _ = run({"invalid": "drop"})
    everything, voxels = store.read_voxels(all_folder), store.read_voxels(folder)
    keep = everything["valid"].to_numpy()
    assert len(voxels) == len(everything) - 3
    pd.testing.assert_frame_equal(voxels, everything[keep].reset_index(drop=True))
    np.testing.assert_array_equal(
        store.read_betas(folder, raw=True), store.read_betas(all_folder, raw=True, columns=keep)
    )
    np.testing.assert_array_equal(
        store.read_statistics(folder).sd, store.read_statistics(all_folder, keep).sd
    )


def test_voxels_that_are_invalid_in_no_session_used_are_kept(run):
    voxels = store.read_voxels(run({"invalid": "zero"}, sessions=1)[0])
    assert (~voxels["valid"]).sum() == 1  # only the one without ncsnr


def test_a_session_flagged_by_the_release_counts_as_invalid(copy, dataset, voxels_config, tmp_path, tree):
    path = copy / "nsddata/ppdata/subj01/func1pt8mm/valid_session01.nii.gz"
    image = nib.load(path)
    flags = np.asarray(image.dataobj).copy()
    where = tuple(np.argwhere(tree.rois["nsdgeneral"] > 0)[20])
    flags[where] = 0
    nib.save(nib.Nifti1Image(flags, image.affine), path)
    extract.extract_subject(
        dataset(root=str(copy)), voxels_config(invalid="zero"), "subj01", tmp_path / "out"
    )
    voxels = store.read_voxels(tmp_path / "out")
    assert voxels.loc[place(voxels, where), "n_valid_sessions"].item() == 1


@pytest.mark.parametrize("sessions", [1, 2])
def test_error_refuses_a_voxel_without_ncsnr(run, sessions):
    with pytest.raises(PerceptError, match=r"ncsnr\.nii\.gz \(NaN there\): 1 of \d+ extracted voxels"):
        run({"invalid": "error"}, sessions=sessions)


def test_error_refuses_constant_voxels_with_subject_session_and_place(
    copy, dataset, voxels_config, tmp_path, tree
):
    image = nib.load(copy / BETAS_FOLDER / "ncsnr.nii.gz")
    nib.save(nib.Nifti1Image(np.full(SHAPE, 0.3, np.float32), image.affine), image.get_filename())
    ijk = ", ".join(map(str, tree.bad["zero"]))
    with pytest.raises(PerceptError, match=rf"subj01, session 2: 2 of \d+ .*first: \({ijk}\)"):
        extract.extract_subject(
            dataset(root=str(copy)), voxels_config(invalid="error"), "subj01", tmp_path / "o"
        )
    assert not list((tmp_path / "o").iterdir())


def test_a_subject_without_any_valid_voxel_is_refused(copy, dataset, voxels_config, tmp_path):
    image = nib.load(copy / BETAS_FOLDER / "ncsnr.nii.gz")
    nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan, np.float32), image.affine), image.get_filename())
    with pytest.raises(PerceptError, match=r"none of the \d+ extracted voxels of subj01 is valid"):
        extract.extract_subject(dataset(root=str(copy)), voxels_config(), "subj01", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("form", ["nii.gz", "hdf5"])
def test_a_missing_session_is_an_error_unless_it_may_be_skipped(copy, dataset, voxels_config, tmp_path, form):
    (copy / BETAS_FOLDER / f"betas_session01.{form}").unlink()
    ds = dataset(root=str(copy), format=form)
    with pytest.raises(PerceptError, match=rf"subj01 lack the sessions 1 of 2 .*betas_session01\.{form}"):
        extract.extract_subject(ds, voxels_config(), "subj01", tmp_path / "out")
    config = voxels_config(missing_sessions="skip")
    assert extract.extract_subject(ds, config, "subj01", tmp_path / "out") == [2]
    assert store.read_statistics(tmp_path / "out").sessions.tolist() == [2]
    assert store.extent(tmp_path / "out")[0] == 750
    (copy / BETAS_FOLDER / f"betas_session02.{form}").unlink()
    with pytest.raises(PerceptError, match="lack the sessions 1, 2 of 2"):
        extract.extract_subject(ds, config, "subj01", tmp_path / "other")


def test_a_damaged_session_is_named_and_leaves_nothing_behind(copy, dataset, voxels_config, tmp_path):
    path = copy / BETAS_FOLDER / "betas_session02.nii.gz"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(PerceptError, match=r"betas_session02\.nii\.gz \(subj01, session 2\) is truncated"):
        extract.extract_subject(dataset(root=str(copy)), voxels_config(), "subj01", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_betas_of_another_subject_are_refused(copy, dataset, voxels_config, tmp_path, files):
    files.nifti(copy / BETAS_FOLDER / "betas_session01.nii.gz", np.zeros((9, 8, 7, 750), np.int16))
    with pytest.raises(
        PerceptError, match=r"\(9, 8, 7, 750\), but the masks of the subject have \(7, 8, 9\)"
    ):
        extract.extract_subject(dataset(root=str(copy)), voxels_config(), "subj01", tmp_path / "out")


@pytest.mark.parametrize(
    ("extracted", "rois", "message"),
    [
        (("nsdgeneal",), {}, r"no ROI set 'nsdgeneal' \(did you mean 'nsdgeneral'"),
        (("mine",), {"mine": ("prf-visualroi:V1v",)}, "no ROI file 'prf-visualroi'.*prf-visualrois"),
        (("mine",), {"mine": ("prf-visualrois:V1",)}, "'prf-visualrois' has no label 'V1'.*'V1[vd]'"),
        (
            ("mine",),
            {"mine": ("floc-faces:aTL-faces",)},
            "labels floc-faces:aTL-faces select no voxel of subj01",
        ),
        (("all",), {}, "names only all"),
    ],
)
def test_sets_that_cannot_be_extracted_are_named(run, extracted, rois, message):
    with pytest.raises(PerceptError, match=message):
        run({"extract": extracted, "rois": rois})


def test_a_label_without_a_voxel_in_this_subject_is_legitimate(run, tree):
    folder, _ = run({"extract": ("faces", "nsdgeneral"), "rois": {"tip": ("floc-faces:aTL-faces",)}})
    voxels = store.read_voxels(folder)
    assert "aTL-faces" in voxels.attrs["labels"]["floc_faces"]
    assert not roi.members(voxels, ("floc-faces:aTL-faces",)).any()


def test_labels_with_a_slash_are_extracted_by_name(run, tree):
    rois = {"motion": ("Kastner2015:MST/TO2", "Kastner2015:hMT/TO1")}
    folder, _ = run({"extract": ("motion",), "rois": rois, "invalid": "zero"})
    assert store.extent(folder)[1] == np.isin(tree.rois["Kastner2015"], (12, 13)).sum()


@pytest.mark.parametrize("form", ["nii.gz", "hdf5"])
def test_more_sessions_need_no_more_memory(copy, dataset, voxels_config, tmp_path, form):
    for session in (3, 4, 5, 6):
        shutil.copy(
            copy / BETAS_FOLDER / f"betas_session01.{form}",
            copy / BETAS_FOLDER / f"betas_session0{session}.{form}",
        )

    def peak(n_sessions):
        ds = dataset(root=str(copy), sessions=n_sessions, format=form)
        tracemalloc.start()
        extract.extract_subject(ds, voxels_config(invalid="zero"), "subj01", tmp_path / f"out{n_sessions}")
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(1)  # imports and caches
    one_session = store.extent(tmp_path / "out1")[1] * 750 * 2
    assert peak(6) - peak(2) < one_session


def test_the_folder_holds_two_files_and_nothing_else(run):
    folder, _ = run()
    assert sorted(path.name for path in Path(folder).iterdir()) == ["betas.h5", "voxels.parquet"]


@pytest.fixture(scope="module")
def s3(tree):
    with server.running() as running:
        for session in (1, 2):
            name = f"betas_session0{session}.hdf5"
            running.put(f"{BETAS_FOLDER}/{name}", (tree.folder / name).read_bytes())
        yield running


def test_ranges_of_the_bucket_give_the_same_bits_as_local_files(run, s3):
    ranges = {"format": "hdf5-ranges", "terms_accepted": True, "download": s3.cfg()}
    far, _ = run({"invalid": "zero"}, name="far", **ranges)
    near, _ = run({"invalid": "zero"}, name="near", format="nii.gz")
    np.testing.assert_array_equal(store.read_betas(far, raw=True), store.read_betas(near, raw=True))
    np.testing.assert_array_equal(store.read_statistics(far).sd, store.read_statistics(near).sd)


def test_ranges_need_the_terms(run, s3):
    with pytest.raises(PerceptError, match="Data Access Agreement"):
        run(format="hdf5-ranges", download=s3.cfg())


def test_a_session_that_the_bucket_lacks_is_an_error_or_skipped(run, s3):
    ranges = {"format": "hdf5-ranges", "terms_accepted": True, "download": s3.cfg(), "sessions": 3}
    with pytest.raises(PerceptError, match=r"subj01 lack the sessions 3 of 3 .*betas_session03\.hdf5"):
        run(name="strict", **ranges)
    assert run({"missing_sessions": "skip"}, name="lenient", **ranges)[1] == [1, 2]


def test_ranges_without_a_download_read_the_users_own_files(run, tree):
    settings = {"format": "hdf5-ranges", "download": {"enabled": False}}
    folder, _ = run({"extract": ("nsdgeneral",), "invalid": "zero"}, **settings)
    inside = tree.rois["nsdgeneral"] > 0
    np.testing.assert_array_equal(store.read_betas(folder, raw=True), stacked(tree, inside))
