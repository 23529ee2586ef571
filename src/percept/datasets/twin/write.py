"""Write a twin: a small NSD in the tree of the bucket, file by file as released."""

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from isal import igzip, isal_zlib
from numpy.typing import NDArray
from PIL import Image

from percept.config import TwinDataset
from percept.datasets import nsd_keys as keys
from percept.datasets import scenes
from percept.datasets.nsd_tables import Design
from percept.datasets.twin import anatomy as brains
from percept.datasets.twin import coco, faults, labels, model, sharing, simulate, tables
from percept.datasets.twin import design as experiment
from percept.datasets.twin import features as feature_space
from percept.datasets.twin import truth as truths
from percept.files import atomic, create_hdf5, open_hdf5, put, write_parquet, write_text

log = logging.getLogger(__name__)
SHARED_PNG = "nsddata/stimuli/nsd/shared1000/shared{number:04d}_nsd{id73k:05d}.png"
VOXEL_MM = {"func1pt8mm": 1.8, "func1mm": 1.0}
TRIAL_S = {"func1pt8mm": 4 / 3, "func1mm": 1.0}
EMPTY = ("floc-faces", "aTL-faces")  # the label that the last subject does not have


def write_experiment(ds: TwinDataset, root: str | Path, processes: int = 1) -> None:
    """Write what all subjects share: design, stimulus table, images, annotations, features.

    Parameters
    ----------
    processes : that paint side by side; the files are the same for any number

    Raises
    ------
    ValueError : `shared_images` do not fit into `sessions`
    """
    root = Path(root)
    design = experiment.of(ds)
    table = tables.stim_info(design, ds.seed)
    tables.write_expdesign(design, ds.seed, root)
    tables.write_stim_info(table, root)
    pictures = composed(ds, design)
    log.info("painting %d scenes", len(pictures))
    space = _write_images(pictures, design, root, processes)
    _write_features(space, np.array([scene.stimulus for scene in pictures]), root)
    coco.write(pictures, table, root)
    write_parquet(describe(pictures), root / truths.SCENES)
    for atlas in labels.LABELS:
        if atlas in labels.VOLUMETRIC:
            write_text(labels.table(atlas), root / f"nsddata/templates/{atlas}.ctab")
        elif atlas not in labels.SUBJECT_ONLY:
            write_text(labels.table(atlas), root / f"nsddata/freesurfer/fsaverage/label/{atlas}.mgz.ctab")


def composed(ds: TwinDataset, design: Design) -> list[scenes.Scene]:
    """The scene of every image that some subject sees, by ascending id; a leaked one repeats another's."""
    seen = [experiment.shown(design, subject, n) for subject, n in experiment.released(ds).items()]
    source = {copy: original for original, copy in faults.leaks(ds, design).values()}
    pictures = []
    for stimulus in np.unique(np.concatenate(seen)).tolist():
        scene = scenes.compose(ds.seed, source.get(stimulus, stimulus))
        pictures.append(scenes.Scene(**{**vars(scene), "stimulus": stimulus}))
    return pictures


class Painted(NamedTuple):
    """An image, as the file of images holds it, and its local features."""

    image: NDArray[np.uint8]
    packed: bytes
    early: NDArray[np.float32]


def _paint(scene: scenes.Scene) -> Painted:
    image = scenes.paint(scene)
    return Painted(image, isal_zlib.compress(image.tobytes(), 1), feature_space.early(image))


def _painted(pictures: list[scenes.Scene], processes: int) -> Iterator[Painted]:
    if processes == 1:
        yield from map(_paint, pictures)
    else:
        yield from sharing.shared(_paint, pictures, processes)


def _write_images(
    pictures: list[scenes.Scene], design: Design, root: Path, processes: int
) -> feature_space.Space:
    """Paint every scene once: into the image file, as a PNG if shared, and into the feature space."""
    early, semantic = [], []
    with atomic(root / keys.STIMULI) as temporary, h5py.File(temporary, "w") as file:
        shape = (keys.N_STIMULI, scenes.SIZE, scenes.SIZE, 3)  # images that nobody sees take no space
        bricks = file.create_dataset("imgBrick", shape, np.uint8, chunks=(1, *shape[1:]), compression=1)
        for scene, painted in zip(pictures, _painted(pictures, processes), strict=True):
            bricks.id.write_direct_chunk((scene.stimulus, 0, 0, 0), painted.packed)
            early.append(painted.early)
            semantic.append(feature_space.semantic(scene))
            _write_png(painted.image, scene.stimulus, design.shared, root)
    return feature_space.space(np.array(early), np.array(semantic))


def _write_png(image: NDArray[np.uint8], stimulus: int, shared: NDArray[np.int32], root: Path) -> None:
    place = int(np.searchsorted(shared, stimulus))
    if place < len(shared) and shared[place] == stimulus:
        with atomic(root / SHARED_PNG.format(number=place + 1, id73k=stimulus + 1)) as temporary:
            Image.fromarray(image).save(temporary, compress_level=1)


