"""A small lab: one subject's scans in every format that `dataset.kind: arrays` reads.

Volumes of 7 x 8 x 9, 5 runs of 11 trials, 6 stimuli and rest; each number of the matrix is its own.
"""

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

from percept.datasets.arrays_config import ArraysDataset

SHAPE, N_RUNS, N_TRIALS = (7, 8, 9), 5, 11
STIMULI = ("cat", "chair", "face", "house", "rest", "shoe", "vase")
AREAS = {1: "V1v", 2: "V2", 3: "FFA-1"}
AFFINE = np.diag([1.8, -1.7, 2.0, 1.0])


class Lab:
    """Arrays, and the folder in which they are written on demand."""

    def __init__(self, folder):
        rng = np.random.default_rng(7)
        self.folder = folder
        self.mask = rng.random(SHAPE) < 0.25
        self.volumes = np.broadcast_to(rng.normal(800, 50, SHAPE)[..., None], (*SHAPE, N_RUNS * N_TRIALS))
        self.volumes = self.volumes.astype(np.float32)
        self.volumes[self.mask] += rng.normal(0, 3, (self.mask.sum(), N_RUNS * N_TRIALS)).astype(np.float32)
        self.matrix = self.volumes[self.mask].T
        self.atlas = rng.integers(-1, 4, SHAPE)
        self.trials = pd.DataFrame(
            {
                "stimulus": rng.permutation(np.resize(STIMULI, N_RUNS * N_TRIALS)),
                "run": np.repeat(np.arange(1, N_RUNS + 1), N_TRIALS),
            }
        )

    @property
    def voxels(self):
        names = [AREAS.get(number, "") for number in self.atlas[self.mask]]
        ijk = pd.DataFrame(np.argwhere(self.mask), columns=["i", "j", "k"])
        return ijk.assign(**{"my-atlas": names})

    def path(self, name):
        return str(self.folder / name)

    def nifti(self, name, array, affine=AFFINE):
        nib.Nifti1Image(array, affine).to_filename(self.path(name))
        return self.path(name)

    def array(self, name, array, variable="betas"):
        """Write an array in the format of the file name; `old.mat` and `new.mat` are versions 5 and 7.3."""
        path = self.path(name)
        if name.endswith(".npy"):
            np.save(path, array)
        elif name.endswith(("h5", "hdf5")):
            with h5py.File(path, "w") as file:
                file[variable] = array
        elif name.endswith(".parquet"):
            pd.DataFrame(array, columns=[f"v{column}" for column in range(array.shape[1])]).to_parquet(path)
        elif name.endswith("new.mat"):
            with h5py.File(path, "w", userblock_size=512) as file:  # as MATLAB: a header, then HDF5
                file[variable] = array.T
                file["#refs#/a"] = np.zeros(2)
        else:
            savemat(path, {variable: array})
        return path

    def table(self, name, table, header=True):
        path = self.path(name)
        if name.endswith(".parquet"):
            table.to_parquet(path)
        else:
            separator = {"csv": ",", "tsv": "\t"}.get(name.rsplit(".", 1)[1], " ")
            table.to_csv(path, sep=separator, index=False, header=header)
        return path

    def images(self, name="images", stems=None, size=(5, 6)):
        """A folder of PNGs whose grey value is their position."""
        (self.folder / name).mkdir(exist_ok=True)
        for position, stem in enumerate(stems or [each for each in STIMULI if each != "rest"]):
            pixels = np.full((*size, 3), position, np.uint8)
            Image.fromarray(pixels).save(self.folder / name / f"{stem}.png")
        return self.path(name)

    def dataset(self, **changes):
        """The data set from an npy matrix and a csv table; keyword arguments replace sections."""
        sections = {
            "kind": "arrays",
            "name": "lab",
            "subjects": ["s1"],
            "betas": {"path": self.array("betas.npy", self.matrix)},
            "trials": {"path": self.table("trials.csv", self.trials), "leave_out": ["rest"]},
        }
        return ArraysDataset.model_validate(sections | changes)
