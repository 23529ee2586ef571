from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from percept import files
from percept.config import SplitConfig
from percept.datasets import nsd, splits
from percept.files import PerceptError

FIXED = ("shared1000", "shared982", "shared515", "algonauts23", "random")
SESSIONS = (30, 32, 37, 40)  # cut-offs of the releases

# How many images had been shown 0, 1, 2 and 3 times after these sessions. The rows of 30 and 32 sessions and
# both totals of 37 (982 images and 2,770 trials; 8,859 and 24,980) are published; how the images of 37 divide
# into 1, 2 and 3 showings is free beyond these totals.
SHARED = {30: (93, 141, 251, 515), 32: (70, 103, 213, 614), 37: (18, 30, 116, 836), 40: (0, 0, 0, 1000)}
OWN = {
    30: (698, 1222, 2150, 4930),
    32: (519, 953, 1908, 5620),
    37: (141, 300, 997, 7562),
    40: (0, 0, 0, 9000),
}


def shown_between(states):
    """Showings of every image in each stretch of sessions, (image, stretch).

    Images are ranked by how often they have been shown after each cut-off, in the same order at all of
    them (the quantile coupling): no showing is taken back, because later counts are stochastically larger.
    """
    after = np.stack([np.repeat(np.arange(4), states[cutoff]) for cutoff in SESSIONS], axis=1)
    return np.diff(after, axis=1, prepend=0)


def masterordering():
    """(30000,) 0-based 10k ids with the published repeat structure; the first 1000 ids are shared."""
    rng = np.random.default_rng(0)
    counts = np.concatenate([rng.permutation(shown_between(SHARED)), rng.permutation(shown_between(OWN))])
    stretches = [np.repeat(np.arange(10000), shown) for shown in counts.T]
    return np.concatenate([rng.permutation(stretch) for stretch in stretches])


@pytest.fixture(scope="module")
def design():
    """An experiment of NSD's real shapes: one order for all, 1000 shared and 9000 own images each."""
    ids = np.random.default_rng(1).permutation(73000).astype(np.int32)
    own = ids[1000:73000].reshape(8, 9000)
    shared = np.sort(ids[:1000])
    subjectim = np.concatenate([np.tile(shared, (8, 1)), own], axis=1)
    return nsd.Design(masterordering().astype(np.int32), subjectim, shared)


@pytest.fixture(scope="module")
def schedule(design):
    return {
        subject: design.stimuli(subject)[: 750 * n].reshape(n, 750)
        for subject, n in nsd.RELEASED_SESSIONS.items()
    }


def trials_of(design, subject, n_sessions=None):
    n_sessions = n_sessions or nsd.RELEASED_SESSIONS[subject]
    stimulus = design.stimuli(subject)[: n_sessions * 750]
    within = np.arange(len(stimulus)) % 750
    run = np.repeat(np.arange(12), [63, 62] * 6)[within] + 1
    return pd.DataFrame(
        {
            "session": np.arange(len(stimulus)) // 750 + 1,
            "run": run,
            "stimulus": stimulus,
            "shared": np.isin(stimulus, design.shared),
        }
    )


def fitted(counts):
    """Images and trials not for testing: what the papers call training, before validation is carved."""
    return tuple(counts["train"][unit] + counts["validation"][unit] for unit in ("images", "trials"))


@pytest.mark.parametrize("cutoff", SESSIONS)
def test_the_constructed_schedule_fills_every_session(cutoff):
    times = np.arange(4)
    assert np.dot(times, SHARED[cutoff]) + np.dot(times, OWN[cutoff]) == 750 * cutoff
    assert (shown_between(SHARED) >= 0).all() and (shown_between(OWN) >= 0).all()


@pytest.mark.parametrize(
    ("subject", "shown", "thrice", "shared_by_times"),
    [
        ("subj01", 10000, 10000, (0, 0, 0, 1000)),
        ("subj03", 9411, 6234, (70, 103, 213, 614)),
        ("subj06", 9411, 6234, (70, 103, 213, 614)),
        ("subj04", 9209, 5445, (93, 141, 251, 515)),
        ("subj08", 9209, 5445, (93, 141, 251, 515)),
    ],
)
def test_released_sessions_show_the_published_numbers_of_images(
    design, subject, shown, thrice, shared_by_times
):
    times = trials_of(design, subject)["stimulus"].value_counts()
    assert (len(times), (times == 3).sum()) == (shown, thrice)
    assert tuple(np.bincount(times.reindex(design.shared, fill_value=0), minlength=4)) == shared_by_times


def test_all_subjects_together_saw_70566_images_in_213000_trials(schedule):
    assert sum(shown.size for shown in schedule.values()) == 213000
    assert np.unique(np.concatenate([shown.ravel() for shown in schedule.values()])).size == 70566


