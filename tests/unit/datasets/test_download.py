"""Fetching files: what is asked of the server, what lands on the disk, what is refused and in which words."""

import base64
import gzip
import hashlib
import logging
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.datasets.download import (
    Refused,
    bucket,
    checksum,
    fetch,
    plan,
    preflight,
    progress,
    require_terms,
    transfer,
)
from percept.files import PerceptError

sys.path.append(str(Path(__file__).parent))
import s3_server as server

TREE = {
    "nsddata/experiments/nsd/nsd_expdesign.mat": b"design" * 1000,
    "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz": gzip.compress(b"roi" * 999),
    "nsddata_betas/ppdata/subj01/betas session+01.hdf5": bytes(range(256)) * 3000,
    "nsddata/empty": b"",
}


@pytest.fixture(scope="module")
def s3():
    with server.running() as running:
        for key, data in TREE.items():
            running.put(key, data)
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(bucket, "BACKOFF_S", 0.01)


@pytest.fixture(autouse=True)
def _forget(s3):
    s3.proxy.served.clear()


# The terms


def test_nothing_starts_before_the_terms_are_accepted():
    with pytest.raises(PerceptError, match=r"nothing was downloaded.*research") as caught:
        require_terms(False)
    for named in ("https://forms.gle/xue2bCdM9LaFNMeb7", "`dataset.terms_accepted: true`", "redistributed"):
        assert named in str(caught.value)


def test_accepted_terms_pass_in_silence():
    assert require_terms(True) is None


# What lands on the disk


@pytest.mark.parametrize("connections", [1, 2, 8])
def test_the_tree_on_the_disk_is_the_buckets(s3, tmp_path, connections):
    paths = fetch(TREE, tmp_path, s3.cfg(connections=connections))
    assert paths == [tmp_path / key for key in TREE]
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in paths} == TREE
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(paths)


def test_requests_carry_no_credentials(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    fetch(TREE, tmp_path, s3.cfg())
    assert len(s3.proxy.served) >= len(TREE)
    assert not any(served.signed for served in s3.proxy.served)


def test_what_is_there_is_not_fetched_again(s3, tmp_path):
    key = next(iter(TREE))
    present = tmp_path / key
    present.parent.mkdir(parents=True)
    present.write_bytes(TREE[key][::-1])  # of the right size: taken as it is
    fetch(TREE, tmp_path, s3.cfg())
    assert s3.proxy.gets(key) == []
    assert present.read_bytes() == TREE[key][::-1]


@pytest.mark.parametrize("present", [b"", b"design", b"design" * 1001], ids=["empty", "shorter", "longer"])
def test_a_file_of_the_wrong_size_is_replaced(s3, tmp_path, present):
    key = next(iter(TREE))
    (tmp_path / key).parent.mkdir(parents=True)
    (tmp_path / key).write_bytes(present)
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == TREE[key]


def test_a_key_named_twice_is_fetched_once(s3, tmp_path):
    key = next(iter(TREE))
    assert fetch([key, key], tmp_path, s3.cfg()) == [tmp_path / key] * 2
    assert s3.proxy.sent(key) == len(TREE[key])


def test_two_jobs_that_want_one_file_take_turns(s3, tmp_path):
    key = "shared.bin"
    data = np.random.default_rng(0).bytes(600_000)
    s3.put(key, data)
    s3.proxy.plan(key, server.slow(0.005))
    jobs = [threading.Thread(target=fetch, args=([key], tmp_path, s3.cfg())) for _ in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=20)
    assert (tmp_path / key).read_bytes() == data
    assert s3.proxy.sent(key) == len(data)
    assert [path.name for path in tmp_path.iterdir()] == [key]


@pytest.mark.parametrize("complete", [True, False])
def test_a_copy_of_the_user_is_only_looked_at(tmp_path, complete):
    keys = ["a/b.nii.gz", "c.csv"]
    for key in keys[: 1 + complete]:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).touch()
    cfg = server.DownloadConfig(enabled=False, endpoint="http://127.0.0.1:9")  # nobody answers there
    if complete:
        assert fetch(keys, tmp_path, cfg) == [tmp_path / key for key in keys]
    else:
        with pytest.raises(PerceptError, match=r"1 files are missing.*c\.csv.*`dataset\.download\.enabled"):
            fetch(keys, tmp_path, cfg)


# What is refused, before the first byte


