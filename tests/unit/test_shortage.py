"""Memory that did not suffice is not taken for a damaged file, nor a damaged file for memory."""

import os
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from percept import files, shortage

SHORT = [
    MemoryError(), OSError(12, "Cannot allocate memory"), RuntimeError("can't start new thread"),
    ImportError("_sparsetools.so: failed to map segment from shared object"),
    OSError("Unable to synchronously read data (memory allocation failed for raw data chunk)"),
]  # fmt: skip


@pytest.mark.parametrize("error", SHORT, ids=str)
def test_libraries_say_it_in_their_ways(error):
    assert shortage.told(error)


@pytest.mark.parametrize("error", [ValueError("shapes"), OSError(2, "No such file"), KeyError("x")], ids=str)
def test_other_errors_are_none(error):
    assert not shortage.told(error)


def test_an_error_is_what_it_came_from():
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise files.PerceptError("unreadable") from error
    except files.PerceptError as error:
        assert shortage.told(error)


def test_with_memory_to_spare_it_is_the_file_that_asks_for_too_much():
    caught = False
    try:
        np.empty(2**50)  # as a damaged header may say
    except shortage.damage("header", MemoryError):
        caught = True
    assert caught


def test_what_a_file_takes_is_compared_with_what_there_is(tmp_path):
    """A gigabyte may be left, and the file be larger."""
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**43)
    assert shortage.lacked(MemoryError(), tmp_path / "large")
    (tmp_path / "small").touch()
    assert not shortage.lacked(MemoryError(), tmp_path / "small")


@pytest.mark.parametrize(
    ("said", "damaged"), [("can't start new thread", False), ("filter returned failure", True)]
)
def test_threads_lack_whatever_there_is_and_a_failing_filter_is_damage(tmp_path, said, damaged):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 2**36)
    assert shortage.lacked(RuntimeError(said), tmp_path / "large") is not damaged


def limited(code, megabytes):
    """Run code in a process that may have some megabytes more than it has at `limit()`; what it prints."""
    given = f"""
import resource
from pathlib import Path
def limit():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * {resource.getpagesize()} + {megabytes} * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", given], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_a_whole_table_is_not_called_damaged_where_there_is_no_memory_for_it(tmp_path):
    """Of numbers that take little place in the file."""
    path, small = tmp_path / "table.parquet", tmp_path / "small.parquet"
    files.write_parquet(pd.DataFrame({"value": np.zeros(20_000_000)}), path)
    files.write_parquet(pd.DataFrame({"value": np.zeros(2)}), small)
    assert path.stat().st_size < 2**20
    reading = f"files.read_parquet({str(small)!r}); limit(); files.read_parquet({str(path)!r})"
    plain = "import os; os.environ['ARROW_DEFAULT_MEMORY_POOL'] = 'system'"  # the other takes some in advance
    said = limited(f"{plain}\nfrom percept import files; {reading}", 60)
    assert "Error" in said and "read_parquet" in said and "damaged" not in said and "Delete it" not in said


def test_an_array_is_not_called_damaged_where_there_is_no_memory_for_it(tmp_path):
    path = tmp_path / "betas.h5"
    with files.create_hdf5(path) as file:
        file.create_dataset("values", data=np.zeros(20_000_000), chunks=(10_000_000,), compression=1)
    opened = f"with files.open_hdf5({str(path)!r}) as file:"
    code = f"from percept import files\n{opened}\n    limit()\n    file['values'][:3]"
    said = limited(code, 16)
    assert "Error" in said and "damaged" not in said and "Delete it" not in said


def test_a_checkpoint_is_not_moved_aside_where_there_is_no_memory_for_it(tmp_path):
    import torch

    path = tmp_path / "checkpoint.pt"
    torch.save({"mark": "of this training", "weights": torch.ones(20_000_000)}, path)
    code = "from percept.decoders.training import checkpoint; from pathlib import Path; import torch"
    said = limited(f"{code}\nlimit()\ncheckpoint.read(Path({str(path)!r}), 'of this training')", 40)
    assert path.is_file() and "starts anew" not in said and "Cannot allocate memory" in said
