"""The demo, as `make demo` runs it: what its numbers have to show. Minutes long, so marked `slow`.

`FINISHED_DEMO`, the folder of a checkout in which it was run already, saves these minutes.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from percept.datasets.twin import truth
from percept.report import systems
from percept.statistics import standard_error
from percept.voxels import store

from .conftest import REPOSITORY, Checkout

SETTINGS = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())
SUBJECTS, N = SETTINGS["dataset"]["subjects"], SETTINGS["dataset"]["shared_images"]
PIPELINES = list(SETTINGS["reconstructions"])
ENCODERS = ["voxelclip", "voxelclip_convolutional", "voxelclip_flat", "mapper", "dino", "mindeye"]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A checkout in which the demo was run with the configuration of a fresh clone."""
    if "FINISHED_DEMO" in os.environ:
        return Checkout(Path(os.environ["FINISHED_DEMO"]), files=[])
    checkout = Checkout(tmp_path_factory.mktemp("demo"))
    checkout.snakemake("all", config=None)
    return checkout


@pytest.fixture(scope="module")
def report(demo):
    return demo.folder / "results/twin/report"


@pytest.fixture(scope="module")
def results(report):
    return pd.read_parquet(report / "results.parquet")


@pytest.fixture(scope="module")
def images(results):
    """Per-subject rows of the reconstructions, with their controls."""
    return results[(results["what"] == "reconstruction") & (results["subject"] != "mean")]


@pytest.fixture(scope="module")
def decoders(results):
    """Per-subject rows of the decoders themselves, whole pool, averages over repeats."""
    own = results[(results["what"] == "decoder") & results["control"].isna()]
    own = own[(own["subject"] != "mean") & (own["unit"] == "average")]
    return own[own["pool"].isna() | (own["pool"] == N)]


def test_a_second_run_does_nothing(demo):
    again = demo.snakemake("all", config=None)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_no_decoder_beats_its_limit_by_more_than_three_standard_errors(decoders):
    own = decoders[decoders["metric"] == "top1"]
    spread = np.sqrt(own["limit_oracle"] * (1 - own["limit_oracle"]) / own["n"].astype(float))
    error = np.maximum(standard_error(own["ci_low"], own["ci_high"]), spread)
    assert set(own["name"]) == set(SETTINGS["decoders"])
    assert (own["value"] - own["limit_oracle"] <= 3 * error).all()


def test_calibrated_ridge_reaches_half_of_the_finite_data_reference(decoders):
    rows = decoders[(decoders["name"] == "ridge_truth") & (decoders["metric"] == "top1")]
    rows = rows[(rows["scoring"] == "likelihood") & (rows["direction"] == "image_from_brain")]
    assert len(rows) == len(SUBJECTS)
    assert (rows["value"] / rows["limit_finite"] >= 0.5).all()


def test_the_likelihood_is_no_worse_than_cosine_where_validation_chose_it(decoders):
    top1 = decoders[decoders["metric"] == "top1"]
    keys = ["subject", "name", "direction"]
    by_rule = top1.pivot(index=keys, columns="scoring", values="value")
    chosen = top1[top1["chosen"]].set_index(keys)["scoring"].reindex(by_rule.index)
    calibrated = by_rule[chosen == "likelihood"]
    assert len(calibrated) >= 2 * len(SUBJECTS)
    assert calibrated["likelihood"].mean() >= calibrated["cosine"].mean()


@pytest.mark.parametrize("metric", ["top1", "top5", "two_way"])
def test_shuffled_pairing_is_at_chance(results, metric):
    null = results[(results["control"] == "shuffled") & (results["metric"] == metric)]
    null = null[(null["subject"] != "mean") & null["chance"].notna()]
    error = standard_error(null["ci_low"], null["ci_high"]) / np.sqrt(1000)
    assert len(null) > 10
    assert (np.abs(null["value"] - null["chance"]) < 4 * error + 1e-9).all()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_measured_noise_ceiling_is_the_analytic_one(demo, subject):
    """Reliability averaged over voxels; they share limiting noise, so its error is that of whole twins.

    Eleven simulated twins of this size had a standard deviation of 0.0038 in the mean reliability (of 150
    test images: 0.0022), and NSD's estimator has a bias of -0.0017, because a z-score over the same repeats
    takes some of the noise away.
    """
    folder = demo.folder
    voxels = store.read_voxels(folder / f"results/twin/voxels/{subject}")
    known = truth.read(folder / "resources/twin", subject)
    shape = {"subj01": (20, 24, 18)}[subject]
    flat = np.ravel_multi_index(voxels[["i", "j", "k"]].to_numpy().T, shape)
    measured, analytic = voxels["ncsnr"].to_numpy(float), known.at(flat).ncsnr()
    seen = voxels["nsdgeneral"].notna().to_numpy() & np.isfinite(measured)
    reliability = [(snr[seen] ** 2 / (1 + snr[seen] ** 2)).mean() for snr in (measured, analytic)]
    assert abs(reliability[0] - reliability[1] + 0.0017) < 3 * 0.0038


