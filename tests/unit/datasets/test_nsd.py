import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from percept.config import NsdDataset, TwinDataset
from percept.datasets import nsd, nsd_tables
from percept.files import PerceptError

SHAPE = (7, 8, 9)
SUBJECT, ROW = "subj05", 4
SPACE = "func1pt8mm"
N_SESSIONS = 5
RUNS = np.repeat(np.arange(12), [63, 62] * 6)  # run of each trial of a session, 0-based


def write_volume(root, key, values):
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, np.diag([1.8, 1.8, 1.8, 1.0])), path)


def write_table(root, key, text):
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def released_ids():
    """1-based masterordering, subjectim and sharedix, as released: doubles, the shared images first."""
    rng = np.random.default_rng(0)
    ids = rng.permutation(np.arange(1, 73001))
    shared = np.sort(ids[:1000])
    subjectim = np.concatenate([np.tile(shared, (8, 1)), ids[1000:].reshape(8, 9000)], axis=1)
    ordering = rng.permutation(np.repeat(np.arange(1, 10001), 3))
    return ordering.astype(float), subjectim.astype(float), shared.astype(float)


def write_design(root, **changes):
    ordering, subjectim, shared = released_ids()
    fields = {"masterordering": ordering[None], "subjectim": subjectim, "sharedix": shared[None]} | changes
    (root / nsd.EXPDESIGN).parent.mkdir(parents=True, exist_ok=True)
    savemat(root / nsd.EXPDESIGN, {name: value for name, value in fields.items() if value is not None})


def responses(ordering, subjectim):
    """The 19-column table of the first sessions; one run lost its button presses."""
    n = N_SESSIONS * 750
    within = np.arange(n) % 750
    run = RUNS[within]
    trial = within - np.searchsorted(RUNS, run) + 1
    lost = (np.arange(n) // 750 == 1) & (run == 2)
    tenk = ordering[:n].astype(int)
    table = {
        "SUBJECT": ROW + 1,
        "SESSION": np.arange(n) // 750 + 1,
        "RUN": run + 1,
        "TRIAL": trial,
        "73KID": subjectim[ROW, tenk - 1].astype(int),
        "10KID": tenk,
        "TIME": 0.5 + np.arange(n) / 1e5,
    }
    behaviour = (
        "ISOLD ISCORRECT RT CHANGEMIND MEMORYRECENT MEMORYFIRST ISOLDCURRENT ISCORRECTCURRENT TOTAL1 TOTAL2"
    )
    table |= {name: np.where(lost, np.nan, 1.0) for name in [*behaviour.split(), "BUTTON"]}
    return pd.DataFrame(table | {"MISSINGDATA": lost.astype(int)})


def write_responses(root, table):
    path = root / nsd.key_responses(SUBJECT)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="NaN")


