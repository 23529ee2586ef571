"""A tree that held betas before the first download is the user's; its betas are never up for deletion."""

import pytest

from percept.datasets import ownership

BETAS = [
    "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01.nii.gz",
    "nsddata_betas/ppdata/subj08/func1mm/betas_assumehrf/betas_session30.hdf5",
    "nsddata_betas/ppdata/subj02/fsaverage/betas_fithrf/lh.betas_session02.mgh",
    "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf/betas_session01.nii.gz.0123456789ab.part",
]
OTHERS = ["nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf/ncsnr.nii.gz", "nsddata/betas_session.txt"]


def put(root, key):
    (root / key).parent.mkdir(parents=True, exist_ok=True)
    (root / key).touch()


@pytest.mark.parametrize("key", BETAS)
def test_a_tree_that_held_betas_is_never_marked(tmp_path, key):
    put(tmp_path, key)
    assert ownership.holds_betas(tmp_path) and not ownership.may_delete_betas(tmp_path)
    assert not ownership.claim(tmp_path)
    assert not (tmp_path / ownership.MARKER).exists() and not ownership.may_delete_betas(tmp_path)


@pytest.mark.parametrize("key", [None, *OTHERS])
def test_a_tree_without_betas_is_marked_and_stays_so_when_they_arrive(tmp_path, key):
    root = tmp_path / "nsd"
    if key:
        put(root, key)
    assert ownership.may_delete_betas(root)
    assert ownership.claim(root) and "keep_raw" in (root / ownership.MARKER).read_text()
    put(root, BETAS[0])
    assert ownership.claim(root) and ownership.may_delete_betas(root)


def test_without_its_marker_a_fetched_tree_is_treated_as_the_users(tmp_path):
    ownership.claim(tmp_path)
    put(tmp_path, BETAS[0])
    (tmp_path / ownership.MARKER).unlink()
    assert not ownership.may_delete_betas(tmp_path) and not ownership.claim(tmp_path)
