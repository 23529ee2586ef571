"""From the files of a reconstruction to the roles that its generator works from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.backbones.fingerprint import differences
from percept.decoders.predictions import FIELDS, SAMPLED, read_predictions
from percept.decoders.task import FITTED
from percept.files import PerceptError, hash_text, open_hdf5, read_json, sha256
from percept.generators import rescale
from percept.generators.roles import ROLES, Outside, Roles, Training
from percept.targets import store
from percept.targets.encode import Source, capability

UNIT = SAMPLED  # what is reconstructed: one prediction per test image (and fold)


@dataclass(frozen=True)
class StoredSamples:
    """Samples (image, sample, ...) in a file of predictions, of which only the rows asked for are read.

    Of a thousand test images they take gigabytes; a batch is all that is ever needed at a time.

    Attributes
    ----------
    shape : of one sample
    """

    predictions: Path
    shape: tuple[int, ...]

    def __getitem__(self, rows: slice) -> NDArray[np.float16]:
        """Some rows, (image, sample, ...)."""
        with open_hdf5(self.predictions) as file:
            values = file[UNIT]["samples"][rows]
        return values.reshape(*values.shape[:2], *self.shape)


@dataclass(frozen=True)
class Decoded:
    """The files of one role: predictions of its decoder, index of its target, and how to rescale."""

    predictions: Path
    features: Path
    rescaled: rescale.How | None = None

    def predicted(self, group: str = UNIT) -> NDArray[np.float32]:
        """Predictions (image, ...) of the test images, or of another group of the file, in the shape of the
        target, rescaled if asked for.
        """
        found = read_predictions(self.predictions, group)
        with store.open_features(self.features) as features:
            values = rescale.apply(self.predictions, found, features, self.rescaled)
            return values.reshape(len(values), *features.shape)

    def samples(self) -> StoredSamples | None:
        """Samples of the target that the decoder made of each test image; None where it made none.

        Raises
        ------
        PerceptError : the role is rescaled, which would leave the samples as they are
        """
        with open_hdf5(self.predictions) as file:
            if "samples" not in file[UNIT]:
                return None
        if self.rescaled is not None:
            raise PerceptError(
                f"{self.predictions} holds samples of each embedding, which condition the images in the "
                f"place of the prediction, and this reconstruction rescales that ({self.rescaled}): samples "
                "have the spread of true embeddings already, and rescaling would change nothing but what "
                "the table says. Remove the role from `rescale` of this reconstruction."
            )
        with store.open_features(self.features) as features:
            return StoredSamples(self.predictions, features.shape)

    def true(self, stimuli: NDArray[np.int32]) -> NDArray[np.float32]:
        """True targets (image, ...) of the stimuli."""
        return store.read(self.features, stimuli)


def decoded(given: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Decoded]:
    """Role -> its files.

    Parameters
    ----------
    given : the inputs of the rule: `<role>` is a file of predictions, `<role>_features` an index
    settings : the reconstruction's section of the config
    """
    rescaled = settings.get("rescale", {})
    return {
        role: Decoded(Path(given[role]), Path(given[f"{role}_features"]), rescaled.get(role))
        for role in ROLES
        if settings.get(role) is not None
    }


def sets(files: Mapping[str, Decoded], sampled: bool = False) -> dict[str, Any]:
    """What reads the roles of each set of images: `images` from predictions, `recovery` from true targets.

    Parameters
    ----------
    sampled : whether the generator works from the samples of the semantic decoder, where it made any
    """
    return {"images": partial(predicted, files, sampled), "recovery": partial(true, files)}


def predicted(files: Mapping[str, Decoded], sampled: bool = False) -> Roles:
    """Predictions of the test images in every role, and samples of the semantic ones if asked for.

    Raises
    ------
    PerceptError : the decoders of two roles predict other images, or in another order; or samples of a role
        that is rescaled
    """
    stimulus = common_rows(files)
    samples = files["semantic"].samples() if sampled and "semantic" in files else None
    return Roles(stimulus, **{role: each.predicted() for role, each in files.items()}, samples=samples)


def true(files: Mapping[str, Decoded]) -> Roles:
    """True targets of the test images in every role: what a perfect decoder would predict."""
    stimulus = common_rows(files)
    return Roles(stimulus, **{role: each.true(stimulus) for role, each in files.items()})


def splits(files: Mapping[str, Decoded], n_images: int) -> dict[str, Any]:
    """What reads the roles of the first training and of the first validation images, by split."""
    groups = {"train": FITTED, "validation": "validation"}
    return {name: partial(_of_group, files, group, n_images) for name, group in groups.items()}


def _of_group(files: Mapping[str, Decoded], group: str, n_images: int) -> Roles:
    stimulus = common_rows(files, group)
    roles = Roles(stimulus, **{role: each.predicted(group) for role, each in files.items()})
    return roles.rows(slice(0, n_images))


def common_rows(files: Mapping[str, Decoded], group: str = UNIT) -> NDArray[np.int32]:
    """Stimuli (image,) that the decoders of all roles predict, row by row, in a group of predictions.

    Raises
    ------
    PerceptError : they predict other images, or in another order, or a decoder was trained on other
        features than those of its target now
    """
    for each in files.values():
        require_same_features(each)
    rows = {role: read_rows(each.predictions, group) for role, each in files.items()}
    (first, expected), *others = rows.items()
    for role, found in others:
        if not all(np.array_equal(found[name], expected[name]) for name in ("stimulus", "run", "fold")):
            raise PerceptError(
                f"the decoders of the roles {first!r} and {role!r} predict different test images "
                f"({files[first].predictions}: {len(expected['stimulus'])}, {files[role].predictions}: "
                f"{len(found['stimulus'])}), so an image cannot be made from both: they were trained on "
                "different splits. Delete both files and run the same command again."
            )
    return expected["stimulus"]


def require_same_features(files: Decoded) -> None:
    """Refuse predictions of a decoder that was trained on other features than the target has now.

    Predictions without a fingerprint, which something else than a decoder of Percept wrote, are taken as
    they are.

    Raises
    ------
    PerceptError : names both files and every entry that differs
    """
    with open_hdf5(files.predictions) as file:
        trained_on = file.attrs.get("fingerprint")
    if trained_on is None:
        return
    with store.open_features(files.features) as features:
        if differing := differences(json.loads(trained_on), features.fingerprint):
            raise PerceptError(
                f"{files.predictions} was predicted by a decoder of other features of the target "
                f"{features.target!r} than {files.features} holds now; they differ in "
                f"{', '.join(differing)}. Predictions and true targets would lie in two spaces, and images "
                "made from them could not be compared. Delete the predictions and run the same command "
                "again, or restore the settings of the target."
            )


def read_rows(path: Path, group: str) -> dict[str, NDArray]:
    """Stimulus, repeats, run and fold of each row of a group of predictions, without the predictions.

    Raises
    ------
    PerceptError : the file is damaged or has no such group
    """
    with open_hdf5(path) as file:
        if group not in file:
            raise PerceptError(
                f"{path} has no predictions of {group!r}, from which images are made: add "
                f"`{group.partition('/')[2]}` to `split.test_units`."
            )
        return {column: file[group][column][:] for column in FIELDS}


def training(trials: pd.DataFrame, files: Mapping[str, Decoded], source: Source) -> Training:
    """The training images of a subject's split, with their cached targets."""
    stimuli = np.unique(trials.loc[trials["split"] == "train", "stimulus"].to_numpy(np.int32))
    return Training(
        stimuli,
        {role: each.features for role, each in files.items()},
        lambda wanted: capability(source, "images", "nearest")(wanted),
    )


