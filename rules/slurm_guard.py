"""What Snakemake's Slurm executor has no answer to: a cluster that is silent for a while, or forgets jobs.

As it is (2.7 and 2.8), the executor forgets every job when Slurm does not answer, and Snakemake then waits
for them without end or message; it does not recognise some ways in which a job ends; and a run that was
killed leaves jobs in the queue that write the same files as those of the next run. `prepare` asks what has to
work before the first job is submitted, and puts `Guard` between the executor and Slurm.
"""

import asyncio
import contextlib
import getpass
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from logging import Logger
from pathlib import Path

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.workflow import WorkflowExecutorInterface

from percept.preflight import machine

# The executor asks at the latest after 180 s: a controller has to remember ended jobs for longer.
REMEMBERED_S = 240
# Answers in a row without a job that was submitted, after which it is held to be gone.
MISSED = 3
# How a job may have ended that the executor would take for one that is still running. After NODE_FAIL it
# would also keep other jobs from the nodes of this one, by a name that is none while the job waits.
ENDED = dict.fromkeys(("PREEMPTED", "NODE_FAIL", "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL"), "FAILED")
AGAIN = {"PREEMPTED", "NODE_FAIL"}  # unless it is in the queue again
UNDER_WAY = {"PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "RESIZING"}

OLD_S = 30 * 24 * 3600  # of notes of jobs; no queue keeps a job for so long
NOTES = Path(".snakemake", "slurm_submitted")  # of the working directory: a file per run, a line per job

States = dict[str, str]
Answer = tuple[States, float] | tuple[None, None]  # state of each job, seconds that the answer took
Query = Callable[[str, Logger], Awaitable[Answer]]
Check = Callable[[RemoteExecutor, list[SubmittedJobInfo]], AsyncIterator[SubmittedJobInfo]]
Submit = Callable[[RemoteExecutor, JobExecutorInterface], None]
Report = Callable[..., None]
Cancel = Callable[[RemoteExecutor, list[SubmittedJobInfo]], None]


def prepare(
    workflow: WorkflowExecutorInterface, logger: Logger, most_gpus: tuple[int, str] = (0, "")
) -> None:
    """Make a run on Slurm safe: to be called when it starts; nothing to do where jobs run elsewhere.

    Parameters
    ----------
    most_gpus : how many the decoder asks for that asks for most, and its name

    Raises
    ------
    WorkflowError : Slurm does not answer, or would not know how a job ended; jobs of an earlier run stay;
        a job asks for more GPUs than the run may hold
    """
    import snakemake_executor_plugin_slurm as plugin

    executor = workflow.scheduler._executor
    if not isinstance(executor, plugin.Executor):
        return
    settings = workflow.executor_settings
    wait_s = workflow.remote_execution_settings.seconds_between_status_checks
    age = plugin.get_min_job_age()
    refuse_blind(settings.status_command, age, accounting=output("sacct", "-X", "-n") is not None)
    cap = workflow.global_resources.get("gpu")
    refuse_gpus(*most_gpus, None if cap is None else cap.value)
    cancel_leftovers(submitted_before(workflow), logger)
    guard = Guard(plugin.query_job_status, settings.status_attempts, wait_s, executor)
    # While the controller is away its answer would be None, and the executor would change to sacct.
    plugin.get_min_job_age = lambda: age
    plugin.query_job_status = guard.states
    plugin.Executor.check_active_jobs = guard.checking(plugin.Executor.check_active_jobs)
    plugin.Executor.report_job_submission = guard.noting(plugin.Executor.report_job_submission, logger)
    plugin.Executor.run_job = guard.submitting(plugin.Executor.run_job, logger)
    plugin.Executor.cancel_jobs = guard.cancelling(plugin.Executor.cancel_jobs, logger)


def output(*command: str) -> str | None:
    """What a command of Slurm prints; None where it fails, is not there, or does not answer in a minute."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):  # also no room for another process
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


def refuse_gpus(n: int, decoder: str, cap: int | None) -> None:
    """Refuse a training on more GPUs than the run may hold: Snakemake would ask Slurm for fewer.

    Raises
    ------
    WorkflowError : it would find fewer than `training.devices`
    """
    if cap is not None and n > cap:
        raise WorkflowError(
            f"the decoder {decoder} trains on {n} GPUs (`training.devices`), and this run may hold {cap} at "
            f"once: its job would be given {cap} and fail. Set `gpus: {n}` or more in "
            "profiles/slurm/site.yaml, or lower `training.devices`."
        )


def submitted_before(workflow: WorkflowExecutorInterface) -> set[str]:
    """Ids under which earlier runs submitted jobs that write what this run makes, by their notes.

    Another run that is alive has locked what its jobs write, and Snakemake refuses a second one that would
    write the same: so whoever submitted these is dead, and the jobs of living runs are not among them.
    """
    due = {str(path) for job in workflow.dag.needrun_jobs() for path in job.output}
    return {number for notes in NOTES.glob("*") for number, made in _noted(notes) if due & set(made)}


def _noted(notes: Path) -> Iterator[tuple[str, list[str]]]:
    """Id and outputs of the jobs of a run; none where Slurm may have given their numbers to others by now."""
    if time.time() - notes.stat().st_mtime > OLD_S:
        notes.unlink()
        return
    for line in notes.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # a line that was not finished
            number, made = json.loads(line)
            yield number, made


def leftovers(submitted: Collection[str]) -> list[str] | None:
    """Those of the jobs that are in the queue still; None where Slurm does not say."""
    if not submitted:
        return []
    listed = output("squeue", "--noheader", "--user", getpass.getuser(), "--format=%i|%k")
    if listed is None:
        return None
    jobs = [line.split("|", 1) for line in listed.splitlines()]
    return [number for number, comment in jobs if number in submitted and comment.startswith("rule_")]


def cancel_leftovers(submitted: Collection[str], logger: Logger, patience_s: float = 120) -> None:
    """Cancel the jobs of a run that was killed: they would write the files that this run makes again.

    Raises
    ------
    WorkflowError : they do not go
    """
    deadline = time.monotonic() + patience_s
    while (jobs := leftovers(submitted)) is None and time.monotonic() < deadline:
        time.sleep(1)
    if jobs is None:
        raise WorkflowError(
            "Slurm does not say which jobs are in the queue (`squeue` fails), and an earlier run in this "
            "folder may have left some that write the same files: no job was submitted. Run the same command "
            "again once `squeue --me` answers."
        )
    if not jobs:
        return
    logger.warning(
        f"An earlier run in this folder was killed and left {len(jobs)} jobs in the queue, which are "
        f"cancelled now: {' '.join(jobs)}. Trainings and images go on from where they were."
    )
    output("scancel", *jobs)
    deadline = time.monotonic() + patience_s
    while (left := leftovers(submitted)) != []:
        if time.monotonic() > deadline:
            raise WorkflowError(
                f"jobs of an earlier run in this folder cannot be cancelled: {' '.join(left or jobs)}. They "
                "write the same files as this run, so no job was submitted. See `squeue --me`, and run the "
                "same command again once they are gone."
            )
        time.sleep(1)


class Guard:
    """Stands between the executor and Slurm.

    Parameters
    ----------
    query : the executor's own function that asks Slurm for the states of all jobs of this run
    attempts, wait_s : how often a question is repeated while there is no answer, and how many seconds apart
    executor : whose `wait` turns false when the run ends
    """

    def __init__(self, query: Query, attempts: int, wait_s: float, executor: RemoteExecutor) -> None:
        self.query, self.attempts, self.wait_s, self.executor = query, attempts, wait_s, executor
        self.silent = 0  # questions in a row that were not answered
        self.missed: Counter[str] = Counter()  # answers in a row without a job
        self.jobs: list[SubmittedJobInfo] = []  # that have not ended, as far as is known
        self.stopping = False  # Ctrl-C
        self.limits: dict[str, float | None] = {}  # minutes that each partition allows

    @property
    def active(self) -> set[str]:
        """Ids of the jobs that have not ended, as far as is known."""
        return {job.external_jobid for job in self.jobs if job.external_jobid is not None}

    async def states(self, command: str, logger: Logger) -> Answer:
        """States of the jobs of this run, each as one word that the executor knows.

        Raises
        ------
        WorkflowError : there was no answer to any of `attempts` questions
        """
        if self._ending:  # a controller that is away would be asked `attempts` times more
            return dict.fromkeys(self.active, "RUNNING"), 0.0
        found, seconds = await self.query(command, logger)
        if found is None or seconds is None:
            await self._wait(command.split()[0], logger)
            return None, None
        if self.silent:
            logger.warning("Slurm answers again.")
        self.silent = 0
        # `CANCELLED by 1000` is what sacct says of a job that somebody cancelled
        words = {job: state.split()[0] for job, state in found.items() if state.split()}
        return {job: _told(job, word) for job, word in self._missing(words, logger).items()}, seconds

    async def _wait(self, program: str, logger: Logger) -> None:
        self.silent += 1
        total = self.attempts * self.wait_s / 60
        if self.silent == 1:
            logger.warning(
                f"Slurm does not answer (`{program}` fails). Its jobs go on; it is asked again every "
                f"{self.wait_s} s, for {total:.0f} minutes."
            )
        if self.silent >= self.attempts:
            self.stopping = (
                True  # what waits to be submitted would wait on, and be submitted with nobody watching
            )
            raise WorkflowError(
                f"Slurm has not answered for {total:.0f} minutes ({self.silent} times `{program}`), so "
                "nobody can say how the jobs of this run ended. Jobs that run on a node go on. See "
                "`scontrol ping`, and run the same command again when it says UP: what is finished stays, "
                "what is not is cancelled and goes on from its checkpoint."
            )
        until = time.monotonic() + self.wait_s
        while not self._ending and time.monotonic() < until:  # Ctrl-C does not wait for the next question
            await asyncio.sleep(min(1, self.wait_s))

    @property
    def _ending(self) -> bool:
        return self.stopping or not self.executor.wait

    def _missing(self, states: States, logger: Logger) -> States:
        """With what is known elsewhere of jobs that the answers lack; `ERROR` if nobody knows of them."""
        for job in self.active:
            self.missed[job] = 0 if job in states or job.split("_")[0] in states else self.missed[job] + 1
        added = {}
        for job in [job for job in self.active if self.missed[job] >= MISSED]:
            state = state_elsewhere(job)
            if state is None:
                continue
            added[job] = state or "ERROR"
            if not state:
                logger.warning(f"Slurm does not know job {job} any more, and it is taken to have failed.")
        return {**states, **added}

    def checking(self, check: Check) -> Check:
        """The executor's own check of its jobs, with their ids noted."""

        async def noted(
            executor: RemoteExecutor, active_jobs: list[SubmittedJobInfo]
        ) -> AsyncIterator[SubmittedJobInfo]:
            self.jobs = active_jobs
            left = []
            async for job in check(executor, active_jobs):
                left.append(job)
                yield job
            self.jobs = left

        return noted

    def noting(self, report: Report, logger: Logger) -> Report:
        """The executor's own report of a submission, with a note of what the job writes, for the next run.

        Snakemake notes it too, and the job that then runs on a node writes over that note.
        """

        def noted(executor: RemoteExecutor, info: SubmittedJobInfo, *given: bool, **named: bool) -> None:
            line = json.dumps([info.external_jobid, [str(path) for path in info.job.output]])
            try:
                NOTES.mkdir(parents=True, exist_ok=True)
                with (NOTES / executor.run_uuid).open("a", encoding="utf-8") as notes:
                    notes.write(f"{line}\n")
            except OSError as error:  # the job is there all the same
                logger.warning(f"job {info.external_jobid} is not noted for the next run: {error}")
            report(executor, info, *given, **named)
            if self.stopping and info.external_jobid is not None:  # it was being submitted when Ctrl-C came
                output("scancel", info.external_jobid)

        return noted

    def submitting(self, submit: Submit, logger: Logger) -> Submit:
        """The executor's own submission of a job, once the controller answers: else it counts as failed."""

        def patient(executor: RemoteExecutor, job: JobExecutorInterface) -> None:
            for _ in range(self.attempts):
                if self._ending or output("scontrol", "ping") is not None:
                    break
                until = time.monotonic() + self.wait_s
                while not self._ending and time.monotonic() < until:
                    time.sleep(min(1, self.wait_s))
            if not self.stopping:  # what Ctrl-C ends submits no more
                self._fit(job, logger)
                if not job.resources.get("gpu") and job.resources.get("gpu_model"):
                    job.resources.gpu_model = ""  # the executor would ask for one such GPU, or for none
                submit(executor, job)

        return patient

    def _fit(self, job: JobExecutorInterface, logger: Logger) -> None:
        """Ask for no more time than the partition allows, as a second attempt may: it would wait for ever."""
        partition, wanted = job.resources.get("slurm_partition"), job.resources.get("runtime")
        if not partition or not wanted:
            return
        if partition not in self.limits:
            said = (output("sinfo", "-h", "-p", partition, "-o", "%l") or "").split()
            if not said:  # asked again for the next job
                return
            limits = [machine.minutes(one) for one in said]  # of several partitions the most generous
            self.limits[partition] = None if None in limits else max(limits)
        limit = self.limits[partition]
        if limit is not None and wanted > limit:
            logger.warning(
                f"{job.name} asks for {wanted} minutes, and the partition {partition} allows {limit:.0f}, "
                "which it is given."
            )
            job.resources.runtime = int(limit)

    def cancelling(self, cancel: Cancel, logger: Logger) -> Cancel:
        """The executor's own cancellation, of every job: while it asks about them, it lists none of them."""

        def of_all(executor: RemoteExecutor, active_jobs: list[SubmittedJobInfo]) -> None:
            self.stopping = True
            known = {job.external_jobid for job in active_jobs}
            jobs = [*active_jobs, *(job for job in self.jobs if job.external_jobid not in known)]
            try:
                cancel(executor, jobs)
            except WorkflowError as error:
                numbers = " ".join(str(job.external_jobid) for job in jobs)
                logger.warning(f"{error}. Jobs of this run may still be there: `scancel {numbers}`.")

        return of_all


def _told(job: str, word: str) -> str:
    """What the executor is told of a job in some state.

    The database says `PREEMPTED` or `NODE_FAIL` of a job that waits in the queue again, and will go on.
    While the controller is away nobody knows, and the job is asked about again.
    """
    if word in AGAIN:
        state = state_in_queue(job)
        if state is None or state in UNDER_WAY:
            return state or "RUNNING"
    return ENDED.get(word, word)


def state_in_queue(job: str) -> str | None:
    """State of a job by the controller; empty where it has forgotten it, None where it does not answer."""
    known = output("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}")
    if known is None:  # of a job that it has forgotten it says so, and fails
        return None if output("scontrol", "ping") is None else ""
    return known.split()[-1] if known.split() else ""


def state_elsewhere(job: str) -> str | None:
    """State of a job by the controller or, where that has forgotten it, how it ended by the database.

    Empty if neither knows, None if the controller does not answer. What the database holds to be running
    without the controller knowing of it is lost.
    """
    known = state_in_queue(job)
    if known or known is None:
        return known
    ended = output("sacct", "-X", "--noheader", "--parsable2", "--format=State", f"--jobs={job}") or ""
    states = [line.split()[0] for line in ended.splitlines() if line.split()]
    return states[-1] if states and states[-1] not in UNDER_WAY else ""
