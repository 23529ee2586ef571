"""The written twin as anybody reads NSD: by h5py, nibabel, pandas, scipy and the rules of the release."""

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat

from percept.config import TwinDataset
from percept.datasets import nsd, scenes
from percept.datasets.twin import model, simulate, write
from percept.datasets.twin import truth as truths
from percept.files import PerceptError

VOLUMES = {"subj01": (12, 14, 10), "subj02": (11, 13, 12)}
SESSIONS = {"subj01": 2, "subj02": 1}
B3 = "nsddata_betas/ppdata/{}/func1pt8mm/betas_fithrf_GLMdenoise_RR"
PPDATA = "nsddata/ppdata/{}/func1pt8mm"


@pytest.fixture(scope="module")
def ds(tmp_path_factory):
    return TwinDataset(
        kind="twin",
        root=str(tmp_path_factory.mktemp("twin")),
        volumes=VOLUMES,
        sessions=SESSIONS,
        shared_images=60,
        bits=6,
        format="hdf5",
        seed=3,
    )


def test_scenes_painted_side_by_side_are_the_same(ds, root, tmp_path):
    write.write_experiment(ds, tmp_path, processes=2)
    parts = ("nsddata_stimuli", "nsddata/stimuli")
    names = [path.relative_to(tmp_path) for part in parts for path in (tmp_path / part).rglob("*.*")]
    names += [Path("truth/features.h5")]
    assert len(names) > 60
    assert [name for name in names if (tmp_path / name).read_bytes() != (root / name).read_bytes()] == []


@pytest.fixture(scope="module")
def root(ds):
    write.write_experiment(ds, ds.root)
    for subject in ds.subjects:
        write.write_subject(ds, ds.root, subject)
    return Path(ds.root)


@pytest.fixture(scope="module")
def true(root):
    return {subject: truths.read(root, subject) for subject in VOLUMES}


def volume(path):
    return np.asanyarray(nib.load(path).dataobj)


def betas(root, subject):
    """(trial, voxel of the brain mask in C order), PSC, by the data manual's rules."""
    mask = volume(root / PPDATA.format(subject) / "brainmask.nii.gz") > 0
    files = sorted((root / B3.format(subject)).glob("betas_session*.nii.gz"))
    return np.concatenate([volume(path)[mask].T for path in files]).astype(np.float32) / 300


def first_trials(root, subject):
    """0-based nsd id of each released trial, by masterordering and subjectim."""
    mat = loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat")
    tenk = mat["masterordering"].ravel().astype(int)[: 750 * SESSIONS[subject]]
    return mat["subjectim"][int(subject[-1]) - 1, tenk - 1].astype(int) - 1


@pytest.mark.parametrize("subject", VOLUMES)
def test_both_formats_hold_the_same_bits_transposed(root, subject):
    folder = root / B3.format(subject)
    for session in range(1, SESSIONS[subject] + 1):
        image = nib.load(folder / f"betas_session{session:02d}.nii.gz")
        with h5py.File(folder / f"betas_session{session:02d}.hdf5") as file:
            data = file["betas"]
            assert data.shape == (750, *VOLUMES[subject][::-1]) and data.dtype == np.int16
            assert data.chunks == (750, 1, 1, 1) and data.compression is None
            np.testing.assert_array_equal(data[:].transpose(), np.asanyarray(image.dataobj))
        assert image.shape == (*VOLUMES[subject], 750) and image.get_data_dtype() == np.int16
        assert image.header.get_zooms() == pytest.approx((1.8, 1.8, 1.8, 4 / 3))
        assert image.header.get_slope_inter() in ((None, None), (1.0, 0.0))


