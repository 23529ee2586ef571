"""The twin's schedule: NSD's shapes and bases, three showings within the released sessions."""

import numpy as np
import pytest

from percept.config import TwinDataset
from percept.datasets.twin import design as experiment
from percept.datasets.twin import tables

CASES = [((3, 3), 150), ((2, 1), 60), ((1,), 100), ((4, 6), 300), ((40,), 1000)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request):
    sessions, shared_images = request.param
    return sessions, shared_images, experiment.build(5, sessions, shared_images)


def test_every_image_is_shown_three_times_in_forty_sessions(case):
    _, _, design = case
    assert design.masterordering.shape == (30_000,)
    np.testing.assert_array_equal(np.bincount(design.masterordering), np.full(10_000, 3))


def test_the_first_thousand_images_are_shared_and_no_other(case):
    _, _, design = case
    assert design.subjectim.shape == (8, 10_000) and design.shared.shape == (1000,)
    np.testing.assert_array_equal(design.subjectim[:, :1000], np.tile(design.shared, (8, 1)))
    assert np.all(np.diff(design.shared) > 0) and design.shared[0] >= 2950 and design.shared[-1] <= 72_948
    own = design.subjectim[:, 1000:].ravel()
    np.testing.assert_array_equal(np.sort(np.concatenate([own, design.shared])), np.arange(73_000))


def test_released_sessions_show_nearly_all_images_three_times(case):
    sessions, _, design = case
    for n in sessions:
        counts = np.bincount(np.bincount(design.masterordering[: 750 * n]), minlength=4)
        assert counts[3] >= 0.9 * 250 * n
        if n < 40:
            assert counts[2] >= 1 and counts[1] >= 1  # some have repeats outside
        assert counts[1] + 2 * counts[2] + 3 * counts[3] == 750 * n


def test_exactly_the_asked_number_of_shared_images_is_released(case):
    sessions, shared_images, design = case
    shown = np.unique(design.masterordering[: 750 * max(sessions)])
    assert (shown < 1000).sum() == shared_images


@pytest.mark.parametrize("seed", [0, 1])
def test_the_seed_alone_decides(seed):
    first, second = (experiment.build(seed, (3, 3), 150) for _ in range(2))
    other = experiment.build(seed + 1, (3, 3), 150)
    np.testing.assert_array_equal(first.masterordering, second.masterordering)
    assert not np.array_equal(first.masterordering, other.masterordering)
    assert not np.array_equal(first.subjectim, other.subjectim)


@pytest.mark.parametrize(("sessions", "shared"), [((1,), 250), ((40,), 999), ((38,), 400)])
def test_impossible_numbers_of_shared_images_are_refused_with_the_possible_range(sessions, shared):
    with pytest.raises(ValueError, match=r"dataset.shared_images` to a value from \d+ to \d+"):
        experiment.build(0, sessions, shared)


def test_matlab_fields_have_nsd_shapes_and_count_from_one(case):
    _, _, design = case
    fields = experiment.matlab(design, seed=5)
    shapes = {"masterordering": (1, 30_000), "subjectim": (8, 10_000), "sharedix": (1, 1000)}
    shapes |= {"basiccnt": (3, 40), "stimpattern": (40, 12, 75)}
    assert {name: values.shape for name, values in fields.items()} == shapes
    assert all(values.dtype == np.float64 for values in fields.values())
    assert fields["masterordering"].min() == 1 and fields["masterordering"].max() == 10_000
    assert fields["subjectim"].min() == 1 and fields["subjectim"].max() == 73_000


def test_showings_and_stimulus_slots_add_up(case):
    _, _, design = case
    fields = experiment.matlab(design, seed=5)
    np.testing.assert_array_equal(fields["basiccnt"].sum(axis=0), np.full(40, 750))
    np.testing.assert_array_equal(fields["basiccnt"].sum(axis=1), np.full(3, 10_000))
    per_run = fields["stimpattern"].sum(axis=2)
    np.testing.assert_array_equal(per_run, np.tile([63, 62], (40, 6)))
    assert not fields["stimpattern"][..., :3].any() and not fields["stimpattern"][..., -4:].any()


