"""The guard between Snakemake's Slurm executor and Slurm, without a cluster: tests/slurm has one."""

import asyncio
import importlib.util
import logging
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm import Executor
from snakemake_interface_common.exceptions import WorkflowError

from tests.unit.source import REPOSITORY

SPEC = importlib.util.spec_from_file_location("slurm_guard", REPOSITORY / "rules/slurm_guard.py")
guards = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(guards)
LOGGER = logging.getLogger("test")
SILENCE = (None, None)


@pytest.fixture(autouse=True)
def slurm(monkeypatch):
    """What the commands of Slurm print, by the name of the program; the commands that were given."""
    says, given = {}, []

    def run(command, **options):
        given.append(command)
        if command[0] not in says:
            raise FileNotFoundError(command[0])
        answer = says[command[0]]
        return subprocess.CompletedProcess(
            command, answer is None, answer.pop(0) if isinstance(answer, list) else answer
        )

    monkeypatch.setattr(guards.subprocess, "run", run)
    return SimpleNamespace(says=says, given=given)


def guard_that_hears(*answers, attempts=4, running=True):
    """A guard to whom Slurm answers like this, one after the other."""
    left = list(answers)

    async def query(command, logger):
        return left.pop(0)

    return guards.Guard(query, attempts, 0.0, SimpleNamespace(wait=running))


def heard(guard, n=1, command="squeue --name run"):
    """What the executor is told, question after question."""
    return [asyncio.run(guard.states(command, LOGGER))[0] for _ in range(n)]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("RUNNING", "RUNNING"),
        ("PENDING", "PENDING"),
        ("COMPLETED", "COMPLETED"),
        ("CANCELLED by 1000", "CANCELLED"),
        ("PREEMPTED", "FAILED"),
        ("LAUNCH_FAILED", "FAILED"),
        ("", "UNKNOWN"),
    ],
)
def test_the_executor_is_told_one_word_that_it_knows(said, told):
    assert heard(guard_that_hears(({"7": said}, 0.1))) == [{"7": told}]


def test_a_silence_is_waited_out_and_said_once(caplog):
    guard = guard_that_hears(SILENCE, SILENCE, ({"7": "RUNNING"}, 0.1), SILENCE)
    assert heard(guard, 4) == [None, None, {"7": "RUNNING"}, None]
    assert [record.message.split("(")[0] for record in caplog.records] == [
        "Slurm does not answer ",
        "Slurm answers again.",
        "Slurm does not answer ",
    ]


def test_a_silence_that_does_not_end_ends_the_run():
    guard = guard_that_hears(*[SILENCE] * 4)
    assert heard(guard, 3) == [None] * 3
    with pytest.raises(WorkflowError, match=r"4 times `squeue`.*run the same command again"):
        heard(guard)


def test_an_answer_gives_the_whole_patience_back():
    alive = ({"7": "RUNNING"}, 0.1)
    assert heard(guard_that_hears(*[SILENCE] * 3, alive, *[SILENCE] * 3), 7)[3] == {"7": "RUNNING"}


@pytest.mark.parametrize(
    ("squeue", "sacct", "told"),
    [
        ("RUNNING\n", "", "RUNNING"),
        ("", "COMPLETED\n", "COMPLETED"),
        (None, "CANCELLED by 0\n", "CANCELLED"),
        (None, None, "ERROR"),
        ("", "RUNNING\n", "ERROR"),  # a database that was never told of the end
    ],
)
def test_a_job_that_the_answers_lack_is_looked_for_elsewhere(slurm, squeue, sacct, told):
    slurm.says |= {"squeue": squeue, "sacct": sacct}
    guard = guard_that_hears(*[({"7": "RUNNING"}, 0.1)] * guards.MISSED)
    guard.active = {"7", "8"}
    told_of = heard(guard, guards.MISSED)
    assert told_of[:-1] == [{"7": "RUNNING"}] * (guards.MISSED - 1)  # it may not be listed yet
    assert told_of[-1] == {"7": "RUNNING", "8": told}


