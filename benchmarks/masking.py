"""Masking one full-size session of NSD: Percept against nilearn, nibabel and bare decompression.

    python benchmarks/masking.py [--folder .benchmarks/masking] [--repeats 5] [--json figures.json]

Writes a session of subj01's size once (0.5 GB as nii.gz, 1.1 GB as hdf5: Gaussian noise with the mean and sd
of real betas inside a brain-like ellipsoid, 0 outside), then takes the 15,724 voxels of a mask as large as
nsdgeneral out of it. Each method runs in a process of its own: least seconds over its runs, without imports
and with the file in the page cache; CPU seconds, which other jobs on the machine disturb less; memory as the
peak resident set of the process, imports included. The methods must agree on every value.
"""

import argparse
import datetime
import gzip
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
from isal import igzip

from percept.voxels import stream

SHAPE, N_TRIALS, N_VOXELS = (81, 104, 83), 750, 15724  # subj01, func1pt8mm, nsdgeneral
MEAN, SD = 660, 990  # of real betas in raw units: 2.2 and 3.3 % signal change x 300
NIFTI, HDF5, MASK = "betas.nii.gz", "betas.hdf5", "mask.nii.gz"
BARE, OURS = "bare decompression", "percept nii.gz"
BUDGET = {"faster": 10, "bare": 1.15, "peak_mb": 300}


def radius(shape: tuple[int, int, int]) -> np.ndarray:
    """Distance from the middle of the volume, 1 at the faces: (X, Y, Z)."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    return np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))


def write_session(folder: Path) -> None:
    """Write nii.gz, hdf5 and mask, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    if all((folder / name).exists() for name in (NIFTI, HDF5, MASK)):
        return
    rng = np.random.default_rng(0)
    brain = (radius(SHAPE) < 1).ravel(order="F")
    betas = np.zeros((N_TRIALS, brain.size), "<i2")  # rows are volumes in Fortran order
    for row in betas:
        row[brain] = rng.normal(MEAN, SD, brain.sum()).round().clip(-32767, 32767)
    write_hdf5(folder / HDF5, betas)
    write_nifti(folder / NIFTI, betas)
    write_mask(folder / MASK, rng)


def write_mask(path: Path, rng: np.random.Generator) -> None:
    """As many voxels as nsdgeneral, in a shell at the back of the brain."""
    r, back = radius(SHAPE), np.arange(SHAPE[1])[None, :, None] < SHAPE[1] // 2
    cortex = np.flatnonzero((r > 0.7) & (r < 0.97) & back)
    mask = np.zeros(SHAPE, np.uint8)
    mask.flat[rng.choice(cortex, N_VOXELS, replace=False)] = 1
    nib.save(nib.Nifti1Image(mask, np.eye(4)), path)


def write_nifti(path: Path, betas: np.ndarray) -> None:
    """Compressed by zlib at its usual level, as most writers do."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((*SHAPE, N_TRIALS))
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_sform(np.eye(4))
    with gzip.open(path, "wb", compresslevel=6) as file:
        file.write(header.binaryblock + bytes(4))
        for row in betas:
            file.write(row)


def write_hdf5(path: Path, betas: np.ndarray) -> None:
    """`/betas` (trial, Z, Y, X) in one uncompressed chunk per voxel, as NSD has it."""
    X, Y, Z = SHAPE
    with h5py.File(path, "w") as file:
        data = file.create_dataset("betas", (N_TRIALS, Z, Y, X), "<i2", chunks=(N_TRIALS, 1, 1, 1))
        for k in range(Z):
            columns = np.ascontiguousarray(betas[:, k * X * Y : (k + 1) * X * Y].T)
            for place, column in enumerate(columns):
                data.id.write_direct_chunk((0, k, place // X, place % X), column.tobytes())


def bare(folder: Path, index: np.ndarray) -> None:
    """Decompress, keep nothing."""
    buffer = memoryview(bytearray(1 << 20))
    with igzip.open(folder / NIFTI) as file:
        while file.readinto(buffer):
            pass


def ours(folder: Path, index: np.ndarray) -> np.ndarray:
    """Percept, from nii.gz."""
    return stream.read_nifti(folder / NIFTI, index, SHAPE)


def ours_hdf5(folder: Path, index: np.ndarray) -> np.ndarray:
    """Percept, from hdf5."""
    return stream.read_hdf5(folder / HDF5, index, SHAPE)


def nilearn(folder: Path, index: np.ndarray) -> np.ndarray:
    """Mask as nilearn's users do."""
    from nilearn.masking import apply_mask

    return apply_mask(str(folder / NIFTI), str(folder / MASK))


def nibabel_fdata(folder: Path, index: np.ndarray) -> np.ndarray:
    """Mask as most published NSD code does."""
    mask = np.asanyarray(nib.load(folder / MASK).dataobj) > 0
    return nib.load(folder / NIFTI).get_fdata()[mask].T


def h5py_whole(folder: Path, index: np.ndarray) -> np.ndarray:
    """Load the hdf5 session, then mask."""
    i, j, k = np.unravel_index(index, SHAPE)
    with h5py.File(folder / HDF5) as file:
        return file["betas"][:][:, k, j, i]


