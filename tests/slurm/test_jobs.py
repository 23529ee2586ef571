"""What single jobs are given, and what happens when they fail, are cancelled or preempted."""

import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.slurm.conftest import MINDEYE, RESULTS, SMALL, SOON, SPLIT, trained

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3600)]
SMALL_RUN = ("--configfile", "config/experiments/small.yaml")
# What a script of the workflow is made to do first: write down who it is and what it sees; wait to be let go.
NOTE = """
import os
seen = os.environ["SLURM_JOB_ID"], os.environ.get("CUDA_VISIBLE_DEVICES")
print(*seen, file=open("seen", "a"))
"""
WAIT = "import time\nwhile not Path('go').exists(): time.sleep(0.1)"


def test_one_subject_alone(checkout, cluster):
    checkout.submit("subj02", *SOON, *SMALL_RUN)
    jobs = cluster.jobs()
    assert {job["state"] for job in jobs} == {"COMPLETED"} and len(cluster.of_rule("train_decoder")) == 1
    assert [job for job in jobs if "subj01" in job["comment"]] == []
    assert (checkout.folder / RESULTS / "evaluation/subj02/audit.parquet").is_file()
    assert not (checkout.folder / RESULTS / "evaluation/subj01").exists()


def test_jobs_with_a_gpu_run_side_by_side_and_each_sees_the_one_that_it_was_given(checkout, cluster):
    seeds = [0, 1, 2]
    config = checkout.configure(
        "three", {**SMALL, "decoders": {**SMALL["decoders"], "mindeye": {**MINDEYE, "seeds": seeds}}}
    )
    checkout.first("train_decoder", f"{NOTE}\n{WAIT}")
    targets = [trained("mindeye", seed) for seed in seeds]
    with checkout.submitting(*targets, *SOON, "--configfile", config) as run:
        seen = dict(checkout.until(lambda: sees(checkout, 2)))
        jobs = {job["id"]: job for job in cluster.of_rule("train_decoder")}
        given = {number: cluster.ask("scontrol", "--details", "show", "job", number) for number in seen}
        (checkout.folder / "go").touch()
        assert run.wait(600) == 0, checkout.printed
    assert sorted(seen.values()) == ["0", "1"]  # two GPUs, two jobs
    assert all(f"GRES=gpu:1(IDX:{gpu})" in given[number] for number, gpu in seen.items())
    assert len(jobs) == 3 and {job["partition"] for job in jobs.values()} == {"gpu"}
    assert sorted(job["state"] for job in jobs.values()) == ["PENDING", "RUNNING", "RUNNING"]
    assert all("gres/gpu=1" in job["given"] for job in cluster.of_rule("train_decoder"))
    assert all((checkout.folder / target).is_file() for target in targets)


def sees(checkout, n):
    """Job and GPUs of the first `n` jobs that wrote down what they see; nothing before."""
    lines = [line.split() for line in checkout.lines("seen")]
    return lines if len(lines) >= n else None


def test_a_job_for_several_gpus_sees_them_on_one_node(checkout, cluster):
    two = {**MINDEYE, "training": {**MINDEYE["training"], "devices": 2}}
    config = checkout.configure("two", {**SMALL, "decoders": {**SMALL["decoders"], "mindeye": two}})
    checkout.first("train_decoder", NOTE)
    checkout.submit(trained("mindeye"), *SOON, "--configfile", config)
    [job] = cluster.of_rule("train_decoder")
    assert checkout.lines("seen") == [f"{job['id']} 0,1"] and "gres/gpu=2" in job["given"]
    assert job["memory"] == "8000M"  # twice what a training on one asks for
    assert "NumNodes=1 " in cluster.ask("scontrol", "show", "job", job["id"])


def test_a_job_that_needs_more_memory_is_given_more_at_its_second_attempt(checkout, cluster):
    checkout.first("freeze_split", f"{NOTE}\nheld = b'x' * 2_300_000_000\nimport time; time.sleep(4)")
    checkout.submit(SPLIT, *SOON, *SMALL_RUN)
    first, second = cluster.of_rule("freeze_split")
    assert [first["state"], second["state"]] == ["FAILED", "COMPLETED"]
    assert [first["memory"], second["memory"]] == ["2000M", "4000M"]
    assert [line.split()[0] for line in checkout.lines("seen")] == [first["id"], second["id"]]


