"""Which images train, validate and test: named protocols, frozen to a file before any model is fitted.

A split is by image, never by trial: all repeats of an image that are used lie on one side. Where a choice is
random, it is a hash of the stimulus id and the seed, so that an image keeps its place when sessions are
added, whatever the order of the trials, the machine or the version of a library.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept import files
from percept.config import SplitConfig
from percept.files import PerceptError

NAMES = ("train", "validation", "test", "unused")
SESSIONS_BEFORE_2023 = 37  # the last three sessions of every subject were held out until August 2023
HELD_OUT_SESSIONS = 3
N_REPEATS = 3
Schedule = Mapping[
    str, NDArray[np.int32]
]  # subject -> (session, trial) 0-based nsd id, all released sessions


class Fold(NamedTuple):
    """Rows of the trial table that train, validate and test one model."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True)
class Request:
    """All that a protocol may look at.

    Attributes
    ----------
    trials : session, run, stimulus, shared, in the order of the betas
    split : the settings
    subject : whose trials they are
    schedule : what every subject was shown in all released sessions; None for own data
    """

    trials: pd.DataFrame
    split: SplitConfig
    subject: str
    schedule: Schedule | None

    @property
    def stimulus(self) -> NDArray:
        """(trial,) 0-based id."""
        return self.trials["stimulus"].to_numpy()

    @property
    def shared(self) -> NDArray[np.bool_]:
        """(trial,) whether all subjects see the image."""
        return self.trials["shared"].to_numpy(dtype=bool)

    def required_schedule(self) -> Schedule:
        """The schedule, or an error that says why the protocol cannot do without."""
        if self.schedule is None:
            raise PerceptError(
                f"split protocol {self.split.protocol!r} is defined by what all subjects of NSD were shown; "
                "the data set of this configuration has no such design: set `split.protocol` to `random`, "
                "`given` or `leave-one-run-out`."
            )
        return self.schedule


def uniform(stimulus: NDArray, seed: int, purpose: str) -> NDArray[np.float64]:
    """A number in [0, 1) for each stimulus id, (stimulus,): fixed by id, seed and purpose alone."""
    digests = (hashlib.sha256(f"{purpose}:{seed}:{int(one)}".encode()).digest() for one in stimulus)
    return np.array([int.from_bytes(digest[:8], "big") >> 11 for digest in digests]) * 2.0**-53


def draw(stimulus: NDArray, fraction: float, seed: int, purpose: str) -> NDArray:
    """Ids drawn with probability `fraction`, ascending.

    An id is drawn when its `uniform` number lies below `fraction`: more stimuli never change the fate of one.
    Where this would draw none or all of at least two, the lowest is drawn or the highest is spared.
    """
    unique = np.unique(stimulus)
    if fraction == 0 or unique.size < 2:
        return unique[:0]
    value = uniform(unique, seed, purpose)
    drawn = value < fraction
    drawn[np.argmin(value)], drawn[np.argmax(value)] = True, False
    return unique[drawn]


def _by_shared(request: Request, test: NDArray[np.bool_], used: NDArray[np.bool_]) -> NDArray:
    """Split of each trial where shared images may only test: the rest of them is unused."""
    return np.select([used & test, used & ~request.shared], ["test", "train"], "unused")


def _shared1000(request: Request) -> NDArray:
    return _by_shared(request, request.shared, np.ones(len(request.trials), dtype=bool))


def _shared982(request: Request) -> NDArray:
    """The data that papers before August 2023 had of subjects 1, 2, 5 and 7: the first 37 sessions.

    Subjects of fewer sessions keep all of theirs, although those papers had three fewer of them too.
    """
    used = request.trials["session"].to_numpy() <= SESSIONS_BEFORE_2023
    return _by_shared(request, request.shared, used)


def _shared515(request: Request) -> NDArray:
    """Shared images that every subject of the data set saw three times."""
    common: NDArray | None = None
    for shown in request.required_schedule().values():
        ids, n_shown = np.unique(shown, return_counts=True)
        complete = ids[n_shown >= N_REPEATS]
        common = complete if common is None else np.intersect1d(common, complete)
    test = request.shared & np.isin(request.stimulus, common)
    return _by_shared(request, test, np.ones(len(request.trials), dtype=bool))


def _algonauts23(request: Request) -> NDArray:
    """Test: the subject's last three sessions, images never shown before; their other trials are unused.

    The challenge's own tree says itself which images these are.
    """
    if "part" in request.trials:
        return _of_challenge(request)
    n_sessions = len(request.required_schedule()[request.subject])
    late = request.trials["session"].to_numpy() > n_sessions - HELD_OUT_SESSIONS
    seen_before = np.isin(request.stimulus, request.stimulus[~late])
    return np.select([~late, ~seen_before], ["train", "test"], "unused")


