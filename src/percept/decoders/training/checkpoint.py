"""One file that holds a training: whole or absent, and void for any other training."""

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.serialization import pickle as errors  # for the name of a refusal only

from percept.backbones.device import choose
from percept.decoders.training.settings import TrainingConfig
from percept.files import UNREADABLE, atomic, hash_text
from percept.shortage import damage

log = logging.getLogger(__name__)

Stored = dict[str, Any]  # what torch.load(weights_only=True) accepts: tensors, numbers, strings, lists, dicts


def mark(learner: nn.Module, n_rows: int, cfg: TrainingConfig, identity: str, seed: int) -> str:
    """What a checkpoint belongs to: settings, identity, seed, number of rows, names and shapes of weights,
    kind of device: a GPU rounds otherwise than a CPU, and half a training on each is neither's.
    """
    shapes = [[name, list(value.shape)] for name, value in learner.state_dict().items()]
    settings = cfg.model_dump(mode="json", exclude={*cfg.harmless, "device"})
    kind = torch.device(choose(cfg.device)).type
    text = json.dumps([settings, kind, identity, seed, n_rows, shapes], sort_keys=True)
    return hash_text(text, 32)


def write(path: Path, stored: Stored) -> None:
    """Write a checkpoint, whole or not at all."""
    with atomic(path) as temporary:
        torch.save(stored, temporary)


def read(path: Path, expected: str) -> Stored | None:
    """The checkpoint at `path`, mapped into memory; None where there is none of the training `expected`.

    A damaged one is moved aside, to where a person can look at it: the training starts anew.
    """
    if not path.is_file():
        return None
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not the archive that a checkpoint is")
        with zipfile.ZipFile(path) as archive:
            if altered := archive.testzip():  # torch maps the file, and does not look at its checksums
                raise ValueError(f"{altered} in it does not have its checksum")
        stored = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except damage(path, *UNREADABLE, zipfile.BadZipFile, errors.UnpicklingError) as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        log.warning(
            "%s is damaged (%s): it was moved to %s, and the training starts anew",
            path, str(error).partition(". ")[0], aside,
        )  # fmt: skip
        return None
    if not isinstance(stored, dict) or stored.get("mark") != expected:
        log.warning(
            "%s is of other settings, other data, another network or another kind of device: the training "
            "starts anew",
            path,
        )
        return None
    return stored
