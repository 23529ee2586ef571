"""A reconstruction that is killed and repeated is the one that was never killed."""

import hashlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from percept.backbones.fingerprint import digest
from percept.files import PerceptError, hash_text
from percept.generators import make, store
from percept.generators.roles import Context, Made, Roles, noise_seeds

N = 11  # images; batches of 3 leave a ragged last one


@dataclass
class Noise:
    """Draws each image from its seed alone; dies after `lives` batches."""

    batch_size: int = 3
    lives: int = 99
    calls: list = field(default_factory=list)

    def generate(self, roles, seed):
        if len(self.calls) == self.lives:
            raise KeyboardInterrupt
        self.calls.append(list(roles.stimulus))
        seeds = noise_seeds(seed, roles.stimulus)
        images = [np.random.default_rng(one).integers(0, 256, (4, 5, 3), dtype=np.uint8) for one in seeds]
        shift = np.rint(roles.semantic.sum(axis=1)).astype(np.uint8)[:, None, None, None]
        details = [{"sample": int(one % 7), "caption": f"a {one % 5}"} for one in seeds]
        return Made(np.stack(images) + shift, np.stack(images)[:, ::2], details)


ROLES = Roles(
    np.arange(N, dtype=np.int32) * 7,
    semantic=np.random.default_rng(0).standard_normal((N, 6)).astype(np.float32),
)
SETS = {"images": lambda: ROLES, "recovery": lambda: replace(ROLES, semantic=ROLES.semantic + 1)}


def job(folder, **settings):
    outputs = {name: folder / f"{name}.h5" for name in SETS} | {"details": folder / "details.parquet"}
    return make.Job(outputs, **{"seed": 4, "settings": {"rescale": {"semantic": "transductive"}}, **settings})


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    make.run(Noise(), SETS, job(folder))
    return folder


def test_every_set_has_its_file_and_the_unfinished_work_is_gone(whole):
    assert sorted(path.name for path in whole.iterdir()) == ["details.parquet", "images.h5", "recovery.h5"]
    made = store.read_images(whole / "images.h5")
    np.testing.assert_array_equal(made.stimulus, ROLES.stimulus)
    assert made.images.shape == (N, 4, 5, 3) and store.read_lowlevel(whole / "images.h5").shape == (
        N,
        2,
        5,
        3,
    )
    assert store.read_attributes(whole / "images.h5")["settings"]["rescale"] == {"semantic": "transductive"}


def test_the_table_has_a_row_per_image_of_each_set_and_says_what_was_rescaled(whole):
    table = pd.read_parquet(whole / "details.parquet")
    assert list(table) == list(make.DETAILS) and len(table) == 2 * N
    assert list(table.groupby("set").stimulus.apply(list)) == [list(ROLES.stimulus)] * 2
    assert set(table.loc[table["set"] == "images", "rescaled"]) == {"semantic:transductive"}
    assert set(table.loc[table["set"] == "recovery", "rescaled"]) == {""}
    assert table["similarity"].isna().all() and table["sample"].between(0, 6).all()


def test_images_say_from_which_weights_and_code_they_are(tmp_path):
    identity = {"weights tiny_vae": "abc", "code": "123"}
    make.run(Noise(), SETS, job(tmp_path, identity=identity))
    for name in SETS:
        assert store.read_attributes(tmp_path / f"{name}.h5")["identity"] == identity


def test_too_little_memory_on_a_gpu_is_told_with_the_settings_that_need_less(tmp_path):
    import torch

    class Large(Noise):
        def generate(self, roles, seed):
            if len(self.calls) == 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            return super().generate(roles, seed)

    message = (
        r"making batch 3 of 4 of the set 'images' \(CUDA out of memory\).*`batch_size`.*`precision`.*`device`"
    )
    with pytest.raises(PerceptError, match=message):
        make.run(Large(), SETS, job(tmp_path))
    again = Noise()
    make.run(again, SETS, job(tmp_path))
    assert len(again.calls) == 6  # what was finished is used


@pytest.mark.parametrize("lives", [0, 1, 3, 4, 7])
def test_a_killed_job_goes_on_where_it_was_and_ends_as_if_it_had_never_died(tmp_path, whole, lives):
    with pytest.raises(KeyboardInterrupt):
        make.run(Noise(lives=lives), SETS, job(tmp_path))
    assert not (tmp_path / "details.parquet").exists()
    again = Noise()
    make.run(again, SETS, job(tmp_path))
    assert len(again.calls) == 8 - lives  # four batches a set
    assert digests(tmp_path) == digests(whole)


KILLED = """
import os, signal, sys
from pathlib import Path
from percept.generators import make, store
from tests.unit.generators.test_make import SETS, Noise, job

write = store.write_pieces
def die_while_writing(path, pieces, attributes):
    write(path, pieces, attributes)
    if path.name == "batch-00002.h5":
        Path(path).write_bytes(b"half")  # and what is worse, not even renamed from a temporary file
        os.kill(os.getpid(), signal.SIGKILL)
store.write_pieces = die_while_writing
make.run(Noise(), SETS, job(Path(sys.argv[1])))
"""


