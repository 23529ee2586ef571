"""The guard between Snakemake's Slurm executor and Slurm, without a cluster: tests/slurm has one."""

import asyncio
import importlib.util
import logging
import os
import subprocess
from types import SimpleNamespace

import pytest
from snakemake_executor_plugin_slurm import Executor
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_interface_common.exceptions import WorkflowError

from tests.unit.source import REPOSITORY

SPEC = importlib.util.spec_from_file_location("slurm_guard", REPOSITORY / "rules/slurm_guard.py")
guards = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(guards)
LOGGER = logging.getLogger("test")
SILENCE = (None, None)


class Resources(dict):
    """Of a job: read by name, set as attributes, as Snakemake's are."""

    def __setattr__(self, name, value):
        self[name] = value


JOB = SimpleNamespace(name="any", resources=Resources())


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


def submitted(*numbers):
    """Jobs under these ids."""
    return [SimpleNamespace(external_jobid=number) for number in numbers]


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
        ("LAUNCH_FAILED", "FAILED"),
    ],
)
def test_the_executor_is_told_one_word_that_it_knows(said, told):
    assert heard(guard_that_hears(({"7": said}, 0.1))) == [{"7": told}]


def test_a_job_without_a_state_is_not_spoken_of():
    """The executor takes an unknown state for success."""
    assert heard(guard_that_hears(({"7": "", "8": "RUNNING"}, 0.1))) == [{"8": "RUNNING"}]


@pytest.mark.parametrize("word", ["PREEMPTED", "NODE_FAIL"])
@pytest.mark.parametrize(
    ("squeue", "told"),
    [
        ("PENDING\n", "PENDING"),
        ("COMPLETING\n", "COMPLETING"),
        ("PREEMPTED\n", "FAILED"),
        ("NODE_FAIL\n", "FAILED"),
        ("", "FAILED"),
        (None, "FAILED"),
    ],
)
def test_a_job_that_lost_its_node_has_ended_unless_it_is_in_the_queue_again(slurm, word, squeue, told):
    slurm.says |= {"squeue": squeue, "scontrol": "UP"}
    assert heard(guard_that_hears(({"7": word}, 0.1)), command="sacct --name run") == [{"7": told}]


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
        ("", "\n", "ERROR"),
    ],
)
def test_a_job_that_the_answers_lack_is_looked_for_elsewhere(slurm, squeue, sacct, told):
    slurm.says |= {"squeue": squeue, "sacct": sacct, "scontrol": "UP"}
    guard = guard_that_hears(*[({"7": "RUNNING"}, 0.1)] * guards.MISSED)
    guard.jobs = submitted("7", "8")
    told_of = heard(guard, guards.MISSED)
    assert told_of[:-1] == [{"7": "RUNNING"}] * (guards.MISSED - 1)  # it may not be listed yet
    assert told_of[-1] == {"7": "RUNNING", "8": told}


def test_while_the_controller_is_away_no_job_is_held_to_have_ended(slurm):
    slurm.says |= {"squeue": None, "scontrol": None, "sacct": "CANCELLED by 0\n"}
    preempted = guard_that_hears(({"7": "PREEMPTED"}, 0.1))
    assert heard(preempted, command="sacct --name run") == [{"7": "RUNNING"}]
    guard = guard_that_hears(*[({}, 0.1)] * guards.MISSED)
    guard.jobs = submitted("8")
    assert heard(guard, guards.MISSED) == [{}] * guards.MISSED


def test_a_run_that_is_given_up_submits_nothing_more(slurm):
    slurm.says["scontrol"] = None
    guard, given = guard_that_hears(*[SILENCE] * 4), []
    with pytest.raises(WorkflowError):
        heard(guard, 4)
    guard.submitting(lambda executor, job: given.append(job), LOGGER)(None, JOB)
    assert given == []


