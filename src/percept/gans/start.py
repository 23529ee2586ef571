"""Start a training from the inputs of its rule; torch is imported once threads and settings are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from percept.gan_settings import GanSection
from percept.gans import read


def start(
    settings: Mapping[str, Any],
    given: Mapping[str, Any],
    images: str | Path,
    targets: Sequence[Mapping[str, Any]],
    folder: str | Path,
    code: str,
) -> None:
    """Train a GAN and write its folder.

    Parameters
    ----------
    settings : its section of the config, as plain data
    given, images, targets : as for `read.photographs`
    folder, code : as for `train.Job`

    Raises
    ------
    PerceptError : data that do not fit together, or a training that cannot go on
    """
    from percept.gans import train

    cfg = GanSection.model_validate(settings)
    train.train(cfg, read.photographs(cfg, given, images, targets), train.Job(Path(folder), code))