def outside(given: Mapping[str, Any], pool: Mapping[str, Any]) -> Outside | None:
    """The pool of images that the generator looks in; None where it looks in none.

    Parameters
    ----------
    given : the inputs of the rule: `pool_files` is the table of its images, `pool_embeddings` their
        embeddings
    pool : its section of the config; empty where there is none
    """
    if not pool:
        return None
    return Outside(
        Path(pool["images"]), pool["size"], Path(given["pool_files"]), Path(given["pool_embeddings"])
    )


def gan(given: Mapping[str, Any]) -> Path | None:
    """Folder of the GAN that was trained for the generator; None where it uses none."""
    return Path(given["gan"]).parent if given.get("gan") else None


def identity(train: Training, weights: list[str], code: str, pool: Outside | None = None) -> dict[str, str]:
    """What unfinished images depend on besides their settings and targets: it is part of their key.

    Parameters
    ----------
    weights : manifests of the frozen networks that the generator loads, and weights that were trained here
    code : hash of the code that makes the images
    pool : images outside the data set
    """
    among = {} if pool is None else {"pool": pool.files, "embeddings of the pool": pool.embeddings}
    features = {role: hash_text(str(read_json(path))) for role, path in train.features.items()}
    return {
        "code": code,
        "stimuli": hash_text(train.stimuli.tobytes().hex()),
        **{f"features of {role}": digest for role, digest in features.items()},
        **{f"weights {Path(path).parent.name}": sha256(path) for path in weights},
        **{name: sha256(path) for name, path in among.items()},
    }
