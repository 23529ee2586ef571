"""All of a download is compared with the disk before its first byte, once."""

import shutil
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from percept.config import NsdDataset
from percept.datasets import nsd_keys
from percept.datasets.download import bucket, fetch, whole
from percept.files import PerceptError, read_json

sys.path.append(str(Path(__file__).parent))
import s3_server as server

TREE = {"a/tables": b"t" * 1000, "b/betas": b"b" * 7000, "c/images": b"i" * 30000}
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def s3(monkeypatch):
    monkeypatch.setattr(bucket, "BACKOFF_S", 0.01)
    with server.running() as running:
        for key, data in TREE.items():
            running.put(key, data)
        yield running


@pytest.fixture
def record(tmp_path):
    return tmp_path / "results" / "download.json"


@pytest.mark.parametrize(("keep_raw", "bound"), [(False, True), (True, False)])
def test_a_disk_too_small_for_all_is_refused_though_each_file_fits(
    s3, tmp_path, record, monkeypatch, keep_raw, bound
):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(50000, 12000, 37999))
    with pytest.raises(PerceptError, match=r"38000 against 37999 bytes\), so nothing was fetched") as caught:
        whole.check_once(TREE, tmp_path / "nsd", s3.cfg(keep_raw=keep_raw), record)
    assert ("upper bound" in str(caught.value)) == bound
    assert not record.exists() and not any(s3.proxy.gets(key) for key in TREE)


def test_the_record_counts_what_is_there_and_is_taken_as_it_is(s3, tmp_path, record):
    fetch(["a/tables"], tmp_path, s3.cfg())
    found = whole.check_once(TREE, tmp_path, s3.cfg(), record)
    assert (found["total"], found["present"], found["to_fetch"]) == (38000, 1000, 37000)
    assert read_json(record) == found
    s3.proxy.served.clear()
    assert whole.check_once(reversed(TREE), tmp_path, s3.cfg(), record) == found
    assert s3.proxy.served == []


def test_other_files_are_looked_at_anew(s3, tmp_path, record):
    whole.check_once(list(TREE)[:1], tmp_path, s3.cfg(), record)
    assert whole.check_once(TREE, tmp_path, s3.cfg(), record)["total"] == 38000


def test_a_file_that_the_server_lacks_stops_no_other(s3, tmp_path, record, caplog):
    assert whole.check_once([*TREE, "d/none"], tmp_path, s3.cfg(), record)["total"] == 38000
    assert "1 files are refused (404), the first is d/none" in caplog.text


@pytest.mark.parametrize(
    ("settings", "subjects"),
    [
        ({}, {"subj02"}),
        ({"download": {"keep_raw": True}}, {"subj01", "subj02"}),
        ({"format": "hdf5-ranges"}, set()),
    ],
    ids=["deleted once extracted", "kept", "ranges"],
)
def test_betas_that_nothing_needs_are_not_counted(settings, subjects):
    ds = NsdDataset(kind="nsd", subjects=("subj01", "subj02"), sessions=2, **settings)
    keys = nsd_keys.files_to_fetch(ds, ["nsdgeneral"], extracted=["subj01"])
    betas = [key for key in keys if "betas_session" in key]
    assert {key.split("/")[2] for key in betas} == subjects and len(betas) == 2 * len(subjects)
    assert nsd_keys.STIMULI in keys and len(keys) == len(set(keys))
