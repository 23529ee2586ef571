"""A simulated challenge: the twin's scenes and encoding model, averaged and named as the challenge does it.

The visual voxels of a twin's brain become vertices: those of each hemisphere are laid, from the posterior
pole forward, on the most posterior vertices of fsaverage5, which are vertices of fsaverage too (see
`percept.voxels.surface`). A response is the mean of one to three trials in units of the vertex's own sd.
"""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.datasets import scenes
from percept.datasets.algonauts import tree
from percept.datasets.algonauts.write import Subject, image_path, write_arrays, write_image
from percept.datasets.algonauts_config import CLASSES, AlgonautsDataset, ChallengeSimulation
from percept.datasets.twin import anatomy as brains
from percept.datasets.twin import features as feature_space
from percept.datasets.twin import model

log = logging.getLogger(__name__)
REPEATS, SHARE = (1, 2, 3), (0.15, 0.25, 0.6)  # of images shown so often, about as in NSD's 40 sessions
EMPTY = ("floc-faces", "mTL-faces")  # the region that the last of several subjects does not have
LAST_NSD_ID = 73_000
Ids = dict[tree.Part, NDArray[np.int64]]


def write(ds: AlgonautsDataset) -> None:
    """Write the folders of all subjects below the root of the data set.

    The last of several subjects lacks a region, and one of its vertices is NaN, as traps for readers.

    Raises
    ------
    ValueError : the vertices of the simulated brain cannot carry `bits`
    """
    settings = ds.simulate
    assert settings is not None  # the rule exists for simulations alone
    shown = {subject: _ids(settings, at) for at, subject in enumerate(ds.subjects)}
    stimuli = np.unique(np.concatenate([ids for parts in shown.values() for ids in parts.values()]))
    log.info("painting %d scenes", len(stimuli))
    space = _paint(ds, settings, stimuli, shown)
    for at, (subject, ids) in enumerate(shown.items()):
        rng = np.random.default_rng([settings.seed, 8, at])
        last = at > 0 and at == len(ds.subjects) - 1
        rows = {part: np.searchsorted(stimuli, own) for part, own in ids.items()}
        made = _subject(settings, space, rows, EMPTY if last else None, rng)
        made = replace(made, stimulus=ids)
        if last:
            made.responses["train"][:, -1] = np.nan
        write_arrays(made, ds.folder(subject), settings.names)


def _ids(settings: ChallengeSimulation, at: int) -> Ids:
    """NSD ids of a subject's images, ascending within each part, as the challenge sorts its rows."""
    rng = np.random.default_rng([settings.seed, 9, at])
    drawn = rng.choice(LAST_NSD_ID, settings.train_images + settings.test_images, replace=False)
    return {"train": np.sort(drawn[: settings.train_images]), "test": np.sort(drawn[settings.train_images :])}


def _paint(
    ds: AlgonautsDataset, settings: ChallengeSimulation, stimuli: NDArray, shown: dict[str, Ids]
) -> feature_space.Space:
    """Paint every scene once: into the folders of the subjects who see it, and into the feature space."""
    places: dict[int, list[Path]] = {}
    for subject, parts in shown.items():
        for part, ids in parts.items():
            for row, stimulus in enumerate(ids.tolist()):
                path = image_path(ds.folder(subject), settings.names, part, row, stimulus)
                places.setdefault(stimulus, []).append(path)
    early, semantic = [], []
    for stimulus in stimuli.tolist():
        scene = scenes.compose(settings.seed, stimulus)
        image = scenes.paint(scene)
        for path in places[stimulus]:
            write_image(image, path)
        early.append(feature_space.early(image))
        semantic.append(feature_space.semantic(scene))
    return feature_space.space(np.array(early), np.array(semantic))