def _write_features(space: feature_space.Space, stimulus: NDArray[np.int64], root: Path) -> None:
    with create_hdf5(root / truths.FEATURES) as file:
        for name in ("features", "early_axes", "semantic_axes"):
            put(file, name, getattr(space, name))
        put(file, "stimulus", stimulus.astype(np.int32))
        file.attrs["fingerprint"], file.attrs["target"] = "{}", "truth"


def describe(pictures: Iterable[scenes.Scene]) -> pd.DataFrame:
    """A row per image: stimulus, setting, caption, captions, categories, supercategories (lists)."""
    rows = []
    for scene in pictures:
        said = scenes.captions(scene)
        groups = dict.fromkeys(scenes.CATEGORIES[name].supercategory for name in scene.categories)
        row = (scene.stimulus, scene.setting, said[0], list(said), list(scene.categories), list(groups))
        rows.append(row)
    names = ("stimulus", "setting", "caption", "captions", "categories", "supercategories")
    return pd.DataFrame(rows, columns=list(names)).astype({"stimulus": np.int32})


def read_space(root: str | Path) -> tuple[feature_space.Space, NDArray[np.int32]]:
    """The feature space that `write_experiment` left, and the ids of its images."""
    with open_hdf5(Path(root) / truths.FEATURES) as file:
        space = feature_space.Space(*(file[name][:] for name in ("features", "early_axes", "semantic_axes")))
        return space, file["stimulus"][:]


def write_subject(ds: TwinDataset, root: str | Path, subject: str) -> None:
    """Write one subject's files, after `write_experiment`.

    Raises
    ------
    ValueError : no volume is configured for the subject, or its voxels cannot carry `bits`
    """
    root = Path(root)
    if subject not in ds.volumes:
        raise ValueError(f"`dataset.volumes` says nothing about {subject}: give its voxels along x, y and z")
    design = experiment.of(ds)
    n_sessions = experiment.released(ds)[subject]
    last = subject == ds.subjects[-1]
    anatomy = brains.build(ds.volumes[subject], EMPTY if last else None)
    number = int(subject[-2:])
    rng = np.random.default_rng([ds.seed, 6, number])
    truth = draw_truth(ds, anatomy, read_space(root), experiment.shown(design, subject, n_sessions), rng)
    bad = simulate.choose_bad(truth, n_sessions, rng)
    betas = _simulate(ds, design, subject, truth, bad)
    order = faults.shuffled_order(ds, n_sessions, number)
    folder = root / keys.key_betas_folder(subject, ds)
    for session in range(n_sessions):
        rows = order[session * keys.TRIALS_PER_SESSION : (session + 1) * keys.TRIALS_PER_SESSION]
        _write_session(anatomy, betas[rows], folder, session + 1, ds)
    _write_summaries(anatomy, betas, truth.trials, folder, ds)
    _write_masks(anatomy, bad, n_sessions, root / f"nsddata/ppdata/{subject}/{ds.space}", ds)
    _write_atlases(anatomy, subject, root, ds)
    table = tables.responses(design, subject, n_sessions, ds.seed, lost_run=last)
    with atomic(root / keys.key_responses(subject)) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep="NaN")
    truths.write(truth, root / truths.key(subject))


def draw_truth(
    ds: TwinDataset, anatomy: brains.Anatomy, space: tuple[feature_space.Space, NDArray[np.int32]],
    trials: NDArray[np.int32], rng: np.random.Generator,
) -> truths.Truth:  # fmt: skip
    """Draw a subject's weights, means and noise, with the configured information in its visual voxels."""
    features, stimulus = space
    voxels = model.draw(anatomy, features, rng)
    covariance = model.covariance(features.features)
    signal, noise = model.rescale(voxels, model.solve_noise(voxels, covariance, ds.bits), covariance)
    n_voxels, here = len(anatomy.index), anatomy.visual
    weights = np.zeros((n_voxels, signal.shape[1]), np.float32)
    shared = np.zeros((n_voxels, noise.shared.shape[1]), np.float32)
    private = (model.TOTAL_SD * np.exp(model.TOTAL_SPREAD * rng.standard_normal(n_voxels))).astype(np.float32)
    mean = rng.normal(0.3, 0.5, n_voxels).astype(np.float32)
    weights[here], shared[here], private[here] = signal, noise.shared, noise.private_sd
    mean[here] = rng.normal(model.MEAN, model.MEAN_SD, here.sum())
    n_sessions = len(trials) // keys.TRIALS_PER_SESSION
    offset = rng.normal(0, simulate.OFFSET_SD, (n_sessions, n_voxels)).astype(np.float32)
    fisher = model.fisher(signal, noise)
    return truths.Truth(
        weights, anatomy.index, mean, private, shared, noise.limiting, here, offset, fisher, trials,
        features.features, stimulus,
    )  # fmt: skip