def _of_challenge(request: Request) -> NDArray:
    """The parts of the challenge's tree, where the organisers' test responses are there."""
    part = request.trials["part"].to_numpy(dtype=object)
    if not (part == "test").any():
        raise PerceptError(
            f"split protocol 'algonauts23', {request.subject}: the challenge withholds responses to its "
            "test images, and test_split/test_fmri is absent. Set `split.protocol: random`: test images are "
            "then carved from the training images, and scores are not those of the challenge's test set."
        )
    return part


def _random(request: Request) -> NDArray:
    test = draw(request.stimulus, request.split.test_fraction, request.split.seed, "test")
    return np.where(np.isin(request.stimulus, test), "test", "train")


def _given(request: Request) -> NDArray:
    """The split column as it is; missing values are unused."""
    if "split" not in request.trials:
        raise PerceptError(
            f"split protocol 'given' reads the column `split` of the trial table of {request.subject}, which "
            f"has none (columns: {', '.join(request.trials.columns)}): add one with the values "
            f"{', '.join(NAMES)}, or set `split.protocol` to `random` or `leave-one-run-out`."
        )
    given = request.trials["split"].astype(object).fillna("unused").astype(str).to_numpy()
    wrong = np.flatnonzero(~np.isin(given, NAMES))
    if wrong.size:
        raise PerceptError(
            f"the trial table of {request.subject} has {given[wrong[0]]!r} in column `split`, row "
            f"{wrong[0]}: it can only hold {', '.join(NAMES)}. Correct the table."
        )
    return given


PROTOCOLS: dict[str, Callable[[Request], NDArray]] = {
    "shared1000": _shared1000,
    "shared982": _shared982,
    "shared515": _shared515,
    "algonauts23": _algonauts23,
    "random": _random,
    "given": _given,
}


def freeze(
    trials: pd.DataFrame, split: SplitConfig, subject: str = "", schedule: Schedule | None = None
) -> pd.DataFrame:
    """The trial table with `split` (train, validation, test, unused) and `fold` (int16).

    Fixed protocols have fold -1 everywhere. In leave-one-run-out every trial is "test" and its fold is the
    number of its run, 0-based, counted over sessions; `folds` gives the rows of each.

    Parameters
    ----------
    trials : session, run, stimulus, shared (and split, for protocol `given`), in the order of the betas
    split : protocol, fractions and seed
    subject : whose trials they are
    schedule : subject -> (session, trial) 0-based nsd ids of all released sessions
        (`percept.datasets.nsd.schedule`); None where there is no such design

    Raises
    ------
    PerceptError : a part of the split would be empty (protocol and counts are named), training and test share
        an image, the protocol needs a schedule that is not there, or the given column is absent or wrong
    """
    frozen = trials.copy()
    if split.protocol == "leave-one-run-out":
        run = frozen.groupby(["session", "run"], sort=True).ngroup()
        _require_runs(run.nunique(), subject)
        return frozen.assign(split="test", fold=run.astype(np.int16))
    request = Request(trials, split, subject, schedule)
    names = PROTOCOLS[split.protocol](request).astype(object)
    _require_disjoint(frozen.assign(split=names), split, subject)
    if not (names == "validation").any():
        names[_validation_rows(request, names)] = "validation"  # whole images, so still disjoint
    frozen = frozen.assign(split=pd.Series(names, index=frozen.index, dtype=str), fold=np.int16(-1))
    _require_filled(frozen, split, subject)
    return frozen


def _validation_rows(request: Request, names: NDArray) -> NDArray[np.bool_]:
    """Training trials of the images drawn for validation; shared images are drawn only if all are shared."""
    train = names == "train"
    candidates = train & ~request.shared if (train & ~request.shared).any() else train
    drawn = draw(
        request.stimulus[candidates], request.split.validation_fraction, request.split.seed, "validation"
    )
    return train & np.isin(request.stimulus, drawn)


def _require_runs(n_runs: int, subject: str) -> None:
    if n_runs < 2:
        raise PerceptError(
            f"split protocol 'leave-one-run-out' needs at least two runs, {subject} has {n_runs}: without a "
            "second run nothing is left to train on. Check the columns session and run, or use `random`."
        )