def test_a_process_that_is_killed_outright_leaves_work_that_can_be_taken_up(tmp_path, whole):
    repository = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=repository, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again = Noise()
    make.run(again, SETS, job(tmp_path))
    assert len(again.calls) == 6 and digests(tmp_path) == digests(whole)


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_images_do_not_depend_on_the_size_of_the_batch(tmp_path, whole, batch_size):
    make.run(Noise(batch_size), SETS, job(tmp_path))
    for name in SETS:
        one, other = (store.read_images(folder / f"{name}.h5") for folder in (whole, tmp_path))
        np.testing.assert_array_equal(one.images, other.images)


def test_images_do_not_depend_on_the_order_of_the_rows(tmp_path, whole):
    order = np.random.default_rng(1).permutation(N)
    mixed = Roles(ROLES.stimulus[order], semantic=ROLES.semantic[order])
    make.run(Noise(), {"images": lambda: mixed}, job(tmp_path))
    expected = store.read_images(whole / "images.h5").images[order]
    np.testing.assert_array_equal(store.read_images(tmp_path / "images.h5").images, expected)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 5},
        {"settings": {"generator": {"kind": "noise", "steps": 3}}},
        {"identity": {"weights tiny": "abc"}},
        {"identity": {"code": "123"}},
    ],
)
def test_unfinished_work_of_other_settings_is_dropped(tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        make.run(Noise(lives=2), SETS, job(tmp_path))
    again = Noise()
    make.run(again, SETS, job(tmp_path, **change))
    assert len(again.calls) == 8


def test_unfinished_work_of_other_samples_is_dropped_batch_by_batch(tmp_path):
    samples = np.random.default_rng(1).standard_normal((N, 2, 6)).astype(np.float16)
    make.make_set(Noise(), replace(ROLES, samples=samples), "images", job(tmp_path))
    changed = samples.copy()
    changed[9, 1] += 1  # of the fourth
    for given, calls in [(samples, []), (changed, [[63, 70]])]:
        again = Noise()
        make.make_set(again, replace(ROLES, samples=given), "images", job(tmp_path))
        assert again.calls == calls


def test_the_key_of_a_batch_without_samples_is_what_it_always_was():
    arrays = digest({"stimulus": ROLES.stimulus, "semantic": ROLES.semantic}, n=64)
    settings = json.dumps([4, {"rescale": {"semantic": "transductive"}}, {}], sort_keys=True)
    assert make.batch_key(ROLES, job(Path("x"))) == hash_text(f"{arrays} {settings}", n=32)


def test_unfinished_work_of_other_predictions_is_dropped_batch_by_batch(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make.run(Noise(lives=4), SETS, job(tmp_path))
    changed = ROLES.semantic.copy()
    changed[4] += 1  # of the second batch
    again = Noise()
    make.run(again, {"images": lambda: replace(ROLES, semantic=changed)}, job(tmp_path))
    assert again.calls == [[21, 28, 35]]


def test_a_damaged_batch_is_made_anew(tmp_path, whole):
    with pytest.raises(KeyboardInterrupt):
        make.run(Noise(lives=4), SETS, job(tmp_path))
    path = tmp_path / "work" / "images" / "batch-00001.h5"
    path.write_bytes(path.read_bytes()[:500])
    again = Noise()
    make.run(again, SETS, job(tmp_path))
    assert len(again.calls) == 5 and digests(tmp_path) == digests(whole)


@pytest.mark.parametrize("made", [(2, 3), (3, 2)], ids=["images", "details"])
def test_a_generator_that_loses_images_is_refused(tmp_path, made):
    class Losing:
        batch_size = 3

        def generate(self, roles, seed):
            return Made(np.zeros((made[0], 4, 4, 3), dtype=np.uint8), details=[{}] * made[1])

    with pytest.raises(PerceptError, match=f"made {made[0]} images with {made[1]} records for the 3"):
        make.run(Losing(), SETS, job(tmp_path))


def test_seeds_differ_between_stimuli_samples_and_runs_and_fit_a_generator_of_torch():
    import torch

    seeds = [
        one for seed in range(3) for sample in range(4) for one in noise_seeds(seed, np.arange(50), sample)
    ]
    assert len(set(seeds)) == 600 and min(seeds) >= 0
    assert all(torch.Generator().manual_seed(one).initial_seed() == one for one in seeds)
    assert noise_seeds(1, [12]) == noise_seeds(1, np.array([12], dtype=np.int32))


def test_rows_and_given_leave_out_what_is_not_there():
    some = ROLES.rows(slice(2, 5))
    assert list(some.given) == ["semantic"] and len(some) == 3 and some.text is None and some.samples is None
    np.testing.assert_array_equal(some.semantic, ROLES.semantic[2:5])
    assert Context().train is None
