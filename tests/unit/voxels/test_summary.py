"""The summary figure shows each voxel at its place and each ROI set with its count."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from percept.files import PerceptError
from percept.voxels import extract, store, summary

SHAPE = (20, 24, 18)  # the demo's


def affine(signs, size=1.8):
    """Diagonal, origin in the middle of the volume, axes growing or falling as `signs`."""
    matrix = np.diag([*(np.array(signs) * size), 1.0])
    matrix[:3, 3] = -matrix[:3, :3] @ (np.array(SHAPE) - 1) / 2
    return matrix


def background(signs=(1, 1, 1)):
    anatomy = np.zeros(SHAPE, np.float32)
    anatomy[2:-2, 3:-3, 2:-2] = 700
    return nib.Nifti1Image(anatomy, affine(signs))


def table(n=60, seed=0):
    rng = np.random.default_rng(seed)
    ijk = np.unravel_index(np.sort(rng.choice(np.prod(SHAPE), n, replace=False)), SHAPE)
    voxels = pd.DataFrame({axis: where.astype(np.int16) for axis, where in zip("ijk", ijk, strict=True)})
    areas = pd.Series(rng.choice(["V1v", "hV4", None], n), dtype="str")
    return voxels.assign(
        prf_visualrois=areas,
        ncsnr=rng.uniform(0.1, 1, n).astype(np.float32),
        n_sessions=np.int16(3),
        valid=True,
    )


def texts(figure):
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [text.get_text() for text in (*axes.texts, *axes.get_yticklabels(), axes.title)]
        found.append(axes.get_title(loc="left"))
    return " | ".join(found)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_each_voxel_is_drawn_at_its_place_in_the_world(signs):
    voxels = table()
    ncsnr, anatomy, to_mm = summary.volumes(voxels, background(signs))
    assert ncsnr.shape == anatomy.shape == SHAPE
    assert (np.diag(to_mm)[:3] > 0).all()  # to the right, to the front, upwards
    assert np.isfinite(ncsnr).sum() == len(voxels)
    places = np.c_[voxels[["i", "j", "k"]], np.ones(len(voxels))] @ affine(signs).T
    back = np.rint(places @ np.linalg.inv(to_mm).T).astype(int)
    np.testing.assert_array_equal(ncsnr[tuple(back[:, :3].T)], voxels["ncsnr"])


def test_a_voxel_without_ncsnr_is_left_blank():
    voxels = table()
    voxels.loc[3, "ncsnr"] = np.nan
    ncsnr, _, _ = summary.volumes(voxels, background())
    assert np.isfinite(ncsnr).sum() == len(voxels) - 1


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 60), n_cuts=st.integers(1, 8))
def test_cuts_go_through_mapped_slices_upwards_and_never_twice(seed, n, n_cuts):
    voxels = table(n, seed)
    ncsnr, _, _ = summary.volumes(voxels, background())
    slices = summary.cuts(ncsnr, n_cuts)
    assert 1 <= len(slices) <= n_cuts
    assert slices == sorted(set(slices))
    assert voxels["k"].min() <= slices[0] and slices[-1] <= voxels["k"].max()


@pytest.mark.parametrize(("low", "high"), [((0, 0), (3, 5)), ((4, 6), (8, 9)), ((6, 7), (6, 7))])
def test_the_crop_holds_everything_and_one_voxel_more(low, high):
    inside = np.zeros((7, 8, 9), bool)
    inside[low[0] : high[0] + 1, low[1] : high[1] + 1, 4] = True
    x, y = summary.crop(inside)
    assert inside[x, y].sum() == inside.sum()
    assert (x.start, y.start) == (max(0, low[0] - 1), max(0, low[1] - 1))
    assert inside[x, y].shape[:2] == (min(7, high[0] + 2) - x.start, min(8, high[1] + 2) - y.start)


def test_the_figure_tells_counts_voxels_sessions_and_ncsnr():
    voxels = table()
    shown = texts(summary.draw(voxels, "subj07", background(), {"mine": ("prf-visualrois:hV4",)}))
    n_v1, n_hv4 = ((voxels["prf_visualrois"] == area).sum() for area in ("V1v", "hV4"))
    for expected in (
        "subj07",
        "60 voxels extracted",
        "3 sessions",
        f" {n_v1}",
        f" {n_hv4}",
        "mine",
        "V1",
        "ncsnr",
    ):
        assert expected in shown
    assert f"median ncsnr {voxels['ncsnr'].median():.2f}" in shown
    assert "invalid" not in shown and "faces" not in shown


def test_invalid_voxels_are_counted():
    shown = texts(summary.draw(table().assign(valid=np.arange(60) > 3), "subj07", background()))
    assert "4 of them flagged invalid" in shown


@pytest.mark.parametrize("n", [1, 2, 400])
@pytest.mark.parametrize("with_background", [True, False])
def test_any_number_of_voxels_can_be_drawn(n, with_background):
    figure = summary.draw(table(n), "s", background() if with_background else None)
    cuts = [axes for axes in figure.axes if axes.get_title().startswith("z = ")]
    assert 1 <= len(cuts) <= summary.N_CUTS
    assert (" mm" in texts(figure)) == with_background


@pytest.mark.parametrize(
    "without", [["ncsnr"], ["i", "j", "k"], ["valid"], ["n_sessions"], ["prf_visualrois"]]
)
def test_data_without_coordinates_or_repeats_still_have_a_figure(without):
    figure = summary.draw(table().drop(columns=without), "own", None)
    has_map = any(axes.get_title().startswith("z = ") for axes in figure.axes)
    assert has_map == (without[0] not in {"ncsnr", "i"})
    assert "60 voxels extracted" in texts(figure)


def test_ncsnr_that_is_nan_everywhere_gives_no_map():
    figure = summary.draw(table().assign(ncsnr=np.float32(np.nan)), "own", background())
    assert len(figure.axes) == 1 and "median" not in texts(figure)


def test_a_background_of_another_subject_is_refused():
    small = nib.Nifti1Image(np.ones((7, 8, 9), np.float32), np.eye(4))
    with pytest.raises(PerceptError, match=r"shape \(7, 8, 9\), but there are voxels at \(\d+, \d+, \d+\)"):
        summary.draw(table(), "subj01", small)


@pytest.fixture(scope="module")
def extracted(tree, tmp_path_factory):
    from percept.config import NsdDataset, VoxelsConfig

    folder = tmp_path_factory.mktemp("voxels")
    ds = NsdDataset(kind="nsd", root=str(tree.root), subjects=("subj01",), sessions=2)
    extract.extract_subject(ds, VoxelsConfig(extract=("nsdgeneral", "faces")), "subj01", folder)
    return folder, tree.space / "mean.nii.gz"


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_file_is_written_from_an_extraction_and_equal_data_give_equal_bytes(extracted, tmp_path, suffix):
    folder, mean = extracted
    for name in ("a", "b"):
        summary.write(folder, tmp_path / f"{name}.{suffix}", "subj01", mean)
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_the_picture_is_large_and_not_blank(extracted, tmp_path):
    folder, mean = extracted
    summary.write(folder, tmp_path / "a.png", "subj01", mean)
    pixels = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert pixels.shape[1] == 1650
    coloured = np.ptp(pixels.astype(int), axis=2) > 40
    assert 0.02 < coloured.mean() < 0.5
    assert len(store.read_voxels(folder)) > 0


def test_an_unknown_format_is_named(extracted, tmp_path):
    with pytest.raises(PerceptError, match=r"a\.txt: a figure is written as \.png, \.svg, \.pdf"):
        summary.write(extracted[0], tmp_path / "a.txt", "subj01")