def dataset(**settings_):
    return NsdDataset(**({"kind": "nsd", "subjects": (SUBJECT,), "sessions": 2} | settings_))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with the design, the trials and the volumes of one subject; tests must not change it."""
    root = tmp_path_factory.mktemp("nsd")
    write_design(root)
    write_responses(root, responses(*released_ids()[:2]))
    write_volume(root, nsd.key_brainmask(SUBJECT, SPACE), np.ones(SHAPE, np.int16))
    roi = np.full(SHAPE, -1, np.float32)
    roi[1:4] = 0
    roi[2, :3, :4] = 1
    roi[3, :, :2] = 12
    write_volume(root, nsd.key_roi(SUBJECT, "Kastner2015", SPACE), roi)
    write_volume(root, nsd.key_roi(SUBJECT, "lh.Kastner2015", SPACE), np.where(roi == 12, -1, roi))
    names = "0 Unknown\n1   V1v\n 2\tV1d \n\n12 \t MST/TO2\n13 ecc4+ 10 20 30 0\n"
    write_table(root, nsd.key_label_table(SUBJECT, "Kastner2015"), names)
    return root


# keys


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (
            nsd.key_betas("subj01", 3, dataset()),
            "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session03.nii.gz",
        ),
        (
            nsd.key_betas("subj08", 30, dataset(format="hdf5", space="func1mm", betas="betas_assumehrf")),
            "nsddata_betas/ppdata/subj08/func1mm/betas_assumehrf/betas_session30.hdf5",
        ),
        (
            nsd.key_betas("subj02", 40, dataset(format="hdf5-ranges", betas="betas_fithrf")),
            "nsddata_betas/ppdata/subj02/func1pt8mm/betas_fithrf/betas_session40.hdf5",
        ),
        (
            nsd.key_ncsnr("subj01", dataset()),
            "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/ncsnr.nii.gz",
        ),
        (
            nsd.key_roi("subj03", "lh.floc-faces", SPACE),
            "nsddata/ppdata/subj03/func1pt8mm/roi/lh.floc-faces.nii.gz",
        ),
        (
            nsd.key_label_table("subj03", "lh.floc-faces"),
            "nsddata/freesurfer/subj03/label/floc-faces.mgz.ctab",
        ),
        (nsd.key_label_table("subj03", "thalamus"), "nsddata/templates/thalamus.ctab"),
        (
            nsd.key_valid("subj04", 7, SPACE),
            "nsddata/ppdata/subj04/func1pt8mm/valid_session07.nii.gz",
        ),
        (nsd.key_brainmask("subj04", SPACE), "nsddata/ppdata/subj04/func1pt8mm/brainmask.nii.gz"),
        (nsd.key_mean("subj04", SPACE), "nsddata/ppdata/subj04/func1pt8mm/mean.nii.gz"),
        (nsd.key_responses("subj06"), "nsddata/ppdata/subj06/behav/responses.tsv"),
    ],
)
def test_a_key_is_that_of_the_data_manual(key, path):
    assert key == path


def test_all_released_sessions_are_used_unless_fewer_are_asked_for():
    sessions = {
        subject: len(nsd.sessions_of(dataset(sessions="all"), subject)) for subject in nsd.RELEASED_SESSIONS
    }
    assert list(sessions.values()) == [40, 40, 32, 30, 40, 32, 40, 30]
    assert nsd.sessions_of(dataset(sessions=3), "subj04") == [1, 2, 3]
    assert nsd.sessions_of(dataset(sessions={"subj04": 2}), "subj04") == [1, 2]


@pytest.mark.parametrize("fmt", ["nii.gz", "hdf5"])
@pytest.mark.parametrize("stimuli", [False, True])
def test_exactly_the_files_of_a_configuration_are_needed(fmt, stimuli):
    ds = dataset(subjects=("subj02", "subj07"), sessions={"subj02": 1, "subj07": 3}, format=fmt)
    keys = nsd.files_needed(ds, ["nsdgeneral", "lh.floc-faces", "rh.floc-faces"], stimuli)
    assert len(keys) == len(set(keys))
    assert sorted(key for key in keys if key.startswith("nsddata_betas") and "session" in key) == sorted(
        nsd.key_betas(subject, session, ds)
        for subject, session in [("subj02", 1)] + [("subj07", s) for s in (1, 2, 3)]
    )
    per_subject = 4 + 3 + 2  # trials, mask, mean, ncsnr; ROI volumes; label tables
    assert len(keys) == 2 + stimuli + 2 * per_subject + 4 * 2
    assert (nsd.STIMULI in keys) is stimuli


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nsd.key_responses("subj9"), "no subject 'subj9'.*there are: subj01, .*subj08"),
        (lambda: nsd.key_responses("sub-05"), "did you mean 'subj05'"),
        (
            lambda: nsd.key_roi(SUBJECT, "floc-face", SPACE),
            "no ROI file 'floc-face'.*did you mean 'floc-faces'",
        ),
        (lambda: nsd.key_roi(SUBJECT, "xh.streams", SPACE), "there are: HCP_MMP1, Kastner2015"),
        (
            lambda: nsd.sessions_of(dataset(sessions=31), "subj08"),
            "asks for 31 sessions of subj08, but only 30",
        ),
        (lambda: nsd.sessions_of(dataset(sessions={"subj01": 1}), "subj02"), "says nothing about subj02"),
    ],
)
def test_an_unknown_name_is_refused_with_the_names_that_exist(call, message):
    with pytest.raises(PerceptError, match=message):
        call()


# the design and the trials


def test_the_design_is_0_based(tree):
    ordering, subjectim, shared = released_ids()
    design = nsd.read_design(tree)
    assert (design.masterordering.min(), design.masterordering.max()) == (0, 9999)
    np.testing.assert_array_equal(design.shared, shared - 1)
    np.testing.assert_array_equal(design.stimuli("subj08"), subjectim[7, ordering.astype(int) - 1] - 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sharedix": None}, "not readable .KeyError"),
        ({"sharedix": np.arange(1.0, 1001.0)}, "first 1000 columns of subjectim are not sharedix"),
        ({"masterordering": np.arange(0.0, 30000.0)}, "masterordering points outside"),
        ({"masterordering": np.ones(29999)}, "29999 trials, not a multiple of 750"),
        ({"subjectim": np.zeros((8, 10000))}, "ids outside 1..73000"),
    ],
)
def test_a_design_that_is_not_nsds_is_refused(tmp_path, changes, message):
    write_design(tmp_path, **changes)
    with pytest.raises(PerceptError, match=message):
        nsd.read_design(tmp_path)


def test_the_schedule_covers_the_released_sessions_of_all_subjects_even_if_one_is_used(tree):
    shown = nsd.schedule(tree, dataset())
    assert {subject: len(sessions) for subject, sessions in shown.items()} == nsd.RELEASED_SESSIONS
    np.testing.assert_array_equal(
        shown["subj03"].ravel(), nsd.read_design(tree).stimuli("subj03")[: 32 * 750]
    )


def test_the_schedule_of_a_twin_is_its_own(tree):
    twin = TwinDataset(kind="twin", subjects=("subj03", "subj05"), sessions={"subj03": 4, "subj05": 2})
    shown = nsd.schedule(tree, twin)
    assert {subject: sessions.shape for subject, sessions in shown.items()} == {
        "subj03": (4, 750),
        "subj05": (2, 750),
    }


@pytest.mark.parametrize("sessions", [1, 3, {"subj03": 4, "subj05": 2}])
def test_what_is_shown_are_the_stimuli_of_the_trials_in_use(tree, sessions):
    subset = NsdDataset(kind="nsd", subjects=("subj03", "subj05"), sessions=sessions)
    known = nsd.schedule(tree, subset)
    n_sessions = {subject: len(nsd.sessions_of(subset, subject)) for subject in subset.subjects}
    expected = set(np.concatenate([known[s][:n].ravel() for s, n in n_sessions.items()]).tolist())
    found = nsd_tables.shown(tree, subset)
    assert set(found.tolist()) == expected and (np.diff(found) > 0).all()


@pytest.mark.parametrize("sessions", [[1, 2, 3, 4, 5], [2], [5, 3]])
def test_trials_are_those_of_the_design(tree, sessions):
    trials = nsd.read_trials(tree, SUBJECT, sessions)
    design = nsd.read_design(tree)
    shown = design.stimuli(SUBJECT).reshape(40, 750)
    np.testing.assert_array_equal(
        trials["stimulus"], np.concatenate([shown[s - 1] for s in sorted(sessions)])
    )
    np.testing.assert_array_equal(trials["shared"], np.isin(trials["stimulus"], design.shared))
    assert trials["session"].unique().tolist() == sorted(sessions)
    assert trials.groupby(["session", "run"]).size().tolist() == [63, 62] * 6 * len(sessions)
    assert trials.dtypes.astype(str).tolist() == ["int16", "int16", "int16", "int32", "int8", "bool"]


def test_repeats_count_the_showings_among_the_sessions_used(tree):
    trials = nsd.read_trials(tree, SUBJECT, [2, 4, 5])
    seen = {}
    for stimulus, repeat in zip(trials["stimulus"], trials["repeat"], strict=True):
        assert repeat == seen.get(stimulus, 0)
        seen[stimulus] = repeat + 1
    assert max(seen.values()) == 3


@pytest.mark.parametrize("change", ["floats", "shuffled rows", "extra column", "no design"])
def test_trials_do_not_depend_on_how_the_table_was_written(tree, tmp_path, change):
    table = responses(*released_ids()[:2])
    if change != "no design":
        write_design(tmp_path)
    if change == "floats":
        table = table.astype(float)
    if change == "shuffled rows":
        table = table.sample(frac=1, random_state=0)
    if change == "extra column":
        table.insert(0, "NOTE", "x")
    write_responses(tmp_path, table)
    pd.testing.assert_frame_equal(
        nsd.read_trials(tmp_path, SUBJECT, [1, 2]), nsd.read_trials(tree, SUBJECT, [1, 2])
    )


def spoiled(row, column, value):
    def change(table):
        return (
            table.astype(float)
            .astype({column: object})
            .assign(**{column: table[column].astype(object).where(table.index != row, value)})
        )

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            spoiled(751, "73KID", 73001),
            r"line 753 \(subj05, session 2\): 73KID is 73001, not a whole number from 1",
        ),
        (spoiled(3, "73KID", 0), "line 5 .*73KID is 0"),
        (spoiled(3, "73KID", 17.5), "73KID is 17.5"),
        (spoiled(3, "10KID", np.nan), "10KID is nan"),
        (spoiled(3, "RUN", "x"), "RUN is x"),
        (lambda table: table.drop(index=900), "session 2 of subj05 has 749 trials instead of 750"),
        (lambda table: table[table["SESSION"] != 2], r"no trial of session 2 of subj05; .* it has \[1\]"),
        (lambda table: table.drop(columns="10KID"), "lacks the columns 10KID"),
    ],
)
def test_a_damaged_trial_table_is_refused_with_the_place(tree, tmp_path, change, message):
    write_responses(tmp_path, change(responses(*released_ids()[:2])))
    with pytest.raises(PerceptError, match=message):
        nsd.read_trials(tmp_path, SUBJECT, [1, 2])


@pytest.mark.parametrize(("session", "trial"), [(1, 1), (2, 317), (5, 750)])
def test_a_table_that_disagrees_with_the_design_names_the_first_trial(tmp_path, session, trial):
    write_design(tmp_path)
    table = responses(*released_ids()[:2])
    row = (session - 1) * 750 + trial - 1
    shown = table["73KID"].to_numpy(copy=True)
    for later in {row, len(table) - 1}:
        table.loc[later, "73KID"] = shown[later] % 73000 + 1
    write_responses(tmp_path, table)
    designed = f"73KID {shown[row] % 73000 + 1} .* against {shown[row]} "
    with pytest.raises(PerceptError, match=f"session {session}, trial {trial} of 750: {designed}"):
        nsd.read_trials(tmp_path, SUBJECT, range(1, N_SESSIONS + 1))


def test_an_image_wrongly_called_shared_is_found(tmp_path):
    write_design(tmp_path)
    table = responses(*released_ids()[:2])
    row = np.flatnonzero(table["10KID"] > 1000)[40]
    table.loc[row, "10KID"] = 7
    write_responses(tmp_path, table)
    with pytest.raises(PerceptError, match=r"\(shared: True\) against .* \(shared: False\)"):
        nsd.read_trials(tmp_path, SUBJECT, [1, 2])


# the table of stimuli


def stim_info(n=11):
    rng = np.random.default_rng(5)
    columns = {
        "cocoId": rng.permutation(n) + 500,
        "cocoSplit": "train2017",
        "cropBox": [f"(0, {i / 100}, 0.0, {i / 50})" for i in range(n)],
        "loss": 0.0,
        "nsdId": np.arange(n),
        "flagged": False,
        "BOLD5000": False,
        "shared1000": np.arange(n) % 2 == 1,
    }
    columns |= {f"subject{s}": 1 for s in range(1, 9)}
    columns |= {f"subject{s}_rep{r}": rng.integers(0, 30001, n) for s in range(1, 9) for r in range(3)}
    return pd.DataFrame(columns)


def test_the_table_of_stimuli_is_read_with_0_based_ids_and_trials(tmp_path):
    written = stim_info()
    write_table(tmp_path, nsd.STIM_INFO, written.to_csv())
    table = nsd.read_stim_info(tmp_path)
    assert table["stimulus"].tolist() == list(range(11))
    assert table["coco_id"].tolist() == written["cocoId"].tolist()
    assert table["shared"].tolist() == written["shared1000"].tolist()
    np.testing.assert_allclose(table["crop_bottom"], np.arange(11) / 100)
    np.testing.assert_allclose(table["crop_right"], np.arange(11) / 50)
    np.testing.assert_array_equal(table["subj07_rep2"], written["subject7_rep2"] - 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: table.assign(nsdId=table["nsdId"].replace(10, 73000)),
            "from 0 to 72999; it holds 0 to 73000",
        ),
        (lambda table: table.assign(nsdId=3), "must hold each id once"),
        (
            lambda table: table.drop(columns=["cropBox", "subject8_rep0"]),
            "lacks the columns cropBox, subject8_rep0",
        ),
    ],
)
def test_a_table_of_stimuli_of_another_base_or_form_is_refused(tmp_path, change, message):
    write_table(tmp_path, nsd.STIM_INFO, change(stim_info()).to_csv())
    with pytest.raises(PerceptError, match=message):
        nsd.read_stim_info(tmp_path)


# volumes


def test_labels_are_read_whatever_the_white_space(tree):
    _, labels = nsd.read_roi(tree, SUBJECT, "Kastner2015", SPACE)
    assert labels == {1: "V1v", 2: "V1d", 12: "MST/TO2", 13: "ecc4+"}


def write_roi(root, values, table="0 Unknown\n1 early\n"):
    write_volume(root, nsd.key_brainmask(SUBJECT, SPACE), np.ones(SHAPE, np.int16))
    write_volume(root, nsd.key_roi(SUBJECT, "streams", SPACE), values)
    write_table(root, nsd.key_label_table(SUBJECT, "streams"), table)


@pytest.mark.parametrize(
    ("values", "table", "message"),
    [
        (
            np.zeros(SHAPE[::-1], np.float32),
            "1 early",
            r"shape \(9, 8, 7\), but .* brain mask has \(7, 8, 9\)",
        ),
        (np.full(SHAPE, 3, np.float32), "1 early", r"holds the ids \[3\], which .* does not name"),
        (np.zeros(SHAPE, np.float32), "one early", "streams.mgz.ctab is not readable"),
        (np.zeros(SHAPE, np.float32), "1", "streams.mgz.ctab is not readable"),
    ],
)
def test_an_roi_that_does_not_fit_is_refused(tmp_path, values, table, message):
    write_roi(tmp_path, values, table)
    with pytest.raises(PerceptError, match=message):
        nsd.read_roi(tmp_path, SUBJECT, "streams", SPACE)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_truncated_volume_is_named(tmp_path, kept):
    key = nsd.key_brainmask(SUBJECT, SPACE)
    write_volume(tmp_path, key, np.random.default_rng(0).integers(0, 9999, SHAPE, dtype=np.int16))
    whole = (tmp_path / key).read_bytes()
    (tmp_path / key).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(PerceptError, match=r"brainmask.nii.gz is not readable .*download it again"):
        nsd.read_volume(tmp_path / key)


# images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    bricks = np.random.default_rng(9).integers(0, 256, (11, 5, 4, 3), dtype=np.uint8)
    (root / nsd.STIMULI).parent.mkdir(parents=True)
    with h5py.File(root / nsd.STIMULI, "w") as file:
        file["imgBrick"] = bricks
    return root, bricks


@settings(max_examples=30, deadline=None)
@given(stimuli=st.lists(st.integers(0, 10), max_size=15))
def test_images_come_in_any_order_and_as_often_as_asked(images, stimuli):
    root, bricks = images
    read = nsd.read_stimuli(root, stimuli)
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, bricks[np.array(stimuli, dtype=int)])


@pytest.mark.parametrize("stimulus", [-1, 11])
def test_an_image_that_is_not_there_is_refused(images, stimulus):
    with pytest.raises(PerceptError, match=f"holds images 0 to 10, but image {stimulus} was asked for"):
        nsd.read_stimuli(images[0], [3, stimulus])


@pytest.mark.parametrize(
    "read",
    [
        lambda root: nsd.read_design(root),
        lambda root: nsd.read_stim_info(root),
        lambda root: nsd.read_trials(root, SUBJECT, [1]),
        lambda root: nsd.read_roi(root, SUBJECT, "streams", SPACE),
        lambda root: nsd.read_stimuli(root, [0]),
        lambda root: nsd.subject_shape(root, SUBJECT, SPACE),
        lambda root: nsd.read_label_table(root / "a.ctab"),
    ],
)
def test_a_missing_file_is_named_with_what_it_is_for(tmp_path, read):
    with pytest.raises(PerceptError, match=r"is missing: .* cannot be read without it.*dataset.root"):
        read(tmp_path)