def test_a_job_that_appears_again_is_not_missed():
    without, within = ({}, 0.1), ({"8": "RUNNING"}, 0.1)
    guard = guard_that_hears(without, without, within, without, without)
    guard.active = {"8"}
    assert heard(guard, 5) == [{}, {}, {"8": "RUNNING"}, {}, {}]


def test_a_task_of_an_array_is_known_by_the_array():
    guard = guard_that_hears(*[({"8": "RUNNING"}, 0.1)] * guards.MISSED)
    guard.active = {"8_1"}
    assert heard(guard, guards.MISSED)[-1] == {"8": "RUNNING"}


def test_the_jobs_that_are_checked_are_noted():
    guard = guard_that_hears()

    async def check(executor, jobs):
        for job in jobs[1:]:
            yield job

    async def left(jobs):
        return [job async for job in guard.checking(check)(None, jobs)]

    jobs = [SimpleNamespace(external_jobid=str(number)) for number in (7, 8)]
    assert asyncio.run(left(jobs)) == jobs[1:] and guard.active == {"7", "8"}


def test_a_job_is_submitted_when_the_controller_answers(slurm):
    slurm.says["scontrol"] = "UP"
    submitted = []
    guard_that_hears().submitting(lambda executor, job: submitted.append(job))(SimpleNamespace(wait=True), 5)
    assert submitted == [5] and len(slurm.given) == 1


def test_a_submission_waits_for_the_controller_and_not_for_ever(slurm):
    slurm.says["scontrol"] = None
    submitted = []
    guard_that_hears().submitting(lambda executor, job: submitted.append(job))(SimpleNamespace(wait=True), 5)
    assert submitted == [5] and len(slurm.given) == 4


@pytest.mark.parametrize(
    ("command", "age", "accounting"),
    [("squeue", 300, False), ("squeue", 60, True), ("sacct", 5, True), ("sacct", 300, True)],
)
def test_a_cluster_that_remembers_is_taken(command, age, accounting):
    assert guards.refuse_blind(command, age, accounting) is None


@pytest.mark.parametrize(
    ("command", "age", "accounting", "said"),
    [
        ("squeue", None, True, "Slurm does not answer.*scontrol ping"),
        ("sacct", 300, False, "no accounting.*status_command: squeue"),
        ("squeue", 120, False, "forgets a job 120 s after its end.*MinJobAge of 240"),
    ],
)
def test_a_cluster_that_would_not_know_how_a_job_ended_is_refused(command, age, accounting, said):
    with pytest.raises(WorkflowError, match=said):
        guards.refuse_blind(command, age, accounting)


QUEUE = "7|/data/a|rule_train_decoder\n8|/data/b|rule_x\n9|/data/a|my own job\n10|/data/a|rule_all|odd\n"


def test_jobs_of_an_earlier_run_in_this_folder_are_cancelled_and_no_others(slurm, caplog):
    slurm.says |= {"squeue": [QUEUE, "7|/data/a|rule_train_decoder\n", ""], "scancel": ""}
    guards.cancel_leftovers(Path("/data/a"), LOGGER)
    assert [command for command in slurm.given if command[0] == "scancel"] == [("scancel", "7", "10")]
    assert "cancelled now: 7 10" in caplog.text


def test_nothing_is_cancelled_where_nothing_was_left(slurm, caplog):
    slurm.says["squeue"] = QUEUE
    guards.cancel_leftovers(Path("/data/c"), LOGGER)
    assert not caplog.text and {command[0] for command in slurm.given} == {"squeue"}


def test_jobs_that_cannot_be_cancelled_stop_the_run(slurm):
    slurm.says |= {"squeue": QUEUE, "scancel": None}
    with pytest.raises(WorkflowError, match="cannot be cancelled: 7 10"):
        guards.cancel_leftovers(Path("/data/a"), LOGGER, patience_s=-1)


def test_the_guard_leaves_runs_on_this_machine_alone(slurm):
    before = Executor.check_active_jobs
    guards.prepare(SimpleNamespace(scheduler=SimpleNamespace(_executor=object())), LOGGER)
    assert slurm.given == [] and Executor.check_active_jobs is before
