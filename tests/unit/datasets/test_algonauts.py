"""The challenge tree becomes the data contract, in either naming scheme; what is wrong is named."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.datasets import algonauts
from percept.datasets.algonauts import regions, responses, tree
from percept.datasets.algonauts_config import ALL_VERTICES, MASKS, TEST_FMRI, TRAINING_FMRI, AlgonautsDataset
from percept.files import PerceptError
from percept.voxels import roi
from tests.unit.datasets import challenge_tree as tiny

both_schemes = pytest.mark.parametrize("names", tiny.SCHEMES)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trees that nobody changes, by naming scheme."""
    return {names: tiny.write(tmp_path_factory.mktemp(names), names) for names in tiny.SCHEMES}


@pytest.fixture
def ds(whole, tmp_path):
    """A copy of the official tree, to be changed."""
    shutil.copytree(whole["official"].root, tmp_path / "tree")
    return AlgonautsDataset(kind="algonauts", root=str(tmp_path / "tree"))


def folder(ds):
    return ds.folder("subj01")


def replace(path, change):
    np.save(path, change(np.load(path)))


# What is read.


@both_schemes
def test_responses_are_those_written_bit_for_bit_left_before_right(whole, names):
    made = tiny.subject()
    betas, _, voxels = algonauts.read_subject(whole[names], "subj01")
    expected = np.concatenate([made.responses["train"], made.responses["test"]])
    assert betas.dtype == np.float32
    np.testing.assert_array_equal(betas, expected)  # NaN equals NaN
    assert voxels["hemisphere"].tolist() == ["lh"] * tiny.N_LEFT + ["rh"] * tiny.N_RIGHT
    np.testing.assert_array_equal(voxels["vertex"], np.concatenate(list(made.vertices.values())))
    assert voxels["file_column"].tolist() == [*range(tiny.N_LEFT), *range(tiny.N_RIGHT)]


@pytest.mark.parametrize("atlas", regions.REGIONS)
@both_schemes
def test_every_class_becomes_a_column_of_names(whole, names, atlas):
    numbers = tiny.subject().regions[atlas]
    _, _, voxels = algonauts.read_subject(whole[names], "subj01")
    expected = [None if number == 0 else regions.REGIONS[atlas][number - 1] for number in numbers]
    assert voxels[roi.column(atlas)].tolist() == expected


def test_row_i_belongs_to_image_i_plus_one_of_the_official_names(ds):
    _, trials, _ = algonauts.read_subject(ds, "subj01")
    np.testing.assert_array_equal(trials["stimulus"], np.arange(100, 152) * 7)  # 0-based NSD ids as they are
    assert trials["part"].tolist() == ["train"] * tiny.N_TRAIN + ["test"] * tiny.N_TEST
    assert (trials["repeat"] == 0).all() and (trials["session"] == 1).all()


def test_images_of_the_renamed_tree_have_ids_of_their_own_for_each_subject_and_part(tmp_path):
    ds = tiny.write(tmp_path, "renamed", subjects=("subj01", "subj02"))
    stimulus = [algonauts.read_subject(ds, name)[1]["stimulus"].tolist() for name in ds.subjects]
    assert stimulus[0][: tiny.N_TRAIN] == list(range(tiny.N_TRAIN))
    together = [one for own in stimulus for one in own]
    assert len(set(together)) == len(together) == 2 * (tiny.N_TRAIN + tiny.N_TEST)


@both_schemes
def test_a_source_shows_the_image_that_belongs_to_an_id(whole, names):
    ds = whole[names]
    _, trials, _ = algonauts.read_subject(ds, "subj01")
    made = np.concatenate(list(tiny.subject().stimulus.values()))
    rows = [51, 0, 7, 0]
    shown = algonauts.source(ds).images(trials["stimulus"].to_numpy()[rows])
    np.testing.assert_array_equal(shown, [tiny.picture(made[row]) for row in rows])


def test_the_same_image_of_two_subjects_is_one_stimulus(tmp_path):
    ds = tiny.write(tmp_path, subjects=("subj01", "subj02"))
    assert len(algonauts.catalogue(ds)) == tiny.N_TRAIN + tiny.N_TEST


