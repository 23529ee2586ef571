"""The data set in numbers: trials, images, voxels of each subject, counted where they lie, or estimated."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept import files
from percept.config import BaseConfig
from percept.datasets import nsd_keys
from percept.preflight import figures
from percept.voxels import roi

UNION = "everything extracted"


@dataclass(frozen=True)
class Subject:
    """What is known of a subject before its data are used.

    trials, images : in all; test_trials, test_images : of them; shared : images that every subject sees
    voxels : ROI set (and `UNION`) -> how many
    located : table of the voxels, where they were extracted
    origin : where the numbers are from
    """

    name: str
    trials: int
    images: int
    test_trials: int
    test_images: int
    voxels: Mapping[str, int]
    origin: str
    shared: int = 0
    located: pd.DataFrame | None = field(default=None, compare=False)

    def of(self, name: str) -> int:
        """Voxels of a ROI set; of everything extracted where it is not one that was counted."""
        return self.voxels.get(name, self.voxels[UNION])

    def train_images(self, validation_fraction: float) -> tuple[int, int]:
        """Images that train and that validate."""
        rest = max(0, self.images - self.test_images)
        held_out = round(validation_fraction * rest)
        return rest - held_out, held_out


def results(cfg: BaseConfig) -> Path:
    """Folder of the results."""
    return Path("results", cfg.dataset.name)


def subjects(cfg: BaseConfig) -> list[Subject]:
    """Every subject of the data set; those of which nothing can be known yet are left out."""
    return [subject for name in cfg.dataset.subjects if (subject := _known(cfg, name)) is not None]


def _known(cfg: BaseConfig, name: str) -> Subject | None:
    if (subject := counted(cfg, name)) is not None:
        return subject
    subject = _ESTIMATES[cfg.dataset.kind](cfg, name)
    return None if subject is None else _split(cfg, subject)


def sets(cfg: BaseConfig) -> list[str]:
    """ROI sets that something uses."""
    used = {name for decoder in cfg.every_decoder.values() for name in decoder.sets}
    used |= {encoding.roi for encoding in cfg.encodings.values()}
    return sorted(used | set(cfg.voxels.extract))


def counted(cfg: BaseConfig, name: str) -> Subject | None:
    """A subject whose voxels were extracted; None before that."""
    folder = results(cfg) / "voxels" / name
    trials, voxels = folder / "trials.parquet", folder / "voxels.parquet"
    if not (trials.is_file() and voxels.is_file()):
        return None
    shown, table = files.read_parquet(trials), files.read_parquet(voxels)
    test = shown[shown["split"] == "test"]["stimulus"]
    shared = shown[shown["shared"]]["stimulus"].nunique() if "shared" in shown else 0
    counts = (len(shown), shown["stimulus"].nunique(), len(test), test.nunique())
    return Subject(name, *counts, _members(table, cfg), "counted in results/", shared, table)


def _members(table: pd.DataFrame, cfg: BaseConfig) -> dict[str, int]:
    own, used = cfg.voxels.rois, sets(cfg)
    found = {name: int(roi.members(table, roi.resolve(name, own)).sum()) for name in used}
    return {**found, UNION: len(table)}


def _split(cfg: BaseConfig, subject: Subject) -> Subject:
    """A subject whose shared images test, with those that test under the protocol of the configuration."""
    protocol, trials = cfg.split.protocol, subject.trials
    repeats = trials / max(1, subject.images)
    test = {
        "shared515": min(515, subject.test_images),
        "algonauts23": min(159, subject.images) if cfg.dataset.kind == "nsd" else subject.test_images,
        "random": round(cfg.split.test_fraction * subject.images),
        "leave-one-run-out": subject.images,
    }.get(protocol, subject.test_images)
    if test == subject.test_images:
        return subject
    return replace(subject, test_images=test, test_trials=min(trials, round(repeats * test)))


def _nsd(cfg: BaseConfig, name: str) -> Subject:
    sessions = len(nsd_keys.sessions_of(cfg.dataset, name))
    trials = nsd_keys.TRIALS_PER_SESSION * sessions
    bound = (min(10_000, trials), figures.NSD_SHARED, min(3 * figures.NSD_SHARED, trials))
    images, test, test_trials = figures.NSD_IMAGES.get(sessions, bound)
    fine = figures.FINE_SPACE if cfg.dataset.space == "func1mm" else 1
    whole = round(fine * figures.NSD_VOXELS[name])
    alone = roi.union(sets(cfg), cfg.voxels.rois) == ("nsdgeneral",)
    n_voxels = {**dict.fromkeys(sets(cfg), whole), UNION: whole if alone else 2 * whole}
    said = "published; other ROI sets assumed as large as nsdgeneral, all together twice as large"
    return Subject(name, trials, images, test_trials, min(test, images), n_voxels, said, min(test, images))


def _twin(cfg: BaseConfig, name: str) -> Subject:
    from percept.datasets.twin import anatomy, design

    dataset = cfg.dataset
    plan = design.of(dataset)
    shown = design.shown(plan, name, len(nsd_keys.sessions_of(dataset, name)))
    test = shown[np.isin(shown, plan.shared)]
    brain = anatomy.build(dataset.volumes[name])
    n_voxels = _of_brain(cfg, brain, np.ones(len(brain.index), dtype=bool))
    counts = (len(shown), len(np.unique(shown)), len(test), len(np.unique(test)))
    said = "the design and the anatomy of the simulation"
    return Subject(name, *counts, n_voxels, said, shared=counts[-1])


def _algonauts(cfg: BaseConfig, name: str) -> Subject | None:
    from percept.datasets import algonauts_config as tree
    from percept.datasets.twin import anatomy

    settings, folder = cfg.dataset.simulate, cfg.dataset.folder(name)
    if settings is not None:
        brain = anatomy.build(settings.volume)
        n_voxels, said = _of_brain(cfg, brain, brain.visual), "the settings of the simulation"
        train, test = settings.train_images, settings.test_images
    else:
        paths = [folder / tree.TRAINING_FMRI.format(side) for side in tree.HEMISPHERES]
        shapes = [_shape(path) for path in paths if path.is_file()]
        if len(shapes) < len(paths) or None in shapes:
            return None
        whole = sum(shape[1] for shape in shapes)
        n_voxels, said = {**dict.fromkeys(sets(cfg), whole), UNION: whole}, "the challenge's own files"
        train, test = shapes[0][0], len(list((folder / tree.TEST_IMAGES).glob("*")))
    return Subject(name, train + test, train + test, test, test, n_voxels, said)


def _of_brain(cfg: BaseConfig, brain: Any, here: NDArray[np.bool_]) -> dict[str, int]:  # noqa: ANN401
    """Voxels of each ROI set among those `here` of a simulated brain; a set without an atlas has none."""
    from percept.datasets.twin import labels

    named = {
        roi.column(atlas): pd.Series(values[here]).map(dict(enumerate(labels.LABELS[atlas], start=1)))
        for atlas, values in brain.atlases.items()
    }
    table = pd.DataFrame(named)
    table.attrs["labels"] = {roi.column(atlas): names for atlas, names in labels.LABELS.items()}
    used = roi.union(sets(cfg), cfg.voxels.rois)
    inside = roi.members(table, used) if cfg.dataset.kind == "twin" else np.ones(len(table), dtype=bool)
    return _members(table[inside], cfg)


def _arrays(cfg: BaseConfig, name: str) -> Subject | None:
    shapes = [_shape(path) for path in cfg.dataset.betas.paths(name) if path.is_file()]
    if not shapes or None in shapes:
        return None
    volumes = len(shapes[0]) == 4
    trials = sum(shape[3] if volumes else shape[0] for shape in shapes)
    whole = int(np.prod(shapes[0][:3])) if volumes else shapes[0][1]
    n_voxels = {**dict.fromkeys(sets(cfg), whole), UNION: whole}
    return Subject(name, trials, trials, trials, trials, n_voxels, "the headers of the files: upper bounds")


def _shape(path: Path) -> tuple[int, ...] | None:
    """Axes of the array in a file, from its header; None where that is not known without reading it."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r").shape
    if path.name.endswith((".nii", ".nii.gz")):
        import nibabel as nib

        return nib.load(path).shape
    return None


_ESTIMATES: dict[str, Callable[[BaseConfig, str], Subject | None]] = {
    "nsd": _nsd, "twin": _twin, "algonauts": _algonauts, "arrays": _arrays,
}  # fmt: skip