@pytest.mark.parametrize(
    ("protocol", "subject", "train", "test"),
    [
        ("shared982", "subj01", (8859, 24980), (982, 2770)),
        ("shared982", "subj07", (8859, 24980), (982, 2770)),
        ("shared982", "subj03", (8481, 24000 - 2371), (930, 2371)),
        ("shared1000", "subj01", (9000, 27000), (1000, 3000)),
        ("shared1000", "subj05", (9000, 27000), (1000, 3000)),
        ("shared1000", "subj06", (8481, 24000 - 2371), (930, 2371)),
        ("shared1000", "subj08", (8302, 22500 - 2188), (907, 2188)),
        ("shared515", "subj02", (9000, 27000), (515, 1545)),
        ("shared515", "subj04", (8302, 22500 - 2188), (515, 1545)),
        ("algonauts23", "subj01", (9841, 27750), (159, None)),
    ],
)
def test_named_protocols_give_the_published_counts(design, schedule, protocol, subject, train, test):
    frozen = splits.freeze(trials_of(design, subject), SplitConfig(protocol=protocol), subject, schedule)
    counts = splits.count(frozen)
    assert fitted(counts) == train
    assert counts["test"]["images"] == test[0]
    assert test[1] in (counts["test"]["trials"], None)


@pytest.mark.parametrize("protocol", FIXED)
def test_counts_equal_those_of_plain_sets(design, schedule, protocol):
    frozen = splits.freeze(trials_of(design, "subj04"), SplitConfig(protocol=protocol), "subj04", schedule)
    parts = {name: set() for name in splits.NAMES}
    n_trials = dict.fromkeys(splits.NAMES, 0)
    for stimulus, name in zip(frozen["stimulus"], frozen["split"], strict=True):
        parts[name].add(stimulus)
        n_trials[name] += 1
    parts["unused"] -= parts["train"] | parts["validation"] | parts["test"]
    assert splits.count(frozen) == {
        name: {"images": len(parts[name]), "trials": n_trials[name]} for name in splits.NAMES
    }


@pytest.mark.parametrize("protocol", FIXED)
def test_about_the_asked_share_of_the_training_images_validates_and_none_is_shared(
    design, schedule, protocol
):
    split = SplitConfig(protocol=protocol, validation_fraction=0.1)
    frozen = splits.freeze(trials_of(design, "subj01"), split, "subj01", schedule)
    validation = frozen[frozen["split"] == "validation"]
    own = frozen.loc[frozen["split"].isin(["train", "validation"]) & ~frozen["shared"], "stimulus"].nunique()
    assert not validation["shared"].any()
    assert abs(validation["stimulus"].nunique() - 0.1 * own) < 4 * np.sqrt(own * 0.1 * 0.9)  # binomial


@pytest.mark.parametrize("protocol", ["shared1000", "random"])
def test_an_image_keeps_its_part_when_sessions_are_added(design, protocol):
    split = SplitConfig(protocol=protocol)
    few, many = (
        splits.table(splits.freeze(trials_of(design, "subj01", n), split, "subj01")).set_index("stimulus")[
            "split"
        ]
        for n in (5, 11)
    )
    assert len(few) < len(many)
    assert (many[few.index] == few).all()


def test_algonauts_tests_only_images_first_shown_in_the_last_three_sessions(design, schedule):
    trials = trials_of(design, "subj03")
    frozen = splits.freeze(trials, SplitConfig(protocol="algonauts23"), "subj03", schedule)
    first_shown = trials.groupby("stimulus")["session"].min()
    test = frozen[frozen["split"] == "test"]
    assert set(test["stimulus"]) == set(first_shown[first_shown > 29].index)
    assert frozen.loc[frozen["session"] <= 29, "split"].isin(["train", "validation"]).all()
    assert frozen.loc[frozen["session"] > 29, "split"].isin(["test", "unused"]).all()


def test_shared515_of_a_twin_is_what_its_own_subjects_saw_three_times():
    shown = {"subj01": np.array([[5, 5, 5, 7, 7, 7, 8, 1]]), "subj02": np.array([[7, 5, 7, 5, 7, 8, 8, 8]])}
    trials = pd.DataFrame(
        {"session": 1, "run": 1, "stimulus": [5, 7, 8, 1, 2, 3], "shared": [1, 1, 1, 0, 0, 0]}
    )
    frozen = splits.freeze(trials, SplitConfig(protocol="shared515"), "subj01", shown)
    assert frozen.loc[frozen["split"] == "test", "stimulus"].tolist() == [7]
    assert frozen.loc[frozen["split"] == "unused", "stimulus"].tolist() == [5, 8]