def test_an_image_of_nobody_is_named(ds):
    with pytest.raises(PerceptError, match="no image 5"):
        algonauts.source(ds).images([5])


@pytest.mark.parametrize("name", ["set1", "set2", "set3", "early", "V1", "higher", "faces", "all"])
def test_named_sets_select_the_union_of_their_regions(whole, name):
    """A boolean OR over overlapping classes, a missing region adding nothing."""
    _, _, voxels = algonauts.read_subject(whole["official"], "subj01")
    made = tiny.subject().regions
    expected = np.zeros(len(voxels), bool)
    for label in roi.resolve(name):
        atlas, region = roi.split_label(label)
        wanted = made[atlas] > 0 if region is None and atlas in made else None
        if wanted is None and region is not None:
            wanted = made[atlas] == regions.REGIONS[atlas].index(region) + 1
        expected |= True if wanted is None else wanted
    np.testing.assert_array_equal(roi.select(voxels, name), expected)
    assert expected.any()


def test_a_hemisphere_can_be_a_set(ds):
    _, _, voxels = algonauts.read_subject(ds, "subj01")
    assert roi.select(voxels, "left", {"left": ("hemisphere:lh",)}).sum() == tiny.N_LEFT


def test_a_region_without_a_vertex_is_empty_and_named(ds, caplog):
    _, _, voxels = algonauts.read_subject(ds, "subj01")
    assert "floc-faces:FFA-1" in caplog.text
    with pytest.raises(PerceptError, match="selects none"):
        roi.select(voxels, "ffa", {"ffa": ("floc-faces:FFA-1",)})


def test_a_region_that_no_mapping_names_is_an_error_with_the_nearest_one(ds):
    _, _, voxels = algonauts.read_subject(ds, "subj01")
    with pytest.raises(PerceptError, match=r"no label 'FFA1'.*did you mean 'FFA-1'"):
        roi.select(voxels, "ffa", {"ffa": ("floc-faces:FFA1",)})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_vertex_that_is_not_finite_is_invalid_counted_and_named(ds, caplog, value):
    def spoil(values):
        values[3, 5] = value
        return values

    replace(folder(ds) / TRAINING_FMRI.format("lh"), spoil)
    _, _, voxels = algonauts.read_subject(ds, "subj01")
    assert np.flatnonzero(~voxels["valid"]).tolist() == [5, tiny.NAN_VERTEX]
    assert "1 vertices of lh hold NaN or are constant (columns 5 of" in caplog.text
    assert (
        f"1 vertices of rh hold NaN or are constant (columns {tiny.NAN_VERTEX - tiny.N_LEFT} of"
        in caplog.text
    )


def test_an_overlap_of_the_two_masks_counts_as_inside(ds):
    """All-vertices masks may be sums: membership is by `!= 0` here, and here alone."""
    replace(folder(ds) / ALL_VERTICES.format("rh"), lambda mask: mask * 2)
    _, _, voxels = algonauts.read_subject(ds, "subj01")
    assert voxels["vertex"].iloc[-1] == 3 + 70 * (tiny.N_RIGHT - 1)


def test_without_test_responses_the_table_is_smaller(tmp_path):
    ds = tiny.write(tmp_path, test=False)
    betas, trials, voxels = algonauts.read_subject(ds, "subj01")
    assert len(betas) == tiny.N_TRAIN and set(trials["part"]) == {"train"}
    assert "noise_ceiling" not in voxels and voxels["ncsnr"].isna().all()
    assert ds.withholds_test("subj01")
    np.testing.assert_array_equal(algonauts.withheld(ds, "subj01"), np.arange(140, 152) * 7)


def test_with_test_responses_nothing_is_withheld(ds):
    assert not ds.withholds_test("subj01") and len(algonauts.withheld(ds, "subj01")) == 0


def test_without_the_masks_of_all_vertices_the_rest_is_read(ds, caplog):
    (folder(ds) / ALL_VERTICES.format("lh")).unlink()
    _, _, voxels = algonauts.read_subject(ds, "subj01")
    assert (voxels["vertex"] == -1).all() and "cannot be drawn" in caplog.text
    assert not ds.has_surface("subj01")


