"""Train a decoder on each fold of a split and write its predictions, weights and history."""

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.decoders import weights
from percept.decoders.predictions import (
    FIELDS,
    SAMPLED,
    Predictions,
    read_predictions,
    write_predictions,
)
from percept.decoders.task import FITTED, Block, Targets, Task, Trainable
from percept.decoders.units import Unit, average, grouping, units
from percept.files import PerceptError, create_hdf5, put, write_parquet

CHUNK = (16, 4096)  # rows and columns of predictions that have one checksum: 256 KiB

__all__ = [
    "Fold",
    "Job",
    "Predictions",
    "read_predictions",
    "train_and_predict",
    "units",
    "write_predictions",
]


class Fold(Protocol):
    """Rows of the trial table that train, validate and test, such as `percept.datasets.splits.Fold`."""

    train: NDArray[np.intp]
    validation: NDArray[np.intp]
    test: NDArray[np.intp]


@dataclass(frozen=True)
class Job:
    """Where the results of one training go, and on which rows it works."""

    folder: Path
    units: tuple[Unit, ...] = ("average", "single")
    train_repeats: Literal["average", "single"] = "average"
    seed: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)  # decoder, subject, target
    extra: Mapping[str, Targets] = field(default_factory=dict)  # further targets that the decoder reads
    voxels: pd.DataFrame | None = None  # table of the voxels, a row per column of the responses
    code: str = ""  # hash of the code that trains
    fitted: bool = False  # whether training images are predicted too, by the model that was trained on them
    initial: str | Path | None = None  # weights of the decoder that this one begins with

    @property
    def name(self) -> str:
        """What messages call it: the decoder, the subject and the seed, those that are known."""
        known = [self.attributes[key] for key in ("decoder", "subject") if key in self.attributes]
        return ", ".join([*filter(None, [" of ".join(known)]), f"seed {self.seed}"])

    @property
    def work(self) -> Path:
        """Folder of what lets an interrupted training go on; no declared output, so Snakemake leaves it."""
        return self.folder / "work"


def train_and_predict(
    cfg: Trainable,
    X: NDArray[np.float32],
    trials: pd.DataFrame,
    folds: Sequence[Fold],
    targets: Targets,
    job: Job,
) -> None:
    """Train a decoder on each fold and write predictions.h5, weights.safetensors and history.parquet.

    What an interrupted training left in `job.work` is continued by decoders that can, and removed at the end.

    Parameters
    ----------
    X : (trial, voxel), normalised responses
    trials : session, run, stimulus of each row of X
    folds : one for a fixed split; one per run for leave-one-run-out. Predictions of all folds are joined, and
        each row names its fold; cross-validation inside a fold is grouped by image, or then by run
    targets : features of the stimuli, read a range of columns at a time, so that they never lie in memory
        whole

    Raises
    ------
    PerceptError : a fold without training or test rows, or responses that are not finite
    """
    numbers = range(len(folds)) if len(folds) > 1 else [-1]
    plans = [_plan(trials, rows, cfg, job, number) for number, rows in zip(numbers, folds, strict=True)]
    _require_finite(X, trials, job)
    shapes = {
        _prefix(plan.fold) + name: shape
        for plan in plans
        for name, shape in _announced(cfg, X.shape[1], targets.shape, job.voxels).items()
    }
    history, records = [], []
    with ExitStack() as stack:
        tensors = stack.enter_context(
            weights.create(job.folder / "weights.safetensors", shapes, dict(job.attributes))
        )
        file = stack.enter_context(create_hdf5(job.folder / "predictions.h5"))
        file.attrs.update({**job.attributes, "seed": job.seed})
        if hasattr(targets, "fingerprint"):
            file.attrs["fingerprint"] = json.dumps(targets.fingerprint, sort_keys=True)
        _create(file, plans, targets.n_dims, cfg.samples)
        offsets = dict.fromkeys(file_groups(plans), 0)
        for plan in plans:
            for block in cfg.train(plan.task(X, trials, targets, job), job.seed):
                _write_block(file, tensors, plan, block, offsets)
                history += [record | {"fold": plan.fold} for record in block.history]
                records += [block.record | {"fold": plan.fold}] if block.record else []
            for name, frame in plan.frames.items():
                offsets[name] += len(frame)
    frame = pd.DataFrame(history)
    frame.attrs["training"] = records  # kept in the file's metadata, and there again when it is read
    write_parquet(frame, job.folder / "history.parquet")
    shutil.rmtree(job.work, ignore_errors=True)


@dataclass(frozen=True)
class _Plan:
    """One fold: its rows, the units that they form, and the frame of each group of predictions.

    rows, codes : group -> rows of the trial table and the unit of each
    fit : the units that are trained on, as (frame, code); they may be single trials of the group `train`
    """

    fold: int
    rows: dict[str, NDArray[np.intp]]
    codes: dict[str, NDArray[np.intp]]
    frames: dict[str, pd.DataFrame]
    fit: tuple[pd.DataFrame, NDArray[np.intp]]

    def task(self, X: NDArray[np.float32], trials: pd.DataFrame, targets: Targets, job: Job) -> Task:
        frame, code = self.fit
        evaluated = {name: frame for name, frame in self.frames.items() if name != "train"}
        return Task(
            X=average(X, self.rows["train"], code, len(frame)),
            stimulus=frame["stimulus"].to_numpy(),
            groups=_groups(frame, self.fold),
            targets=targets,
            evaluate={
                name: average(X, self.rows[name], self.codes[name], len(frame))
                for name, frame in evaluated.items()
            },
            shown={name: frame["stimulus"].to_numpy() for name, frame in evaluated.items()},
            extra=job.extra,
            voxels=job.voxels,
            initial=weights.encoder(job.initial, _prefix(self.fold)) if job.initial else {},
            work=job.work / _prefix(self.fold),
            events=job.folder / "tensorboard" / _prefix(self.fold),
            code=job.code,
            name=job.name + (f", fold {self.fold}" if self.fold >= 0 else ""),
        )

    def repeat_averaged(self, out_of_fold: NDArray[np.float32]) -> NDArray[np.float32]:
        """Predictions of the training images from those of the units trained on (which may be single
        trials).
        """
        frame, code = self.fit
        unit = np.empty(len(frame), dtype=np.intp)
        unit[code] = self.codes["train"]
        return average(out_of_fold, np.arange(len(frame)), unit, len(self.frames["train"]))