def test_all_unknown_keys_are_named_at_once(s3, tmp_path):
    unknown = [f"nsddata_betas/ppdata/subj03/betas_session{n:02d}.nii.gz" for n in range(33, 40)]
    with pytest.raises(
        Refused, match=r"session33.*session37.* and 2 more \(404\).*`dataset\.sessions`"
    ) as caught:
        fetch([*TREE, *unknown], tmp_path, s3.cfg())
    assert caught.value.status == 404
    assert list(tmp_path.iterdir()) == []


def test_a_held_out_key_is_named_with_what_403_means(s3, tmp_path):
    s3.put("held/betas_session38.nii.gz", b"x", public=False)  # the server itself refuses it
    with pytest.raises(Refused, match=r"refuses held/betas_session38.* \(403\).*held-out period.*terms"):
        preflight(["held/betas_session38.nii.gz"], tmp_path, s3.cfg())


def test_an_unknown_bucket_is_named(s3, tmp_path):
    with pytest.raises(Refused, match=r"bucket no-such-bucket at http://127.* \(404\)"):
        preflight(["a"], tmp_path, s3.cfg(bucket="no-such-bucket"))


def test_other_answers_name_the_keys_of_the_config(s3, tmp_path):
    s3.proxy.plan("odd", server.forever(server.status(405)), method="HEAD")
    with pytest.raises(PerceptError, match=r"answered 405 .*odd.*`dataset\.download\.region`"):
        preflight(["odd"], tmp_path, s3.cfg())


def test_a_bucket_name_that_cannot_be_is_named(s3, tmp_path):
    with pytest.raises(PerceptError, match=r"cannot be asked for(?s:.)*Invalid bucket name"):
        preflight(["a"], tmp_path, s3.cfg(bucket="no such bucket"))


@pytest.mark.parametrize(
    ("changes", "environment", "named"),
    [
        ({"endpoint": "localhost:9000"}, {}, "Invalid endpoint: localhost:9000"),
        ({"region": "no such place"}, {}, "no such place"),
        ({}, {"AWS_PROFILE": "nobody"}, "nobody"),
    ],
    ids=["endpoint", "region", "profile"],
)
def test_settings_that_cannot_connect_are_named(s3, tmp_path, monkeypatch, changes, environment, named):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(PerceptError, match=rf"{named}.*`dataset\.download\.endpoint` must be a full URL"):
        preflight(["a"], tmp_path, s3.cfg(**changes))


def test_too_small_a_disk_is_named_with_both_numbers(s3, tmp_path):
    key = next(iter(TREE))
    s3.proxy.plan(key, server.claim_size(10**17), method="HEAD")
    with pytest.raises(
        PerceptError, match=r"too small: 100000\.0 TB .*free .*100000000000000000 against \d+"
    ):
        fetch([key], tmp_path / "deep" / "root", s3.cfg())
    assert s3.proxy.gets(key) == []


def test_the_plan_counts_what_is_there(s3, tmp_path):
    keys = list(TREE)
    before = preflight(keys, tmp_path, s3.cfg())
    assert (before.total, before.to_fetch) == (sum(map(len, TREE.values())),) * 2
    fetch(keys[:2], tmp_path, s3.cfg())
    part = transfer.part_of(tmp_path / keys[2], before.remotes[2])
    part.parent.mkdir(parents=True)
    part.write_bytes(TREE[keys[2]][:1000])
    after = preflight(keys, tmp_path, s3.cfg())
    assert after.present == len(TREE[keys[0]]) + len(TREE[keys[1]]) + 1000
    assert after.total == before.total


@pytest.mark.parametrize("key", ["/etc/passwd", "../out", "a/../../out", ""])
def test_no_key_leads_out_of_the_root(key, tmp_path):
    with pytest.raises(ValueError, match="no key of the bucket"):
        plan.target(tmp_path, key)


@given(st.lists(st.text("ab. ", min_size=1).filter(lambda name: name not in {".", ".."}), min_size=1))
def test_a_key_keeps_its_place_below_the_root(parts):
    root = Path("/data/nsd")
    assert plan.target(root, "/".join(parts)) == root.joinpath(*parts)


# Checksums


def remote(data, **known):
    return bucket.Remote("some.bin", len(data), **known)


