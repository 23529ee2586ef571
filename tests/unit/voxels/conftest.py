"""A small native tree of NSD, (7, 8, 9) voxels, whose every trap is known."""

import gzip
from types import SimpleNamespace

import h5py
import nibabel as nib
import numpy as np
import pytest

from percept.config import NsdDataset, VoxelsConfig

SHAPE = (7, 8, 9)
SESSIONS = 2
TABLES = {
    "nsdgeneral": "0 Unknown\n1\tnsdgeneral\n",
    "prf-visualrois": "0   Unknown\n1 V1v\n2 V1d\n3  V2v\n4 V2d\n5 V3v\n6 V3d\n7 hV4\n",
    "floc-faces": "1 OFA\n2 FFA-1\n3 FFA-2\n4 mTL-faces\n5 aTL-faces\n",
    "Kastner2015": "0 Unknown\n1 V1v\n12 MST/TO2\n13 hMT/TO1\n",
}


def nifti_bytes(betas, order="<", slope=np.nan, intercept=np.nan, vox_offset=352):
    """A NIfTI-1 file of (X, Y, Z, trial), written field by field rather than by the code under test."""
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(betas.dtype)
    header.set_data_shape(betas.shape)
    header["vox_offset"], header["scl_slope"], header["scl_inter"] = vox_offset, slope, intercept
    header["magic"] = b"n+1"
    padding = bytes(vox_offset - 348)
    return header.binaryblock + padding + betas.astype(betas.dtype.newbyteorder(order)).tobytes(order="F")


def write_nifti(path, betas, **header):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(nifti_bytes(betas, **header), 1, mtime=0))
    return path


def write_hdf5(path, betas, dtype="<i2", **layout):
    """A session as MATLAB writes it: h5py sees (trial, Z, Y, X)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = layout or {"chunks": (betas.shape[3], 1, 1, 1)}
    with h5py.File(path, "w") as file:
        file.create_dataset("betas", data=betas.transpose(3, 2, 1, 0).astype(dtype), **layout)
    return path


@pytest.fixture(scope="session")
def files():
    """Writers of session files."""
    return SimpleNamespace(nifti=write_nifti, hdf5=write_hdf5, nifti_bytes=nifti_bytes)


@pytest.fixture
def rng():
    return np.random.default_rng(20261120)


def regions(rng):
    """ROI volumes: -1 outside the ribbon, 0 unlabelled; the atlases overlap; aTL-faces has no voxel."""
    ribbon = rng.random(SHAPE) < 0.7
    volumes = {}
    for atlas, n_labels in {"nsdgeneral": 1, "prf-visualrois": 7, "floc-faces": 4}.items():
        drawn = rng.integers(0, n_labels + 1, SHAPE)
        volumes[atlas] = np.where(ribbon, drawn, -1)
    volumes["Kastner2015"] = np.where(ribbon, rng.choice([0, 1, 12, 13], SHAPE), -1)
    return volumes


def responses(rng, session, bad):
    """(X, Y, Z, 750) int16 with saturated values; the voxels `bad` are invalid in session 2 only."""
    betas = np.clip(rng.normal(660, 990, (*SHAPE, 750)).round(), -32767, 32767).astype(np.int16)
    betas[3, 4, 5, :3] = 32767, -32767, 0
    if session == 2:
        betas[bad["zero"]], betas[bad["constant"]] = 0, 42
    return betas


def volume(path, data, dtype):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(data, dtype), np.diag([-1.8, 1.8, 1.8, 1])), path)


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """The tree (never changed by a test), and what is in it."""
    root, rng = tmp_path_factory.mktemp("nsd"), np.random.default_rng(7)
    rois = regions(rng)
    inside = np.argwhere(rois["nsdgeneral"] > 0)
    bad = dict(zip(("zero", "constant", "no_ncsnr"), map(tuple, inside[[1, 5, 8]]), strict=True))
    space = root / "nsddata/ppdata/subj01/func1pt8mm"
    for atlas, labels in rois.items():
        volume(space / f"roi/{atlas}.nii.gz", labels, np.float32)
        table = root / f"nsddata/freesurfer/subj01/label/{atlas}.mgz.ctab"
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(TABLES[atlas])
    volume(space / "brainmask.nii.gz", np.ones(SHAPE), np.int16)
    volume(space / "mean.nii.gz", rng.uniform(500, 900, SHAPE), np.float32)
    ncsnr = rng.uniform(0, 1, SHAPE)
    ncsnr[bad["no_ncsnr"]] = np.nan
    folder = root / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    volume(folder / "ncsnr.nii.gz", ncsnr, np.float32)
    betas = {}
    for session in range(1, SESSIONS + 1):
        betas[session] = responses(rng, session, bad)
        write_nifti(folder / f"betas_session{session:02d}.nii.gz", betas[session])
        write_hdf5(folder / f"betas_session{session:02d}.hdf5", betas[session])
        valid = np.ones(SHAPE)
        valid[bad["zero"]] = session != 2
        volume(space / f"valid_session{session:02d}.nii.gz", valid, np.int16)
    return SimpleNamespace(
        root=root, rois=rois, bad=bad, ncsnr=ncsnr, betas=betas, folder=folder, space=space
    )


@pytest.fixture
def dataset(tree):
    """Config of the tree: `dataset(sessions=1, ...)`."""

    def make(**settings):
        settings = {"root": str(tree.root), "subjects": ("subj01",), "sessions": SESSIONS, **settings}
        return NsdDataset(kind="nsd", **settings)

    return make


@pytest.fixture
def voxels_config():
    """Config of the voxels stage: `voxels_config(extract=..., invalid=...)`."""

    def make(**settings):
        return VoxelsConfig(**{"extract": ("nsdgeneral", "retinotopic", "faces"), **settings})

    return make
