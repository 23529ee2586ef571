"""What is cached: nothing twice, nothing stale, and the same bytes however often the job was killed."""

import hashlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from percept.backbones import transfer
from percept.files import PerceptError
from percept.targets import cache, encode, progress, store
from percept.targets.growing import Growing
from percept.targets.shards import Identity
from percept.targets.sources import Watched

REPOSITORY = Path(__file__).parents[3]
SEEN = np.concatenate([np.arange(0, 22, 2), np.arange(995, 1004), [5000]])  # 16, 4 and 1 in three files


class Pictures:
    """One image per stimulus, which can be exchanged; counts how often each was read."""

    def __init__(self, changed=()):
        self.changed = set(changed)

    def images(self, stimuli):
        rng = [np.random.default_rng([int(one), one in self.changed]) for one in stimuli]
        return np.stack([each.integers(0, 256, (3, 5, 3), dtype=np.uint8) for each in rng])


class KilledError(Exception):
    """What ends a job in these tests."""


class Means:
    """Mean colour, plus the place in the batch and its size: other batches give other bytes."""

    kind, reads, precision, batch_size = "means", ("images",), "float32", 4

    def __init__(self, dies_after=None, shape=(3,), **changed):
        self.dies_after, self.shape, self.encoded = dies_after, shape, []
        vars(self).update(changed)

    def blocks(self, source, stimuli, batches):
        for number, batch in enumerate(batches):
            if number == self.dies_after:
                raise KilledError
            self.encoded += batch.tolist()
            means = source.images(batch).mean(axis=(1, 2))
            yield (means + 1e-3 * np.arange(len(batch))[:, None] + 1e-2 * len(batch)).reshape(-1, *self.shape)

    def fingerprint(self, source, stimuli):
        return {"kind": self.kind, "probe": [0.25]}


