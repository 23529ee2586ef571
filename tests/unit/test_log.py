"""What the log of a job says of an exception that nobody caught."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "error",
    ["MemoryError()", "OSError(12, 'Cannot allocate memory')", 'RuntimeError("can\'t start new thread")'],
)
def test_memory_that_did_not_suffice_is_named_with_what_to_do(tmp_path, error):
    said = logged(tmp_path, error)
    assert "the memory of the machine did not suffice" in said and "--set-resources RULE:mem_mb=" in said
    assert "Traceback" in said


@pytest.mark.parametrize("error", ["RuntimeError('shapes')", "OSError(2, 'No such file')"])
def test_other_errors_are_logged_as_they_are(tmp_path, error):
    said = logged(tmp_path, error)
    assert "did not suffice" not in said and "Traceback" in said


def test_the_log_of_a_process_that_a_library_ends_says_where(tmp_path):
    code = f"from percept import log; import os; log.to_file({str(tmp_path / 'job.log')!r}); os.abort()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    said = (tmp_path / "job.log").read_text()
    assert done.returncode == -6 and "Fatal Python error: Aborted" in said and "line 1 in <module>" in said


def logged(tmp_path, error):
    code = f"from percept import log; log.to_file({str(tmp_path / 'job.log')!r}); raise {error}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 1
    return (tmp_path / "job.log").read_text()