@pytest.mark.parametrize("subject", VOLUMES)
def test_all_volumes_of_a_subject_share_shape_and_an_affine_centred_on_the_brain(root, subject):
    files = [
        *(root / PPDATA.format(subject)).rglob("*.nii.gz"),
        *(root / B3.format(subject)).glob("*.nii.gz"),
    ]
    assert len(files) > 39 + 8
    expected = np.diag([1.8, 1.8, 1.8, 1])
    expected[:3, 3] = -1.8 * (np.array(VOLUMES[subject]) - 1) / 2
    for path in files:
        image = nib.load(path)
        assert image.shape[:3] == VOLUMES[subject]
        np.testing.assert_allclose(image.affine, expected, atol=1e-5)


@pytest.mark.parametrize("subject", VOLUMES)
def test_betas_are_zero_outside_the_mask_and_have_moments_of_nsd_inside_nsdgeneral(root, subject):
    mask = volume(root / PPDATA.format(subject) / "brainmask.nii.gz")
    assert mask.dtype == np.int16 and set(np.unique(mask)) == {0, 1}
    data = volume(root / B3.format(subject) / "betas_session01.nii.gz")
    assert not data[mask == 0].any()
    general = volume(root / PPDATA.format(subject) / "roi/nsdgeneral.nii.gz") > 0
    psc = data[general] / 300
    assert psc.mean() == pytest.approx(2.2, abs=0.2) and psc.std() == pytest.approx(3.3, abs=0.25)


@pytest.mark.parametrize("subject", VOLUMES)
def test_a_few_values_saturate(root, subject):
    values = betas(root, subject) * 300
    assert np.rint(values.max()) == 32767 and np.rint(values.min()) == -32767
    assert 0 < (np.abs(values) > 32766.5).sum() <= 4


def test_voxels_invalid_in_one_session_are_zero_there_and_only_there(root):
    folder = root / PPDATA.format("subj01")
    mask = volume(folder / "brainmask.nii.gz") > 0
    data = betas(root, "subj01").reshape(2, 750, -1)
    valid = np.stack([volume(folder / f"valid_session{s:02d}.nii.gz")[mask] for s in (1, 2)])
    np.testing.assert_array_equal(valid == 1, data.any(axis=1))
    assert valid[0].all() and (valid[1] == 0).sum() == 4
    np.testing.assert_allclose(volume(folder / "valid.nii.gz")[mask], valid.mean(axis=0))


@pytest.mark.parametrize("subject", VOLUMES)
def test_every_atlas_is_there_whole_and_by_hemisphere_with_its_label_table(root, subject):
    folder = root / PPDATA.format(subject) / "roi"
    assert len(list(folder.glob("*.nii.gz"))) == 39
    for name in ("prf-visualrois", "floc-words", "streams", "Kastner2015", "HCP_MMP1"):
        whole, left, right = (volume(folder / f"{side}{name}.nii.gz") for side in ("", "lh.", "rh."))
        assert whole.dtype == np.float32 and whole.min() == -1 and (whole == -1).mean() > 0.5
        np.testing.assert_array_equal(np.maximum(left, right), whole)
        table = root / f"nsddata/freesurfer/{subject}/label/{name}.mgz.ctab"
        named = dict(line.split() for line in table.read_text().splitlines())
        assert {str(int(label)) for label in np.unique(whole[whole > 0])} <= named.keys()
        of_average = root / f"nsddata/freesurfer/fsaverage/label/{name}.mgz.ctab"
        assert of_average.exists() == (name in ("streams", "Kastner2015", "HCP_MMP1"))
    assert (root / "nsddata/templates/MTL.ctab").exists()


def test_one_label_is_empty_in_one_subject(root):
    present = [5 in volume(root / PPDATA.format(s) / "roi/floc-faces.nii.gz") for s in VOLUMES]
    assert present == [True, False]


