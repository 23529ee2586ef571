"""A challenge tree as released, without test responses, through the whole workflow; and a simulated one."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.unit.datasets import challenge_tree as tiny

from .conftest import REPOSITORY, Checkout

pytestmark = pytest.mark.xdist_group("algonauts")
TWIN = "config/experiments/algonauts-twin.yaml"
RELEASED = {
    "dataset": {
        "name": "released",
        "root": "resources/algonauts-released",
        "subjects": ["subj01"],
        "simulate": None,
    },
    "split": {"protocol": "random", "test_fraction": 0.3},
    "targets": {"pixels": {"size": 4}, "clip": None},
    "decoders": {"ridge_pixels": {"roi": "set3", "alphas": [10.0, 1000.0]}, "ridge_clip": None},
    "encodings": {"clip": None, "clip_ridge": None, "baseline": {"target": "pixels", "components": 5}},
    "reconstructions": None,
    "evaluation": {"retrieval": {"pools": [5]}, "bootstrap": 100, "permutations": 100},
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("algonauts"))


@pytest.fixture(scope="module")
def run(copy):
    """A finished run on a tree whose test responses are withheld, and its configuration."""
    tiny.write(copy.folder / "resources/algonauts-released", test=False)
    config = copy.configure("algonauts-released", RELEASED, base=TWIN)
    copy.snakemake("all", config=config)
    return copy, config


@pytest.fixture(scope="module")
def table(run):
    return pd.read_parquet(run[0].folder / "results/released/report/results.parquet")


def test_nothing_is_left_to_do(run):
    copy, config = run
    assert copy.planned("all", config=config) == {}


def test_both_directions_are_in_the_table_under_a_protocol_of_their_own(table):
    assert {"decoder", "encoding"} <= set(table["what"]) and set(table["protocol"]) == {"random"}
    assert set(table["unit"].dropna()) == {"average"}  # no row of single trials


def test_what_nobody_knows_has_no_row_and_the_reason_is_told(table):
    encoded = table[(table["what"] == "encoding") & table["control"].isna()]
    assert set(encoded["metric"]) == {"vertex_r", "vertex_r_median"}
    assert encoded["note"].str.contains("noise ceiling of these test images is not released").all()
    assert encoded["note"].str.contains("not the challenge's test set").all()
    assert not (table["what"] == "voxels").any()


def test_a_region_without_a_vertex_has_no_row_and_is_named(table):
    encoded = table[table["what"] == "encoding"]
    assert "early" in set(encoded["roi"]) and "parietal" not in set(encoded["roi"])
    assert encoded[encoded["control"].isna()]["note"].str.contains("floc_faces:FFA-1").all()


@pytest.mark.parametrize(("side", "n_vertices"), [("lh", tiny.N_LEFT), ("rh", tiny.N_RIGHT)])
def test_the_submission_has_a_row_per_withheld_image_and_a_column_per_vertex(run, side, n_vertices):
    folder = run[0].folder / "results/released/evaluation/subj01/encoding/baseline/submission"
    predicted = np.load(folder / f"{side}_pred_test.npy", allow_pickle=False)
    assert predicted.dtype == np.float32 and predicted.shape == (tiny.N_TEST, n_vertices)
    unpredicted = np.flatnonzero((predicted == 0).all(axis=0)) + (0 if side == "lh" else tiny.N_LEFT)
    assert unpredicted.tolist() == ([] if side == "lh" else [tiny.NAN_VERTEX])


def test_the_page_shows_the_map_and_the_terms_of_the_challenge(run):
    page = (run[0].folder / "results/released/report/index.html").read_text()
    for text in ("How well each vertex is predicted", "Encoding models", "Gifford et al.", "first 10,242"):
        assert text in page


def test_the_voxel_table_knows_the_vertices(run):
    voxels = pd.read_parquet(run[0].folder / "results/released/voxels/subj01/voxels.parquet")
    assert len(voxels) == tiny.N_LEFT + tiny.N_RIGHT - 1
    assert {"hemisphere", "vertex", "prf_visualrois", "streams"} <= set(voxels)


def test_a_missing_hemisphere_is_said_in_the_log(run):
    copy, config = run
    name = copy.configure("algonauts-half", {"dataset": {"name": "half"}}, base=config)
    path = (
        copy.folder / "resources/algonauts-released/subj01/training_split/training_fmri/rh_training_fmri.npy"
    )
    content = path.read_bytes()
    path.unlink()
    try:
        done = copy.snakemake("results/half/voxels/subj01/betas.h5", config=name, check=False)
    finally:
        path.write_bytes(content)
    assert done.returncode != 0 and "half a brain" in done.stdout + done.stderr
    assert not (copy.folder / "results/half/voxels/subj01/betas.h5").exists()


def test_the_challenges_own_protocol_says_that_test_responses_are_withheld(run):
    copy, config = run
    changes = {"dataset": {"name": "withheld"}, "split": {"protocol": "algonauts23"}}
    name = copy.configure("algonauts-withheld", changes, base=config)
    done = copy.snakemake("results/withheld/voxels/subj01/trials.parquet", config=name, check=False)
    assert done.returncode != 0 and "split.protocol: random" in done.stdout + done.stderr


@pytest.mark.parametrize("names", tiny.SCHEMES)
def test_a_simulation_is_planned_from_its_images_to_its_maps(copy, names):
    config = copy.configure(f"algonauts-{names}", {"dataset": {"simulate": {"names": names}}}, base=TWIN)
    planned = copy.planned("all", config=config)
    assert planned["simulate_challenge"] == 1 and planned["extract_voxels"] == 2
    assert planned["encode_responses"] == planned["score_encoding"] == planned["draw_surface"] == 4
    assert "write_submission" not in planned


def test_withheld_responses_make_submissions_to_plan(copy):
    changes = {"dataset": {"simulate": {"test_fmri": False}}, "split": {"protocol": "random"}}
    config = copy.configure("algonauts-submit", changes, base=TWIN)
    assert copy.planned("all", config=config)["write_submission"] == 4


def test_the_shipped_terms_are_the_ones_of_the_manifest(run):
    manifest = json.loads((run[0].folder / "results/released/report/manifest.json").read_text())
    assert manifest["config"]["dataset"]["kind"] == "algonauts" and (REPOSITORY / TWIN).is_file()
