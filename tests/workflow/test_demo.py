"""The demo, as `make demo` runs it: what its numbers have to show. Minutes long, so marked `slow`."""

import numpy as np
import pandas as pd
import pytest

from percept.datasets.twin import truth
from percept.statistics import standard_error
from percept.voxels import store

from .conftest import Checkout

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A checkout in which the demo was run with the configuration of a fresh clone."""
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
def decoders(results):
    """Per-subject rows of the decoders themselves, whole pool, averages over repeats."""
    own = results[(results["what"] == "decoder") & results["control"].isna()]
    own = own[(own["subject"] != "mean") & (own["unit"] == "average")]
    return own[own["pool"].isna() | (own["pool"] == 150)]


def test_a_second_run_does_nothing(demo):
    again = demo.snakemake("all", config=None)
    assert "Nothing to be done" in again.stdout + again.stderr


def test_no_decoder_beats_its_limit_by_more_than_three_standard_errors(decoders):
    own = decoders[decoders["metric"] == "top1"]
    spread = np.sqrt(own["limit_oracle"] * (1 - own["limit_oracle"]) / own["n"].astype(float))
    error = np.maximum(standard_error(own["ci_low"], own["ci_high"]), spread)
    assert len(own) == 60  # 2 subjects, 5 decoders, 3 scoring rules, 2 directions
    assert (own["value"] - own["limit_oracle"] <= 3 * error).all()


def test_calibrated_ridge_reaches_half_of_the_finite_data_reference(decoders):
    rows = decoders[(decoders["name"] == "ridge_truth") & (decoders["metric"] == "top1")]
    rows = rows[(rows["scoring"] == "likelihood") & (rows["direction"] == "image_from_brain")]
    assert len(rows) == 2
    assert (rows["value"] / rows["limit_finite"] >= 0.5).all()


def test_the_likelihood_is_no_worse_than_cosine_where_validation_chose_it(decoders):
    top1 = decoders[decoders["metric"] == "top1"]
    keys = ["subject", "name", "direction"]
    by_rule = top1.pivot(index=keys, columns="scoring", values="value")
    chosen = top1[top1["chosen"]].set_index(keys)["scoring"].reindex(by_rule.index)
    calibrated = by_rule[chosen == "likelihood"]
    assert len(calibrated) >= 4
    assert calibrated["likelihood"].mean() >= calibrated["cosine"].mean()


@pytest.mark.parametrize("metric", ["top1", "top5", "two_way"])
def test_shuffled_pairing_is_at_chance(results, metric):
    null = results[(results["control"] == "shuffled") & (results["metric"] == metric)]
    null = null[(null["subject"] != "mean") & null["chance"].notna()]
    error = standard_error(null["ci_low"], null["ci_high"]) / np.sqrt(1000)
    assert len(null) > 10
    assert (np.abs(null["value"] - null["chance"]) < 4 * error + 1e-9).all()


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_the_measured_noise_ceiling_is_the_analytic_one(demo, subject):
    """Reliability averaged over voxels; they share limiting noise, so its error is that of whole twins.

    Simulated twins of this size have a standard deviation of 0.0022 in the mean reliability, and NSD's
    estimator a bias of -0.0017, because a z-score over the same repeats takes some of the noise away.
    """
    folder = demo.folder
    voxels = store.read_voxels(folder / f"results/twin/voxels/{subject}")
    known = truth.read(folder / "resources/twin", subject)
    shape = {"subj01": (20, 24, 18), "subj02": (19, 25, 17)}[subject]
    flat = np.ravel_multi_index(voxels[["i", "j", "k"]].to_numpy().T, shape)
    measured, analytic = voxels["ncsnr"].to_numpy(float), known.at(flat).ncsnr()
    seen = voxels["nsdgeneral"].notna().to_numpy() & np.isfinite(measured)
    reliability = [(snr[seen] ** 2 / (1 + snr[seen] ** 2)).mean() for snr in (measured, analytic)]
    assert abs(reliability[0] - reliability[1] + 0.0017) < 3 * 0.0022


def test_the_audit_passes(report):
    audit = pd.read_csv(report / "audit.csv")
    assert len(audit) > 50 and audit["passed"].all()


def test_the_linear_reconstruction_beats_every_floor(results):
    rows = results[(results["what"] == "reconstruction") & (results["metric"] == "pixcorr")]
    rows = rows[rows["subject"] == "mean"]
    value = rows.set_index(rows["control"].fillna("own"))["value"]
    assert value["own"] > value[["shuffled", "mean_image", "random_image"]].max()
    assert value["recovery"] > value["own"]