def fill(folder, target=None, source=None, stimuli=SEEN, code="a"):
    target = target or Means()
    encode.encode_to(folder / "index.json", "means", target, source or Pictures(), stimuli, code=code)
    return target.encoded


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def inodes(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("shards/ids-*")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert sorted(fill(folder)) == SEEN.tolist()
    return files(folder)


def test_the_folder_holds_an_index_the_files_and_their_digests(undisturbed):
    names = [f"shards/ids-{span}.safetensors" for span in ("00000-00999", "01000-01999", "05000-05999")]
    assert set(undisturbed) == {"index.json", "shards/SHA256SUMS", *names}
    digests = {name.removeprefix("shards/"): hashlib.sha256(undisturbed[name]).hexdigest() for name in names}
    assert undisturbed["shards/SHA256SUMS"].decode() == "".join(f"{d}  {n}\n" for n, d in digests.items())
    listed = json.loads(undisturbed["index.json"])["shards"]
    assert {Path(one["file"]).name: one["sha256"] for one in listed} == digests
    assert [one["rows"] for one in listed] == [16, 4, 1]


@pytest.mark.parametrize("dies_after", range(6))
def test_a_job_that_fails_and_is_run_again_leaves_the_same_bytes(tmp_path, undisturbed, dies_after):
    with pytest.raises(KilledError):
        fill(tmp_path, Means(dies_after=dies_after))
    assert not (tmp_path / "index.json").exists()
    again = fill(tmp_path)
    assert files(tmp_path) == undisturbed
    # a file's last batch is made again, because it may be torn; finished files are not touched
    kept = {0: 0, 1: 0, 2: 4, 3: 8, 4: 16, 5: 20}[dies_after]
    assert sorted(again) == SEEN[kept:].tolist()


@given(deaths=st.lists(st.integers(0, 4), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10, deadline=None)
def test_any_number_of_failures_leaves_the_same_bytes(tmp_path_factory, undisturbed, deaths):
    folder = tmp_path_factory.mktemp("often")
    for dies_after in deaths:
        try:
            fill(folder, Means(dies_after=dies_after))
        except KilledError:
            continue
    fill(folder)
    assert files(folder) == undisturbed


@given(length=st.integers(0, 900), filler=st.sampled_from([b"", bytes(200)]))
@settings(max_examples=15, deadline=None)
def test_a_partial_file_cut_or_padded_anywhere_is_continued_to_the_same_bytes(
    tmp_path_factory, undisturbed, length, filler
):
    folder = tmp_path_factory.mktemp("torn")
    with pytest.raises(KilledError):
        fill(folder, Means(dies_after=3))
    (partial,) = folder.glob("shards/*.partial")
    content = partial.read_bytes()
    # a power cut: what was not flushed is lost, or reads as zeros; at most the last batch was not flushed
    safe = len(content) - 4 * 12
    partial.write_bytes(content[: max(safe, length)] + filler[: max(0, len(content) - max(safe, length))])
    fill(folder)
    assert files(folder) == undisturbed


KILLED = """
import sys, time
from pathlib import Path
from tests.unit.targets import test_cache as here

class Slow(here.Means):
    def blocks(self, source, stimuli, batches):
        for block in super().blocks(source, stimuli, batches):
            yield block
            print("made", flush=True)
            time.sleep(0.05)

here.fill(Path(sys.argv[1]), Slow())
"""


@pytest.mark.parametrize("batches", [2, 4])
def test_a_killed_process_leaves_what_the_next_one_completes_to_the_same_bytes(
    tmp_path, undisturbed, batches
):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(batches):
            process.stdout.readline()
        time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "index.json").exists()
    assert len(fill(tmp_path)) < len(SEEN)
    assert files(tmp_path) == undisturbed


def test_what_is_there_is_kept_untouched(tmp_path, undisturbed):
    fill(tmp_path)
    before = inodes(tmp_path)
    (tmp_path / "index.json").unlink()  # as Snakemake does before it runs the rule again
    assert fill(tmp_path) == []
    assert inodes(tmp_path) == before and files(tmp_path) == undisturbed


def test_the_probe_of_another_device_does_not_make_features_foreign(tmp_path):
    fill(tmp_path)

    class Elsewhere(Means):
        def fingerprint(self, source, stimuli):
            return {"kind": self.kind, "probe": [0.255]}

    assert fill(tmp_path, Elsewhere()) == []
    assert len(store.read(tmp_path / "index.json", SEEN)) == len(SEEN)


MORE = np.union1d(SEEN, [1, 3, 5, 1500, 7000])


def test_more_stimuli_cost_only_the_new_ones(tmp_path):
    fill(tmp_path)
    untouched = inodes(tmp_path)["ids-05000-05999.safetensors"]
    before = store.read(tmp_path / "index.json", SEEN)
    assert fill(tmp_path, stimuli=MORE) == [1, 3, 5, 1500, 7000]
    np.testing.assert_array_equal(store.read(tmp_path / "index.json", SEEN), before)
    new = store.read(tmp_path / "index.json", [1, 3, 5])
    expected = Pictures().images([1, 3, 5]).mean(axis=(1, 2)) + 1e-3 * np.arange(3)[:, None] + 0.03
    np.testing.assert_allclose(new, expected, rtol=1e-6)
    assert inodes(tmp_path)["ids-05000-05999.safetensors"] == untouched
    assert inodes(tmp_path).keys() >= {"ids-07000-07999.safetensors"}
    store.verify(tmp_path / "index.json")


@pytest.mark.parametrize("dies_after", [0, 1, 2])
def test_a_job_that_fails_while_it_adds_stimuli_ends_with_the_same_bytes(tmp_path, dies_after):
    for name in ("straight", "failing"):
        fill(tmp_path / name)
    fill(tmp_path / "straight", stimuli=MORE)
    with pytest.raises(KilledError):
        fill(tmp_path / "failing", Means(dies_after=dies_after), stimuli=MORE)
    fill(tmp_path / "failing", stimuli=MORE)
    assert files(tmp_path / "failing") == files(tmp_path / "straight")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_merge_that_ends_around_the_note_of_its_digest_loses_no_row(tmp_path, monkeypatch, moment):
    for name in ("straight", "failing"):
        fill(tmp_path / name)
    fill(tmp_path / "straight", stimuli=MORE)
    announce = cache.Range._announce

    def dies(self, file):
        if moment == "after":
            announce(self, file)
        raise KilledError

    with monkeypatch.context() as patched, pytest.raises(KilledError):
        patched.setattr(cache.Range, "_announce", dies)
        fill(tmp_path / "failing", stimuli=MORE)
    assert set(fill(tmp_path / "failing", stimuli=MORE)).isdisjoint(SEEN)
    assert files(tmp_path / "failing") == files(tmp_path / "straight")


def test_a_file_whose_new_digest_was_noted_before_the_end_is_still_known(tmp_path):
    fill(tmp_path)
    record = cache.Record(tmp_path / "shards")
    record.add("0" * 64, "ids-00000-00999.safetensors")  # the job ended before the new file took its place
    assert fill(tmp_path) == []
    assert "0" * 64 not in (tmp_path / "shards/SHA256SUMS").read_text()


@pytest.mark.parametrize("keep", [slice(3, None), slice(0, 9), slice(0, None, 2)])
def test_fewer_stimuli_cost_nothing_and_leave_nothing_else(tmp_path, keep):
    fill(tmp_path)
    before = store.read(tmp_path / "index.json", SEEN[keep])
    assert fill(tmp_path, stimuli=SEEN[keep]) == []
    with store.open_features(tmp_path / "index.json") as features:
        np.testing.assert_array_equal(features.stimuli, SEEN[keep])
        np.testing.assert_array_equal(features.read(SEEN[keep]), before)
    store.verify(tmp_path / "index.json")
    assert len(inodes(tmp_path)) == len(np.unique(SEEN[keep] // 1000))


def test_an_image_that_changed_is_encoded_again_and_no_other(tmp_path):
    fill(tmp_path)
    before = store.read(tmp_path / "index.json", SEEN)
    assert fill(tmp_path, source=Pictures(changed=[6, 1003])) == [6, 1003]
    after = store.read(tmp_path / "index.json", SEEN)
    differs = np.any(before != after, axis=1)
    assert SEEN[differs].tolist() == [6, 1003]


def test_an_image_that_changed_while_the_job_was_dead_is_encoded_again(tmp_path):
    with pytest.raises(KilledError):
        fill(tmp_path, Means(dies_after=3))
    changed = Pictures(changed=[2])  # among the rows that the partial file holds
    assert sorted(fill(tmp_path, source=changed)) == SEEN.tolist()
    fill(tmp_path / "straight", source=changed)
    straight = files(tmp_path / "straight")
    assert {name: files(tmp_path)[name] for name in straight} == straight


@pytest.mark.parametrize(
    "change",
    [{"code": "b"}, {"target": Means(precision="float16")}, {"target": Means(kind="others")}],
    ids=["code", "precision", "fingerprint"],
)
@pytest.mark.parametrize("halfway", [False, True])
def test_what_other_code_or_settings_made_is_never_mixed(tmp_path, change, halfway):
    if halfway:
        with pytest.raises(KilledError):
            fill(tmp_path, Means(dies_after=3))
    else:
        fill(tmp_path)
    target = change.get("target", Means())
    target.encoded.clear()
    assert sorted(fill(tmp_path, target, code=change.get("code", "a"))) == SEEN.tolist()
    assert not list(tmp_path.glob("shards/*.partial"))


@pytest.mark.parametrize("damage", ["flip", "cut", "header", "unknown"])
def test_a_damaged_file_is_made_anew_and_no_other(tmp_path, undisturbed, damage, caplog):
    fill(tmp_path)
    untouched = inodes(tmp_path)["ids-05000-05999.safetensors"]
    path = tmp_path / "shards/ids-00000-00999.safetensors"
    content = bytearray(path.read_bytes())
    if damage == "unknown":
        record = tmp_path / "shards/SHA256SUMS"
        record.write_text("".join(line for line in record.open() if "ids-00000" not in line))
    elif damage == "cut":
        path.write_bytes(content[:-1])
    else:
        content[-20 if damage == "flip" else 12] ^= 16
        path.write_bytes(content)
    assert fill(tmp_path) == SEEN[:16].tolist()
    assert files(tmp_path) == undisturbed and "damaged" in caplog.text
    assert inodes(tmp_path)["ids-05000-05999.safetensors"] == untouched


def test_what_lies_around_is_removed(tmp_path, undisturbed):
    (tmp_path / "shards/.ids.x").mkdir(parents=True)
    for name in ("ids-90000-90999.partial", "ids-90000-90999.safetensors", ".ids.x/part"):
        (tmp_path / "shards" / name).write_bytes(b"old")
    fill(tmp_path)
    assert files(tmp_path) == undisturbed


def test_rows_that_are_not_finite_end_the_job_and_those_before_are_kept(tmp_path):
    class Overflowing(Means):
        def blocks(self, source, stimuli, batches):
            for number, block in enumerate(super().blocks(source, stimuli, batches)):
                yield block if number < 2 else block * np.inf

    with pytest.raises(PerceptError, match=r"stimulus 16 \(and 3 more of its batch\) of target 'means'"):
        fill(tmp_path, Overflowing())
    assert fill(tmp_path) == SEEN[4:].tolist()  # of two whole batches the last is made again


def test_a_target_that_gives_another_number_of_rows_is_refused(tmp_path):
    class Short(Means):
        def blocks(self, source, stimuli, batches):
            yield from (block[1:] for block in super().blocks(source, stimuli, batches))

    with pytest.raises(ValueError, match="3 rows of features for a batch of 4 stimuli"):
        fill(tmp_path, Short())


def test_features_that_change_their_shape_are_refused(tmp_path):
    growing = Growing(tmp_path / "x.partial", Identity("x", {}), np.arange(4, dtype=np.int32), 2)
    growing.append(np.zeros((2, 3)), np.zeros(2, np.uint64))
    with pytest.raises(ValueError, match=r"shape \(5,\) after features of \(3,\)"):
        growing.append(np.zeros((2, 5)), np.zeros(2, np.uint64))


@pytest.mark.parametrize("shape", [(3,), (1, 3), (3, 1, 1)])
def test_the_shape_of_the_target_comes_back(tmp_path, shape):
    fill(tmp_path, Means(shape=shape))
    assert store.read(tmp_path / "index.json", [5000, 2]).shape == (2, *shape)


class Told:
    def __init__(self, texts):
        self.texts = texts

    def captions(self, stimuli):
        return [self.texts[one] for one in stimuli]

    def labels(self, stimuli):
        return ["label"] * len(stimuli)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a", "b"), ("b", "a")), (("a b",), ("a", "b")), (("a",), ("a", "")), (("é",), ("e",))],
)
def test_digests_tell_captions_apart(one, other):
    first, second = Watched(Told([one, other]), ["captions"]).digests([0, 1])
    assert first != second


def test_only_what_a_target_reads_counts():
    one, other = (Watched(Told([text]), ["labels"]) for text in (("a",), ("b",)))
    one.captions([0])
    np.testing.assert_array_equal(one.digests([0]), other.digests([0]))


def test_digests_are_of_what_was_read_last():
    source = Told({4: ("a",), 9: ("b",)})
    watched = Watched(source, ["captions"])
    before = watched.digests([9, 4])
    source.texts = {4: ("c",), 9: ("b",)}
    watched.captions([4])
    np.testing.assert_array_equal(before == watched.digests([9, 4]), [True, False])


def test_a_watched_source_lacks_what_its_source_lacks():
    watched = Watched(Told([]), ["captions"])
    assert hasattr(watched, "labels") and not hasattr(watched, "images")


class Said(Means):
    """As targets of captions do: everything that was said is read at once, before the first batch."""

    reads = ("captions",)

    def blocks(self, source, stimuli, batches):
        said = dict(zip(stimuli.tolist(), source.captions(stimuli), strict=True))
        for number, batch in enumerate(batches):
            if number == self.dies_after:
                raise KilledError
            yield np.array([[len(text) for text in said[one]] for one in batch.tolist()], dtype=np.float32)


class Annotations:
    """Counts how often the one large file is read."""

    n_parsed = 0

    def captions(self, stimuli):
        self.n_parsed += 1
        return [("a" * int(one % 7 + 1), "b") for one in stimuli]


def test_the_annotations_are_parsed_once_however_many_files_there_are(tmp_path):
    parsed = []
    for target in (Said(dies_after=5), Said(), Said()):  # anew; resumed; everything is there
        source = Annotations()
        try:
            fill(tmp_path, target, source)
        except KilledError:
            assert len(list(tmp_path.glob("shards/ids-*"))) == 2  # of three files
        parsed.append(source.n_parsed)
    # blocks reads once for itself; the digests of what is kept cost one more pass, not one per file
    assert parsed == [1, 2, 1]


@pytest.mark.parametrize(
    ("precision", "stimuli", "kept", "needed"),
    [
        ("float32", SEEN, None, len(SEEN) * 12),
        ("float16", SEEN, None, len(SEEN) * 6),
        ("float32", MORE, SEEN, (5 + 19) * 12),  # five are new; the first file is put together from 16 and 3
    ],
)
def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    tmp_path, monkeypatch, precision, stimuli, kept, needed
):
    if kept is not None:
        fill(tmp_path, stimuli=kept)
    before = inodes(tmp_path)
    free = transfer.SPARE + needed - 1
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    message = rf"the target 'means' needs {needed / 1e3:.1f} kB in {tmp_path}/shards, but only .* are free"
    with pytest.raises(PerceptError, match=message):
        fill(tmp_path, Means(precision=precision), stimuli=stimuli)
    assert inodes(tmp_path) == before and not list(tmp_path.glob("shards/*.partial"))
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=free + 1))
    fill(tmp_path, Means(precision=precision), stimuli=stimuli)


def test_a_line_every_half_minute_says_how_fast_and_how_long(caplog):
    caplog.set_level("INFO")
    now = iter([0.0, 10.0, 31.0, 40.0, 62.0, 100.0])
    counted = progress.Progress(500, lambda: next(now))
    for n in (20, 42, 8, 54, 376):
        counted.add(n)
    assert [record.message for record in caplog.records] == [
        "62 of 500 stimuli (12 %), 2.0 per second, 3.6 min left",
        "124 of 500 stimuli (24 %), 2.0 per second, 3.1 min left",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1.0 min"), (3600, "1.0 h"), (9000, "2.5 h"), (86400, "1.0 days")],
)
def test_durations_are_readable(seconds, text):
    assert progress.readable(seconds) == text


def test_while_features_are_made_the_log_says_so(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0.0)
    fill(tmp_path)
    said = [record.message for record in caplog.records if "per second" in record.message]
    assert [line.split(" stimuli")[0] for line in said] == [f"{n} of 21" for n in (4, 8, 12, 16, 20)]
