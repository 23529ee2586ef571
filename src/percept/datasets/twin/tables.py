"""The twin's tables, in the words and number bases of the release: design, stimuli, behaviour."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from percept.datasets.nsd_keys import EXPDESIGN, N_STIMULI, STIM_INFO, TRIALS_PER_SESSION
from percept.datasets.nsd_tables import Design
from percept.datasets.twin import design as experiment
from percept.files import atomic

LOST_RUN = (2, 3)  # session, run: behaviour of the last subject's run is lost, its trials and betas are not
# shares of the original that are cut off (top, bottom, left, right) and its width and height
CROPS = (
    ((0.0, 0.0, 0.125, 0.125), (640, 480)),
    ((0.0, 0.0, 0.0, 0.25), (640, 480)),
    ((0.125, 0.125, 0.0, 0.0), (480, 640)),
    ((0.0, 0.0, 0.0, 0.0), (480, 480)),
)
RESPONSE_COLUMNS = (
    "SUBJECT", "SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME", "ISOLD", "ISCORRECT", "RT", "CHANGEMIND",
    "MEMORYRECENT", "MEMORYFIRST", "ISOLDCURRENT", "ISCORRECTCURRENT", "TOTAL1", "TOTAL2", "BUTTON",
    "MISSINGDATA",
)  # fmt: skip


def write_expdesign(design: Design, seed: int, root: Path) -> None:
    """Write nsd_expdesign.mat."""
    from scipy.io import savemat

    with atomic(root / EXPDESIGN) as temporary:
        savemat(temporary, experiment.matlab(design, seed), do_compression=True)


def stim_info(design: Design, seed: int) -> pd.DataFrame:
    """nsd_stim_info_merged.csv: a row per image; with its index written, 41 columns.

    nsdId is 0-based; the repeat columns hold 1-based trials of the designed 40 sessions, 0 for never.
    """
    rng = np.random.default_rng([seed, 4])
    shared = np.isin(np.arange(N_STIMULI), design.shared)
    crop = rng.integers(0, len(CROPS), N_STIMULI)
    table = {
        "cocoId": rng.choice(np.arange(1, 600_000), N_STIMULI, replace=False),
        "cocoSplit": np.where(shared | (rng.random(N_STIMULI) < 0.93), "train2017", "val2017"),
        "cropBox": np.array([str(box) for box, _ in CROPS])[crop],
        "loss": rng.uniform(0, 0.4, N_STIMULI).round(6),
        "nsdId": np.arange(N_STIMULI),
        "flagged": False,
        "BOLD5000": rng.random(N_STIMULI) < 0.05,
        "shared1000": shared,
    }
    repeats = [_repeats(design, subject) for subject in range(experiment.N_SUBJECTS)]
    table |= {f"subject{s + 1}": (repeats[s][:, 0] > 0).astype(int) for s in range(experiment.N_SUBJECTS)}
    for subject, trials in enumerate(repeats, start=1):
        table |= {
            f"subject{subject}_rep{repeat}": trials[:, repeat] for repeat in range(experiment.N_REPEATS)
        }
    return pd.DataFrame(table)


def _repeats(design: Design, subject: int) -> NDArray[np.int64]:
    """1-based trials, (73000, 3), that show each image to a subject, 0 for never."""
    order = np.argsort(design.masterordering, kind="stable").reshape(-1, experiment.N_REPEATS)
    trials = np.zeros((N_STIMULI, experiment.N_REPEATS), dtype=np.int64)
    trials[design.subjectim[subject]] = order + 1
    return trials


def write_stim_info(table: pd.DataFrame, root: Path) -> None:
    """Write the table with its unnamed index, as released."""
    with atomic(root / STIM_INFO) as temporary:
        table.to_csv(temporary)


def responses(design: Design, subject: str, n_sessions: int, seed: int, *, lost_run: bool) -> pd.DataFrame:
    """responses.tsv: a row per trial of the released sessions, ids 1-based, times in days, RT in ms.

    About 1 trial in 50 has no button press (NaN); with `lost_run` a whole run has none and MISSINGDATA is 1.
    """
    number = int(subject[-2:])
    rng = np.random.default_rng([seed, 5, number])
    tenk = design.masterordering[: n_sessions * TRIALS_PER_SESSION]
    session = np.repeat(np.arange(1, n_sessions + 1), TRIALS_PER_SESSION)
    run, trial = (np.tile(values, n_sessions) for values in experiment.runs())
    table = pd.DataFrame({"SUBJECT": number, "SESSION": session, "RUN": run, "TRIAL": trial})
    table["73KID"] = experiment.shown(design, subject, n_sessions) + 1
    table["10KID"] = tenk + 1
    table["TIME"] = 7.0 * session + (run * 330 + trial * 4) / 86400
    table = table.assign(**_memory(tenk, session))
    pressed = rng.random(len(table)) > 0.02
    if lost_run:
        pressed &= ~((session == LOST_RUN[0]) & (run == LOST_RUN[1]))
        table["MISSINGDATA"] = ((session == LOST_RUN[0]) & (run == LOST_RUN[1])).astype(int)
    else:
        table["MISSINGDATA"] = 0
    return _behaviour(table, pressed, rng)[list(RESPONSE_COLUMNS)]


def _memory(tenk: NDArray[np.int32], session: NDArray[np.int64]) -> dict[str, NDArray]:
    """Whether each image was seen before, ever and in its session, and how many trials ago."""
    index = pd.Series(np.arange(tenk.size, dtype=float))
    by_image = index.groupby(tenk)
    in_session = index.groupby([session, tenk]).cumcount().to_numpy()
    return {
        "ISOLD": (by_image.cumcount() > 0).astype(int).to_numpy(),
        "ISOLDCURRENT": (in_session > 0).astype(int),
        "MEMORYRECENT": (by_image.diff() - 1).to_numpy(),
        "MEMORYFIRST": (index - by_image.transform("first") - 1).where(by_image.cumcount() > 0).to_numpy(),
    }


def _behaviour(table: pd.DataFrame, pressed: NDArray[np.bool_], rng: np.random.Generator) -> pd.DataFrame:
    n_trials = len(table)
    correct = rng.random(n_trials) < 0.85
    old = table["ISOLD"].to_numpy() == 1
    answered_old = old == correct
    columns = {
        "ISCORRECT": correct,
        "RT": rng.lognormal(6.6, 0.3, n_trials).round(3),
        "CHANGEMIND": rng.random(n_trials) < 0.02,
        "ISCORRECTCURRENT": (table["ISOLDCURRENT"].to_numpy() == 1) == answered_old,
        "TOTAL1": ~answered_old,
        "TOTAL2": answered_old,
        "BUTTON": 1 + answered_old,
    }
    heard = {name: np.where(pressed, values.astype(float), np.nan) for name, values in columns.items()}
    return table.assign(**heard)