@st.composite
def any_trials(draw, min_images=4):
    """Trials of any schedule in which shared and own images recur at will; unequal sessions and repeats."""
    n_images = draw(st.integers(min_images, 25))
    n_shared = draw(st.integers(1, n_images - 3))
    showings = draw(st.lists(st.integers(0, n_images - 1), min_size=n_images, max_size=90))
    session = sorted(draw(st.lists(st.integers(1, 9), min_size=len(showings), max_size=len(showings))))
    stimulus = np.array(showings)
    runs = draw(st.lists(st.integers(1, 3), min_size=len(showings), max_size=len(showings)))
    return pd.DataFrame(
        {"session": session, "run": runs, "stimulus": stimulus, "shared": stimulus < n_shared}
    )


def own_schedule(trials):
    """The schedule of one subject whose released sessions are those of `trials`, padded to equal length."""
    sessions = [group["stimulus"].to_numpy() for _, group in trials.groupby("session")]
    sessions = [np.empty(0, int)] * (trials["session"].max() - len(sessions)) + sessions
    longest = max(map(len, sessions))
    return {
        "subj01": np.stack([np.pad(one, (0, longest - len(one)), constant_values=-1) for one in sessions])
    }


@settings(max_examples=60, deadline=None)
@given(
    trials=any_trials(),
    protocol=st.sampled_from(FIXED),
    fraction=st.floats(0, 0.9),
    test_fraction=st.floats(0.05, 0.9),
    seed=st.integers(0, 5),
)
def test_no_image_lies_in_two_parts_whatever_the_schedule(trials, protocol, fraction, test_fraction, seed):
    split = SplitConfig(
        protocol=protocol, validation_fraction=fraction, test_fraction=test_fraction, seed=seed
    )
    try:
        frozen = splits.freeze(trials, split, "subj01", own_schedule(trials))
    except PerceptError as error:
        assert "leaves no" in str(error)
        return
    used = frozen[frozen["split"] != "unused"]
    assert used.groupby("stimulus")["split"].nunique().max() == 1
    assert {"train", "test"} <= set(used["split"])
    assert (frozen["fold"] == -1).all()


@settings(max_examples=40, deadline=None)
@given(trials=any_trials(), seed=st.integers(0, 3), data=st.data())
def test_the_split_of_an_image_does_not_depend_on_the_order_of_the_trials(trials, seed, data):
    split = SplitConfig(protocol="random", seed=seed, validation_fraction=0)
    order = data.draw(st.permutations(range(len(trials))))
    try:
        expected = splits.table(splits.freeze(trials, split))
    except PerceptError:
        return
    shuffled = splits.freeze(trials.iloc[order].reset_index(drop=True), split)
    pd.testing.assert_frame_equal(splits.table(shuffled), expected)


@settings(max_examples=40, deadline=None)
@given(trials=any_trials(), validation=st.booleans())
def test_leave_one_run_out_tests_every_trial_once_and_never_on_its_own_run(trials, validation):
    split = SplitConfig(protocol="leave-one-run-out")
    n_runs = len(trials[["session", "run"]].drop_duplicates())
    if n_runs < 2:
        with pytest.raises(PerceptError, match="at least two runs"):
            splits.freeze(trials, split)
        return
    folds = splits.folds(splits.freeze(trials, split), validation)
    assert len(folds) == n_runs
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(trials)))
    run = trials["session"] * 100 + trials["run"]
    for fold in folds:
        parts = [set(run[rows]) for rows in fold]
        assert parts[0] and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
        assert len(parts[1]) == (validation and n_runs > 2)
        assert sum(map(len, fold)) == len(trials)


def test_a_fixed_split_is_one_fold(design):
    frozen = splits.freeze(trials_of(design, "subj01", 2), SplitConfig())
    (fold,) = splits.folds(frozen)
    for rows, name in zip(fold, ("train", "validation", "test"), strict=True):
        assert (frozen["split"].to_numpy()[rows] == name).all() and len(rows) > 0
    assert sum(map(len, fold)) == len(frozen)


@pytest.mark.parametrize("fraction", [0.02, 0.37])
def test_hashed_numbers_are_uniform(fraction):
    value = splits.uniform(np.arange(20000), seed=3, purpose="test")
    assert ((value >= 0) & (value < 1)).all()
    assert abs((value < fraction).mean() - fraction) < 4 * np.sqrt(fraction * (1 - fraction) / 20000)


@pytest.mark.parametrize(("seed", "purpose"), [(1, "test"), (0, "validation")])
def test_hashed_numbers_differ_by_seed_and_purpose(seed, purpose):
    one = splits.uniform(np.arange(4000), 0, "test")
    other = splits.uniform(np.arange(4000), seed, purpose)
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(4000)


