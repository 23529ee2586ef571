"""`dataset.kind: nsd` for real, from a bucket: a twin's files behind an S3 server on this machine."""

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml

from percept import config
from percept.datasets import nsd_keys, ownership
from percept.datasets.twin import write
from percept.voxels import extract

from .conftest import TINY, Checkout, merged

sys.path.append(str(Path(__file__).parents[1] / "unit" / "datasets"))
import s3_server as server

pytestmark = pytest.mark.xdist_group("bucket")

SUBJECTS = ("subj01", "subj02")
TWIN = {"sessions": 1, "shared_images": 30, "bits": 4.0}
NSD = {
    "dataset": {"kind": "nsd", "name": "nsd", "root": "resources/nsd", "volumes": None, "shared_images": None}
    | {"bits": None, "sessions": 1, "terms_accepted": True},
    "targets": {"truth": None, "clip": None, "tokens": None, "latents": None, "pixels": {"size": 4}},
    "decoders": {
        "ridge_truth": None,
        "ridge_clip": None,
        "ridge_latents": None,
        "mindeye": None,
        "mindeye_lowlevel": None,
    },
    "reconstructions": None,
    "voxels": {"extract": ["nsdgeneral", "higher"]},
}
SCORES = "results/nsd/evaluation/subj01/ridge_pixels/seed-0/scores.parquet"
RIDGE = {"kind": "ridge", "target": "pixels"}
BETAS = "results/{name}/voxels/{subject}/betas.h5"


def settings(changes):
    return config.load(merged(yaml.safe_load(Path(TINY_PATH).read_text()), changes))


