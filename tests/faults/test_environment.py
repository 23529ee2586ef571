"""What the machine around a run does to it: full and closed disks, clocks, locks, a slow file system.

Each fault meets a copy of a finished run in which some results are gone. The command fails with a message
that says what to do, or goes through; after the fault the same command gives tables with the same bytes.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.test_full_disk import mounted
from tests.faults.test_killed_run import RESULTS, SMALL
from tests.workflow.conftest import Checkout

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("environment")]

INJECTED = Path(__file__).parent / "injected"
SCORES = RESULTS / "evaluation"  # what is made anew under each fault
TABLE = str(RESULTS / "report/results.parquet")
# All tables of one job, because the one that was seen too late is there although the job failed.
TABLES = (TABLE, *(str(RESULTS / f"report/{name}.csv") for name in ("results", "audit", "comparisons")))
HOUR = 3600


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run; not to be changed."""
    copy = Checkout(tmp_path_factory.mktemp("done"))
    copy.snakemake(*TABLES, config=copy.configure("killed", SMALL))
    return copy


@pytest.fixture
def run(done, tmp_path):
    """A copy of it, with the times of its files, that lacks scores and report."""
    copy = Checkout.of(done, tmp_path / "run")
    for folder in (SCORES, RESULTS / "report"):
        shutil.rmtree(copy.folder / folder)
    return copy


CONFIG = "config/experiments/killed.yaml"


def tables(copy):
    """Every table of scores and of the report, as bytes."""
    found = [path for part in (SCORES, RESULTS / "report") for path in (copy.folder / part).rglob("*")]
    kept = (".parquet", ".csv")
    return {str(path.relative_to(copy.folder)): path.read_bytes() for path in found if path.suffix in kept}


def again(copy, *arguments, check=True):
    return copy.snakemake(*TABLES, "--rerun-incomplete", *arguments, config=CONFIG, check=check)


def assert_same_tables(copy, done):
    expected = tables(done)
    found = tables(copy)
    assert len(expected) >= 3 and found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert copy.planned(*TABLES, config=CONFIG) == {}


def logs(copy):
    return "\n".join(path.read_text() for path in (copy.folder / "logs").rglob("*.log"))


def test_a_full_disk_is_named_and_the_same_command_goes_on_when_there_is_room(run, done):
    (run.folder / SCORES).mkdir()
    with mounted(run.folder / SCORES, "-t", "tmpfs", "-o", "size=16k", "none"):
        failed = again(run, "--keep-going", check=False)
        assert failed.returncode != 0 and "because its disk is full" in failed.stderr + logs(run)
        temporary = [path for path in (run.folder / SCORES).rglob(".*") if ".snakemake" not in path.name]
        assert temporary == []
    again(run)
    assert_same_tables(run, done)


def test_a_closed_folder_of_results_is_named_and_nothing_in_it_changes(run, done):
    results = run.folder / RESULTS
    before = run.files(RESULTS)
    with mounted(results, "--bind", str(results)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(results)], check=True)
        failed = again(run, check=False)
        assert failed.returncode != 0 and "Read-only file system" in failed.stdout + failed.stderr
        assert str(RESULTS) in failed.stdout + failed.stderr
    assert run.files(RESULTS) == before
    again(run)
    assert_same_tables(run, done)


def start(copy, **environment):
    """The workflow, in a session of its own, when it has taken the lock."""
    command = [sys.executable, "-m", "snakemake", *TABLES, "--cores", "2", "--rerun-incomplete"]
    with (copy.folder / "started.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--configfile", CONFIG], cwd=copy.folder, env=copy.environment | environment,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list((copy.folder / ".snakemake/locks").glob("*")):
        assert process.poll() is None and time.monotonic() < deadline, (
            copy.folder / "started.log"
        ).read_text()
        time.sleep(0.05)
    return process


def test_a_second_workflow_in_the_folder_is_refused_and_the_first_is_unharmed(run, done):
    first = start(run)
    second = again(run, check=False)
    assert first.wait(timeout=600) == 0, (run.folder / "started.log").read_text()
    assert second.returncode != 0 and "LockException" in second.stderr and "--unlock" in second.stderr
    assert_same_tables(run, done)


def test_a_lock_that_a_killed_run_left_is_taken_off_as_its_message_says(run, done):
    first = start(run)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    refused = again(run, check=False)
    assert refused.returncode != 0 and "--unlock" in refused.stderr
    run.snakemake("--unlock", config=CONFIG)
    again(run)
    assert_same_tables(run, done)