def _announced(
    cfg: Trainable, n_voxels: int, shape: tuple[int, ...], voxels: pd.DataFrame | None
) -> weights.Shapes:
    """Weights that a decoder will save."""
    if cfg.located:
        return cfg.tensors(n_voxels, shape, voxels)
    return cfg.tensors(n_voxels, shape)


def _plan(trials: pd.DataFrame, fold: Fold, cfg: Trainable, job: Job, number: int) -> _Plan:
    """Decide rows and units of one fold; leaving runs out, images recur in all runs and are averaged
    within.
    """
    unit = cfg.unit or job.train_repeats
    whole: Unit = "average" if number < 0 else "run"
    wanted = {"train": (fold.train, whole), "validation": (fold.validation, "average")}
    wanted |= {f"test/{unit}": (fold.test, unit) for unit in job.units}
    wanted |= {FITTED: (fold.train, whole)} if job.fitted else {}
    for name in ("train", *(name for name in wanted if name.startswith("test"))):
        if len(wanted[name][0]) == 0:
            raise PerceptError(
                f"the split leaves no rows for {name.split('/')[0]}ing the decoder in {job.folder} (fold "
                f"{number}): choose a split.protocol, or more sessions, that leaves images on both sides."
            )
    wanted = {name: rows for name, rows in wanted.items() if len(rows[0])}
    made = {name: grouping(trials, np.asarray(rows), unit) for name, (rows, unit) in wanted.items()}
    return _Plan(
        fold=number,
        rows={name: np.asarray(rows) for name, (rows, _) in wanted.items()},
        codes={name: code for name, (_, code) in made.items()},
        frames={name: one for name, (one, _) in made.items() if name != "train" or cfg.cross_validates},
        fit=made["train"] if unit == "average" else grouping(trials, fold.train, "single"),
    )


def _groups(frame: pd.DataFrame, fold: int) -> NDArray[np.intp]:
    """What stays together in cross-validation: images, or runs where runs are left out."""
    keys = ["stimulus"] if fold < 0 else ["session", "run"]
    return frame.groupby(keys).ngroup().to_numpy()


def file_groups(plans: Sequence[_Plan]) -> list[str]:
    """Names of the groups of predictions, over all folds."""
    return list(dict.fromkeys(name for plan in plans for name in plan.frames))


def _create(file: h5py.File, plans: Sequence[_Plan], n_dims: int, n_samples: int) -> None:
    for name in file_groups(plans):
        frames = [plan.frames[name].assign(fold=plan.fold) for plan in plans if name in plan.frames]
        table = pd.concat(frames, ignore_index=True)
        group = file.create_group(name)
        _create_rows(group, "predicted", (len(table), n_dims), np.float32)
        if n_samples and name == SAMPLED:
            _create_rows(group, "samples", (len(table), n_samples, n_dims), np.float16)
        for column, dtype in FIELDS.items():
            put(group, column, table[column].to_numpy(dtype))


def _create_rows(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: type) -> None:
    """A dataset with checksums, in chunks that suit whoever writes columns and whoever reads some rows."""
    chunks = (min(shape[0], CHUNK[0]), *shape[1:-1], min(shape[-1], CHUNK[1]))
    checked = {"chunks": chunks, "fletcher32": True} if min(shape) else {}
    group.create_dataset(name, shape, dtype, **checked)


def _write_block(
    file: h5py.File, tensors: dict[str, NDArray], plan: _Plan, block: Block, offsets: dict[str, int]
) -> None:
    predicted = dict(block.predicted)
    if block.out_of_fold is not None:
        predicted["train"] = plan.repeat_averaged(block.out_of_fold)
    for dataset, groups in {"predicted": predicted, "samples": block.samples}.items():
        for name, values in groups.items():
            if not np.isfinite(values).all():
                raise PerceptError(
                    f"the decoder's predictions of {name} are not finite ({dataset}): see its history and "
                    "its settings"
                )
            rows = slice(offsets[name], offsets[name] + len(values))
            file[name][dataset][rows, ..., block.columns] = values
    for name, values in block.tensors.items():
        tensor = tensors[_prefix(plan.fold) + name]
        tensor[block.columns if len(values) == block.columns.stop - block.columns.start else slice(None)] = (
            values
        )


def _prefix(fold: int) -> str:
    return "" if fold < 0 else f"fold-{fold}/"


def _require_finite(X: NDArray[np.float32], trials: pd.DataFrame, job: Job) -> None:
    bad = ~np.isfinite(X).all(axis=1)
    if bad.any():
        first = trials.iloc[int(np.flatnonzero(bad)[0])]
        raise PerceptError(
            f"{bad.sum()} trials hold responses that are not finite (the first: session {first['session']}, "
            f"run {first['run']}, stimulus {first['stimulus']}), so the decoder in {job.folder} cannot be "
            "trained: set `voxels.invalid: drop`, or check the betas of that session."
        )