TINY_PATH = Path(__file__).parents[2] / TINY


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Format of the betas -> (settings, root) of the same twin."""
    roots = {}
    for kind in ("nii.gz", "hdf5"):
        root = tmp_path_factory.mktemp("twin")
        if roots:  # all but the betas is the same
            shutil.copytree(roots["nii.gz"][1], root, dirs_exist_ok=True)
        of = settings({"dataset": {**TWIN, "root": str(root), "format": kind}, "voxels": NSD["voxels"]})
        if not roots:
            write.write_experiment(of.dataset, root)
        for subject in SUBJECTS:
            write.write_subject(of.dataset, root, subject)
        roots[kind] = (of, root)
    return roots


@pytest.fixture(scope="module")
def expected(twins, tmp_path_factory):
    """Subject -> folder of its voxels, extracted from the twin itself."""
    of = twins["nii.gz"][0]
    folders = {subject: tmp_path_factory.mktemp(subject) for subject in SUBJECTS}
    for subject, folder in folders.items():
        extract.extract_subject(of.dataset, of.voxels, subject, folder)
    return folders


@pytest.fixture(scope="module")
def bucket(twins):
    """The server, holding the files that the configuration needs, in both formats."""
    with server.running() as s3:
        for of, root in twins.values():
            for key in nsd_keys.files_needed(of.dataset, ["nsdgeneral", "streams"]):
                s3.put(key, (root / key).read_bytes())
        yield s3


@pytest.fixture(scope="module")
def lab(bucket, tmp_path_factory):
    """A checkout, and a function that writes a configuration against the server."""
    copy = Checkout(tmp_path_factory.mktemp("lab"))
    download = {"endpoint": bucket.proxy.url, "bucket": server.BUCKET, "connections": 2, "retries": 1}

    def configure(name="nsd", **dataset):
        return copy.configure(name, merged(NSD, {"dataset": {"download": download, "name": name, **dataset}}))

    return copy, configure


def assert_same_voxels(found, expected):
    with h5py.File(found) as mine, h5py.File(expected / "betas.h5") as twin:
        assert set(mine) == set(twin) >= {"betas", "session_mean", "session_sd"}
        for name in twin:
            assert mine[name].dtype == twin[name].dtype
            np.testing.assert_array_equal(mine[name][:], twin[name][:])
    table = pd.read_parquet(found.with_name("voxels.parquet"))
    pd.testing.assert_frame_equal(table, pd.read_parquet(expected / "voxels.parquet"))


def test_nothing_is_asked_of_the_server_before_the_terms_are_accepted(lab, bucket):
    copy, configure = lab
    asked = len(bucket.proxy.served)
    path = configure("refused", terms_accepted=False, root="resources/refused")
    done = copy.snakemake("all", config=path, check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0 and len(bucket.proxy.served) == asked
    assert "Data Access Agreement" in said and "forms.gle" in said and "dataset.terms_accepted: true" in said
    assert not any((copy.folder / "resources/refused").rglob("*.*"))


def test_a_disk_too_small_for_everything_is_refused_before_the_first_byte(lab, bucket):
    copy, configure = lab
    path = configure("full", root="resources/full")
    asked = len(bucket.proxy.served)
    bucket.proxy.plan(nsd_keys.STIMULI, server.forever(server.claim_size(10**17)), method="HEAD")
    done = copy.snakemake(BETAS.format(name="full", subject="subj01"), config=path, check=False)
    bucket.proxy.plan(nsd_keys.STIMULI, method="HEAD")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "resources/full is too small for all that the configuration needs" in said
    assert "100.0 PB" in said or "100000.0 TB" in said
    assert "bytes), so nothing was fetched. That is an upper bound" in said
    assert {request.method for request in bucket.proxy.served[asked:]} == {"HEAD"}
    assert not any(path.is_file() for path in (copy.folder / "resources/full").rglob("*"))


def test_betas_that_lay_there_first_survive_and_so_do_those_that_join_them(lab, twins, expected):
    copy, configure = lab
    of, root = twins["nii.gz"]
    path = configure("own", root="resources/own")
    keys = [nsd_keys.key_betas(subject, 1, of.dataset) for subject in SUBJECTS]
    own = copy.folder / "resources/own"
    (own / keys[0]).parent.mkdir(parents=True)
    shutil.copy(root / keys[0], own / keys[0])
    before = (own / keys[0]).stat()
    targets = [BETAS.format(name="own", subject=subject) for subject in SUBJECTS]
    copy.snakemake(*targets, config=path)
    for subject, key in zip(SUBJECTS, keys, strict=True):
        assert (own / key).read_bytes() == (root / key).read_bytes()
        assert_same_voxels(copy.folder / BETAS.format(name="own", subject=subject), expected[subject])
    after = (own / keys[0]).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)  # not even fetched again
    assert not (own / ownership.MARKER).exists()


@pytest.fixture(scope="module")
def interrupted(lab, bucket):
    """The first run, --keep-going, while the server does not have the session of subj02."""
    copy, configure = lab
    path = configure()
    of = config.load(yaml.safe_load((copy.folder / path).read_text()))
    key = nsd_keys.key_betas("subj02", 1, of.dataset)
    for method in ("HEAD", "GET"):
        bucket.proxy.plan(key, server.forever(server.status(404)), method=method)
    targets = [BETAS.format(name="nsd", subject=subject) for subject in SUBJECTS]
    done = copy.snakemake(*targets, "--keep-going", config=path, check=False)
    for method in ("HEAD", "GET"):
        bucket.proxy.plan(key, method=method)
    return copy, path, done, key


def test_a_missing_session_is_named_and_stops_its_subject_alone(interrupted, expected):
    copy, _, done, key = interrupted
    assert done.returncode != 0
    assert key in done.stderr and "404" in done.stderr
    assert not (copy.folder / BETAS.format(name="nsd", subject="subj02")).exists()
    assert_same_voxels(copy.folder / BETAS.format(name="nsd", subject="subj01"), expected["subj01"])


@pytest.fixture(scope="module")
def completed(interrupted):
    """The same again, now that the server has everything, on to the scores of a decoder."""
    copy, path, _, _ = interrupted
    before = copy.files("results/nsd/voxels/subj01")
    copy.snakemake(SCORES, BETAS.format(name="nsd", subject="subj02"), config=path)
    return copy, path, before


@pytest.mark.parametrize("subject", SUBJECTS)
def test_what_was_downloaded_has_the_voxels_of_the_twin(completed, expected, subject):
    copy = completed[0]
    assert_same_voxels(copy.folder / BETAS.format(name="nsd", subject=subject), expected[subject])


def test_the_second_run_did_not_extract_again_what_was_there(completed):
    copy, _, before = completed
    assert before.items() <= copy.files("results/nsd/voxels/subj01").items()


def test_raw_betas_are_deleted_once_their_voxels_are_extracted(completed):
    copy = completed[0]
    assert list((copy.folder / "resources/nsd").rglob("betas_session*")) == []
    assert (copy.folder / "resources/nsd" / ownership.MARKER).exists()
    assert len(list((copy.folder / "resources/nsd").rglob("ncsnr.nii.gz"))) == 2  # what is small stays


def test_every_request_was_anonymous(completed, bucket):
    assert len(bucket.proxy.served) > 20 and not any(request.signed for request in bucket.proxy.served)


def test_the_scores_are_there_and_name_the_protocol(completed):
    scores = pd.read_parquet(completed[0].folder / SCORES)
    assert set(scores["protocol"]) == {"shared1000"} and set(scores["subject"]) == {"subj01"}
    own = scores[(scores["metric"] == "top1") & scores["control"].isna() & scores["chosen"].fillna(False)]
    assert set(own["direction"]) == {"image_from_brain", "brain_from_image"}
    assert scores["limit_oracle"].isna().all()  # nobody knows the limit of real data


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({}, False),
        ({"dataset": {"download": {"connections": 7, "retries": 9}}}, False),
        ({"dataset": {"subjects": ["subj01"]}}, False),
        ({"voxels": {"normalisation": "session"}}, False),
        ({"dataset": {"sessions": {"subj01": 1, "subj02": 2}}}, False),
        ({"decoders": {"added": {**RIDGE, "roi": "ventral"}}}, False),
        ({"decoders": {"added": {**RIDGE, "roi": "all"}}}, False),
        ({"voxels": {"rois": {"mine": ["floc-faces"]}}}, False),
        ({"voxels": {"rois": {"mine": ["nsdgeneral"]}, "extract": ["higher", "mine"]}}, False),
        ({"decoders": {"added": {**RIDGE, "roi": "early"}}}, True),
        ({"dataset": {"sessions": {"subj01": 2, "subj02": 1}}}, True),
        ({"voxels": {"invalid": "zero"}}, True),
    ],
    ids=[
        "nothing",
        "connections",
        "subjects",
        "normalisation",
        "sessions of another",
        "part of a set",
        "all",
        "unused set",
        "same voxels by another name",
        "new labels",
        "own sessions",
        "invalid voxels",
    ],
)
def test_raw_betas_are_fetched_again_only_when_the_matrix_would_differ(completed, changes, again):
    copy, path, _ = completed
    changed = copy.configure("changed", changes, base=path)
    plan = copy.planned(BETAS.format(name="nsd", subject="subj01"), config=changed)
    assert ("download_session" in plan, "extract_voxels" in plan) == (again, again)


def test_ranges_of_the_hdf5_file_give_the_same_voxels(lab, bucket, expected, twins):
    copy, configure = lab
    path = configure("ranges", format="hdf5-ranges")
    target = BETAS.format(name="ranges", subject="subj01")
    copy.snakemake(target, config=path)
    assert_same_voxels(copy.folder / target, expected["subj01"])
    key = nsd_keys.key_betas("subj01", 1, twins["hdf5"][0].dataset)
    gets = bucket.proxy.gets(key)
    assert gets and all(request.range for request in gets)
    assert list((copy.folder / "resources/nsd").rglob("betas_session*")) == []
