"""Values of vertices on fsaverage: scattered, saved, drawn; and that fsaverage5 is a part of it."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn import datasets
from nilearn import surface as nilearn_surface
from PIL import Image

from percept.files import PerceptError, write_parquet
from percept.voxels import surface

N_FSAVERAGE5, N_FSAVERAGE4 = 10_242, 2_562


@pytest.fixture
def voxels():
    return pd.DataFrame({"hemisphere": ["lh", "lh", "rh", "rh"], "vertex": [9, 163_841, 9, 0]})


def test_values_come_to_their_vertices_as_by_the_mask_of_all_vertices(voxels):
    """`surf[all_vertices != 0] = values`, where an overlap of the two masks is 2."""
    values = np.float32([1, 2, 4, 3])
    found = surface.scattered(values, voxels)
    for side, own in (("lh", [1, 2]), ("rh", [3, 4])):  # ascending vertices
        mask = np.zeros(surface.N_FSAVERAGE, int)
        mask[voxels["vertex"][voxels["hemisphere"] == side]] = [1, 2]
        expected = np.full(surface.N_FSAVERAGE, np.nan)
        expected[mask != 0] = own
        np.testing.assert_array_equal(found[side], expected)


@pytest.mark.parametrize("table", [{"hemisphere": ["lh"], "vertex": [-1]}, {"hemisphere": ["lh"]}])
def test_values_without_a_place_are_not_drawn_anywhere(table):
    with pytest.raises(PerceptError, match="all-vertices_fsaverage_space"):
        surface.scattered(np.ones(1), pd.DataFrame(table))


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_gifti_files_come_back_with_their_hemisphere(tmp_path, side):
    values = np.float32([0.5, np.nan, -2])
    surface.write_gifti(values, side, tmp_path / "map.func.gii")
    image = nib.load(tmp_path / "map.func.gii")
    np.testing.assert_array_equal(image.agg_data(), values)
    assert image.meta["AnatomicalStructurePrimary"] == surface.STRUCTURES[side]


@pytest.mark.parametrize("side", ["left", "right"])
def test_each_mesh_of_the_family_keeps_the_vertices_of_the_one_before(side):
    """The rule by which fsaverage5 is the first 10,242 vertices of fsaverage, seen where nilearn has both.

    In fsaverage5 every vertex beyond the 2,562 of fsaverage4 is the middle, on the sphere, of two of those,
    and none of those is a neighbour of another.
    """
    mesh = nilearn_surface.load_surf_mesh(datasets.fetch_surf_fsaverage("fsaverage5")[f"sphere_{side}"])
    points = mesh.coordinates / np.linalg.norm(mesh.coordinates, axis=1, keepdims=True)
    edges = np.unique(
        np.sort(np.concatenate([mesh.faces[:, pair] for pair in ([0, 1], [1, 2], [2, 0])])), axis=0
    )
    old = edges < N_FSAVERAGE4
    assert len(points) == N_FSAVERAGE5 and not old.all(axis=1).any()
    mixed = edges[old.any(axis=1)]  # (old, new), as sorted
    parents = mixed[np.argsort(mixed[:, 1], kind="stable"), 0].reshape(-1, 2)
    middle = points[parents].sum(axis=1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    np.testing.assert_allclose(points[N_FSAVERAGE4:], middle, atol=2e-4)  # edges are 0.04 long


def test_the_mesh_that_comes_with_nilearn_needs_nothing():
    mesh = surface.load_mesh()
    assert mesh.name == "fsaverage5" and mesh.n_vertices == N_FSAVERAGE5
    assert {side: len(values) for side, values in mesh.sulci.items()} == dict.fromkeys(
        surface.SIDES, N_FSAVERAGE5
    )


def test_a_folder_of_freesurfer_is_read(tmp_path):
    (tmp_path / "surf").mkdir()
    points = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    for side in surface.SIDES:
        nib.freesurfer.write_geometry(
            tmp_path / f"surf/{side}.inflated", points, np.array([[0, 1, 2], [1, 2, 3]])
        )
        nib.freesurfer.write_morph_data(tmp_path / f"surf/{side}.sulc", np.float32([1, 2, 3, 4]))
    mesh = surface.load_mesh(tmp_path)
    assert mesh.name == "fsaverage" and mesh.n_vertices == 4
    np.testing.assert_allclose(mesh.coordinates["rh"], points)
    np.testing.assert_allclose(mesh.sulci["lh"], [1, 2, 3, 4])


def test_a_folder_as_nilearn_fetches_it_is_read(tmp_path):
    found = datasets.fetch_surf_fsaverage("fsaverage5")
    for name in ("left", "right"):
        for part in ("infl", "sulc"):
            (tmp_path / f"{part}_{name}.gii.gz").symlink_to(found[f"{part}_{name}"])
    assert surface.load_mesh(tmp_path).n_vertices == N_FSAVERAGE5


def test_a_folder_without_surfaces_is_named(tmp_path):
    with pytest.raises(PerceptError, match=r"`dataset\.fsaverage` names .*lh\.inflated nor .*infl_left"):
        surface.load_mesh(tmp_path)


@pytest.mark.parametrize(("ceilings", "shown"), [(True, "challenge"), (False, "r")])
def test_maps_are_coloured_where_there_are_values_and_grey_elsewhere(tmp_path, ceilings, shown, monkeypatch):
    monkeypatch.setattr(surface, "VIEWS", ("lateral",))
    vertex = np.arange(3000)  # of fsaverage5: about three in ten
    table = pd.DataFrame({"hemisphere": "lh", "vertex": vertex, "r": 0.4, "noise_ceiling": np.nan})
    write_parquet(table.assign(challenge=60.0 if ceilings else np.nan), tmp_path / "vertices.parquet")
    surface.write_maps(tmp_path / "vertices.parquet", tmp_path / "maps", "subj01", tmp_path / "map.png")
    names = {path.name for path in (tmp_path / "maps").iterdir()}
    assert names == {f"{side}.{name}.func.gii" for side in ("lh", "rh") for name in {"r", shown}}
    pixels = np.asarray(Image.open(tmp_path / "map.png").convert("RGB")).astype(int)
    left, right = np.split(pixels[int(0.12 * len(pixels)) :], [int(0.46 * len(pixels))])
    coloured = [(np.ptp(half, axis=-1) > 60).mean() for half in (left, right)]
    assert coloured[0] > 0.005 and coloured[1] < 0.0005  # nothing of the right hemisphere was measured
    assert (right.min(axis=-1) < 200).mean() > 0.05  # its sulci are there