def _subject(
    settings: ChallengeSimulation, space: feature_space.Space, rows: Ids,
    empty: tuple[str, str] | None, rng: np.random.Generator,
) -> Subject:  # fmt: skip
    """Responses and regions of one subject to some rows of the feature space."""
    anatomy = brains.build(settings.volume, empty)
    drawn = model.draw(anatomy, space, rng)
    covariance = model.covariance(space.features)
    weights, noise = model.rescale(drawn, model.solve_noise(drawn, covariance, settings.bits), covariance)
    sd = np.sqrt(model.signal_variance(weights, covariance) + model.total_noise_variance(weights, noise))
    order = _forward(anatomy)
    n_repeats = {part: rng.choice(REPEATS, len(own), p=SHARE) for part, own in rows.items()}
    responses = {
        part: (_respond(weights, noise, space.features[own], n_repeats[part], rng) / sd)[:, order]
        for part, own in rows.items()
        if part == "train" or settings.test_fmri
    }
    snr = model.ncsnr(weights, noise, covariance)[order]
    share = snr**2 / (snr**2 + np.mean(1 / n_repeats["test"]))  # NSD's formula for unequal repeats
    here = np.flatnonzero(anatomy.visual)[order]
    regions = {name: np.maximum(anatomy.atlases[name][here], 0) for name in CLASSES}
    n_right = int(anatomy.right[here].sum())
    vertices = {"lh": _posterior("lh", len(here) - n_right), "rh": _posterior("rh", n_right)}
    return _laid(Subject(rows, responses, vertices, regions, share if settings.test_fmri else None))


def _forward(anatomy: brains.Anatomy) -> NDArray[np.intp]:
    """Order of the visual voxels: the left hemisphere first, each by area from the posterior pole forward."""
    here = np.flatnonzero(anatomy.visual)
    area = np.array([list(brains.AREAS).index(name) for name in anatomy.area[here]])
    return np.lexsort((anatomy.atlases["streams"][here], area, anatomy.right[here]))


def _respond(
    weights: NDArray, noise: model.Noise, x: NDArray, n_repeats: NDArray, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Mean responses (image, voxel) over the repeats of each image: the signal, and noise / sqrt(repeats)."""
    n_images, n_modes = x.shape
    limiting = rng.standard_normal((n_images, n_modes)) @ np.linalg.cholesky(noise.limiting).T
    shared = rng.standard_normal((n_images, noise.shared.shape[1])) @ noise.shared.T
    private = rng.standard_normal((n_images, len(weights))) * noise.private_sd
    scale = 1 / np.sqrt(n_repeats)[:, None]
    return (x + scale * limiting) @ weights.T + scale * (shared + private)


def _posterior(side: str, n_vertices: int) -> NDArray[np.int64]:
    """The most posterior vertices of fsaverage5, from the pole forward, (vertex,).

    Raises
    ------
    ValueError : fsaverage5 has fewer
    """
    from nilearn import datasets, surface

    mesh = datasets.fetch_surf_fsaverage("fsaverage5")[f"pial_{'left' if side == 'lh' else 'right'}"]
    y = surface.load_surf_mesh(mesh).coordinates[:, 1]  # mm, to the front
    if n_vertices > len(y) // 2:
        raise ValueError(
            f"`dataset.simulate.volume` gives {n_vertices} vertices in {side}, too many for the back of "
            f"fsaverage5 ({len(y)} vertices in all): choose a smaller volume"
        )
    return np.argsort(y, kind="stable")[:n_vertices]


def _laid(made: Subject) -> Subject:
    """The subject with its columns in the order of the vertices' indices, as masks have them."""
    left, right = (np.argsort(made.vertices[side]) for side in ("lh", "rh"))
    order = np.concatenate([left, len(left) + right])
    return replace(
        made,
        responses={part: values[:, order] for part, values in made.responses.items()},
        vertices={"lh": made.vertices["lh"][left], "rh": made.vertices["rh"][right]},
        regions={name: numbers[order] for name, numbers in made.regions.items()},
        noise_ceiling=None if made.noise_ceiling is None else made.noise_ceiling[order],
    )