@both_schemes
def test_what_planning_names_as_inputs_is_there(whole, names):
    found = whole[names].inputs("subj01")
    assert all(Path(path).exists() for path in found)
    assert any("lh_training_fmri" in path for path in found) and any("mapping_streams" in p for p in found)


def test_a_missing_subject_is_left_to_the_reader_who_says_which_there_are(whole):
    ds = whole["official"].model_copy(update={"subjects": ("subj09",)})
    assert ds.inputs("subj09") == [] and not ds.has_surface("subj09") and not ds.withholds_test("subj09")
    with pytest.raises(PerceptError, match=r"subj09 is not there.*it holds: subj01"):
        algonauts.read_subject(ds, "subj09")


@both_schemes
def test_a_simulation_promises_the_files_that_a_tree_has(whole, names):
    ds = whole[names]
    promised = AlgonautsDataset(kind="algonauts", simulate={"names": names}).simulated()
    assert all((ds.folder("subj01") / part).exists() for part in promised)


# What is wrong is named.


def lose(template, side="rh"):
    return lambda ds: (folder(ds) / template.format(side)).unlink()


def change(template, how, side="lh"):
    return lambda ds: replace(folder(ds) / template.format(side), how)


def rename(part, old, new):
    def done(ds):
        found = folder(ds) / tree.FOLDERS[part]
        shutil.copy(next(found.glob(old)), found / new) if new else next(found.glob(old)).unlink()

    return done


def write_mapping(names):
    def done(ds):
        rows = "".join(f"{number},{name}\n" for number, name in enumerate(names, start=1))
        (folder(ds) / "roi_masks/mapping_floc-places.csv").write_text(rows)

    return done