def test_showing_counts_earlier_occurrences():
    np.testing.assert_array_equal(experiment.showing(np.array([4, 4, 9, 4, 9])), [0, 1, 0, 2, 1])


def test_runs_alternate_between_63_and_62_trials():
    run, trial = experiment.runs()
    np.testing.assert_array_equal(np.bincount(run)[1:], np.tile([63, 62], 6))
    assert (trial[np.flatnonzero(np.diff(run)) + 1] == 1).all() and trial.max() == 63


@pytest.mark.parametrize("subject", ["subj01", "subj08"])
def test_shown_follows_the_rule_of_the_release(subject):
    """73k = subjectim[s - 1, 10k - 1], 10k = masterordering[t], both 1-based in the file."""
    ds = TwinDataset(
        kind="twin", subjects=(subject,), volumes={subject: (7, 8, 9)}, sessions=2, shared_images=9
    )
    design = experiment.of(ds)
    fields = experiment.matlab(design, ds.seed)
    t = np.arange(1500)
    tenk = fields["masterordering"][0, t].astype(int)
    nsd_id = fields["subjectim"][int(subject[-1]) - 1, tenk - 1].astype(int) - 1
    np.testing.assert_array_equal(experiment.shown(design, subject, 2), nsd_id)


@pytest.fixture(scope="module")
def info():
    design = experiment.build(2, (3,), 100)
    return design, tables.stim_info(design, 2)


def test_the_stimulus_table_has_the_columns_of_the_release(info):
    _, table = info
    assert table.shape == (73_000, 40)  # the unnamed index is the 41st
    np.testing.assert_array_equal(table["nsdId"], np.arange(73_000))
    assert table["cocoId"].is_unique and (table["cocoSplit"][table["shared1000"]] == "train2017").all()
    assert table["shared1000"].sum() == 1000
    assert table["cropBox"].str.fullmatch(r"\(\d.\d+, \d.\d+, \d.\d+, \d.\d+\)").all()


@pytest.mark.parametrize("subject", [1, 8])
def test_its_repeat_columns_are_one_based_trials_of_the_design(info, subject):
    design, table = info
    repeats = table[[f"subject{subject}_rep{r}" for r in range(3)]].to_numpy()
    seen = repeats[:, 0] > 0
    np.testing.assert_array_equal(seen, table[f"subject{subject}"] == 1)
    assert seen.sum() == 10_000 and (repeats[~seen] == 0).all() and (np.diff(repeats[seen]) > 0).all()
    shown = design.stimuli(f"subj{subject:02d}")
    for r in range(3):
        np.testing.assert_array_equal(shown[repeats[seen, r] - 1], np.flatnonzero(seen))


@pytest.mark.parametrize("lost_run", [False, True])
def test_behaviour_has_nineteen_columns_and_gaps(info, lost_run):
    design, _ = info
    table = tables.responses(design, "subj03", 3, 0, lost_run=lost_run)
    assert list(table) == list(tables.RESPONSE_COLUMNS) and len(list(table)) == 19 and len(table) == 2250
    assert table["RT"].isna().mean() > 0.01 and table["MISSINGDATA"].sum() == (63 if lost_run else 0)
    lost = table[table["MISSINGDATA"] == 1]
    assert lost["BUTTON"].isna().all() and set(lost["RUN"]) <= {3} and set(lost["SESSION"]) <= {2}
    assert table[["SESSION", "RUN", "TRIAL", "73KID", "10KID", "TIME"]].notna().all(axis=None)
    np.testing.assert_array_equal(table["73KID"] - 1, experiment.shown(design, "subj03", 3))


def test_memory_columns_follow_from_the_order_of_images(info):
    design, _ = info
    table = tables.responses(design, "subj01", 3, 0, lost_run=False)
    tenk = table["10KID"].tolist()
    for t in (0, 500, 1490, 2200):
        earlier = [s for s in range(t) if tenk[s] == tenk[t]]
        assert table["ISOLD"][t] == bool(earlier)
        assert table["ISOLDCURRENT"][t] == any(s // 750 == t // 750 for s in earlier)
        if earlier:
            assert (
                table["MEMORYRECENT"][t] == t - earlier[-1] - 1
                and table["MEMORYFIRST"][t] == t - earlier[0] - 1
            )