@pytest.mark.parametrize(("partition", "minutes", "seconds"), [("main", 2, 65), ("short", 1, 0)])
def test_a_job_that_takes_too_long_is_given_twice_the_time_or_what_the_partition_allows(
    checkout, cluster, partition, minutes, seconds
):
    checkout.site({"account": "lab", "partition": partition})
    allow(checkout, "voxels", "freeze_split", minutes=1)
    slow = f"import time; time.sleep({seconds} if again else 600)"
    checkout.first("freeze_split", f"again = Path('seen').exists()\n{NOTE}\n{slow}")
    done = checkout.submit(SPLIT, *SOON, *SMALL_RUN)
    first, second = cluster.of_rule("freeze_split")
    assert [first["state"], second["state"]] == ["TIMEOUT", "COMPLETED"]
    assert [first["time"], second["time"]] == ["1:00", f"{minutes}:00"]
    assert f"SLURM-job '{first['id']}' failed, SLURM status is: 'TIMEOUT'" in done.stdout
    fitted = f"freeze_split asks for 2 minutes, and the partition {partition} allows 1, which it is given"
    assert (fitted in done.stdout) == (partition == "short")
    assert [line.split()[0] for line in checkout.lines("seen")] == [first["id"], second["id"]]


def allow(checkout, file, rule, minutes):
    """Let a rule ask for so many minutes at its first attempt."""
    path = checkout.folder / f"rules/{file}.smk"
    asked = rf"(^rule {rule}:$.*?runtime=growing\()\d+"
    text, n = re.subn(asked, rf"\g<1>{minutes}", path.read_text(), count=1, flags=re.DOTALL | re.MULTILINE)
    assert n == 1
    path.write_text(text)


def test_a_job_that_always_fails_runs_once_in_each_of_its_allocations(checkout, cluster):
    checkout.first("freeze_split", f"{NOTE}\nraise ValueError('a fault of the test')")
    done = checkout.submit(SPLIT, *SOON, *SMALL_RUN, check=False)
    jobs = cluster.of_rule("freeze_split")
    assert done.returncode != 0 and "a fault of the test" in done.stdout  # the log is shown
    assert [job["state"] for job in jobs] == ["FAILED", "FAILED"]
    assert [line.split()[0] for line in checkout.lines("seen")] == [job["id"] for job in jobs]


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_job_that_somebody_cancels_is_noticed_and_submitted_again(checkout, cluster, command):
    checkout.site({"account": "lab", "status_command": command})
    checkout.first("freeze_split", f"{NOTE}\n{WAIT}")
    with checkout.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        [[number, _]] = checkout.until(lambda: sees(checkout, 1))
        cluster.ask("scancel", number)
        (checkout.folder / "go").touch()
        assert run.wait(600) == 0, checkout.printed
    assert f"SLURM-job '{number}' failed, SLURM status is: 'CANCELLED'" in checkout.printed
    assert [job["state"] for job in cluster.of_rule("freeze_split")] == ["CANCELLED", "COMPLETED"]


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_preempted_training_goes_on_from_its_checkpoint_to_the_same_result(checkout, cluster, command):
    checkout.site({"account": "lab", "status_command": command})
    long = {**MINDEYE, "training": {**MINDEYE["training"], "epochs": 150, "checkpoint_minutes": 0.01}}
    config = checkout.configure("long", {**SMALL, "decoders": {**SMALL["decoders"], "mindeye": long}})
    target = trained("mindeye")
    folder = (checkout.folder / target).parent
    checkout.snakemake(target, config=config)  # on this machine, undisturbed
    undisturbed = load_file(folder / "weights.safetensors")
    shutil.rmtree(folder)

    with checkout.submitting(target, *SOON, "--configfile", config) as run:
        checkout.until(lambda: any(folder.glob("**/checkpoint.pt")))
        whole = ("--account=lab", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 3")
        urgent = cluster.ask("sbatch", "--parsable", *whole)
        checkout.until(lambda: state(cluster, urgent) == "COMPLETED")
        assert run.wait(1500) == 0, checkout.printed
    [job] = cluster.of_rule("train_decoder")
    assert (job["state"], job["restarts"]) == ("COMPLETED", "1")
    assert re.search(r"resumed at step [1-9]", (checkout.folder / log_of(target)).read_text())
    weights = load_file(folder / "weights.safetensors")
    assert weights.keys() == undisturbed.keys() and len(weights) > 5
    assert all(np.array_equal(weights[name], undisturbed[name]) for name in weights)


def log_of(target):
    """Log of the training that leaves a file."""
    return f"{target.rpartition('/')[0].replace('results', 'logs', 1)}/train_decoder.log"


def state(cluster, number):
    """State of one job."""
    return next(job["state"] for job in cluster.jobs() if job["id"] == number)
