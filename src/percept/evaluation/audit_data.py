"""Audit of the data: splits without shared images or responses, statistics, order of trials.

Pure functions over arrays; `audit.audit` runs them.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.evaluation.alignment import session_reliability
from percept.evaluation.correlation import standardised_rows
from percept.evaluation.duplicates import Pictures
from percept.evaluation.retrieval import identical_rows

NEAR = 0.995  # correlation of thumbnails of copies; the closest of 3 million pairs of scenes reach 0.983
ALPHA = 0.01  # a session whose repeats are not alike at this level is misaligned, or carries no signal
ENOUGH = 200  # permutations without which p cannot fall clearly below ALPHA
WEAK = 0.25  # reliability of a session, as a share of the median one, below which it is suspicious
TOLERANCE = 1e-4  # of a voxel's sd: far above rounding, far below what the test trials change
SPLITS = ("train", "validation", "test")


class Finding(NamedTuple):
    """What one check found."""

    check: str
    passed: bool
    detail: str
    warning: bool = False


class Recorded(NamedTuple):
    """Normalisation statistics as a decoder's run recorded them.

    Where the normalised responses themselves are the evidence, their statistics are the defaults, 0 and 1.
    """

    how: str  # "session", "session-train", "train" or "none"
    mean: NDArray | float = (
        0.0  # (session, voxel), sessions ascending; for "train" all rows are equal, or one
    )
    sd: NDArray | float = 1.0  # like `mean`; ddof 0, for "train" ddof 1


def some(found: Iterable[object], n: int = 5) -> str:
    """The first few of what was found, as text."""
    found = list(found)
    more = f", and {len(found) - n} more" if len(found) > n else ""
    return ", ".join(map(str, found[:n])) + more


def disjoint_stimuli(trials: pd.DataFrame) -> Finding:
    """No image id in two splits; where runs are held out instead, no run in two folds.

    Parameters
    ----------
    trials : a row per trial with `stimulus`, `split`, `fold`, `session`, `run`
    """
    name = "disjoint-images"
    if (trials["fold"] >= 0).any():
        folds = trials.groupby(["session", "run"])["fold"].nunique()
        torn = folds.index[folds > 1].tolist()
        detail = f"runs in several folds: {torn[:5]}" if torn else "whole runs are held out; images repeat"
        return Finding(name, not torn, detail)
    seen = {split: set(trials.loc[trials["split"] == split, "stimulus"]) for split in SPLITS}
    shared = sorted((seen["train"] | seen["validation"]) & seen["test"] | seen["train"] & seen["validation"])
    if shared:
        return Finding(name, False, f"{len(shared)} images are in two splits: {some(shared)}")
    return Finding(name, True, ", ".join(f"{len(seen[split])} {split}" for split in SPLITS))


def _split_of(trials: pd.DataFrame, stimulus: NDArray) -> NDArray:
    """Split of each stimulus; of several, the one that trains. Stimuli without trials are unused."""
    order = {split: i for i, split in enumerate((*SPLITS, "unused"))}
    first = trials.sort_values("split", key=lambda split: split.map(order)).drop_duplicates("stimulus")
    found = first.set_index("stimulus")["split"].reindex(stimulus).fillna("unused")
    return found.to_numpy(dtype=object)


def disjoint_pictures(pictures: Pictures, trials: pd.DataFrame) -> Finding:
    """No test image is, under another id, also an image of training or validation.

    Equal pixels are found by their hash. Nearly equal ones, such as another encoding of the same photograph,
    by the correlation of their thumbnails.
    """
    name = "no-test-image-in-training"
    if (trials["fold"] >= 0).any():
        return Finding(name, True, "whole runs are held out; images repeat")
    split = _split_of(trials, pictures.stimulus)
    train, test = np.flatnonzero(np.isin(split, SPLITS[:2])), np.flatnonzero(split == "test")
    known = dict(zip(pictures.digest[train], pictures.stimulus[train], strict=True))
    copies = [
        (int(s), int(known[d]))
        for s, d in zip(pictures.stimulus[test], pictures.digest[test], strict=True)
        if d in known
    ]
    if copies:
        detail = (
            f"{len(copies)} test images have the pixels of a training image (test, training): {some(copies)}"
        )
        return Finding(name, False, detail)
    if not (len(test) and len(train)):
        return Finding(name, True, "nothing to compare", warning=True)
    tests, trains = (standardised_rows(pictures.thumbnail[rows]) for rows in (test, train))
    alike = tests.block(slice(None)) @ trains.block(slice(None)).T
    nearest = alike.argmax(axis=1)
    near = np.flatnonzero(alike.max(axis=1) > NEAR)
    if len(near):
        pairs = np.stack([pictures.stimulus[test[near]], pictures.stimulus[train[nearest[near]]]], axis=1)
        detail = (
            f"{len(near)} test images nearly equal a training image (test, training): {some(pairs.tolist())}"
        )
        return Finding(name, False, detail)
    return Finding(name, True, f"closest pair of {len(test)} x {len(train)} correlates {alike.max():.3f}")


def distinct_test_pictures(pictures: Pictures, trials: pd.DataFrame) -> Finding:
    """Lists test images with equal pixels; retrieval counts them as ties, so this is a warning."""
    test = _split_of(trials, pictures.stimulus) == "test"
    digests = pd.Series(pictures.stimulus[test]).groupby(pictures.digest[test]).apply(list)
    groups = [group for group in digests if len(group) > 1]
    detail = f"equal test images, counted as ties: {some(groups)}" if groups else "all test images differ"
    return Finding("duplicates", True, detail, warning=bool(groups))


def training_statistics(betas: NDArray, trials: pd.DataFrame, recorded: Recorded) -> Finding:
    """The recorded mean and sd are those of training trials; "session" is transductive, which warns.

    Parameters
    ----------
    betas : (trial, voxel) raw responses, in the units of the recorded statistics
    trials : a row per trial with `session` and `split`
    """
    name = "statistics-from-training"
    if recorded.how == "none":
        return Finding(name, True, "responses are not normalised")
    if recorded.how == "session":
        detail = (
            "z-scored over all trials of a session, test trials included: a new trial cannot be decoded so"
        )
        return Finding(name, True, detail, warning=True)
    if (trials["fold"] >= 0).any():
        return Finding(
            name, True, "held-out runs have statistics of their own fold: not recounted", warning=True
        )
    split = trials["split"].to_numpy()
    off_train = _furthest(betas, trials, split == "train", recorded)
    n_train = int((split == "train").sum())
    if off_train <= TOLERANCE:
        return Finding(name, True, f"recounted from {n_train} training trials, {off_train:.1e} sd apart")
    others = {"all trials, test included": split != "", "test trials": split == "test"}
    equal = [
        source for source, rows in others.items() if _furthest(betas, trials, rows, recorded) <= TOLERANCE
    ]
    source = f"is that of {equal[0]}" if equal else "is of unknown origin"
    return Finding(name, False, f"the statistic {source}: {off_train:.2g} sd from that of training trials")


def _furthest(betas: NDArray, trials: pd.DataFrame, rows: NDArray, recorded: Recorded) -> float:
    """Largest distance of the recorded mean and sd from those of some trials, in units of their sd."""
    sessions = trials["session"].to_numpy()
    together = recorded.how == "train"
    groups = [rows] if together else [rows & (sessions == one) for one in np.unique(sessions)]
    shape = (len(groups), betas.shape[1])
    mean, sd = (np.atleast_2d(x)[:1] if together else x for x in (recorded.mean, recorded.sd))
    furthest = np.nan  # and so it stays when there is nothing to compare, which is no pass
    for group, *pair in zip(groups, np.broadcast_to(mean, shape), np.broadcast_to(sd, shape), strict=True):
        if group.sum() > 1:  # a session without such trials says nothing
            here = _distance(betas[group].astype(np.float64), *pair, ddof=int(together))
            furthest = np.fmax(furthest, here)
    return float(furthest)


def _distance(trials: NDArray, mean: NDArray, sd: NDArray, ddof: int) -> float:
    own_mean, own_sd = trials.mean(axis=0), trials.std(axis=0, ddof=ddof)
    usable = (own_sd > 0) & np.isfinite(mean) & np.isfinite(sd)  # constant and invalid voxels are set to 0
    distance = np.maximum(np.abs(mean - own_mean), np.abs(sd - own_sd))[usable] / own_sd[usable]
    return float(distance.max()) if len(distance) else np.nan


def trial_order(betas: NDArray, trials: pd.DataFrame, permutations: int = 1000) -> Finding:
    """Responses to repeats of one image are alike in every session, as only aligned trials are.

    Per session, the correlation over voxels of each response with the mean of the other responses to its
    image is compared with shuffled trials of that session. Where the design and the betas are out of step,
    nothing is left of it; voxels without any signal fail too, rightly: they cannot be decoded. A short
    session may miss significance by chance: one among good ones fails only if it is far weaker than they are.
    """
    name = "trial-order"
    sessions = session_reliability(betas, trials, max(permutations, ENOUGH))
    tested = sessions[sessions["p_value"].notna()]
    if tested.empty:
        return Finding(name, True, "too few repeated images to tell", warning=True)
    middle = tested["reliability"].median()
    weak = tested["reliability"] < WEAK * middle
    unclear = tested["p_value"] > ALPHA
    broken = tested.loc[unclear & (weak | (unclear.mean() > 0.5)), "session"].tolist()
    if broken:
        detail = f"repeats of an image are no more alike than different images in sessions {some(broken)}"
        return Finding(
            name, False, f"{detail}: trials and betas are out of step, or the voxels carry no signal"
        )
    doubtful = tested.loc[weak | unclear, "session"].tolist()
    detail = f"repeats correlate {middle:.3f} above different images, in the median session"
    said = f"{detail}; weak or not significant: sessions {some(doubtful)}" if doubtful else detail
    return Finding(name, True, said, bool(doubtful))


def distinct_responses(betas: NDArray, trials: pd.DataFrame) -> Finding:
    """No response of a test trial is, value by value, also that of a trial of training or validation."""
    name = "no-test-response-in-training"
    if (trials["fold"] >= 0).any():
        return Finding(name, True, "whole runs are held out; not compared")
    group, split = identical_rows(betas), trials["split"].to_numpy()
    varies = betas.max(axis=1) > betas.min(axis=1)  # empty responses are a matter of the voxel table
    known = np.isin(group, group[np.isin(split, SPLITS[:2]) & varies])
    copied = np.flatnonzero((split == "test") & known)
    if len(copied):
        stimuli = np.unique(trials["stimulus"].to_numpy()[copied]).tolist()
        detail = f"{len(copied)} test trials repeat a response of training, of test images {some(stimuli)}"
        return Finding(name, False, detail)
    return Finding(name, True, f"{(split == 'test').sum()} test responses occur nowhere else")