@pytest.mark.parametrize("subject", VOLUMES)
def test_responses_agree_with_the_design_and_the_stimulus_table(root, subject):
    table = pd.read_csv(root / f"nsddata/ppdata/{subject}/behav/responses.tsv", sep="\t")
    shown = first_trials(root, subject)
    assert table.shape == (750 * SESSIONS[subject], 19)
    np.testing.assert_array_equal(table["73KID"] - 1, shown)
    info = pd.read_csv(root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    assert info.shape == (73_000, 41)
    rep0 = info.loc[shown[0], f"subject{int(subject[-1])}_rep0"]
    assert rep0 == 1 and info.loc[shown[0], "nsdId"] == shown[0]
    np.testing.assert_array_equal(table["10KID"] <= 1000, info["shared1000"][shown])


@pytest.mark.parametrize("subject", VOLUMES)
def test_the_reader_of_nsd_reads_the_twin(root, ds, subject):
    sessions = nsd.sessions_of(ds, subject)
    trials = nsd.read_trials(root, subject, sessions)
    assert sessions == list(range(1, SESSIONS[subject] + 1))
    np.testing.assert_array_equal(trials["stimulus"], first_trials(root, subject))
    for key in nsd.files_needed(ds, nsd.ATLASES):
        assert (root / key).is_file(), key
    roi, labels = nsd.read_roi(root, subject, "lh.floc-bodies", "func1pt8mm")
    assert roi.shape == VOLUMES[subject] and labels[1] == "EBA"


def test_images_lie_at_their_zero_based_ids_and_can_be_made_again(root, ds):
    shown = np.unique(first_trials(root, "subj02"))
    with h5py.File(root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        bricks = file["imgBrick"]
        assert bricks.shape == (73_000, 425, 425, 3) and bricks.dtype == np.uint8
        for stimulus in shown[[0, 100, -1]]:
            np.testing.assert_array_equal(
                bricks[stimulus], scenes.paint(scenes.compose(ds.seed, int(stimulus)))
            )
        unseen = np.setdiff1d(np.arange(500), np.concatenate([shown, first_trials(root, "subj01")]))[0]
        assert not bricks[unseen].any()
    assert (root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").stat().st_size < 300e6


def test_shared_pictures_are_also_pngs_named_from_one(root):
    sharedix = loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat")["sharedix"].ravel().astype(int)
    files = sorted((root / "nsddata/stimuli/nsd/shared1000").glob("*.png"))
    assert len(files) >= 60
    number, id73k = (int(part) for part in files[7].stem.replace("shared", "").split("_nsd"))
    assert sharedix[number - 1] == id73k
    with h5py.File(root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        np.testing.assert_array_equal(np.asarray(Image.open(files[7])), file["imgBrick"][id73k - 1])


@pytest.mark.parametrize("subject", VOLUMES)
def test_the_released_noise_ceiling_follows_the_formula_of_the_release(root, subject):
    """Section 3: z-score by session, unbiased variance over three repeats, mean over images."""
    data, shown = betas(root, subject), first_trials(root, subject)
    by_session = data.reshape(-1, 750, data.shape[1])
    with np.errstate(invalid="ignore"):
        z = ((by_session - by_session.mean(1, keepdims=True)) / by_session.std(1, keepdims=True)).reshape(
            data.shape
        )
    variance = np.array([z[shown == i].var(0, ddof=1) for i in np.unique(shown) if (shown == i).sum() == 3])
    noise = np.ma.masked_invalid(variance).mean(axis=0).filled(np.nan)
    mask = volume(root / PPDATA.format(subject) / "brainmask.nii.gz") > 0
    released = volume(root / B3.format(subject) / "ncsnr.nii.gz")
    assert released.dtype == np.float32 and np.isnan(released[~mask]).all()
    np.testing.assert_allclose(released[mask], np.sqrt(np.maximum(0, 1 - noise) / noise), atol=2e-4)


@pytest.mark.parametrize("subject", VOLUMES)
def test_measured_noise_ceilings_are_the_analytic_ones(root, true, subject):
    """The noise variance of z-scores, over voxels: no bias beyond 4 standard errors of its mean."""
    mask = volume(root / PPDATA.format(subject) / "brainmask.nii.gz") > 0
    snr = volume(root / B3.format(subject) / "ncsnr.nii.gz")[mask][true[subject].visual]
    expected = true[subject].ncsnr()[true[subject].visual]
    ceiling, analytic = snr**2 / (snr**2 + 1), expected**2 / (expected**2 + 1)
    measured = np.isfinite(ceiling)
    ceiling, analytic = ceiling[measured], analytic[measured]
    assert abs((ceiling - analytic).mean()) < 0.012 and np.corrcoef(ceiling, analytic)[0, 1] > 0.5
    assert np.nanmedian(snr) == pytest.approx(0.36, abs=0.06)


@pytest.mark.parametrize("subject", VOLUMES)
def test_the_truth_carries_the_bits_that_were_asked(true, subject):
    assert true[subject].information(3) == pytest.approx(6, abs=1e-3)
    assert true[subject].visual.sum() == round(0.095 * np.prod(VOLUMES[subject]))


def residuals(root, truth, subject):
    """Betas minus what the truth says their mean is, without the drift, for valid visual voxels."""
    data = betas(root, subject)
    expected = truth.mean_responses(truth.trials) + np.repeat(truth.offset, 750, axis=0)
    rest = (data - expected)[:, truth.visual & data.reshape(-1, 750, data.shape[1]).any(1).all(0)]
    line = np.linspace(-1, 1, 750)[:, None]
    by_session = rest.reshape(-1, 750, rest.shape[1])
    slope = (by_session * line).sum(1, keepdims=True) / (line**2).sum()
    return (by_session - slope * line).reshape(rest.shape)


def test_written_noise_has_the_declared_covariance(root, true):
    truth = true["subj01"]
    sample = np.cov(residuals(root, truth, "subj01").T)
    kept = truth.visual.copy()
    data = betas(root, "subj01")
    kept &= data.reshape(-1, 750, data.shape[1]).any(1).all(0)
    part = truth.select(kept)
    noise = part.signal_noise
    declared = np.diag(noise.private_sd**2) + noise.shared @ noise.shared.T
    declared = declared + part.signal_weights @ noise.limiting @ part.signal_weights.T
    sd = np.sqrt(np.diag(declared))
    error = (sample - declared) / np.outer(sd, sd)
    assert abs(np.diag(error)).max() < 5 * np.sqrt(2 / 1500)
    off = error[~np.eye(len(sd), dtype=bool)]
    correlations = (declared / np.outer(sd, sd))[~np.eye(len(sd), dtype=bool)]
    assert off.std() == pytest.approx(np.sqrt(np.mean(1 + correlations**2) / 1500), rel=0.15)
    assert np.abs(correlations).max() > 0.2  # and there is something to find


def test_written_responses_regress_to_the_true_weights(root, true):
    truth = true["subj01"]
    data = betas(root, "subj01")[:, truth.visual]
    x = truth.rows(truth.trials)
    design = np.column_stack([x, np.repeat(np.eye(2), 750, axis=0)])
    estimate = np.linalg.lstsq(design, data, rcond=None)[0][: x.shape[1]].T
    usable = data.reshape(2, 750, -1).any(1).all(0)
    covariance = np.linalg.inv(x.T @ x)
    noise = truth.noise_variance()[truth.visual]
    z = (estimate - truth.weights[truth.visual])[usable] / np.sqrt(
        np.outer(noise[usable], np.diag(covariance))
    )
    assert z.std() == pytest.approx(1, abs=0.1) and abs(z.mean()) < 0.1


def test_voxels_outside_nsdgeneral_are_noise(root, true):
    truth = true["subj01"]
    data = betas(root, "subj01")[:, ~truth.visual]
    assert not truth.weights[~truth.visual].any() and not truth.shared[~truth.visual].any()
    x = truth.rows(truth.trials)
    sane = (np.abs(data) < 100).all(0) & data.reshape(2, 750, -1).any(1).all(0)
    data = (data - data.reshape(2, 750, -1).mean(1).repeat(750, 0))[:, sane]
    explained = 1 - (data - x @ np.linalg.lstsq(x, data, rcond=None)[0]).var(0) / data.var(0)
    assert explained.mean() == pytest.approx(x.shape[1] / 1500, rel=0.15)


def test_summaries_have_the_units_of_the_release(root):
    folder = root / B3.format("subj01")
    mask = volume(root / PPDATA.format("subj01") / "brainmask.nii.gz") > 0
    data = betas(root, "subj01")
    meanbeta = volume(folder / "meanbeta.nii.gz")
    np.testing.assert_allclose(meanbeta[mask], data.mean(0), atol=1e-4)
    np.testing.assert_allclose(
        volume(folder / "meanbeta_session02.nii.gz")[mask], data[750:].mean(0), atol=1e-4
    )
    assert np.isnan(meanbeta[~mask]).all() and meanbeta.dtype == np.float32
    r2 = volume(folder / "R2.nii.gz")
    assert 5 < np.nanmax(r2) < 100


def test_receptive_field_volumes_are_in_degrees_counterclockwise(root, true):
    folder = root / PPDATA.format("subj01")
    angle, distance = (volume(folder / f"prf_{name}.nii.gz") for name in ("angle", "eccentricity"))
    left = volume(folder / "roi/lh.prf-visualrois.nii.gz")
    ventral, dorsal = left == 1, left == 2  # V1v of the left hemisphere sees the upper right
    assert ((angle[ventral] >= 0) & (angle[ventral] <= 90)).all()
    assert ((angle[dorsal] >= 270) | (angle[dorsal] == 0)).all()
    assert np.isnan(angle[left == -1].ravel()[0]) and np.nanmax(distance) < 4.4


@pytest.mark.parametrize("kind", ["captions", "instances"])
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_annotations_are_coco_json_of_the_images_used(root, kind, split):
    content = json.loads((root / f"annotations/{kind}_{split}.json").read_text())
    info = pd.read_csv(root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv")
    used = pd.read_parquet(root / "truth/scenes.parquet")["stimulus"]
    expected = info.loc[used].query("cocoSplit == @split")["cocoId"]
    assert {image["id"] for image in content["images"]} == set(expected)
    assert {note["image_id"] for note in content["annotations"]} == set(expected)
    assert len({note["id"] for note in content["annotations"]}) == len(content["annotations"])


def test_instances_lie_where_the_objects_are_after_the_crop(root, ds):
    content = json.loads((root / "annotations/instances_train2017.json").read_text())
    assert len(content["categories"]) == 80 and content["categories"][-1]["id"] == 90
    info = pd.read_csv(root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv").set_index("cocoId")
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    name_of = {entry["id"]: entry["name"] for entry in content["categories"]}
    crowds = [note for note in content["annotations"] if note["iscrowd"]]
    assert len(crowds) == 1 and sum(crowds[0]["segmentation"]["counts"]) == np.prod(
        crowds[0]["segmentation"]["size"]
    )
    for note in [n for n in content["annotations"] if not n["iscrowd"]][:200]:
        row = info.loc[note["image_id"]]
        top, bottom, left, right = (float(v) for v in row["cropBox"].strip("()").split(","))
        width, height = sizes[note["image_id"]]
        side = width * (1 - left - right)
        assert side == pytest.approx(height * (1 - top - bottom))
        x, y, w, h = note["bbox"]
        centre = ((x + w / 2 - left * width) / side, (y + h / 2 - top * height) / side)
        scene = scenes.compose(ds.seed, int(row["nsdId"]))
        boxes = [thing.box for thing in scene.objects if thing.category == name_of[note["category_id"]]]
        assert min(abs(b[0] + b[2] / 2 - centre[0]) + abs(b[1] + b[3] / 2 - centre[1]) for b in boxes) < 0.08


def test_scenes_are_described(root, ds):
    table = pd.read_parquet(root / "truth/scenes.parquet")
    scene = scenes.compose(ds.seed, int(table["stimulus"][11]))
    assert table["stimulus"].is_monotonic_increasing and table["caption"][11] == scenes.captions(scene)[0]
    assert tuple(table["categories"][11]) == scene.categories and len(table["captions"][11]) == 5


def test_writing_again_gives_the_same_bytes(root, ds, tmp_path):
    for key in ("truth", "nsddata_stimuli"):
        (tmp_path / key).symlink_to(root / key) if key == "nsddata_stimuli" else (tmp_path / key).mkdir()
    (tmp_path / truths.FEATURES).write_bytes((root / truths.FEATURES).read_bytes())
    write.write_subject(ds, tmp_path, "subj02")
    for key in (f"{B3.format('subj02')}/betas_session01.nii.gz", "nsddata/ppdata/subj02/behav/responses.tsv"):
        assert (tmp_path / key).read_bytes() == (root / key).read_bytes()


def test_no_temporary_file_remains(root):
    assert not [path for path in root.rglob("*") if path.name.startswith(".")]


def test_truth_selects_voxels_by_place(true):
    truth = true["subj01"]
    wanted = truth.voxel_index[truth.visual][[5, 2, 9]]
    part = truth.at(wanted)
    np.testing.assert_array_equal(part.voxel_index, wanted)
    rows = np.flatnonzero(truth.visual)[[5, 2, 9]]
    np.testing.assert_array_equal(part.weights, truth.weights[rows])
    np.testing.assert_allclose(part.fisher, model.fisher(part.signal_weights, part.signal_noise), rtol=1e-6)
    np.testing.assert_allclose(truth.select(truth.visual).fisher, truth.fisher, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_repeats", [1, 3, np.array([3, 2, 1, 3])])
def test_the_noise_ceiling_is_explained_over_total_variance(true, n_repeats):
    truth = true["subj02"]
    signal, noise = truth.signal_variance(), truth.noise_variance()
    expected = signal / (signal + noise * np.mean(1 / np.atleast_1d(n_repeats)))
    np.testing.assert_allclose(truth.noise_ceiling(n_repeats), expected)


def test_mean_responses_are_stored_with_the_truth(root, true):
    with h5py.File(root / truths.key("subj02")) as file:
        shown, responses = file["shown"][:], file["responses"][:]
    truth = true["subj02"]
    np.testing.assert_array_equal(shown, np.unique(truth.trials))
    np.testing.assert_allclose(responses, truth.mean_responses(shown)[:, truth.visual], atol=1e-5)


@pytest.mark.parametrize(
    ("damage", "message"), [("absent", "only a twin has|which only"), ("cut", "is not readable")]
)
def test_a_missing_or_damaged_truth_says_what_to_do(root, tmp_path, damage, message):
    (tmp_path / "truth").mkdir()
    for key in (truths.FEATURES, truths.key("subj01")):
        (tmp_path / key).write_bytes((root / key).read_bytes())
    path = tmp_path / truths.key("subj01")
    path.unlink() if damage == "absent" else path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(PerceptError, match=message):
        truths.read(tmp_path, "subj01")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda truth: truth.rows([truth.stimulus[0], 72_999_999]), "no image 72999999"),
        (lambda truth: truth.at([0]), "outside the brain mask"),
    ],
)
def test_unknown_images_and_voxels_are_named(true, call, message):
    with pytest.raises(ValueError, match=message):
        call(true["subj01"])


def test_a_subject_without_a_volume_is_refused(ds, root):
    lacking = ds.model_copy(update={"volumes": {"subj01": (12, 14, 10)}})
    with pytest.raises(ValueError, match="says nothing about subj02"):
        write.write_subject(lacking, root, "subj02")


def test_the_noise_ceiling_is_missing_where_no_image_is_shown_three_times():
    values = np.random.default_rng(0).integers(-900, 900, (750, 7)).astype(np.int16)
    assert np.isnan(simulate.ncsnr(values, np.arange(750, dtype=np.int32))).all()
