"""A disk that fills up, or takes nothing: the writer says so, and leaves what was there before."""

import contextlib
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from percept import files
from percept.decoders import weights
from percept.files import PerceptError
from percept.generators import store as images
from percept.voxels import store as voxels

ROWS = 400_000  # of float64, 3.2 MB: more than either limit below
LIMIT = 1 << 20
FULL = r"cannot be written, because its disk is full.*Make room"


def table(path):
    files.write_parquet(pd.DataFrame({"x": np.random.default_rng(0).normal(size=ROWS)}), path)


def text(path):
    files.write_text("x" * (8 * ROWS), path)


def array(path):
    with files.create_hdf5(path) as file:
        file.attrs["seed"] = 3
        files.put(file, "x", np.random.default_rng(0).normal(size=ROWS))


def betas(path):
    with voxels.writing(
        path.parent / f"{path.name}.d", (400, 4000), 1, subject="subj01", scale=300.0
    ) as made:
        made.add(1, np.ones((400, 4000), np.int16))


def pictures(path):
    made = np.random.default_rng(0).integers(0, 256, (20, 240, 240, 3), dtype=np.uint8)
    images.write_images(path, made, np.arange(20))


def tensors(path):
    with weights.create(path, {"weights": ((ROWS, 2), "float32")}, {}) as made:
        made["weights"][:] = 1


WRITERS = {each.__name__: each for each in (table, text, array, pictures, tensors)}


@contextlib.contextmanager
def mounted(folder, *options):
    """A file system of its own at a folder; skipped where only root may have one and we are not root."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_named_and_the_older_file_is_kept(name, tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", f"size={LIMIT}", "none") as disk:
        path = disk / "a.out"
        path.write_bytes(b"older")
        with pytest.raises(PerceptError, match=FULL):
            WRITERS[name](path)
        assert path.read_bytes() == b"older"
        assert [each.name for each in disk.rglob("*")] == ["a.out"]


def test_betas_that_a_disk_has_no_room_for_are_refused_before_any_is_written(tmp_path):
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", f"size={LIMIT}", "none") as disk:
        with pytest.raises(PerceptError, match=r"its disk has 0\.00 GB left"):
            betas(disk / "a")
        assert [each for each in disk.rglob("*") if each.is_file()] == []


LIMITED = (
    "import sys; from pathlib import Path; from tests.faults import test_full_disk as here; "
    "here.limit_file_size(); here.WRITERS[sys.argv[1]](Path(sys.argv[2]))"
)


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))


@pytest.mark.parametrize("name", WRITERS)
def test_a_quota_of_the_size_of_files_is_named(name, tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, name, str(tmp_path / "a.out")],
        capture_output=True, text=True, check=False, cwd=root, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "a.out cannot be written, because its disk is full or a quota or limit" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", WRITERS)
def test_a_closed_folder_is_named_and_nothing_changes(name, tmp_path):
    with mounted(tmp_path / "closed", "-t", "tmpfs", "-o", "ro", "none") as disk:
        with pytest.raises(PerceptError, match=r"cannot be written \(Read-only file system\).*writable"):
            WRITERS[name](disk / "deep" / "a.out")
        assert list(disk.iterdir()) == []


def test_other_failures_of_a_disk_keep_their_name(tmp_path):
    with pytest.raises(OSError) as caught, files.atomic(tmp_path / "a"):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert caught.value.errno == errno.EIO and not isinstance(caught.value, PerceptError)


KILLED = (
    "import os, signal, sys; from percept import files\n"
    "with files.atomic(sys.argv[1]) as temporary:\n"
    "    temporary.write_text('half')\n"
    "    os.kill(os.getpid(), signal.SIGKILL)\n"
)


def test_a_writer_that_dies_before_the_rename_leaves_the_older_file_and_the_next_one_sweeps(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text("older", path)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_text() == "older"
    (left,) = [each for each in tmp_path.iterdir() if each != path]
    os.utime(
        left, (files.STARTED - 10, files.STARTED - 10)
    )  # this process started before it, a later run will not
    files.write_text("newer", path)
    assert path.read_text() == "newer" and list(tmp_path.iterdir()) == [path]
