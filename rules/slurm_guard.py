"""What Snakemake's Slurm executor has no answer to: a cluster that is silent for a while, or forgets jobs.

As it is (2.7 and 2.8), the executor forgets every job when Slurm does not answer, and Snakemake then waits
for them without end or message; it does not recognise some ways in which a job ends; and a run that was
killed leaves jobs in the queue that write the same files as those of the next run. `prepare` asks what has to
work before the first job is submitted, and puts `Guard` between the executor and Slurm.
"""

import asyncio
import getpass
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from logging import Logger
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.workflow import WorkflowExecutorInterface

# The executor asks at the latest after 180 s: a controller has to remember ended jobs for longer.
REMEMBERED_S = 240
# Answers in a row without a job that was submitted, after which it is held to be gone.
MISSED = 3
# How a job may have ended that the executor would take for one that is still running.
ENDED = dict.fromkeys(("PREEMPTED", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"), "FAILED")
UNDER_WAY = {"PENDING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING"}

States = dict[str, str]
Answer = tuple[States, float] | tuple[None, None]  # state of each job, seconds that the answer took
Query = Callable[[str, Logger], Awaitable[Answer]]
Check = Callable[[RemoteExecutor, list[SubmittedJobInfo]], AsyncIterator[SubmittedJobInfo]]
Submit = Callable[[RemoteExecutor, JobExecutorInterface], None]


def prepare(workflow: WorkflowExecutorInterface, logger: Logger) -> None:
    """Make a run on Slurm safe: to be called when it starts; nothing to do where jobs run elsewhere.

    Raises
    ------
    WorkflowError : Slurm does not answer, or would not know how a job ended, or jobs of an earlier run stay
    """
    import snakemake_executor_plugin_slurm as plugin

    executor = workflow.scheduler._executor
    if not isinstance(executor, plugin.Executor):
        return
    settings = workflow.executor_settings
    wait_s = workflow.remote_execution_settings.seconds_between_status_checks
    age = plugin.get_min_job_age()
    refuse_blind(settings.status_command, age, accounting=output("sacct", "-X", "-n") is not None)
    cancel_leftovers(Path.cwd(), logger)
    guard = Guard(plugin.query_job_status, settings.status_attempts, wait_s, executor)
    # While the controller is away its answer would be None, and the executor would change to sacct.
    plugin.get_min_job_age = lambda: age
    plugin.query_job_status = guard.states
    plugin.Executor.check_active_jobs = guard.checking(plugin.Executor.check_active_jobs)
    plugin.Executor.run_job = guard.submitting(plugin.Executor.run_job)


def output(*command: str) -> str | None:
    """What a command of Slurm prints; None where it fails, is not there, or does not answer in a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def refuse_blind(status_command: str, remembered_s: int | None, accounting: bool) -> None:
    """Refuse a cluster on which nobody could say how a job ended.

    Parameters
    ----------
    status_command : `squeue` or `sacct`, the profile's `slurm-status-command`
    remembered_s : how long the controller remembers ended jobs (MinJobAge); None where it does not answer
    accounting : whether `sacct` answers

    Raises
    ------
    WorkflowError : the controller is away, or neither it nor the database remembers ended jobs
    """
    if remembered_s is None:
        raise WorkflowError(
            "Slurm does not answer: `scontrol show config` fails or names no MinJobAge. No job was "
            "submitted. See `scontrol ping`, and run the same command again once it says UP."
        )
    if accounting or (status_command == "squeue" and remembered_s >= REMEMBERED_S):
        return
    if status_command == "sacct":
        raise WorkflowError(
            "this run would ask `sacct` how its jobs ended, but `sacct` fails: the cluster has no accounting "
            "database, or the database is away. Snakemake would wait for its jobs without end, so no job was "
            "submitted. Set `status_command: squeue` in profiles/slurm/site.yaml."
        )
    raise WorkflowError(
        f"this cluster forgets a job {remembered_s} s after its end (MinJobAge in `scontrol show config`) "
        "and has no accounting database that remembers it, while Snakemake asks every 20 to 180 s. Ended "
        "jobs would be missed, so no job was submitted. Ask the administrators for a MinJobAge of "
        f"{REMEMBERED_S} s or more (Slurm's default is 300), or for accounting."
    )


def leftovers(folder: Path) -> list[str]:
    """Ids of jobs that an earlier run in a folder submitted, and that are in the queue still.

    Snakemake locks the folder, so no other run of it is alive: what is there was left behind.
    """
    listed = output("squeue", "--noheader", "--user", getpass.getuser(), "--format=%i|%Z|%k") or ""
    jobs = [line.split("|", 2) for line in listed.splitlines()]
    return [number for number, where, comment in jobs if where == str(folder) and comment.startswith("rule_")]


def cancel_leftovers(folder: Path, logger: Logger, patience_s: float = 120) -> None:
    """Cancel the jobs of a run that was killed: they would write the files that this run makes again.

    Raises
    ------
    WorkflowError : they do not go
    """
    jobs = leftovers(folder)
    if not jobs:
        return
    logger.warning(
        f"An earlier run in this folder was killed and left {len(jobs)} jobs in the queue, which are "
        f"cancelled now: {' '.join(jobs)}. Trainings and images go on from where they were."
    )
    output("scancel", *jobs)
    deadline = time.monotonic() + patience_s
    while left := leftovers(folder):
        if time.monotonic() > deadline:
            raise WorkflowError(
                f"jobs of an earlier run in this folder cannot be cancelled: {' '.join(left)}. They write "
                "the same files as this run, so no job was submitted. See `squeue --me`, and run the same "
                "command again once they are gone."
            )
        time.sleep(1)


class Guard:
    """Stands between the executor and Slurm.

    Parameters
    ----------
    query : the executor's own function that asks Slurm for the states of all jobs of this run
    attempts, wait_s : how often a question is repeated while there is no answer, and how many seconds apart
    executor : whose `wait` turns false when the run is to end
    """

    def __init__(self, query: Query, attempts: int, wait_s: float, executor: RemoteExecutor) -> None:
        self.query, self.attempts, self.wait_s, self.executor = query, attempts, wait_s, executor
        self.silent = 0  # questions in a row that were not answered
        self.missed: Counter[str] = Counter()  # answers in a row without a job
        self.active: set[str] = set()

    async def states(self, command: str, logger: Logger) -> Answer:
        """States of the jobs of this run, each as one word that the executor knows.

        Raises
        ------
        WorkflowError : there was no answer to any of `attempts` questions
        """
        found, seconds = await self.query(command, logger)
        if found is None or seconds is None:
            await self._wait(command.split()[0], logger)
            return None, None
        if self.silent:
            logger.warning("Slurm answers again.")
        self.silent = 0
        # `CANCELLED by 1000` is what sacct says of a job that somebody cancelled
        words = {job: (state.split() or ["UNKNOWN"])[0] for job, state in found.items()}
        return {job: ENDED.get(word, word) for job, word in self._missing(words, logger).items()}, seconds

    async def _wait(self, program: str, logger: Logger) -> None:
        self.silent += 1
        total = self.attempts * self.wait_s / 60
        if self.silent == 1:
            logger.warning(
                f"Slurm does not answer (`{program}` fails). Its jobs go on; it is asked again every "
                f"{self.wait_s} s, for {total:.0f} minutes."
            )
        if self.silent >= self.attempts:
            raise WorkflowError(
                f"Slurm has not answered for {total:.0f} minutes ({self.silent} times `{program}`), so "
                "nobody can say how the jobs of this run ended. Jobs that run on a node go on. See "
                "`scontrol ping`, and run the same command again when it says UP: what is finished stays, "
                "what is not is cancelled and goes on from its checkpoint."
            )
        until = time.monotonic() + self.wait_s
        while self.executor.wait and time.monotonic() < until:  # Ctrl-C does not wait for the next question
            await asyncio.sleep(min(1, self.wait_s))

    def _missing(self, states: States, logger: Logger) -> States:
        """With what is known elsewhere of jobs that the answers lack; `ERROR` if nobody knows of them."""
        for job in self.active:
            self.missed[job] = 0 if job in states or job.split("_")[0] in states else self.missed[job] + 1
        added = {}
        for job in [job for job in self.active if self.missed[job] >= MISSED]:
            added[job] = state_elsewhere(job) or "ERROR"
            if added[job] == "ERROR":
                logger.warning(f"Slurm does not know job {job} any more, and it is taken to have failed.")
        return {**states, **added}

    def checking(self, check: Check) -> Check:
        """The executor's own check of its jobs, with their ids noted."""

        async def noted(
            executor: RemoteExecutor, active_jobs: list[SubmittedJobInfo]
        ) -> AsyncIterator[SubmittedJobInfo]:
            self.active = {job.external_jobid for job in active_jobs}
            async for job in check(executor, active_jobs):
                yield job

        return noted

    def submitting(self, submit: Submit) -> Submit:
        """The executor's own submission of a job, once the controller answers: else it counts as failed."""

        def patient(executor: RemoteExecutor, job: JobExecutorInterface) -> None:
            for _ in range(self.attempts):
                if output("scontrol", "ping") is not None or not executor.wait:
                    break
                time.sleep(self.wait_s)
            submit(executor, job)

        return patient


def state_elsewhere(job: str) -> str | None:
    """State of a job by the controller or, where that has forgotten it, how it ended by the database.

    None if neither knows; what the database holds to be running without the controller knowing of it is lost.
    """
    if known := (
        output("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}") or ""
    ).split():
        return known[-1]
    ended = output("sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={job}") or ""
    states = [line.split()[0] for line in ended.splitlines()]
    return states[-1] if states and states[-1] not in UNDER_WAY else None