@pytest.mark.parametrize(
    ("n", "fraction", "drawn"), [(7, 0.0, 0), (1, 0.5, 0), (2, 1e-9, 1), (5, 0.999999, 4)]
)
def test_a_draw_leaves_neither_side_empty_where_two_images_allow_it(n, fraction, drawn):
    assert len(splits.draw(np.arange(n), fraction, 0, "test")) == drawn


def given_trials(names):
    return pd.DataFrame(
        {"session": 1, "run": 1, "stimulus": range(len(names)), "shared": False, "split": names}
    )


def test_a_given_split_is_kept_and_its_missing_values_are_unused():
    names = ["test", "train", "validation", "train", None]
    frozen = splits.freeze(given_trials(names), SplitConfig(protocol="given"))
    assert frozen["split"].tolist() == [*names[:4], "unused"]


def test_validation_is_carved_from_a_given_split_that_has_none():
    frozen = splits.freeze(given_trials(["test"] * 2 + ["train"] * 5), SplitConfig(protocol="given"))
    assert frozen["split"].tolist()[:2] == ["test"] * 2
    assert sorted(frozen["split"].iloc[2:]) == ["train"] * 4 + ["validation"]


@pytest.mark.parametrize(
    ("trials", "split", "message"),
    [
        (given_trials(["test", "train", "exam"]), {"protocol": "given"}, r"'exam' in column `split`, row 2"),
        (given_trials(["test", "train"]).drop(columns="split"), {"protocol": "given"}, "which has none"),
        (
            given_trials(["test", "train", "train"]).assign(stimulus=[4, 4, 5]),
            {"protocol": "given"},
            "1 images lie in more than one part, first stimulus 4 in test and train",
        ),
        (
            given_trials(["train"] * 3),
            {"protocol": "given"},
            r"'given' leaves no test image for subj05: train 2 images \(2 trials\), validation 1 images",
        ),
        (given_trials(["test"] * 3), {"protocol": "given"}, "leaves no train and no validation image"),
        (given_trials(["test"] * 3), {"protocol": "shared1000"}, "'shared1000' leaves no test image"),
        (
            given_trials(["test"] * 3),
            {"protocol": "shared515"},
            "'shared515' is defined by what all subjects",
        ),
        (given_trials(["test"] * 3), {"protocol": "algonauts23"}, "set `split.protocol` to `random`"),
        (given_trials(["test"] * 3), {"protocol": "leave-one-run-out"}, "at least two runs, subj05 has 1"),
    ],
)
def test_a_split_that_cannot_be_is_refused_by_name(trials, split, message):
    with pytest.raises(PerceptError, match=message):
        splits.freeze(trials, SplitConfig(**split), "subj05")


def test_the_frozen_file_says_what_was_chosen(design, tmp_path):
    split = SplitConfig(protocol="shared1000", seed=4)
    frozen = splits.freeze(trials_of(design, "subj01", 3), split, "subj01")
    description = splits.write(frozen, split, "subj01", tmp_path / "split.parquet")
    kept = files.read_parquet(tmp_path / "split.parquet")
    assert files.read_json(tmp_path / "split.json") == description
    assert kept["stimulus"].is_monotonic_increasing and kept["stimulus"].is_unique
    pd.testing.assert_frame_equal(
        frozen.merge(kept, on="stimulus", suffixes=("", "_kept"))[["split_kept"]],
        frozen[["split"]].rename(columns={"split": "split_kept"}),
    )
    assert description["counts"]["train"]["images"] == (kept["split"] == "train").sum()
    assert (description["protocol"], description["seed"], description["n_folds"]) == ("shared1000", 4, 1)


@pytest.mark.parametrize(
    ("changed", "same"), [({"seed": 9}, False), ({"test_fraction": 0.3}, True), ({}, True)]
)
def test_the_hash_changes_with_the_choice_and_with_nothing_else(design, changed, same):
    trials = trials_of(design, "subj02", 2)
    hashes = []
    for settings_ in ({}, changed):
        split = SplitConfig(protocol="shared1000", **settings_)
        hashes.append(splits.describe(splits.freeze(trials, split), split, "subj02")["hash"])
    assert (hashes[0] == hashes[1]) is same


def test_every_protocol_of_the_configuration_is_known():
    named = set(get_args(SplitConfig.model_fields["protocol"].annotation))
    assert named == splits.PROTOCOLS.keys() | {"leave-one-run-out"}


def test_freezing_leaves_the_trial_table_as_it_was(design):
    trials = trials_of(design, "subj01", 2)
    before = trials.copy()
    splits.freeze(trials, SplitConfig())
    pd.testing.assert_frame_equal(trials, before)
