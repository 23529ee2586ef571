"""Tables of NSD: the design, the stimuli, the trials. Their 1-based ids end here."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.config import NativeTree
from percept.datasets.nsd_keys import (
    EXPDESIGN,
    N_SHARED,
    N_STIMULI,
    RELEASED_SESSIONS,
    STIM_INFO,
    TRIALS_PER_SESSION,
    check_subject,
    damaged,
    existing,
    key_responses,
    sessions_of,
)
from percept.files import UNREADABLE, PerceptError
from percept.shortage import damage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Design:
    """The experiment as designed, 40 sessions for every subject, whatever was later released.

    Attributes
    ----------
    masterordering : (trial,) int32, which of a subject's 10,000 images each trial shows, 0-based
    subjectim : (subject, image) int32, 0-based nsd id of each of these images
    shared : (1000,) int32, ascending 0-based nsd ids of the images that all subjects see
    """

    masterordering: NDArray[np.int32]
    subjectim: NDArray[np.int32]
    shared: NDArray[np.int32]

    def stimuli(self, subject: str) -> NDArray[np.int32]:
        """0-based nsd id of every designed trial of a subject, (trial,), in order."""
        row = list(RELEASED_SESSIONS).index(check_subject(subject))
        return self.subjectim[row, self.masterordering]


def read_design(root: str | Path) -> Design:
    """Read nsd_expdesign.mat and turn its 1-based ids into 0-based ones.

    Raises
    ------
    PerceptError : the file is missing or damaged, lacks a field, holds ids out of range, or its shared
        images are not the first 1000 images of every subject
    """
    from scipy.io import loadmat  # a quarter of a second, and most that imports this module reads no design
    from scipy.io.matlab import MatReadError

    path = existing(Path(root) / EXPDESIGN, "the experimental design")
    fields = ("masterordering", "subjectim", "sharedix")
    try:
        content = loadmat(path, variable_names=fields)
        ordering, images, shared = (np.asarray(content[name]).astype(np.int32) - 1 for name in fields)
    except damage(path, *UNREADABLE, MatReadError) as error:
        raise damaged(path, error) from error
    design = Design(ordering.ravel(), np.atleast_2d(images), np.sort(shared.ravel()))
    problem = _design_problem(design)
    if problem:
        raise PerceptError(
            f"{path} is not NSD's design: {problem}. Trials would be paired with the wrong images. "
            "Download the file again, or correct the program that wrote it."
        )
    return design


def _design_problem(design: Design) -> str | None:
    ordering, images, shared = design.masterordering, design.subjectim, design.shared
    if not ordering.size or not images.size or not shared.size:
        return "masterordering, subjectim or sharedix is empty"
    if ordering.size % TRIALS_PER_SESSION:
        return f"masterordering has {ordering.size} trials, not a multiple of {TRIALS_PER_SESSION}"
    if ordering.min() < 0 or ordering.max() >= images.shape[1]:
        return f"masterordering points outside the {images.shape[1]} columns of subjectim (it is 1-based)"
    if images.min() < 0 or images.max() >= N_STIMULI:
        return f"subjectim holds ids outside 1..{N_STIMULI}"
    leading = images[:, : shared.size]
    if not (leading == leading[0]).all() or not np.array_equal(np.unique(leading[0]), np.unique(shared)):
        return f"the first {shared.size} columns of subjectim are not sharedix for every subject"
    return None


def schedule(root: str | Path, ds: NativeTree) -> dict[str, NDArray[np.int32]]:
    """What each subject of the data set was shown in its released sessions, whichever of them are used.

    Returns
    -------
    subject -> (session, 750) int32, 0-based nsd ids. For NSD these are all eight subjects with 40, 40, 32,
    30, 40, 32, 40, 30 sessions, even if the configuration names fewer; for a twin, its subjects and sessions.
    """
    design = read_design(root)
    if ds.kind == "twin":
        n_sessions = {subject: len(sessions_of(ds, subject)) for subject in ds.subjects}
    else:
        n_sessions = RELEASED_SESSIONS
    return {
        subject: design.stimuli(subject)[: n * TRIALS_PER_SESSION].reshape(n, TRIALS_PER_SESSION)
        for subject, n in n_sessions.items()
    }


def shown(root: str | Path, ds: NativeTree) -> NDArray[np.int32]:
    """Stimuli, (stimulus,) ascending 0-based nsd ids, that the subjects and sessions in use were shown."""
    design = read_design(root)
    n_trials = {subject: len(sessions_of(ds, subject)) * TRIALS_PER_SESSION for subject in ds.subjects}
    return np.unique(np.concatenate([design.stimuli(subject)[:n] for subject, n in n_trials.items()]))


def read_stim_info(root: str | Path) -> pd.DataFrame:
    """Read nsd_stim_info_merged.csv: one row per stimulus.

    Returns
    -------
    stimulus (0-based nsd id), coco_id, coco_split, crop_top, crop_bottom, crop_left, crop_right (fractions
    removed from each side of the original), shared (bool), and for each subject NN and repeat R
    `subjNN_repR`: the 0-based trial of the *designed* 40 sessions that shows it, -1 for never.

    Raises
    ------
    PerceptError : the file is missing, lacks a column, or its nsdId is not unique or not 0-based
    """
    path = existing(Path(root) / STIM_INFO, "the table of stimuli")
    repeats = {
        f"subject{s}_rep{r}": f"subj{s:02d}_rep{r}"
        for s in range(1, len(RELEASED_SESSIONS) + 1)
        for r in range(3)
    }
    columns = ["nsdId", "cocoId", "cocoSplit", "cropBox", "shared1000", *repeats]
    table = _columns(path, _table(path), columns)
    ids = pd.to_numeric(table["nsdId"], errors="coerce").to_numpy()
    if not (ids % 1 == 0).all() or len(np.unique(ids)) < len(ids) or ids.min() < 0 or ids.max() >= N_STIMULI:
        raise PerceptError(
            f"{path}: column nsdId must hold each id once, from 0 to {N_STIMULI - 1}; it holds {ids.min()} "
            f"to {ids.max()}. Ids of another base would pair trials with the wrong images: download it again."
        )
    try:
        return _converted(table, repeats)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:  # a cell that is no number
        raise damaged(path, error) from error


def _converted(table: pd.DataFrame, repeats: dict[str, str]) -> pd.DataFrame:
    """The columns of the release in the types and with the names that are used here."""
    crop = table["cropBox"].str.strip("()").str.split(",", expand=True).astype(np.float64)
    if crop.isna().any(axis=None):
        raise ValueError("a cropBox is empty")
    crop.columns = ["crop_top", "crop_bottom", "crop_left", "crop_right"]
    shared = table["shared1000"].astype(bool).rename("shared")
    named = table[["nsdId", "cocoId", "cocoSplit"]].set_axis(["stimulus", "coco_id", "coco_split"], axis=1)
    trials = table[list(repeats)].rename(columns=repeats).astype(np.int32) - 1
    return pd.concat([named.astype({"stimulus": np.int32}), crop, shared, trials], axis=1)


def _table(path: Path, sep: str = ",") -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep=sep)
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise damaged(path, error) from error


def _columns(path: Path, table: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    absent = [name for name in columns if name not in table]
    if absent:
        raise PerceptError(
            f"{path} lacks the columns {', '.join(absent)}: it is not the released table, so ids cannot be "
            f"trusted. Download it again. It has: {', '.join(map(str, table.columns))}."
        )
    return table[columns]


def read_trials(root: str | Path, subject: str, sessions: Iterable[int]) -> pd.DataFrame:
    """Trials of some sessions of a subject, in the order of the betas.

    Read from responses.tsv, which covers exactly the released sessions, and compared with the experimental
    design where that file exists. Lost button presses (NaN) do not matter: their betas are there.

    Returns
    -------
    session, run, trial (int16, NSD's numbers, from 1), stimulus (int32, 0-based nsd id), repeat (int8,
    0-based, counted over these sessions), shared (bool)

    Raises
    ------
    PerceptError : the file is missing; a session is absent or has not 750 trials; an id is not a whole number
        in its range; the design shows another image (session and trial of the first disagreement are named)
    """
    path = existing(Path(root) / key_responses(subject), f"the trial table of {subject}")
    columns = ["SESSION", "RUN", "TRIAL", "73KID", "10KID"]
    table = _columns(path, _table(path, sep="\t"), columns)
    sessions = sorted(set(sessions))
    wanted = pd.to_numeric(table["SESSION"], errors="coerce").isin(sessions)
    table = _whole_numbers(path, subject, table[wanted])
    _require_sessions(path, subject, table["SESSION"].to_numpy(), sessions)
    table = table.sort_values(["SESSION", "RUN", "TRIAL"], kind="stable", ignore_index=True)
    trials = pd.DataFrame(
        {
            "session": table["SESSION"].astype(np.int16),
            "run": table["RUN"].astype(np.int16),
            "trial": table["TRIAL"].astype(np.int16),
            "stimulus": table["73KID"].astype(np.int32) - 1,
            "repeat": table.groupby("73KID").cumcount().astype(np.int8),
            "shared": table["10KID"].to_numpy() <= N_SHARED,
        }
    )
    if (Path(root) / EXPDESIGN).is_file():
        _compare_with_design(path, subject, trials, read_design(root))
    else:
        log.warning("%s is absent: the trials of %s were not compared with the design", EXPDESIGN, subject)
    return trials


def _whole_numbers(path: Path, subject: str, table: pd.DataFrame) -> pd.DataFrame:
    """The id columns as integers, whether they were written as 46003 or 46003.0."""
    upper = {"SESSION": 40, "RUN": 14, "TRIAL": TRIALS_PER_SESSION, "73KID": N_STIMULI, "10KID": 10000}
    numbers = table.apply(pd.to_numeric, errors="coerce")
    wrong = ~((numbers % 1 == 0) & (numbers >= 1) & (numbers <= pd.Series(upper)))
    if wrong.to_numpy().any():
        row, column = np.argwhere(wrong.to_numpy())[0]
        name, line = table.columns[column], table.index[row] + 2  # the header is line 1
        raise PerceptError(
            f"{path}, line {line} ({subject}, session {numbers['SESSION'].iloc[row]:g}): {name} is "
            f"{table.iloc[row, column]!s}, not a whole number from 1 to {upper[name]}. The trial cannot be "
            "paired with an image: download the file again, or leave this session out of `dataset.sessions`."
        )
    return numbers.astype(np.int64)


def _require_sessions(path: Path, subject: str, found: NDArray, sessions: list[int]) -> None:
    for session in sessions:
        n_trials = int((found == session).sum())
        if n_trials == 0:
            raise PerceptError(
                f"{path} has no trial of session {session} of {subject}; of those asked for it has "
                f"{np.unique(found).tolist()}. It was not released or the file is cut short: correct "
                "`dataset.sessions` or download the file again."
            )
        if n_trials != TRIALS_PER_SESSION:
            raise PerceptError(
                f"{path}: session {session} of {subject} has {n_trials} trials instead of "
                f"{TRIALS_PER_SESSION}: its rows cannot be matched with its betas. Download the file again."
            )


def _compare_with_design(path: Path, subject: str, trials: pd.DataFrame, design: Design) -> None:
    within = trials.groupby("session").cumcount().to_numpy()  # 0-based position in the session
    position = (trials["session"].to_numpy().astype(np.int64) - 1) * TRIALS_PER_SESSION + within
    designed = design.stimuli(subject)[position]
    shown, shared = trials["stimulus"].to_numpy(), trials["shared"].to_numpy()
    as_designed = design.masterordering[position] < N_SHARED
    different = np.flatnonzero((designed != shown) | (as_designed != shared))
    if different.size:
        first = different[0]
        raise PerceptError(
            f"{path} and {EXPDESIGN} disagree about {subject} at {different.size} trials, first in session "
            f"{trials['session'].iloc[first]}, trial {within[first] + 1} of {TRIALS_PER_SESSION}: 73KID "
            f"{shown[first] + 1} (shared: {shared[first]}) against {designed[first] + 1} (shared: "
            f"{as_designed[first]}) in the design. One of them is not NSD's: with the wrong one every "
            "decoder drops to chance. Download both again."
        )
