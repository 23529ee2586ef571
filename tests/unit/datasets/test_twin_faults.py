"""Planted faults: in the files they are visible by the sign that is documented, without them nothing is."""

from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from percept.config import TwinDataset
from percept.datasets.twin import design as experiment
from percept.datasets.twin import faults, simulate, write

SUBJECTS = ("subj01", "subj02")
VOLUMES = {"subj01": (9, 11, 10), "subj02": (10, 9, 11)}
CLEAN, LEAK, SHUFFLE = (), ("leaked-test-image",), ("shuffled-trials",)


def twin(root, planted, subjects=("subj01",)):
    return TwinDataset(
        kind="twin",
        root=str(root),
        subjects=subjects,
        volumes=VOLUMES,
        sessions=1,
        shared_images=50,
        bits=8,
        faults=planted,
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Root by fault; the leak has images of its own, the other two share theirs."""
    roots = {planted: tmp_path_factory.mktemp("twin") for planted in (CLEAN, LEAK, SHUFFLE)}
    for planted in (CLEAN, LEAK):
        write.write_experiment(twin(roots[planted], planted), roots[planted])
    (roots[SHUFFLE] / "truth").symlink_to(roots[CLEAN] / "truth")
    for planted, root in roots.items():
        write.write_subject(twin(root, planted), root, "subj01")
    return roots


def data(root):
    """Betas (trial, voxel) int16, their 0-based ids, the released ncsnr of the same voxels."""
    folder = Path(root) / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    volume = np.asanyarray(nib.load(folder / "betas_session01.nii.gz").dataobj)
    general = Path(root) / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"
    mask = (np.asanyarray(nib.load(general).dataobj) > 0) & volume.any(axis=3)
    table = pd.read_csv(Path(root) / "nsddata/ppdata/subj01/behav/responses.tsv", sep="\t")
    released = np.asanyarray(nib.load(folder / "ncsnr.nii.gz").dataobj)[mask]
    return volume[mask].T, table["73KID"].to_numpy(np.int32) - 1, released


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_leak_pairs_a_shared_image_with_an_own_one(subject):
    ds = twin("nowhere", LEAK, SUBJECTS)
    design = experiment.of(ds)
    source, copy = faults.leaks(ds, design)[subject]
    shown = experiment.shown(design, subject, 1)
    assert source in design.shared and copy not in design.shared
    assert (shown == source).sum() == (shown == copy).sum() == 3


@pytest.mark.parametrize("planted", [CLEAN, SHUFFLE, ("statistics-from-test", "swapped-direction")])
def test_no_image_leaks_unless_asked(planted):
    ds = twin("nowhere", planted)
    assert faults.leaks(ds, experiment.of(ds)) == {}


@pytest.mark.parametrize(("planted", "n_equal"), [(CLEAN, 0), (LEAK, 1)])
def test_a_leak_shows_as_equal_pixels_and_responses_under_two_ids(written, planted, n_equal):
    betas, shown, _ = data(written[planted])
    first = {image: np.flatnonzero(shown == image) for image in np.unique(shown)}
    keys = {}
    for image, rows in first.items():
        keys.setdefault(betas[rows].tobytes(), []).append(int(image))
    pairs = [images for images in keys.values() if len(images) > 1]
    assert len(pairs) == n_equal
    shared = experiment.of(twin("nowhere", planted)).shared
    for pair in pairs:
        assert sorted(np.isin(pair, shared)) == [False, True]
        with h5py.File(written[planted] / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
            np.testing.assert_array_equal(file["imgBrick"][pair[0]], file["imgBrick"][pair[1]])


@pytest.mark.parametrize(("planted", "agrees"), [(CLEAN, True), (LEAK, True), (SHUFFLE, False)])
def test_shuffled_trials_show_against_the_released_noise_ceiling(written, planted, agrees):
    betas, shown, released = data(written[planted])
    recomputed = simulate.ncsnr(betas, shown)
    if agrees:
        np.testing.assert_allclose(recomputed, released, atol=1e-4)
    else:
        assert np.median(recomputed) < 0.5 * np.median(released)


def test_shuffling_only_reorders_and_stays_within_sessions(written):
    clean, shown, _ = data(written[CLEAN])
    shuffled, shown_then, _ = data(written[SHUFFLE])
    np.testing.assert_array_equal(shown, shown_then)  # every table is as it was
    np.testing.assert_array_equal(np.sort(clean, axis=0), np.sort(shuffled, axis=0))
    order = faults.shuffled_order(twin("nowhere", SHUFFLE), 4, 1).reshape(4, 750)
    assert (np.sort(order, axis=1) == np.arange(3000).reshape(4, 750)).all()
    assert (order == np.arange(3000).reshape(4, 750)).mean() < 0.02


def test_without_the_fault_trials_keep_their_order():
    np.testing.assert_array_equal(faults.shuffled_order(twin("nowhere", CLEAN), 2, 1), np.arange(1500))


def two_way(betas, shown):
    """How often is the last repeat nearer to its own image's others than to another's?"""
    z = simulate.zscore(betas)
    images, counts = np.unique(shown, return_counts=True)
    rows = np.stack([np.flatnonzero(shown == image) for image in images[counts == 3]])
    others, probe = z[rows[:, :2]].mean(axis=1), z[rows[:, 2]]
    similarity = np.corrcoef(probe, others)[: len(rows), len(rows) :]
    return (np.diag(similarity)[:, None] > similarity).sum() / (len(rows) * (len(rows) - 1))


@pytest.mark.parametrize(("planted", "above_chance"), [(CLEAN, True), (SHUFFLE, False)])
def test_shuffled_trials_leave_decoding_at_chance(written, planted, above_chance):
    betas, shown, _ = data(written[planted])
    identified = two_way(betas, shown)
    assert identified > 0.65 if above_chance else abs(identified - 0.5) < 0.06


@pytest.mark.parametrize(
    ("planted", "expected"), [(CLEAN, [0, 1, 2]), (LEAK, [0, 1, 2]), (("statistics-from-test",), [3, 4])]
)
def test_statistics_come_from_training_rows_unless_the_fault_is_planted(planted, expected):
    rows = faults.apply_statistics(planted, np.array([0, 1, 2]), np.array([3, 4]))
    np.testing.assert_array_equal(rows, expected)


def test_statistics_from_test_show_in_the_moments_of_training_data():
    x = np.random.default_rng(0).normal(5, 2, (90, 7))
    train, test = np.arange(60), np.arange(60, 90)
    for planted, found in ((CLEAN, False), (("statistics-from-test",), True)):
        rows = faults.apply_statistics(planted, train, test)
        z = (x - x[rows].mean(axis=0)) / x[rows].std(axis=0)
        assert (np.abs(z[train].mean(axis=0)).max() > 1e-9) == found
