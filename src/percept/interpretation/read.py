"""What an analysis reads of the stages before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from percept import config
from percept.datasets import splits
from percept.datasets.twin import faults
from percept.generators import inputs
from percept.generators.roles import ROLES, Context
from percept.interpretation.run import Responses, Shown
from percept.targets import encode
from percept.voxels import normalise


@dataclass(frozen=True)
class Reader:
    """Settings that the analyses of a subject share.

    dataset, split, voxels : sections of the config, as plain data; trials : the trial table of the subject
    """

    dataset: Mapping[str, Any]
    split: Mapping[str, Any]
    voxels: Mapping[str, Any]
    trials: pd.DataFrame

    def responses(self, folder: Path, decoder: config.DecoderConfig) -> Responses:
        """Responses normalised and masked as the decoder's training did it, and their voxels."""
        split = config.SplitConfig.model_validate(dict(self.split))
        voxels = config.VoxelsConfig.model_validate(dict(self.voxels))
        fold = splits.folds(self.trials, validation=split.validation_fraction > 0)[0]
        rows = faults.apply_statistics(self.dataset.get("faults", ()), fold.train, fold.test)
        how = voxels.normalisation, voxels.rois
        X, _ = normalise.load_recorded(folder, decoder.roi, *how, rows, decoder.mask)
        table = normalise.selected(folder, decoder.roi, voxels.rois)
        return Responses(X, self.trials, table, fold.train, fold.test)

    def shown(
        self, settings: Mapping[str, Any] | None, decoder: str, paths: tuple[Sequence[str], Sequence[str]]
    ) -> Shown | None:
        """The reconstruction whose images an analysis makes, one sample of each; None where it makes none.

        Parameters
        ----------
        settings : its section of the config, as plain data
        decoder : the one that is analysed
        paths : predictions, and indices of the targets, of its roles in their order
        """
        if settings is None:
            return None
        named = [role for role in ROLES if settings.get(role) is not None]
        given = dict(zip(named, paths[0], strict=True))
        given |= {f"{role}_features": path for role, path in zip(named, paths[1], strict=True)}
        decoded = inputs.decoded(given, settings)
        section = config.plugin("generators", settings["generator"])
        if "samples" in type(section).model_fields:  # a choice among several could change the noise
            section = section.model_copy(update={"samples": 1})
        source = encode.source(config.dataset(dict(self.dataset)))
        generator = section.build(Context(inputs.training(self.trials, decoded, source)))
        roles = tuple(role for role in named if settings[role] == decoder)
        return Shown(generator, decoded, roles, settings["seed"])