def _simulate(
    ds: TwinDataset, design: Design, subject: str, truth: truths.Truth, bad: simulate.Bad
) -> NDArray[np.int16]:
    """Betas of all sessions, (trial, voxel), in the order of the trials."""
    n_sessions = experiment.released(ds)[subject]
    log.info("%s: simulating %d sessions of %d voxels", subject, n_sessions, len(truth.mean))
    betas = np.concatenate(
        [
            simulate.session(truth, session, np.random.default_rng([ds.seed, 7, int(subject[-2:]), session]))
            for session in range(n_sessions)
        ]
    )
    if pair := faults.leaks(ds, design).get(subject):
        faults.copy_responses(betas, truth.trials, pair)
    simulate.spoil(betas, bad)
    return betas


def nifti(volume: NDArray, ds: TwinDataset) -> bytes:
    """A gzipped NIfTI file: axes to the right, anterior and superior, the origin in the centre."""
    size = VOXEL_MM[ds.space]
    affine = np.diag([size, size, size, 1.0])
    affine[:3, 3] = -size * (np.array(volume.shape[:3]) - 1) / 2
    image = nib.Nifti1Image(volume, affine)
    if volume.ndim == 4:
        image.header.set_zooms((size, size, size, TRIAL_S[ds.space]))
    return igzip.compress(image.to_bytes(), 1, mtime=0)


def _write_nifti(volume: NDArray, path: Path, ds: TwinDataset) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(nifti(volume, ds))


def _write_session(
    anatomy: brains.Anatomy, betas: NDArray[np.int16], folder: Path, session: int, ds: TwinDataset
) -> None:
    """Betas (750, voxel) of one session as nii.gz (X, Y, Z, 750), and as hdf5 (750, Z, Y, X) if that is
    read.
    """
    volume = np.zeros((int(np.prod(anatomy.shape)), len(betas)), np.int16)
    volume[anatomy.index] = betas.T
    volume = volume.reshape(*anatomy.shape, len(betas))
    path = folder / f"betas_session{session:02d}.nii.gz"
    _write_nifti(volume, path, ds)
    if ds.format.startswith("hdf5"):
        with (
            atomic(path.with_name(f"betas_session{session:02d}.hdf5")) as temporary,
            h5py.File(temporary, "w") as file,
        ):
            file.create_dataset("betas", data=volume.transpose(), chunks=(len(betas), 1, 1, 1))
    psc = betas.astype(np.float32).mean(axis=0) / simulate.SCALE
    _write_nifti(anatomy.volume(psc, np.nan), folder / f"meanbeta_session{session:02d}.nii.gz", ds)


def _write_summaries(
    anatomy: brains.Anatomy,
    betas: NDArray[np.int16],
    trials: NDArray[np.int32],
    folder: Path,
    ds: TwinDataset,
) -> None:
    """ncsnr, meanbeta and R2 (percent of the variance that repeats share), NaN outside the brain."""
    snr = simulate.ncsnr(betas, trials)
    summaries = {
        "ncsnr": snr,
        "meanbeta": betas.mean(axis=0, dtype=np.float32) / simulate.SCALE,
        "R2": 100 * snr**2 / (1 + snr**2),
    }
    for name, values in summaries.items():
        _write_nifti(anatomy.volume(values, np.nan), folder / f"{name}.nii.gz", ds)


def _write_masks(
    anatomy: brains.Anatomy, bad: simulate.Bad, n_sessions: int, folder: Path, ds: TwinDataset
) -> None:
    """Brain mask, valid voxels by session and as a fraction of runs, mean volume, receptive fields."""
    _write_nifti(anatomy.volume(np.ones(len(anatomy.index)), dtype=np.int16), folder / "brainmask.nii.gz", ds)
    fraction = np.ones(len(anatomy.index), np.float32)
    fraction[bad.invalid] -= 1 / n_sessions
    _write_nifti(anatomy.volume(fraction), folder / "valid.nii.gz", ds)
    for session in range(n_sessions):
        valid = np.ones(len(anatomy.index))
        valid[bad.invalid] = session != bad.session
        _write_nifti(
            anatomy.volume(valid, dtype=np.int16), folder / f"valid_session{session + 1:02d}.nii.gz", ds
        )
    brightness = 700 + 250 * anatomy.ribbon + 40 * np.sin(np.arange(len(anatomy.index)))
    _write_nifti(anatomy.volume(brightness), folder / "mean.nii.gz", ds)
    angle = np.degrees(np.arctan2(anatomy.y_deg, anatomy.x_deg)) % 360  # counter-clockwise from the right
    fields = {
        "angle": angle,
        "eccentricity": np.hypot(anatomy.x_deg, anatomy.y_deg),
        "size": anatomy.size_deg,
    }
    for name, values in fields.items():
        _write_nifti(anatomy.volume(values, np.nan), folder / f"prf_{name}.nii.gz", ds)


def _write_atlases(anatomy: brains.Anatomy, subject: str, root: Path, ds: TwinDataset) -> None:
    """Every atlas, whole and by hemisphere, with the subject's label tables."""
    for atlas in keys.ATLASES:
        for side in ("", *keys.HEMISPHERES):
            name = f"{side}.{atlas}" if side else atlas
            _write_nifti(anatomy.hemisphere(atlas, side), root / keys.key_roi(subject, name, ds.space), ds)
        if atlas not in labels.VOLUMETRIC:
            write_text(labels.table(atlas), root / keys.key_label_table(subject, atlas))