def injected(copy, fault, file, tmp_path, times=1):
    """Environment of a run in which renames to `file` go wrong some times.

    Jobs look for modules in the folder `src` of their checkout alone.
    """
    (tmp_path / "left").write_text("x" * times)
    shutil.copy(INJECTED / "sitecustomize.py", copy.folder / "src")
    return {"FAULT": fault, "FAULT_FILE": file, "FAULT_LEFT": str(tmp_path / "left")}


def test_a_job_that_dies_between_writing_and_renaming_leaves_nothing_and_is_made_anew(
    run, done, tmp_path, monkeypatch
):
    for name, value in injected(run, "killed", "report/results.parquet", tmp_path).items():
        monkeypatch.setenv(name, value)
    failed = again(run, check=False)
    assert failed.returncode != 0 and (tmp_path / "left").read_text() == ""  # it did die there
    assert not (run.folder / TABLE).exists()
    again(run)
    assert_same_tables(run, done)
    assert [path for path in (run.folder / RESULTS).rglob(".*.????????") if path.is_dir()] == []


def test_a_file_that_is_seen_late_is_waited_for(run, done, tmp_path, monkeypatch):
    for name, value in injected(run, "late", "report/results.parquet", tmp_path).items():
        monkeypatch.setenv(name, value)
    again(run, "--latency-wait", "60")
    assert (tmp_path / "left").read_text() == ""
    assert_same_tables(run, done)


def test_a_file_that_is_seen_too_late_is_named_with_the_setting_and_made_anew(
    run, done, tmp_path, monkeypatch
):
    for name, value in injected(run, "late", "report/results.parquet", tmp_path).items():
        monkeypatch.setenv(name, value)
    failed = again(run, "--latency-wait", "0", check=False)
    assert failed.returncode != 0 and "latency-wait" in failed.stderr
    time.sleep(5)
    again(run)
    assert_same_tables(run, done)


@pytest.mark.parametrize("megabytes", [0, 1, 4, 16])
@pytest.mark.parametrize(
    ("log", "made"),
    [
        ("extract_voxels.log", "voxels"),
        ("train_decoder.log", "decoders"),
        ("score_decoders.log", "evaluation"),
        ("tabulate_results.log", "report"),
    ],
)
def test_a_job_that_gets_too_little_memory_says_so_and_is_made_anew(
    run, done, tmp_path, monkeypatch, log, made, megabytes
):
    shutil.rmtree(run.folder / RESULTS / made, ignore_errors=True)
    monkeypatch.setenv("FAULT_MB", str(megabytes))
    for name, value in injected(run, "memory", log, tmp_path).items():
        monkeypatch.setenv(name, value)
    failed = again(run, check=False)
    assert (tmp_path / "left").read_text() == ""
    if failed.returncode != 0:  # a small job may need no more than its imports
        said = "\n".join(path.read_text() for path in (run.folder / "logs").rglob(log))
        by_us = "memory of the machine did not suffice" in said and "mem_mb" in said
        # Or what the loader of shared libraries, or C++, says when it ends the process.
        ended = ("cannot allocate memory for thread-local data: ABORT", "std::bad_alloc")
        assert by_us or any(words in failed.stderr for words in ended), failed.stderr
    else:
        assert megabytes > 0
    again(run)
    assert_same_tables(run, done)


def shift(paths, seconds):
    for path in paths:
        about = path.lstat()
        times = (about.st_atime + seconds, about.st_mtime + seconds)
        os.utime(path, times, follow_symlinks=False)


@pytest.mark.parametrize("hours", [48, -48], ids=["ahead", "behind"])
def test_a_clock_that_was_wrong_all_the_time_changes_nothing(done, tmp_path, hours):
    copy = Checkout.of(done, tmp_path / "run")
    shift([path for path in copy.folder.rglob("*") if ".snakemake" not in path.parts], hours * HOUR)
    assert_same_tables(copy, done)


def test_a_node_whose_clock_is_behind_costs_jobs_and_no_result(done, tmp_path):
    """What it wrote looks older than what it was made from: Snakemake makes it again, and what follows."""
    copy = Checkout.of(done, tmp_path / "run")
    shift([path for path in (copy.folder / SCORES).rglob("*") if path.is_file()], -48 * HOUR)
    assert sum(copy.planned(*TABLES, config=CONFIG).values()) > 0
    again(copy)
    assert_same_tables(copy, done)