def test_a_job_that_is_submitted_while_ctrl_c_comes_is_cancelled(slurm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slurm.says["scancel"] = ""
    guard = guard_that_hears()
    guard.stopping = True
    info = SimpleNamespace(external_jobid="7", job=SimpleNamespace(output=["a"]))
    guard.noting(lambda executor, info: None, LOGGER)(SimpleNamespace(run_uuid="run"), info)
    assert slurm.given == [("scancel", "7")]


def test_a_job_that_cannot_be_noted_is_reported_all_the_same(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".snakemake").write_text("a file")
    info, reported = SimpleNamespace(external_jobid="7", job=SimpleNamespace(output=["a"])), []
    note = guard_that_hears().noting(lambda executor, info: reported.append(info), LOGGER)
    note(SimpleNamespace(run_uuid="run"), info)
    assert reported == [info] and "7 is not noted" in caplog.text


def test_a_queue_that_does_not_answer_is_not_an_empty_one(slurm):
    slurm.says["squeue"] = None
    with pytest.raises(WorkflowError, match="does not say which jobs are in the queue"):
        guards.cancel_leftovers({"7"}, LOGGER, patience_s=-1)


def test_a_job_that_appears_again_is_not_missed():
    without, within = ({}, 0.1), ({"8": "RUNNING"}, 0.1)
    guard = guard_that_hears(without, without, within, without, without)
    guard.jobs = submitted("8")
    assert heard(guard, 5) == [{}, {}, {"8": "RUNNING"}, {}, {}]


def test_a_task_of_an_array_is_known_by_the_array():
    guard = guard_that_hears(*[({"8": "RUNNING"}, 0.1)] * guards.MISSED)
    guard.jobs = submitted("8_1")
    assert heard(guard, guards.MISSED)[-1] == {"8": "RUNNING"}


def test_the_jobs_that_are_checked_are_noted():
    guard = guard_that_hears()

    async def check(executor, jobs):
        for job in jobs[1:]:
            yield job

    async def left(jobs):
        return [job async for job in guard.checking(check)(None, jobs)]

    jobs = submitted("7", "8")
    guard.jobs = jobs
    assert asyncio.run(left(jobs)) == jobs[1:] and guard.active == {"8"}


def test_during_a_check_every_job_is_active():
    """So that Ctrl-C, which may come then, cancels all of them."""
    guard = guard_that_hears()

    async def check(executor, jobs):
        assert guard.active == {"7", "8"}
        return
        yield

    async def left(jobs):
        return [job async for job in guard.checking(check)(None, jobs)]

    assert asyncio.run(left(submitted("7", "8"))) == [] and guard.active == set()


@pytest.mark.parametrize("held", [[], ["7"]])
def test_ctrl_c_cancels_also_the_jobs_that_are_being_asked_about(held):
    guard, cancelled = guard_that_hears(), []
    guard.jobs = submitted("7", "8")
    cancel = guard.cancelling(lambda executor, jobs: cancelled.extend(jobs), LOGGER)
    cancel(None, [job for job in guard.jobs if job.external_jobid in held])
    assert cancelled == guard.jobs


def test_jobs_that_ctrl_c_cannot_cancel_are_named(caplog):
    def cancel(executor, jobs):
        raise WorkflowError("Slurm is away")

    guard_that_hears().cancelling(cancel, LOGGER)(None, submitted("7", "8"))
    assert "scancel 7 8" in caplog.text


def test_after_ctrl_c_nothing_is_waited_for_or_submitted(slurm):
    slurm.says["scontrol"] = None
    guard = guard_that_hears()
    guard.wait_s = 3600.0
    guard.cancelling(lambda executor, jobs: None, LOGGER)(None, [])
    given = []
    guard.submitting(lambda executor, job: given.append(job), LOGGER)(None, JOB)
    guard.jobs = submitted("7")
    assert given == [] and heard(guard) == [{"7": "RUNNING"}]  # nobody is asked


def test_a_job_is_submitted_when_the_controller_answers(slurm):
    slurm.says["scontrol"] = "UP"
    submitted = []
    guard_that_hears().submitting(lambda executor, job: submitted.append(job), LOGGER)(None, JOB)
    assert submitted == [JOB] and len(slurm.given) == 1


def test_a_submission_waits_for_the_controller_and_not_for_ever(slurm):
    slurm.says["scontrol"] = None
    submitted = []
    guard_that_hears().submitting(lambda executor, job: submitted.append(job), LOGGER)(None, JOB)
    assert submitted == [JOB] and len(slurm.given) == 4


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


@pytest.mark.parametrize(
    ("limit", "wanted", "given"),
    [
        ("1-00:00:00", 2718, 1440),
        ("1-00:00:00", 1359, 1359),
        ("1:00:00\n1-00:00:00", 2718, 1440),  # of two partitions
        ("infinite", 2718, 2718),
        (None, 2718, 2718),
    ],
)
def test_no_job_asks_for_more_time_than_its_partition_allows(slurm, limit, wanted, given):
    slurm.says |= {"scontrol": "UP", "sinfo": limit and f"{limit}\n"}
    job = SimpleNamespace(name="train_decoder", resources=Resources(slurm_partition="gpu", runtime=wanted))
    guard, asked = guard_that_hears(), []
    for _ in range(2):
        guard.submitting(lambda executor, job: asked.append(job.resources["runtime"]), LOGGER)(None, job)
    assert asked == [given] * 2
    questions = [command[0] for command in slurm.given].count("sinfo")
    assert questions == (2 if limit is None else 1)  # once for all jobs, when there is an answer


@pytest.mark.parametrize(("gpu", "asked"), [(0, ""), (2, " --gpus=a100:2")])
def test_a_type_of_gpu_is_asked_for_by_jobs_that_need_one_alone(slurm, gpu, asked):
    slurm.says["scontrol"] = "UP"
    job, given = SimpleNamespace(name="x", resources=Resources(gpu=gpu, gpu_model="a100")), []
    guard_that_hears().submitting(lambda executor, job: given.append(set_gres_string(job)), LOGGER)(None, job)
    assert given == [asked]


@pytest.mark.parametrize(("n", "cap"), [(0, 8), (4, 4), (4, None)])
def test_gpus_that_a_run_may_hold_are_given(n, cap):
    assert guards.refuse_gpus(n, "mindeye", cap) is None


def test_a_training_on_more_gpus_than_the_run_may_hold_is_refused():
    with pytest.raises(WorkflowError, match=r"mindeye trains on 4 GPUs.*may hold 2.*`gpus: 4`"):
        guards.refuse_gpus(4, "mindeye", 2)


QUEUE = "7|rule_train_decoder\n8|rule_x\n9|my own job\n10|rule_all|odd\n"


def test_jobs_of_an_earlier_run_that_this_one_makes_again_are_cancelled_and_no_others(slurm, caplog):
    slurm.says |= {"squeue": [QUEUE, "7|rule_train_decoder\n", ""], "scancel": ""}
    guards.cancel_leftovers({"7", "9", "10", "11"}, LOGGER)
    assert [command for command in slurm.given if command[0] == "scancel"] == [("scancel", "7", "10")]
    assert "cancelled now: 7 10" in caplog.text


@pytest.mark.parametrize("before", [set(), {"11"}])
def test_nothing_is_cancelled_where_nothing_was_left(slurm, caplog, before):
    slurm.says["squeue"] = QUEUE
    guards.cancel_leftovers(before, LOGGER)
    assert not caplog.text and "scancel" not in {command[0] for command in slurm.given}


def test_jobs_that_cannot_be_cancelled_stop_the_run(slurm):
    slurm.says |= {"squeue": QUEUE, "scancel": None}
    with pytest.raises(WorkflowError, match="cannot be cancelled: 7 10"):
        guards.cancel_leftovers({"7", "10"}, LOGGER, patience_s=-1)


def test_jobs_that_write_what_is_due_are_known_from_notes_and_those_of_other_runs_are_left(
    tmp_path, monkeypatch
):
    """Another configuration may run beside this one: Snakemake's lock is on files."""
    monkeypatch.chdir(tmp_path)
    assert guards.submitted_before(planning("a")) == set()
    reported = []
    note = guard_that_hears().noting(
        lambda executor, info, register_job: reported.append(info.external_jobid), LOGGER
    )
    for number, made in (("7", ["a", "b"]), ("8", ["c"]), ("9", ["b"])):
        info = SimpleNamespace(external_jobid=number, job=SimpleNamespace(output=made))
        note(SimpleNamespace(run_uuid=f"run {number}"), info, register_job=True)
    assert reported == ["7", "8", "9"]
    (tmp_path / guards.NOTES / "run 9").open("a").write('["10", ["b"')  # killed while it wrote
    assert guards.submitted_before(planning("b", "d")) == {"7", "9"}
    assert guards.submitted_before(planning("d")) == set()
    os.utime(tmp_path / guards.NOTES / "run 7", (0, 0))  # its number may be another's by now
    assert guards.submitted_before(planning("b")) == {"9"}


def planning(*files):
    """A run that has to make these files, each by a job of its own."""
    jobs = [SimpleNamespace(output=[file]) for file in files]
    return SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda: jobs))


def test_the_guard_leaves_runs_on_this_machine_alone(slurm):
    before = Executor.check_active_jobs
    guards.prepare(SimpleNamespace(scheduler=SimpleNamespace(_executor=object())), LOGGER)
    assert slurm.given == [] and Executor.check_active_jobs is before
