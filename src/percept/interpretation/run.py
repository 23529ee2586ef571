"""One leave-one-out analysis of one subject, from files to its table."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.decoders import predictor
from percept.decoders.predictions import SAMPLED, read_predictions
from percept.decoders.ridge import RidgeConfig
from percept.decoders.units import units
from percept.files import PerceptError
from percept.generators import inputs
from percept.generators.roles import Generator
from percept.interpretation import images, information, leave_one_out, table
from percept.interpretation.effects import Scale
from percept.interpretation.groups import GROUPINGS, Group
from percept.interpretation.leave_one_out import Probe
from percept.interpretation.replacement import ConditionalMean, Permuted, Replacement, Zero
from percept.sections import EvaluationConfig, LeaveOneOutConfig
from percept.targets import store
from percept.voxels import roi

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Responses:
    """What the decoder reads, as in its training.

    X : (trial, voxel) float32; trials : the trial table; voxels : rows of the voxel table, a row per column
    train, test : (row,) trials of the split
    """

    X: NDArray[np.float32]
    trials: pd.DataFrame
    voxels: pd.DataFrame
    train: NDArray[np.intp]
    test: NDArray[np.intp]

    def averaged(self, part: str) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Mean responses (image, voxel) of `train` or `test`, and their images (image,)."""
        rows = self.train if part == "train" else self.test
        X, frame = units(self.X, self.trials, rows, "average")
        return X, frame["stimulus"].to_numpy(np.int32)


@dataclass(frozen=True)
class Trained:
    """A trained decoder of one subject: its section of the config, the folder of its files, its target."""

    cfg: Any
    folder: Path
    features: Path


@dataclass(frozen=True)
class Shown:
    """The reconstruction whose images are looked at.

    generator : with its weights read; files : role -> files of its decoder; roles : those of the decoder that
    is analysed; seed : of its noise
    """

    generator: Generator
    files: Mapping[str, inputs.Decoded]
    roles: tuple[str, ...]
    seed: int


def analyse(
    cfg: LeaveOneOutConfig,
    trained: Trained,
    responses: Responses,
    evaluation: EvaluationConfig,
    about: Mapping[str, Any],
    shown: Shown | None = None,
) -> pd.DataFrame:
    """The table of one analysis, see `table.SCHEMA`.

    Parameters
    ----------
    about : analysis, subject, decoder, seed
    shown : how images are made, where the analysis has them

    Raises
    ------
    PerceptError : the saved weights do not belong to the saved predictions, or the voxels form no group
    """
    X, stimulus = responses.averaged("test")
    train, train_stimulus = responses.averaged("train")
    with store.open_features(trained.features) as features:
        sizes = predictor.Sizes(X.shape[1], features.shape, responses.voxels)
        decoder = predictor.load(trained.cfg, trained.folder / "weights.safetensors", sizes)
        everything = slice(0, features.n_dims)
        target, true = features.read(train_stimulus, everything), features.read(stimulus, everything)
    _require_same(trained, decoder, X, stimulus)
    scale = Scale(
        true.astype(np.float64) - target.mean(axis=0, dtype=np.float64),
        decoder.predict(train).mean(axis=0, dtype=np.float64),
        cfg.pool,
    )
    probe = Probe(decoder, X, _replacement(cfg, X, train, evaluation.seed), scale)
    samples = information.Samples(train, X, target, true, train_stimulus)
    parts = [
        table.rows(found, responses.voxels, evaluation.bootstrap, evaluation.confidence, evaluation.seed)
        for found in _effects(cfg, probe, samples, responses, (trained.cfg, evaluation.seed, shown))
    ]
    return table.whole(parts, {**about, "replacement": cfg.replacement})


def _require_same(trained: Trained, decoder: predictor.Predictor, X: NDArray, stimulus: NDArray) -> None:
    stored = read_predictions(trained.folder / "predictions.h5", SAMPLED)
    if not np.array_equal(stored.stimulus, stimulus):
        raise PerceptError(
            f"{trained.folder} predicts {len(stored.stimulus)} test images, and the split has others "
            f"({len(stimulus)}): the decoder was trained on another split. Train it again."
        )
    predictor.require_alike(decoder.predict(X), stored.predicted, str(trained.folder))


def _replacement(cfg: LeaveOneOutConfig, X: NDArray, train: NDArray, seed: int) -> Replacement:
    if cfg.replacement == "zero":
        return Zero(len(X), train.mean(axis=0, dtype=np.float64))
    if cfg.replacement == "permuted":
        return Permuted.of(X, cfg.permutations, seed)
    fitted = ConditionalMean.of(X, train, seed)
    log.info("voxels are predicted from all others by ridge regression with penalty %g", fitted.alpha)
    return fitted


def _effects(
    cfg: LeaveOneOutConfig,
    probe: Probe,
    samples: information.Samples,
    responses: Responses,
    used: tuple[Any, int, Shown | None],
) -> Iterator[Iterator[leave_one_out.Effect]]:
    """Effects of each grouping; then the regions' information and images, where they are asked for."""
    decoder, seed, shown = used
    found = {name: _groups(name, cfg, responses.voxels) for name in cfg.groups}
    _require_groups(found, responses.voxels)
    for name, groups in found.items():
        log.log(logging.INFO if groups else logging.WARNING, "%s: %d groups", name, len(groups))
        if name == "voxel":
            training = responses.trials.iloc[responses.train]["stimulus"].to_numpy()
            sd = leave_one_out.repeat_sd(responses.X[responses.train], training)
            yield leave_one_out.of_voxels(probe, groups, sd)
        else:
            yield leave_one_out.effects(probe, groups, cfg.draws, seed)
    regions = found.get("roi", [])
    if cfg.information and isinstance(decoder, RidgeConfig):
        yield information.triples(decoder, samples, regions, seed)
    if cfg.images is not None and shown is not None:
        maker = _maker(shown, len(probe.X), cfg.images.n, seed)
        shots = images.Shots(images.comparison(cfg.images.network), cfg.images.draws, seed)
        yield images.effects(probe, regions, maker, shots)


def _groups(name: str, cfg: LeaveOneOutConfig, voxels: pd.DataFrame) -> list[Group]:
    if name == "block" and not {"i", "j", "k"} <= set(voxels):
        raise PerceptError(
            "the voxel table has no columns i, j, k, so its voxels form no blocks: leave `block` out of "
            "`groups` of this analysis."
        )
    return GROUPINGS[name](voxels, cfg.block_side, cfg.block_voxels)


def _require_groups(found: Mapping[str, list[Group]], voxels: pd.DataFrame) -> None:
    """Say why there is nothing to analyse, where there is no group at all."""
    if not any(found.values()):
        raise PerceptError(
            f"no voxels form a group ({', '.join(found)}): the {len(voxels)} voxels of this decoder carry "
            f"the atlases {', '.join(roi.atlases(voxels)) or 'none'}, of which no label holds some of them "
            "and not all. Add ROI sets of other atlases to `voxels.extract`, or `voxel` to `groups` of this "
            "analysis."
        )


def _maker(shown: Shown, n_test: int, n_images: int, seed: int) -> images.Maker:
    """What makes images of some test images, drawn at random."""
    rows = np.sort(np.random.default_rng(seed).permutation(n_test)[:n_images])
    roles = inputs.predicted(shown.files)
    some = type(roles)(roles.stimulus[rows], **{role: value[rows] for role, value in roles.given.items()})
    changed = {role: images.stretch(shown.files[role]) for role in shown.roles}
    return images.Maker(shown.generator, some, rows, changed, shown.seed)
