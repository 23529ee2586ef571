"""The twin's experiment: NSD's 40-session schedule, filled so that few sessions already show images three
times.

NSD spreads the three showings of an image over many sessions, so its first sessions hold hardly any image
three times. The twin works in blocks of sessions: the images of a block are shown three times within it, but
for a few whose repeats fall into the next block. Whoever has only the first block meets both cases.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from percept.config import TwinDataset
from percept.datasets.nsd_keys import DESIGNED_SESSIONS, N_SHARED, N_STIMULI, TRIALS_PER_SESSION, sessions_of
from percept.datasets.nsd_tables import Design

N_SUBJECTS, N_IMAGES, N_REPEATS = 8, 10000, 3
IMAGES_PER_SESSION = TRIALS_PER_SESSION // N_REPEATS
STRAY = 0.02  # share of a block's images that lose a repeat to the next block
FIRST_SHARED, LAST_SHARED = 2951, 72949  # 73k-IDs between which NSD's shared images lie
RUN_LENGTHS = (63, 62)  # trials of odd and even runs


def build(seed: int, sessions: Sequence[int], shared_images: int) -> Design:
    """The whole design, ids 0-based; the same order of 10k-IDs for all eight subjects.

    Parameters
    ----------
    seed : of every choice
    sessions : sessions that are released, one number per subject
    shared_images : shared images shown within the longest release

    Raises
    ------
    ValueError : that many shared images do not fit into the sessions, or too few of the others do
    """
    rng = np.random.default_rng([seed, 0])
    order = _order_of_appearance(rng, max(sessions), shared_images)
    block = math.gcd(*sessions) * TRIALS_PER_SESSION
    trials = np.repeat(order, N_REPEATS)
    borders = np.arange(block, trials.size, block)
    for start in (0, *borders):
        rng.shuffle(trials[start : start + block])
    for border in borders:
        _swap_across(trials, border, block, rng)
    ids = rng.permutation(np.arange(FIRST_SHARED - 1, LAST_SHARED))[:N_SHARED]
    shared = np.sort(ids).astype(np.int32)
    own = rng.permutation(np.setdiff1d(np.arange(N_STIMULI), shared)).reshape(N_SUBJECTS, -1)
    subjectim = np.concatenate([np.tile(shared, (N_SUBJECTS, 1)), own], axis=1).astype(np.int32)
    return Design(trials.astype(np.int32), subjectim, shared)


def _order_of_appearance(rng: np.random.Generator, n_sessions: int, shared_images: int) -> NDArray[np.int64]:
    """10k-IDs, 0-based, in the order in which they first enter; released shared ones evenly spread."""
    n_released = n_sessions * IMAGES_PER_SESSION
    least = max(0, N_SHARED - (N_IMAGES - n_released))
    most = min(N_SHARED, n_released - 1)
    if not least <= shared_images <= most:
        raise ValueError(
            f"{shared_images} shared images cannot be shown in {n_sessions} sessions, which hold "
            f"{n_released} images three times each: set `dataset.shared_images` to a value from {least} "
            f"to {most}"
        )
    shared, own = rng.permutation(N_SHARED), N_SHARED + rng.permutation(N_IMAGES - N_SHARED)
    is_shared = np.zeros(N_IMAGES, dtype=bool)
    is_shared[((np.arange(shared_images) + 0.5) * n_released / shared_images).astype(int)] = True
    later = rng.permutation(N_IMAGES - n_released)[: N_SHARED - shared_images]
    is_shared[n_released + later] = True
    order = np.empty(N_IMAGES, dtype=np.int64)
    order[is_shared], order[~is_shared] = shared, own
    return order


def _swap_across(trials: NDArray[np.int64], border: int, block: int, rng: np.random.Generator) -> None:
    """Exchange some trials before `border` with trials after it, in place.

    Each swap leaves one image of the earlier block with two repeats in it and brings one image of the later
    block, never a shared one, with a single repeat.
    """
    before, after = slice(border - block, border), slice(border, border + block)
    n_swaps = max(1, round(STRAY * block / N_REPEATS))
    early = _one_trial_each(trials[before], n_swaps, rng, only_own=False)
    late = _one_trial_each(trials[after], n_swaps, rng, only_own=True)
    n_swaps = min(len(early), len(late))
    early, late = border - block + early[:n_swaps], border + late[:n_swaps]
    trials[early], trials[late] = trials[late], trials[early].copy()


def _one_trial_each(
    trials: NDArray[np.int64], n: int, rng: np.random.Generator, *, only_own: bool
) -> NDArray[np.int64]:
    """Places of one trial of each of `n` images that have all their repeats here."""
    images, place, count = np.unique(trials, return_index=True, return_counts=True)
    whole = (count == N_REPEATS) & ~(only_own & (images < N_SHARED))
    return rng.permutation(place[whole])[:n]


def of(ds: TwinDataset) -> Design:
    """The design of a configured twin."""
    return build(ds.seed, tuple(released(ds).values()), ds.shared_images)


def released(ds: TwinDataset) -> dict[str, int]:
    """Released sessions of each subject."""
    return {subject: len(sessions_of(ds, subject)) for subject in ds.subjects}


def shown(design: Design, subject: str, n_sessions: int) -> NDArray[np.int32]:
    """0-based nsd id of each trial of the first sessions, (trial,)."""
    return design.stimuli(subject)[: n_sessions * TRIALS_PER_SESSION]


def runs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Run (1..12) and trial within it (from 1) of the 750 trials of a session."""
    lengths = np.tile(RUN_LENGTHS, 6)
    run = np.repeat(np.arange(1, 13), lengths)
    return run, np.concatenate([np.arange(1, length + 1) for length in lengths])


def showing(trials: NDArray[np.int32]) -> NDArray[np.int64]:
    """How often the image of each trial was shown before, (trial,)."""
    order = np.argsort(trials, kind="stable")
    _, first, count = np.unique(trials[order], return_index=True, return_counts=True)
    before = np.empty(trials.size, dtype=np.int64)
    before[order] = np.arange(trials.size) - np.repeat(first, count)
    return before


def matlab(design: Design, seed: int) -> dict[str, NDArray[np.float64]]:
    """The fields of nsd_expdesign.mat: 1-based doubles of NSD's shapes."""
    per_session = showing(design.masterordering).reshape(DESIGNED_SESSIONS, TRIALS_PER_SESSION)
    fields = {
        "masterordering": design.masterordering[None] + 1,
        "subjectim": design.subjectim + 1,
        "sharedix": design.shared[None] + 1,
        "basiccnt": np.stack([(per_session == repeat).sum(axis=1) for repeat in range(N_REPEATS)]),
        "stimpattern": _stimulus_slots(np.random.default_rng([seed, 1])),
    }
    return {name: values.astype(np.float64) for name, values in fields.items()}


def _stimulus_slots(rng: np.random.Generator) -> NDArray[np.bool_]:
    """(session, run, slot of 4 s): runs open with 3 and close with 4 blank slots; 5 or 6 more lie between."""
    slots = np.zeros((DESIGNED_SESSIONS, 12, 75), dtype=bool)
    slots[..., 3:71] = True
    for run in range(12):
        blanks = 68 - RUN_LENGTHS[run % 2]
        places = 4 + rng.permuted(np.tile(np.arange(66), (DESIGNED_SESSIONS, 1)), axis=1)[:, :blanks]
        np.put_along_axis(slots[:, run], places, False, axis=1)
    return slots
