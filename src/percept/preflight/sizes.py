"""GB on disk: what a configuration downloads, stores for good, and needs for a while."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percept.backbones import catalogue, store
from percept.config import BaseConfig
from percept.datasets import coco, nsd_keys
from percept.preflight import figures
from percept.preflight.shapes import Shape, missing_networks, networks, shape_of
from percept.preflight.world import UNION, Subject, results
from percept.voxels import roi

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8, "int64": 8}
IMAGE_SIDE = 425  # of NSD's stimuli


@dataclass(frozen=True)
class Stored:
    """What one stage puts on one disk, in bytes.

    to_come : still to be written; present : there already; passing : needed for a while beside it
    """

    stage: str
    folder: Path
    to_come: float = 0.0
    present: float = 0.0
    passing: float = 0.0
    note: str = ""


def stimuli(cfg: BaseConfig, subjects: Iterable[Subject]) -> int:
    """Different images that all subjects saw: those that all share count once."""
    subjects = list(subjects)
    shared = max((subject.shared for subject in subjects), default=0)
    return shared + sum(subject.images - subject.shared for subject in subjects)


def downloads(cfg: BaseConfig, subjects: list[Subject]) -> list[Stored]:
    """Raw files: fetched, simulated, or the user's own."""
    dataset = cfg.dataset
    if dataset.kind == "twin" or getattr(dataset, "simulate", None):
        there = _below(Path(dataset.root))
        return [Stored("simulation", Path(dataset.root), max(0.0, simulated(cfg, subjects) - there), there)]
    if dataset.kind != "nsd" or not dataset.download.enabled:
        return []
    root = Path(dataset.root)
    extracted = [name for name in dataset.subjects if (results(cfg) / f"voxels/{name}/betas.h5").exists()]
    atlases = roi.atlases_of_labels(roi.union(_sets(cfg), cfg.voxels.rois))
    keys = nsd_keys.files_to_fetch(dataset, atlases, extracted) + list(coco.KEYS)
    sizes = {key: bytes_of(key, dataset) for key in dict.fromkeys(keys)}
    present = {key: size for key in sizes if (size := _size(root / key))}
    missing = {key: size for key, size in sizes.items() if key not in present}
    raw = sum(size for key, size in missing.items() if key.startswith("nsddata_betas/") and "session" in key)
    goes = not dataset.download.keep_raw
    note = "betas go once their voxels are extracted" if goes and raw else ""
    return [
        Stored(
            "download", root, sum(missing.values()) - (raw if goes else 0), sum(present.values()),
            raw if goes else 0, note,
        )
    ]  # fmt: skip


def simulated(cfg: BaseConfig, subjects: Iterable[Subject]) -> float:
    """Bytes of a simulation before compression: its images, and the betas of its volumes or vertices."""
    subjects = list(subjects)
    volumes = getattr(cfg.dataset, "volumes", {})
    betas = sum(2 * subject.trials * math.prod(volumes.get(subject.name, (subject.voxels[UNION], 2)))
                for subject in subjects)  # fmt: skip
    return 3 * IMAGE_SIDE**2 * stimuli(cfg, subjects) * figures.LZF.value + betas


def _sets(cfg: BaseConfig) -> list[str]:
    return [*cfg.voxels.extract, *(name for decoder in cfg.every_decoder.values() for name in decoder.sets)]