def test_the_audit_passes(report):
    audit = pd.read_csv(report / "audit.csv")
    assert len(audit) > 50 and audit["passed"].all()


def test_the_linear_reconstruction_beats_every_floor(results):
    rows = results[(results["what"] == "reconstruction") & (results["metric"] == "pixcorr")]
    rows = rows[(rows["subject"] == "mean") & (rows["name"] == "linear")]
    value = rows.set_index(rows["control"].fillna("own"))["value"]
    assert value["own"] > value[["shuffled", "mean_image", "random_image"]].max()
    assert value["recovery"] > value["own"]


FLOORS = ["shuffled", "mean_image", "random_image"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_image_that_was_seen_is_told_from_another_by_its_reconstruction(images, subject):
    own = images[(images["subject"] == subject) & (images["name"] == "unclip") & images["control"].isna()]
    (row,) = own[own["metric"] == "tiny_clip"].to_dict("records")
    assert row["value"] >= 0.80 and row["chance"] == 0.5 and row["pool"] == N


@pytest.mark.parametrize("floor", FLOORS)
@pytest.mark.parametrize("metric", ["pixcorr", "tiny_clip"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_reconstruction_beats_its_floors_on_the_same_images(report, subject, metric, floor):
    table = pd.read_csv(report / "comparisons.csv")
    rows = table[(table["what"] == "reconstruction") & (table["subject"] == subject)]
    rows = rows[(rows["metric"] == metric) & (rows["control_second"] == floor)]
    (row,) = rows[(rows["name_first"] == "unclip") & (rows["name_second"] == "unclip")].to_dict("records")
    assert row["n"] == N and 0 < row["ci_low"] < row["difference"] < row["ci_high"]


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_pipeline_stands_beside_what_it_makes_of_true_targets(images, subject, name):
    rows = images[(images["subject"] == subject) & (images["name"] == name)]
    rows = rows[rows["metric"].isin(["pixcorr", "ssim", "tiny_clip", "object", "category"])]
    own, recovery = rows[rows["control"].isna()], rows[rows["control"] == "recovery"]
    assert set(own["metric"]) == set(recovery["metric"]) and len(own) == len(recovery) == 5
    assert own["value"].notna().all() and recovery["value"].notna().all()


def test_the_demo_has_these_pipelines_and_no_other(images):
    assert set(images["name"]) == set(PIPELINES)


@pytest.fixture(scope="module")
def comparisons(report):
    """Paired differences on the same images, under the rule that was chosen."""
    table = pd.read_csv(report / "comparisons.csv", low_memory=False)
    return table[table["rule"] == "chosen"]


@pytest.mark.parametrize("direction", ["image_from_brain", "brain_from_image"])
@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_encoder_finds_images_more_often_than_shuffled_pairs_do(comparisons, subject, name, direction):
    rows = comparisons[(comparisons["subject"] == subject) & (comparisons["direction"] == direction)]
    rows = rows[(rows["what"] == "decoder") & (rows["unit"] == "average") & (rows["name_first"] == name)]
    rows = rows[(rows["metric"] == "top1") & (rows["pool"] == N) & (rows["control_second"] == "shuffled")]
    (row,) = rows.to_dict("records")
    assert row["n"] == N and row["ci_low"] > 0


@pytest.mark.parametrize("floor", ["mean_image", "shuffled"])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_images_of_the_gan_are_told_apart_better_than_a_mean_image_and_shuffled_ones(
    comparisons, subject, floor
):
    rows = comparisons[(comparisons["subject"] == subject) & (comparisons["name_first"] == "mind_reader")]
    rows = rows[(rows["metric"] == "tiny_clip") & (rows["control_second"] == floor)]
    (row,) = rows.to_dict("records")
    assert row["n"] == N and row["ci_low"] > 0


@pytest.mark.parametrize("subject", SUBJECTS)
def test_no_vote_beats_the_oracle_and_the_decoded_embedding_votes_better_than_chance(images, subject):
    own = images[
        (images["subject"] == subject) & images["control"].isna() & (images["metric"] == "tiny_clip")
    ]
    value = own.set_index("name")["value"]
    votes = [name for name in PIPELINES if name.startswith("vote_")]
    assert value[votes].max() == value["vote_oracle"]
    assert value["vote_decoded"] > value["vote_random"]


def test_the_report_has_a_page_of_every_system(report):
    for name, system in systems.load().items():
        assert system.title in (report / "systems" / f"{name}.html").read_text()


@pytest.mark.parametrize("metric", ["alexnet2", "alexnet5", "inception", "clip", "effnet", "swav"])
def test_a_metric_whose_network_is_absent_is_not_available_rather_than_zero(images, metric):
    rows = images[images["metric"] == metric]
    assert len(rows) == len(SUBJECTS) * len(PIPELINES)
    assert rows["value"].isna().all() and rows["note"].str.startswith("not available").all()
