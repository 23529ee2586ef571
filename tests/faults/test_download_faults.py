"""A line that drops, a server that lies, a job that is killed: whole and right in the end, or nothing."""

import gzip
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from percept.datasets.download import bucket, fetch, transfer
from percept.files import PerceptError, sha256

sys.path.append(str(Path(__file__).parents[1] / "unit" / "datasets"))
import s3_server as faults

SIZE = 1_500_007  # several blocks, and none of them full at the end


@pytest.fixture(scope="module")
def s3():
    with faults.running() as server:
        yield server


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(bucket, "BACKOFF_S", 0.01)


@pytest.fixture
def key(request):
    """A key of its own for each test: the server lives longer than a test."""
    return f"nsddata_betas/{abs(hash(request.node.name)):x}/betas_session01.hdf5"


@pytest.fixture
def data():
    return np.random.default_rng(0).bytes(SIZE)


def left_over(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def start_of(served):
    return int(served.range.removeprefix("bytes=").partition("-")[0])


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("after", [0, 1, 700_000, SIZE - 1])
def test_a_dropped_connection_continues_where_it_stopped(s3, key, data, tmp_path, after, reset):
    s3.put(key, data)
    s3.proxy.plan(key, faults.drop(after, reset))
    (path,) = fetch([key], tmp_path, s3.cfg())
    first, second = s3.proxy.gets(key)
    assert path.read_bytes() == data
    assert start_of(first) == 0
    if not reset:  # a reset may take what the kernel had not delivered yet
        assert after - bucket.BLOCK < start_of(second) <= after
    assert s3.proxy.sent(key) - SIZE <= bucket.BLOCK + (after if reset else 0)


def test_progress_renews_the_patience(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, *[faults.drop(300_000)] * 4)  # twice as many as `retries`
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert len(s3.proxy.gets(key)) == 5


@pytest.mark.parametrize("n", [0, 1, 700_000])
def test_a_body_that_announces_too_little_is_completed(s3, key, data, tmp_path, n):
    s3.put(key, data)
    s3.proxy.plan(key, faults.truncate(n))
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert s3.proxy.sent(key) <= SIZE + bucket.BLOCK


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(s3, key, data, tmp_path, status, method):
    s3.put(key, data)
    s3.proxy.plan(key, faults.status(status), faults.status(status), method=method)
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data


def test_waits_double_and_are_logged(s3, key, data, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(bucket.random, "uniform", lambda low, high: high)
    s3.put(key, data)
    s3.proxy.plan(key, *[faults.status(503)] * 3)
    with caplog.at_level("WARNING", "percept"):
        fetch([key], tmp_path, s3.cfg(retries=3))
    waits = [record.args[-1] for record in caplog.records if record.name == bucket.__name__]
    np.testing.assert_allclose(waits, [0.01, 0.02, 0.04])
    assert "answered 503" in caplog.text and key in caplog.text


def test_a_server_that_stays_busy_is_named_and_what_came_is_kept(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, faults.drop(600_000), *[faults.status(503)] * 3)
    with pytest.raises(PerceptError, match=r"session01.* answered 503 .*3 attempts.*download\.retries"):
        fetch([key], tmp_path, s3.cfg())
    (part,) = left_over(tmp_path)
    assert part.suffix == ".part" and data.startswith(part.read_bytes()) and part.stat().st_size >= 500_000

    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert start_of(s3.proxy.gets(key)[-1]) >= 500_000  # resumed by a later run
    assert left_over(tmp_path) == [path]


def test_a_server_out_of_reach_is_named(tmp_path, s3):
    with pytest.raises(PerceptError, match=r"EndpointConnectionError.*download\.endpoint"):
        fetch(["a"], tmp_path, s3.cfg(endpoint="http://127.0.0.1:9", retries=1))


@pytest.mark.parametrize(
    ("status", "meaning"), [(403, "held-out period"), (404, "do not exist")], ids=["403", "404"]
)
def test_a_refusal_in_the_middle_fails_at_once(s3, key, data, tmp_path, status, meaning):
    s3.put(key, data)
    s3.proxy.plan(key, faults.drop(600_000), *[faults.status(status)] * 9)
    with pytest.raises(bucket.Refused, match=meaning) as caught:
        fetch([key], tmp_path, s3.cfg())
    assert key in str(caught.value) and str(status) in str(caught.value)
    assert len(s3.proxy.gets(key)) == 2
    assert not (tmp_path / key).exists()


@pytest.mark.parametrize("claimed", [SIZE - 100_000, SIZE + 100_000], ids=["smaller", "larger"])
def test_a_wrong_size_is_named_and_nothing_appears(s3, key, data, tmp_path, claimed):
    s3.put(key, data)
    s3.proxy.plan(key, faults.forever(faults.claim_size(claimed)), method="HEAD")
    with pytest.raises(PerceptError, match=rf"session01.*of {claimed}, was sent bytes"):
        fetch([key], tmp_path, s3.cfg())
    assert not (tmp_path / key).exists()


@pytest.mark.parametrize("at", [0, 700_000, SIZE - 1])
def test_a_flipped_bit_is_found_and_the_file_fetched_again(s3, key, data, tmp_path, at, caplog):
    s3.put(key, data)
    s3.proxy.plan(key, faults.flip(at))
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert "MD5" in caplog.text and s3.proxy.sent(key) == 2 * SIZE
    assert left_over(tmp_path) == [path]


def test_a_file_that_always_arrives_damaged_is_named_and_nothing_kept(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, faults.forever(faults.flip(5)))
    with pytest.raises(PerceptError, match=r"session01.*damaged 3 times .*MD5.*taken as it is"):
        fetch([key], tmp_path, s3.cfg())
    assert left_over(tmp_path) == []
    assert len(s3.proxy.gets(key)) == 3


def test_bits_flipped_across_a_resumption_are_found(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, faults.both(faults.flip(10), faults.drop(700_000)))
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data


def test_the_checksum_of_gzip_serves_where_the_servers_cannot(s3, key, tmp_path, caplog):
    data = gzip.compress(np.random.default_rng(1).bytes(SIZE), compresslevel=0)
    key = f"{key}.nii.gz"
    s3.put(key, data)
    s3.proxy.plan(key, faults.forever(faults.hide("etag", "x-amz-checksum-crc32")), method="HEAD")
    s3.proxy.plan(key, faults.flip(700_000))
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert sha256(path) == sha256(_written(tmp_path / "peer", data))
    assert "damaged gzip" in caplog.text


def _written(path, data):
    path.write_bytes(data)
    return path


def test_without_any_checksum_the_log_says_that_only_the_size_was_compared(s3, key, data, tmp_path, caplog):
    s3.put(key, data)
    s3.proxy.plan(key, faults.forever(faults.hide("etag", "x-amz-checksum-crc32")), method="HEAD")
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert "only its size was compared" in caplog.text


@pytest.mark.parametrize("flipped", [False, True], ids=["whole", "damaged"])
@pytest.mark.parametrize("second", [10 * faults.MIB, 10 * faults.MIB + 7], ids=["equal", "unequal"])
def test_the_etag_of_an_upload_in_parts_decides(s3, key, tmp_path, second, flipped, caplog):
    data = np.random.default_rng(2).bytes(11 * faults.MIB)
    s3.put_in_parts(key, data, cuts=(5 * faults.MIB, second))
    if flipped:
        s3.proxy.plan(key, faults.flip(6 * faults.MIB))
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert sha256(path) == sha256(_written(tmp_path / "peer", data))
    assert ("MD5 of parts" in caplog.text) is flipped
    assert len(s3.proxy.gets(key)) == 1 + flipped


def test_a_silent_line_is_cut_and_resumed(s3, key, data, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket, "READ_TIMEOUT_S", 0.4)
    s3.put(key, data)
    s3.proxy.plan(key, faults.slow(0.9))
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data and len(s3.proxy.gets(key)) == 2


def test_a_slow_line_is_not_a_dead_one(s3, key, data, tmp_path, monkeypatch):
    monkeypatch.setattr(bucket, "READ_TIMEOUT_S", 0.8)
    s3.put(key, data)
    s3.proxy.plan(key, faults.slow(0.015))  # longer than that in all
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data and len(s3.proxy.gets(key)) == 1


def test_a_server_without_ranges_still_completes(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, faults.drop(700_000), faults.ignore_range)
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert s3.proxy.gets(key)[-1].status == 200


def test_an_object_that_changes_meanwhile_is_never_mixed(s3, key, data, tmp_path, caplog):
    newer = data[::-1]

    def replace_object(reply):
        s3.put(key, newer)
        return faults.drop(700_000)(reply)

    s3.put(key, data)
    s3.proxy.plan(key, replace_object)
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == newer
    assert "changed on the server" in caplog.text
    assert left_over(tmp_path) == [path]


def test_an_object_that_keeps_changing_is_named(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, faults.forever(faults.status(412)))
    with pytest.raises(PerceptError, match="changed on the server"):
        fetch([key], tmp_path, s3.cfg())


def test_the_part_of_an_older_version_is_not_used(s3, key, data, tmp_path):
    s3.put(key, data[::-1])
    s3.proxy.plan(key, faults.drop(700_000), *[faults.status(503)] * 3)
    with pytest.raises(PerceptError):
        fetch([key], tmp_path, s3.cfg())
    s3.put(key, data)
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert left_over(tmp_path) == [path]


def test_a_part_longer_than_the_file_is_not_used(s3, key, data, tmp_path, caplog):
    s3.put(key, data)
    part = transfer.part_of(tmp_path / key, bucket.Bucket(s3.cfg()).head(key))
    part.parent.mkdir(parents=True)
    part.write_bytes(data + b"more")
    (path,) = fetch([key], tmp_path, s3.cfg())
    assert path.read_bytes() == data
    assert caplog.text == ""


def test_one_bad_file_stops_the_others_early_and_they_go_on_later(s3, key, data, tmp_path):
    keys = [f"{key}/{name}" for name in ("bad", "slow")]
    for one in keys:
        s3.put(one, data)
    s3.proxy.plan(keys[0], faults.forever(faults.status(404)))
    s3.proxy.plan(keys[1], faults.slow(0.06))  # more than five seconds in all
    start = time.monotonic()
    with pytest.raises(PerceptError, match=r"/bad \(404\)"):
        fetch(keys, tmp_path, s3.cfg())
    assert time.monotonic() - start < 4.5
    assert not (tmp_path / keys[1]).exists()

    s3.proxy.plan(keys[0])
    paths = fetch(keys, tmp_path, s3.cfg())
    assert all(path.read_bytes() == data for path in paths)


def test_a_full_disk_is_named():
    remote = bucket.Remote("nsddata/some.nii.gz", 10)
    with Path("/dev/full").open("wb", buffering=0) as full:
        with pytest.raises(PerceptError, match=r"no space left for nsddata/some.*`dataset\.root`"):
            transfer._append(full, b"0123456789", remote)


def test_other_errors_of_the_disk_are_not_hidden(tmp_path):
    (tmp_path / "there").touch()
    with (tmp_path / "there").open("rb", buffering=0) as read_only, pytest.raises(OSError, match="not open"):
        transfer._append(read_only, b"x", bucket.Remote("a", 1))


JOB = "import sys; from s3_server import *; from percept.datasets.download import fetch; " + (
    "fetch([sys.argv[1]], sys.argv[2], DownloadConfig(endpoint=sys.argv[3], bucket=BUCKET))"
)


def test_a_killed_job_goes_on_where_it_was(s3, key, data, tmp_path):
    s3.put(key, data)
    s3.proxy.plan(key, faults.slow(0.04))
    here = Path(faults.__file__).parent
    command = [sys.executable, "-c", JOB, key, str(tmp_path), s3.proxy.url]
    job = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(here)})
    try:
        deadline = time.monotonic() + 30
        while _bytes_there(tmp_path) < 400_000:
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        job.send_signal(signal.SIGKILL)
        job.wait()
    assert job.returncode == -signal.SIGKILL
    (part,) = left_over(tmp_path)
    there = part.stat().st_size
    assert part.suffix == ".part" and there < SIZE

    (path,) = fetch([key], tmp_path, s3.cfg())
    assert sha256(path) == sha256(_written(tmp_path / "peer", data))
    assert start_of(s3.proxy.gets(key)[-1]) == there
    assert s3.proxy.gets(key)[-1].sent == SIZE - there


def _bytes_there(folder):
    return sum(path.stat().st_size for path in left_over(folder))
