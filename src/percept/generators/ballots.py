"""From the files of several reconstructions to the candidates that a vote chooses among."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.files import PerceptError, read_parquet
from percept.generators import inputs, store
from percept.generators.roles import ROLES, Candidates, Roles
from percept.targets.sources import Source, capability

SETS = ("images", "recovery")


@dataclass(frozen=True)
class Stored:
    """Candidates in the files of reconstructions, of which only the rows asked for are read.

    Attributes
    ----------
    names, paths : (candidate,) the reconstructions, and their files of one set of images
    stimulus : (image,) what the rows of every file show
    captions : (image, candidate), or None where a reconstruction made none
    source : of the images that were seen; None for every rule that does without them
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    stimulus: NDArray[np.int32]
    captions: Sequence[Sequence[str | None]]
    source: Source | None = None

    def __getitem__(self, which: slice) -> Candidates:
        rows = np.arange(len(self.stimulus))[which]
        images = _stacked([store.read_images(path, rows).images for path in self.paths], self.names)
        started = [store.read_lowlevel(path, rows) for path in self.paths]
        lowlevel = None if any(one is None for one in started) else _stacked(started, self.names)
        seen = capability(self.source, "images", "vote")(self.stimulus[rows]) if self.source else None
        return Candidates(self.names, images, lowlevel, seen, [self.captions[row] for row in rows])


def _stacked(images: Sequence[NDArray[np.uint8]], names: Sequence[str]) -> NDArray[np.uint8]:
    sizes = {name: one.shape[1:3] for name, one in zip(names, images, strict=True)}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name}: {height} x {width}" for name, (height, width) in sizes.items())
        raise PerceptError(
            f"a vote chooses among images of one size, and these differ ({listed}): a file of images holds "
            "one size. Leave one of them out, or let them be made by generators of the same size."
        )
    return np.stack(images, axis=1)


def named(given: Mapping[str, Any], vote: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The files of one vote among the inputs of the rule, under the names that `sets` knows.

    Parameters
    ----------
    given : `of_<reconstruction>_<set>` are files of candidates, `<vote>_<role>` and `<vote>_<role>_features`
        those of a role
    """
    of = settings["generator"]["of"]
    kinds = {"candidates": "images", "candidate_recovery": "recovery", "candidate_details": "details"}
    files: dict[str, Any] = {key: [given[f"of_{one}_{kind}"] for one in of] for key, kind in kinds.items()}
    for role in (role for role in ROLES if settings.get(role) is not None):
        files |= {role: given[f"{vote}_{role}"], f"{role}_features": given[f"{vote}_{role}_features"]}
    return files


def sets(
    given: Mapping[str, Any], settings: Mapping[str, Any], source: Source | None = None
) -> dict[str, Any]:
    """What reads the roles of each set of images: chosen among those made from predictions, or from targets.

    Parameters
    ----------
    given : the inputs of the rule: `candidates`, `candidate_recovery` and `candidate_details` are files of
        the reconstructions in the order of `of`; `<role>` and `<role>_features` as for any reconstruction
    settings : the reconstruction's section of the config
    source : of the images that were seen, for the oracle alone
    """
    files = {"images": given["candidates"], "recovery": given["candidate_recovery"]}
    names = tuple(settings["generator"]["of"])
    roles = inputs.decoded(given, settings)
    details = [read_parquet(path) for path in given["candidate_details"]]
    return {name: partial(ballot, name, names, files[name], details, roles, source) for name in SETS}


def ballot(
    which: str,
    names: tuple[str, ...],
    paths: Sequence[str],
    details: Sequence[pd.DataFrame],
    roles: Mapping[str, inputs.Decoded],
    source: Source | None = None,
) -> Roles:
    """The roles of one set of images with its candidates.

    Raises
    ------
    PerceptError : the candidates, or the decoder of a role, are of different test images
    """
    stimulus = _common_stimulus(paths)
    given = {}
    for role, each in roles.items():
        if not np.array_equal(inputs.common_rows({role: each}), stimulus):
            raise PerceptError(_different(str(each.predictions), str(paths[0])))
        given[role] = each.predicted() if which == "images" else each.true(stimulus)
    captions = list(zip(*(_captions(one, which) for one in details), strict=True))
    return Roles(
        stimulus, **given, candidates=Stored(names, tuple(map(Path, paths)), stimulus, captions, source)
    )


def _common_stimulus(paths: Sequence[str]) -> NDArray[np.int32]:
    first, *others = (store.read_stimulus(path) for path in paths)
    for path, stimulus in zip(paths[1:], others, strict=True):
        if not np.array_equal(stimulus, first):
            raise PerceptError(_different(str(paths[0]), str(path)))
    return first


def _different(one: str, other: str) -> str:
    return (
        f"{one} and {other} are about different test images, so that there is no choice between them: what "
        "is held out has to be the same for all whose images a vote compares, or one may have trained on "
        "another's test images. Delete both and run the same command again; the workflow makes them anew."
    )


def _captions(details: pd.DataFrame, which: str) -> list[str | None]:
    """Captions (image,) of one set; None where none was made."""
    own = details.loc[details["set"] == which, "caption"].astype("object")
    return own.where(own.notna(), None).tolist()