def bytes_of(key: str, dataset: Any) -> float:  # noqa: ANN401 (NSD's section)
    """Size of one file of the bucket, by its key."""
    if key == nsd_keys.STIMULI:
        return figures.STIMULI_BYTES
    if key in coco.KEYS:
        return figures.ANNOTATIONS_BYTES / len(coco.KEYS)
    if "/betas_session" not in key:
        return figures.SMALL_FILE.value
    subject = key.split("/")[2]
    fine = figures.FINE_SPACE if dataset.space == "func1mm" else 1
    return fine * figures.GB * figures.NSD_BETAS_GB["nii.gz" if key.endswith("nii.gz") else "hdf5"][subject]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _below(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def weights(cfg: BaseConfig) -> Stored:
    """Files of the frozen networks."""
    absent = missing_networks(cfg)
    there = sum(_below(store.folder(name)) for name in networks(cfg) if name not in absent)
    to_come = sum(4e6 * figures.PARAMETERS_M.get(name, 0) for name in absent)
    note = f"{len(absent)} to fetch" if absent else ""
    return Stored("networks", store.PUBLISHED, to_come, there, note=note)


def voxels(cfg: BaseConfig, subjects: Iterable[Subject]) -> float:
    """Bytes of the matrices of all subjects."""
    width = 4 if cfg.dataset.kind in ("arrays", "algonauts") else 2
    return sum(width * subject.trials * subject.voxels[UNION] for subject in subjects)


def targets(cfg: BaseConfig, subjects: Iterable[Subject]) -> float:
    """Bytes of the features of all targets whose shape is known."""
    n = stimuli(cfg, list(subjects))
    return sum(
        n * math.prod(shape) * BYTES[target.precision]
        for name, target in cfg.targets.items()
        if (shape := shape_of(name, cfg)) is not None
    )


def predictions(decoder: Any, subject: Subject, shape: Shape, cfg: BaseConfig) -> float:  # noqa: ANN401
    """Bytes of the predictions of one training of a decoder."""
    train, held_out = subject.train_images(cfg.split.validation_fraction)
    tested = {"average": subject.test_images, "single": subject.test_trials, "run": subject.test_trials}
    rows = held_out + sum(tested[unit] for unit in cfg.split.test_units)
    rows += train * (decoder.cross_validates + decoder.fitted)
    return math.prod(shape) * (4 * rows + 2 * decoder.samples * subject.test_images)


def saved(shapes: Mapping[str, tuple[Shape, str]]) -> float:
    """Bytes of saved weights."""
    return sum(math.prod(shape) * BYTES[dtype] for shape, dtype in shapes.values())


def images(cfg: BaseConfig, subjects: Iterable[Subject]) -> float:
    """Bytes of all reconstructions: images of predictions and of true targets, with those they start from."""
    side = {name: _side(cfg, name) for name in cfg.reconstructions}
    sets = {name: 2 * (1 + ("lowlevel" in one.roles)) for name, one in cfg.reconstructions.items()}
    per_image = sum(3 * side[name] ** 2 * sets[name] for name in side) * figures.LZF.value
    return per_image * sum(subject.test_images for subject in subjects)


def _side(cfg: BaseConfig, name: str) -> int:
    """Pixels along the side of what a reconstruction shows; of NSD's stimuli where it shows these."""
    generator = cfg.reconstructions[name].generator
    if generator.chooses_from:
        return max(_side(cfg, candidate) for candidate in generator.chooses_from)
    if (out := getattr(generator, "out", None)) is not None:
        return out
    backbone = getattr(generator, "backbone", None)
    return IMAGE_SIDE if backbone is None else catalogue.named(backbone).settings.get("size", IMAGE_SIDE)


def on_disk(
    cfg: BaseConfig, subjects: list[Subject], lasting: Mapping[str, float], passing: Mapping[str, float]
) -> Iterator[Stored]:
    """Everything, stage by stage.

    Parameters
    ----------
    lasting : bytes of the `decoders` of all subjects and seeds, of `gans`, and of embeddings of `pools`
    passing : bytes of checkpoints of `decoders`, of the largest, and of `gans`
    """
    place = results(cfg)
    yield from downloads(cfg, subjects)
    yield weights(cfg)
    made = {
        "voxels": voxels(cfg, subjects), "targets": targets(cfg, subjects), **lasting,
        "generators": images(cfg, subjects),
    }  # fmt: skip
    for stage, wanted in made.items():
        there = _below(place / stage)
        if stage in ("gans", "pools") and not wanted and not there:
            continue
        kept = passing.get(stage, 0.0)
        yield Stored(stage, place, max(0.0, wanted - there), there, kept,
                     "a checkpoint for each training at a time" if kept else "")  # fmt: skip
    there = _below(place / "evaluation") + _below(place / "report")
    yield Stored("evaluation, report", place, 0.0 if there else len(subjects) * figures.TABLES.value, there)