@pytest.mark.parametrize("algorithm", ["SHA256", "SHA1", "CRC32"])
def test_checksums_that_the_server_declares_decide(s3, tmp_path, algorithm):
    data = np.random.default_rng(1).bytes(100_003)
    s3.put(algorithm, data, ChecksumAlgorithm=algorithm)
    head = bucket.Bucket(s3.cfg()).head(algorithm)
    declared = remote(data, checksums=head.checksums)
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(data)
    bad.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert head.checksums.keys() == {f"Checksum{algorithm}"}
    assert checksum.damage(good, declared, bucket.Bucket(s3.cfg())) is None
    assert checksum.damage(bad, declared, bucket.Bucket(s3.cfg())).startswith(algorithm)


@pytest.mark.parametrize(
    ("known", "named"),
    [
        ({"etag": f'"{hashlib.md5(b"other").hexdigest()}"'}, "MD5"),
        ({"etag": "5f3a-1bc"}, None),  # what nginx sends
        ({"etag": f'"{hashlib.md5(b"other").hexdigest()}"', "encrypted": True}, None),
        ({"checksums": {"ChecksumSHA256": "AAAA-3"}}, None),  # of the checksums of three parts
        ({"checksums": {"ChecksumCRC32": base64.b64encode(bytes(4)).decode()}}, "CRC32"),
        ({}, None),
    ],
)
def test_only_what_speaks_of_the_content_is_compared(tmp_path, known, named):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    found = checksum.damage(path, remote(b"content", **known), bucket=None)
    assert (found or "").startswith(named or "") and (found is None) is (named is None)


def test_a_wrong_size_is_damage(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    assert checksum.damage(path, remote(b"longer content"), bucket=None) == "7 bytes instead of 14"


@pytest.mark.parametrize(
    ("size", "part_size", "count", "expected"),
    [
        (11, 5, 3, [5, 5, 1]),
        (10, 5, 2, [5, 5]),
        (11, None, 3, None),
        (11, 11, 3, None),  # a server that tells the whole size
        (11, 5, 4, None),
    ],
)
def test_parts_are_equal_but_for_the_last(size, part_size, count, expected):
    assert checksum._equal_parts(size, part_size, count) == expected


PAYLOAD = np.random.default_rng(2).integers(0, 9, 300).astype(np.uint8).tobytes()


@given(members=st.integers(1, 3), at=st.integers(10, 10**6), bit=st.integers(0, 7), cut=st.integers(0, 10**6))
def test_gzip_damage_is_found_where_the_gzip_module_finds_it(tmp_path_factory, members, at, bit, cut):
    data = bytearray(gzip.compress(PAYLOAD, mtime=0) * members)
    data[10 + at % (len(data) // members - 10)] ^= 1 << bit  # past the header, whose fields no CRC covers
    data = bytes(data[: len(data) - cut % 9])
    path = tmp_path_factory.getbasetemp() / "mutated.gz"
    path.write_bytes(data)
    try:
        gzip.decompress(data)
        whole = True
    except (gzip.BadGzipFile, EOFError, zlib.error):
        whole = False
    assert (checksum.gzip_damage(path) is None) is whole


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_whole_gzip_files_pass(tmp_path, members, size):
    path = tmp_path / "whole.gz"
    path.write_bytes(gzip.compress(np.random.default_rng(3).bytes(size)) * members)
    assert checksum.gzip_damage(path) is None


# Progress


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (467e6, "467.0 MB"),
        (39.56e9, "39.6 GB"),
        (2e12, "2.0 TB"),
    ],
)
def test_bytes_are_readable(n_bytes, text):
    assert progress.readable(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3725, "1 h 2 min"), (-1, "0 s")]
)
def test_durations_are_readable(seconds, text):
    assert progress.duration(seconds) == text


def test_rate_and_time_left_count_only_this_run():
    with progress.Progress(total=10_000_000, already=4_000_000, n_files=7) as meter:
        meter.add(2_500_000)
        meter.add(-500_000)  # thrown away: damaged
        meter.file_done()
        line = meter.line(elapsed_s=10)
    assert line == "1 of 7 files, 6.0 MB of 10.0 MB (60%), 200.0 kB/s, 20 s left"


def test_nothing_yet_is_no_division_by_zero():
    with progress.Progress(total=0, already=0, n_files=0) as meter:
        assert "waiting for the server" in meter.line(elapsed_s=0)


def test_away_from_a_terminal_the_log_tells_how_far_it_is(s3, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0)
    with caplog.at_level(logging.INFO, "percept"):
        fetch(TREE, tmp_path, s3.cfg(connections=1))
    assert "4 files, 774.0 kB still to fetch" in caplog.text
    assert "of 774.0 kB (100%)" in caplog.text and "s left" in caplog.text