OFFICIAL_MASK = MASKS["official"].replace("{}.{}", "{}.streams")
FAULTS = {
    "hemisphere": (lose(TRAINING_FMRI), r"rh_training_fmri\.npy is not there.*half a brain"),
    "test hemisphere": (lose(TEST_FMRI), r"rh_test_fmri\.npy is not there"),
    "mask": (lose(OFFICIAL_MASK), r"rh\.streams_challenge_space\.npy is not there.*Both hemispheres"),
    "mapping": (
        lambda ds: (folder(ds) / "roi_masks/mapping_streams.npy").unlink(),
        "mapping_streams.npy is not",
    ),
    "hemispheres swapped": (
        change(OFFICIAL_MASK, lambda mask: np.r_[mask, 0, 0, 0, 0]),
        r"shape \(34,\).*have 30 vertices.*swapped",
    ),
    "vertices": (
        change(ALL_VERTICES, lambda mask: np.roll(mask, 1) * (np.arange(163842) != 1)),
        "29 vertices inside.*30",
    ),
    "rows of one side": (
        change(TRAINING_FMRI, lambda x: x[:-1]),
        "39 rows, but there are 40 training images",
    ),
    "test rows": (change(TEST_FMRI, lambda x: x[1:]), "11 rows, but there are 12 test images"),
    "vertices of test": (
        change(TEST_FMRI, lambda x: x[:, 1:]),
        "29 left and 34 right vertices, the training responses 30 and 34",
    ),
    "axes": (change(TRAINING_FMRI, lambda x: x[0]), r"shape \(64|\(30,\).*\(image, vertex\)"),
    "integers": (change(TRAINING_FMRI, lambda x: (9 * x).astype(np.int16)), "int16.*responses are floats"),
    "number": (change(OFFICIAL_MASK, lambda mask: mask + 90), "holds the number 9[0-9], which its mapping"),
    "unknown region": (write_mapping(["OPA", "PAP", "RSC"]), "names a region 'PAP'.*did you mean 'PPA'"),
    "region not mapped": (write_mapping(["OPA", "PPA"]), "does not name the region 'RSC'"),
    "image gone": (rename("train", "train-0007*", None), "no image has the place 7"),
    "image twice": (
        rename("train", "train-0007*", "train-0007_nsd-09999.png"),
        r"train-0007_nsd-00742.* have the same place",
    ),
    "id twice": (rename("train", "train-0007*", "train-0041_nsd-00742.png"), "have the same NSD id"),
    "image of another part": (rename("train", "train-0007*", "test-0041_nsd-00003.png"), "no train image"),
    "image trains and tests": (
        rename("test", "test-0002*", "test-0013_nsd-00742.png"),
        "742 is among the training and the test images",
    ),
    "image of no scheme": (
        rename("train", "train-0007*", "cat.png"),
        "cat.png follows neither naming scheme",
    ),
    "mixed images": (rename("train", "train-0007*", "41.png"), "mixes two naming schemes.*41.png"),
    "mixed masks": (
        lambda ds: shutil.copy(*(folder(ds) / each.format("lh", "streams") for each in MASKS.values())),
        "mixes two naming schemes",
    ),
    "no masks": (lambda ds: shutil.rmtree(folder(ds) / "roi_masks"), "holds no ROI masks"),
    "no images": (lambda ds: shutil.rmtree(folder(ds) / tree.FOLDERS["train"]), "holds no training images"),
    "subject": (lambda ds: shutil.rmtree(folder(ds)), r"subj01 is not there.*`dataset\.subjects`"),
    "ceiling in per cent": (
        change("test_split/noise_ceiling/{}_noise_ceiling.npy", lambda x: 100 * x),
        "share of variance, 0 to 1",
    ),
    "ceiling of one side": (
        lose("test_split/noise_ceiling/{}_noise_ceiling.npy"),
        "rh_noise_ceiling.npy is not",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named(ds, fault):
    spoil, message = FAULTS[fault]
    spoil(ds)
    with pytest.raises(PerceptError, match=message):
        algonauts.read_subject(ds, "subj01")


def test_an_image_without_any_response_is_named(ds):
    def lost(values):
        values[11] = np.nan
        return values

    for side in ("lh", "rh"):
        replace(folder(ds) / TRAINING_FMRI.format(side), lost)
    with pytest.raises(PerceptError, match="row 11 of the responses"):
        algonauts.read_subject(ds, "subj01")


def test_a_bad_subject_does_not_stop_another(tmp_path):
    ds = tiny.write(tmp_path, subjects=("subj01", "subj02"))
    (ds.folder("subj02") / TRAINING_FMRI.format("lh")).unlink()
    assert len(algonauts.read_subject(ds, "subj01")[0]) == tiny.N_TRAIN + tiny.N_TEST


# Counts of the release.


@pytest.mark.parametrize("subject", responses.OFFICIAL)
def test_the_released_counts_agree_with_themselves(subject):
    assert responses.compare_with_release(subject, responses.OFFICIAL[subject]) == []
    *_, left, right = responses.OFFICIAL[subject]
    assert left + right == {"subj06": 39_198, "subj08": 39_511}.get(subject, 39_548)


def test_a_released_subject_with_files_missing_is_warned_of(caplog):
    told = responses.compare_with_release("subj01", (5000, 159, 19004, 20544))
    assert told == ["5000 training images instead of 9841"] and told[0] in caplog.text


@given(st.tuples(*[st.integers(1, 100)] * 4))
def test_somebody_elses_data_are_not_warned_of(found):
    assert responses.compare_with_release("subj01", found) == []
    assert responses.compare_with_release("p07", (9841, 159, 19004, 20544)) == []


# Settings.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": "shared1000", "test_units": ("average",)}, "does not release"),
        ({"protocol": "leave-one-run-out", "test_units": ("average",)}, "does not release"),
        (
            {"protocol": "random", "test_units": ("average", "single")},
            "single trials and runs cannot be decoded",
        ),
        ({"protocol": "random", "test_units": ("average",), "train_repeats": "single"}, "already averaged"),
    ],
)
def test_what_needs_repeats_or_sessions_is_refused_before_anything_runs(changes, message):
    from percept.config import ConfigError, load

    settings = {
        "dataset": {"kind": "algonauts"},
        "split": changes,
        "targets": {"pixels": {"kind": "pixels", "size": 8}},
        "decoders": {"ridge": {"kind": "ridge", "target": "pixels", "roi": "all"}},
    }
    with pytest.raises(ConfigError, match=message):
        load(settings)


def test_a_subject_named_twice_is_refused():
    with pytest.raises(ValueError, match="'subj01' is named twice"):
        AlgonautsDataset(kind="algonauts", subjects=("subj01", "subj01"))
