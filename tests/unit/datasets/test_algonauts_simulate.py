"""The simulated challenge is a tree like the released one, with the information that was asked for."""

import numpy as np
import pytest
from PIL import Image

from percept.datasets import algonauts, scenes
from percept.datasets.algonauts import responses, simulate, tree
from percept.datasets.algonauts_config import AlgonautsDataset
from percept.datasets.twin import model

N_TRAIN, N_TEST = 30, 9


def settings(root, **changes):
    simulation = {
        "train_images": N_TRAIN,
        "test_images": N_TEST,
        "volume": (13, 15, 11),
        "bits": 5.0,
        **changes,
    }
    return AlgonautsDataset(kind="algonauts", root=str(root), subjects=("subj01", "p2"), simulate=simulation)


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    made = settings(tmp_path_factory.mktemp("simulated"))
    simulate.write(made)
    return made


@pytest.fixture(scope="module")
def read(ds):
    return {subject: algonauts.read_subject(ds, subject) for subject in ds.subjects}


def test_everything_that_planning_expects_is_written(ds):
    promised = [ds.folder(subject) / part for subject in ds.subjects for part in ds.simulated()]
    assert all(path.exists() for path in promised) and len(promised) > 40


def test_images_are_the_scenes_of_their_ids(ds):
    one = tree.parts(ds, "p2")["test"][4]
    with Image.open(one.path) as image:
        np.testing.assert_array_equal(image, scenes.paint(scenes.compose(0, one.stimulus)))


def test_rows_ascend_by_nsd_id_as_in_the_release(read):
    for _, trials, _ in read.values():
        for _, part in trials.groupby("part"):
            assert part["stimulus"].is_monotonic_increasing


@pytest.mark.parametrize("side", ["lh", "rh"])
def test_vertices_lie_at_the_back_of_fsaverage5(read, side):
    _, _, voxels = read["subj01"]
    vertex = voxels["vertex"][voxels["hemisphere"] == side]
    assert vertex.is_monotonic_increasing and vertex.max() < 10_242 and vertex.is_unique


def test_the_last_of_several_subjects_lacks_a_region_and_has_a_vertex_of_nan(read):
    atlas, region = simulate.EMPTY
    carried = {
        subject: (voxels[atlas.replace("-", "_")] == region).any() for subject, (*_, voxels) in read.items()
    }
    assert carried == {"subj01": True, "p2": False}
    invalid = {subject: (~voxels["valid"]).sum() for subject, (*_, voxels) in read.items()}
    assert invalid == {"subj01": 0, "p2": 1}


def test_it_is_not_taken_for_the_released_subject(ds):
    assert responses.compare_with_release("subj01", (N_TRAIN, N_TEST, 100, 101)) == []


@pytest.mark.parametrize("changes", [{"test_fmri": False}, {"names": "renamed"}])
def test_what_planning_expects_follows_the_settings(tmp_path, changes):
    made = settings(tmp_path, **changes)
    parts = made.simulated()
    assert made.withholds_test("subj01") == ("test_fmri" in changes)
    assert any("test_fmri" in part for part in parts) != ("test_fmri" in changes)
    assert any("challenge_space" in part for part in parts) != ("names" in changes)


@pytest.mark.parametrize("n_repeats", [1, 3])
def test_noise_shrinks_with_the_root_of_the_repeats(n_repeats):
    """Zero features: what is left is W xi + L f + e, with the covariance of the model over the repeats."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 3))
    noise = model.Noise(np.full(5, 0.8), rng.normal(size=(5, 2)), 0.3 * np.eye(3))
    drawn = simulate._respond(weights, noise, np.zeros((60_000, 3)), np.full(60_000, n_repeats), rng)
    expected = 0.3 * weights @ weights.T + noise.shared @ noise.shared.T + 0.64 * np.eye(5)
    np.testing.assert_allclose(np.cov(drawn.T), expected / n_repeats, atol=0.06)


def test_a_brain_too_large_for_the_mesh_is_refused():
    with pytest.raises(ValueError, match="choose a smaller volume"):
        simulate._posterior("lh", 6000)