def _require_disjoint(frozen: pd.DataFrame, split: SplitConfig, subject: str) -> None:
    used = frozen.loc[frozen["split"] != "unused", ["stimulus", "split"]].drop_duplicates()
    twice = used[used.duplicated("stimulus", keep=False)].sort_values("stimulus")
    if len(twice):
        ids = twice["stimulus"].unique()
        where = " and ".join(twice.loc[twice["stimulus"] == ids[0], "split"])
        raise PerceptError(
            f"split protocol {split.protocol!r}, {subject}: {len(ids)} images lie in more than one part, "
            f"first stimulus {ids[0]} in {where}. A decoder would be tested on images that it was fitted to, "
            "so every score would be too good. Give all trials of an image one split; if the stimuli are "
            "categories that recur by design, use `leave-one-run-out`."
        )


def _require_filled(frozen: pd.DataFrame, split: SplitConfig, subject: str) -> None:
    required = ["train", "test"] + ["validation"] * (split.validation_fraction > 0)
    counted = count(frozen)
    empty = [name for name in required if counted[name]["images"] == 0]
    if empty:
        listed = ", ".join(
            f"{name} {n['images']} images ({n['trials']} trials)" for name, n in counted.items()
        )
        sessions = frozen["session"]
        raise PerceptError(
            f"split protocol {split.protocol!r} leaves no {' and no '.join(empty)} image for {subject}: "
            f"{listed}, from sessions {sessions.min()} to {sessions.max()}. Nothing could be fitted or "
            "scored: use more sessions (`dataset.sessions`), another `split.protocol`, or another "
            "`split.validation_fraction`."
        )


def count(frozen: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Images and trials in each part: name -> {"images": n, "trials": n}; an image counts once."""
    owner = table(frozen).set_index("stimulus")["split"]
    return {
        name: {"images": int((owner == name).sum()), "trials": int((frozen["split"] == name).sum())}
        for name in NAMES
    }


def table(frozen: pd.DataFrame) -> pd.DataFrame:
    """What is kept of a split: stimulus (int32, ascending) and its split.

    An image is "unused" only where all of its trials are.
    """
    rank = frozen["split"].map({name: place for place, name in enumerate(NAMES)})  # unused comes last
    best = rank.groupby(frozen["stimulus"].to_numpy()).min().sort_index()
    names = [NAMES[place] for place in best]
    return pd.DataFrame(
        {"stimulus": best.index.to_numpy(dtype=np.int32), "split": pd.Series(names, dtype=str)}
    )


def folds(frozen: pd.DataFrame, validation: bool = True) -> list[Fold]:
    """Rows of every model to fit: one fold for a fixed split, one per run for leave-one-run-out.

    Parameters
    ----------
    frozen : what `freeze` returned
    validation : leave-one-run-out with at least three runs: whether the run after the one left out, and after
        the last the first, is kept from training for model selection
    """
    if (frozen["fold"] < 0).all():
        names = frozen["split"].to_numpy()
        return [Fold(*(np.flatnonzero(names == name) for name in ("train", "validation", "test")))]
    fold = frozen["fold"].to_numpy()
    runs = np.unique(fold)
    following = np.roll(runs, -1) if validation and runs.size > 2 else np.full(runs.size, -1)
    return [
        Fold(
            np.flatnonzero((fold != run) & (fold != after)),
            np.flatnonzero(fold == after),
            np.flatnonzero(fold == run),
        )
        for run, after in zip(runs, following, strict=True)
    ]


def describe(frozen: pd.DataFrame, split: SplitConfig, subject: str) -> dict[str, Any]:
    """What the frozen file says of itself: protocol, seed, fractions, counts, folds, a hash of the choice.

    Two splits with the same hash put the same images in the same parts and the same trials in the same
    folds.
    """
    kept = table(frozen)
    choice = kept.to_csv(index=False) + ",".join(map(str, frozen["fold"]))
    return {
        "protocol": split.protocol,
        "subject": subject,
        "seed": split.seed,
        "validation_fraction": split.validation_fraction,
        "test_fraction": split.test_fraction if split.protocol == "random" else None,
        "sessions": [int(session) for session in np.unique(frozen["session"])],
        "counts": count(frozen),
        "n_folds": int(max(frozen["fold"].max() + 1, 1)),
        "hash": files.hash_text(choice),
    }


def write(frozen: pd.DataFrame, split: SplitConfig, subject: str, path: str | Path) -> dict[str, Any]:
    """Write the frozen split to `path` (.parquet: stimulus, split) and its description beside it (.json)."""
    description = describe(frozen, split, subject)
    files.write_parquet(table(frozen), path)
    files.write_json(description, Path(path).with_suffix(".json"))
    return description