METHODS: dict[str, Callable[[Path, np.ndarray], np.ndarray | None]] = {
    BARE: bare,
    OURS: ours,
    "percept hdf5": ours_hdf5,
    "nilearn apply_mask": nilearn,
    "nibabel get_fdata": nibabel_fdata,
    "h5py whole session": h5py_whole,
}
SLOW = {"nilearn apply_mask", "nibabel get_fdata", "h5py whole session"}


def peak_mb() -> float:
    """Peak resident set of this process (getrusage would count its parent's before exec)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def digest(values: np.ndarray | None) -> str | None:
    """Hash of the values as int16 (trial, voxel), which they must be exactly."""
    if values is None:
        return None
    whole = np.ascontiguousarray(values, dtype="<i2")
    if not np.array_equal(whole, values):
        raise ValueError("the values are no whole numbers")
    return hashlib.sha256(whole).hexdigest()


def run_one(name: str, folder: Path) -> dict:
    """Time one method in this process."""
    index = np.flatnonzero(np.asanyarray(nib.load(folder / MASK).dataobj))
    if name.startswith("nilearn"):
        import nilearn.masking  # noqa: F401 (not part of the seconds)
    start, start_cpu = time.perf_counter(), time.process_time()
    values = METHODS[name](folder, index)
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    return {"seconds": seconds, "cpu": cpu, "peak_mb": peak_mb(), "sha256": digest(values)}


def run_apart(name: str, folder: Path) -> dict:
    """Time one method in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--method", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def warm(path: Path) -> None:
    """Bring a file into the page cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def measure(folder: Path, repeats: int) -> dict[str, list[dict]]:
    """All methods in turn, `repeats` times; those that take long, twice at most."""
    runs: dict[str, list[dict]] = {name: [] for name in METHODS}
    for repeat in range(repeats):
        for name in METHODS:
            if name not in SLOW or repeat < 2:
                warm(folder / NIFTI)
                warm(folder / HDF5)
                runs[name].append(run_apart(name, folder))
    return runs


def summarise(runs: dict[str, list[dict]]) -> dict:
    """Figures of every method, with ratios of the least seconds."""
    least = {name: min(run["seconds"] for run in each) for name, each in runs.items()}
    rows = {
        name: {
            "seconds": least[name],
            "cpu": min(run["cpu"] for run in each),
            "n": len(each),
            "peak_mb": max(run["peak_mb"] for run in each),
            "of_bare": least[name] / least[BARE],
            "of_percept": least[name] / least[OURS],
        }
        for name, each in runs.items()
    }
    digests = {run["sha256"] for name, each in runs.items() if name != BARE for run in each}
    packages = {name: version(name) for name in ("numpy", "isal", "nibabel", "nilearn", "h5py")}
    cpu = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").open() if line.startswith("model name")
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu[0] if cpu else platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "python": platform.python_version(),
        "packages": packages,
        "equal": len(digests) == 1,
        "methods": rows,
    }


def verdicts(figures: dict) -> dict[str, bool]:
    """Which budgets are kept."""
    rows = figures["methods"]
    return {
        "all methods give the same values": figures["equal"],
        "10x faster than nilearn apply_mask": rows["nilearn apply_mask"]["of_percept"] >= BUDGET["faster"],
        "10x faster than nibabel get_fdata": rows["nibabel get_fdata"]["of_percept"] >= BUDGET["faster"],
        "within 1.15x of bare decompression": rows[OURS]["of_bare"] <= BUDGET["bare"],
        "below 300 MB, nii.gz": rows[OURS]["peak_mb"] < BUDGET["peak_mb"],
        "below 300 MB, hdf5": rows["percept hdf5"]["peak_mb"] < BUDGET["peak_mb"],
    }


def show(figures: dict) -> None:
    """Print the table and the verdicts."""
    size = " x ".join(map(str, (*SHAPE, N_TRIALS)))
    print(f"{size} int16, {N_VOXELS} voxels; {figures['date']}; {figures['machine']}")
    print("python", figures["python"], *(f"{name} {number}" for name, number in figures["packages"].items()))
    print(f"{'method':22}{'seconds':>9}{'CPU s':>9}{'runs':>6}{'peak MB':>9}{'of bare':>9}{'of percept':>12}")
    for name, row in figures["methods"].items():
        print(
            f"{name:22}{row['seconds']:9.2f}{row['cpu']:9.2f}{row['n']:6d}{row['peak_mb']:9.0f}"
            f"{row['of_bare']:9.2f}{row['of_percept']:12.2f}"
        )
    for claim, kept in verdicts(figures).items():
        print("kept  " if kept else "MISSED", claim)


def main() -> int:
    """Write the session, measure, print; 1 where a budget is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".benchmarks/masking"), help="where the session goes"
    )
    parser.add_argument("--repeats", type=int, default=5, help="runs of the fast methods")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.method:
        print(json.dumps(run_one(given.method, given.folder)))
        return 0
    write_session(given.folder)
    figures = summarise(measure(given.folder, given.repeats))
    show(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0 if all(verdicts(figures).values()) else 1


if __name__ == "__main__":
    sys.exit(main())
