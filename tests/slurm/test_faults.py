"""A cluster that is away for a while, or that cannot say how jobs end; a login process that is killed."""

import signal

import pytest

from tests.slurm.conftest import RESULTS, SOON, SPLIT, OnCluster, trained
from tests.slurm.test_jobs import NOTE, SMALL_RUN, WAIT, sees
from tests.workflow.conftest import TINY

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3600)]
IMPATIENT = ("--slurm-status-attempts", "4", "--seconds-between-status-checks", "3")
TRUTH = trained("ridge_truth")
FEATURES = f"{RESULTS}/targets/truth/index.json"


@pytest.fixture
def waiting(checkout):
    """A checkout whose splits wait, when they are frozen again, until a file `go` is there."""
    checkout.first("freeze_split", f"{NOTE}\n{WAIT}")
    return checkout


def test_a_node_that_is_drained_and_resumed_only_delays(waiting, cluster):
    with waiting.submitting(TRUTH, *SOON, *SMALL_RUN) as run:
        waiting.until(lambda: sees(waiting, 1))
        node = ("scontrol", "update", f"nodename={cluster.host}")
        cluster.ask(*node, "state=drain", "reason=test")
        (waiting.folder / "go").touch()
        waiting.until(lambda: [job["state"] for job in cluster.of_rule("train_decoder")] == ["PENDING"])
        assert cluster.node_state() == "drained"
        cluster.ask(*node, "state=resume")
        assert run.wait(400) == 0, waiting.printed
    assert {job["state"] for job in cluster.jobs()} == {"COMPLETED"} and len(cluster.jobs()) == 2


@pytest.fixture(scope="module")
def watched(make_cluster):
    """A cluster that misses a node soon, and on which a job that is in the queue again waits for a minute."""
    return make_cluster(more="SlurmdTimeout=10\nAuthInfo=socket={folder}/munge/socket,cred_expire=60\n")


@pytest.fixture
def halfway(checkout, watched):
    """A checkout on it whose splits wait like those of `waiting`, with an output that is not whole."""
    checkout.cluster = watched
    half = "Path(snakemake.output.described).write_text('half')"
    checkout.first("freeze_split", f"{NOTE}\n{half}\n{WAIT}")
    yield checkout
    watched.clear()


@pytest.mark.parametrize("command", ["squeue", "sacct"])
def test_a_job_whose_node_fails_goes_back_into_the_queue_and_what_needs_it_runs_on(halfway, watched, command):
    halfway.site({"account": "lab", "status_command": command})
    undisturbed = (halfway.folder / SPLIT).read_bytes()
    with halfway.submitting(TRUTH, *SOON, *SMALL_RUN) as run:
        [[number, _]] = halfway.until(lambda: sees(halfway, 1))
        watched.fail_node(number)
        assert [job["state"] for job in watched.jobs()] == ["PENDING"]
        watched.start_node()
        halfway.until(lambda: sees(halfway, 2))
        (halfway.folder / "go").touch()
        assert run.wait(600) == 0, halfway.printed
    assert [job for job, _ in sees(halfway, 2)] == [number, number]
    split, training = watched.jobs()
    assert (split["id"], split["state"], split["restarts"]) == (number, "COMPLETED", "1")
    assert (training["state"], training["restarts"]) == ("COMPLETED", "0")
    assert (halfway.folder / SPLIT).read_bytes() == undisturbed


def test_a_job_that_may_not_go_back_into_the_queue_when_its_node_fails_is_submitted_again(halfway, watched):
    with halfway.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        [[number, _]] = halfway.until(lambda: sees(halfway, 1))
        watched.ask("scontrol", "update", f"jobid={number}", "requeue=0")
        watched.fail_node(number)
        watched.start_node()
        (halfway.folder / "go").touch()
        assert run.wait(400) == 0, halfway.printed
    assert [job["state"] for job in watched.of_rule("freeze_split")] == ["NODE_FAIL", "COMPLETED"]


def test_a_login_process_that_is_killed_leaves_nothing_that_the_next_run_trips_over(waiting, cluster):
    with waiting.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        [[left, _]] = waiting.until(lambda: sees(waiting, 1))
        run.kill()
        run.wait()
    assert [job["state"] for job in cluster.of_rule("freeze_split")] == ["RUNNING"]
    waiting.submit("--unlock", *SMALL_RUN)
    with waiting.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        waiting.until(lambda: sees(waiting, 2))
        (waiting.folder / "go").touch()
        assert run.wait(400) == 0, waiting.printed
    assert f"left 1 jobs in the queue, which are cancelled now: {left}" in waiting.printed
    assert [job["state"] for job in cluster.of_rule("freeze_split")] == ["CANCELLED", "COMPLETED"]


def test_ctrl_c_cancels_the_jobs(waiting, cluster):
    with waiting.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        waiting.until(lambda: sees(waiting, 1))
        run.send_signal(signal.SIGINT)
        assert run.wait(120) != 0
    cluster.wait_for(
        lambda: cluster.of_rule("freeze_split")[0]["state"] == "CANCELLED", "the end of the job", 60
    )


def test_another_command_in_the_folder_leaves_the_jobs_of_a_living_run_alone(waiting, cluster):
    with waiting.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        waiting.until(lambda: sees(waiting, 1))
        looked = waiting.submit("preflight", *SMALL_RUN, check=False)
        other = waiting.submit(FEATURES, "--forcerun", FEATURES, *SOON, *SMALL_RUN)
        assert "disk, GB" in looked.stdout and "cancelled" not in looked.stdout + other.stdout
        (waiting.folder / "go").touch()
        assert run.wait(400) == 0, waiting.printed
    assert {job["state"] for job in cluster.of_rule("freeze_split")} == {"COMPLETED"}


def test_ctrl_c_while_the_controller_is_away_ends_the_run_and_says_what_may_be_left(waiting, cluster):
    with waiting.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        [[number, _]] = waiting.until(lambda: sees(waiting, 1))
        cluster.end("slurmctld")
        try:
            waiting.until(lambda: "Slurm does not answer" in waiting.printed)
            run.send_signal(signal.SIGINT)
            assert run.wait(180) != 0
        finally:
            cluster.start_controller()
    assert f"`scancel {number}`" in waiting.printed


@pytest.mark.parametrize(("daemon", "command"), [("slurmctld", "squeue"), ("slurmdbd", "sacct")])
def test_a_cluster_that_is_silent_for_a_while_only_delays(waiting, cluster, daemon, command):
    waiting.site({"account": "lab", "status_command": command})
    with waiting.submitting(TRUTH, *SOON, *SMALL_RUN) as run:
        waiting.until(lambda: sees(waiting, 1))
        cluster.end(daemon)
        try:
            waiting.until(lambda: f"Slurm does not answer (`{command}` fails)" in waiting.printed)
            (waiting.folder / "go").touch()
        finally:
            cluster.start_controller() if daemon == "slurmctld" else cluster.start_database()
        assert run.wait(300) == 0, waiting.printed
    assert "Slurm answers again" in waiting.printed
    assert {job["state"] for job in cluster.jobs()} == {"COMPLETED"} and len(cluster.jobs()) == 2


def test_a_controller_that_stays_away_ends_the_run_with_a_message(waiting, cluster):
    with waiting.submitting(TRUTH, *SOON, *IMPATIENT, *SMALL_RUN) as run:
        waiting.until(lambda: sees(waiting, 1))
        cluster.end("slurmctld")
        try:
            assert run.wait(240) != 0
        finally:
            cluster.start_controller()
    assert "Slurm has not answered" in waiting.printed and "run the same command again" in waiting.printed


def test_a_job_that_the_cluster_forgets_is_submitted_again(waiting, make_cluster):
    """The state of the controller is lost: it knows of no job any more, and there is no database."""
    waiting.cluster = make_cluster(accounting=False)
    waiting.site({})
    with waiting.submitting(SPLIT, *SOON, *SMALL_RUN) as run:
        [[number, _]] = waiting.until(lambda: sees(waiting, 1))
        forget(waiting.cluster)
        (waiting.folder / "go").touch()
        assert run.wait(400) == 0, waiting.printed
    assert f"Slurm does not know job {number} any more" in waiting.printed
    waiting.cluster.stop()


def forget(cluster):
    """Start the controller anew without what it knew."""
    cluster.end("slurmctld")
    with (cluster.folder / "etc/slurm.conf").open("a") as settings:
        settings.write("FirstJobId=1000\n")  # the node still has a job under the first number
    for path in (cluster.folder / "state").glob("job_state*"):
        path.unlink()
    cluster.start_controller()


@pytest.mark.parametrize(
    ("age", "command", "said"),
    [(300, "sacct", "no accounting database"), (60, "squeue", "forgets a job 60 s after its end")],
)
def test_a_cluster_that_could_not_say_how_jobs_end_is_refused_before_the_first(
    make_cluster, tmp_path, age, command, said
):
    cluster = make_cluster(accounting=False, min_job_age=age)
    checkout = OnCluster(tmp_path, cluster)
    checkout.site({"status_command": command})
    done = checkout.submit("all", *SOON, "--configfile", TINY, check=False, timeout=300)
    assert done.returncode != 0 and said in " ".join(done.stdout.split())
    assert cluster.jobs() == []
    cluster.stop()


def test_a_cluster_without_accounting_runs_jobs_all_the_same(make_cluster, tmp_path):
    cluster = make_cluster(accounting=False)
    checkout = OnCluster(tmp_path, cluster)
    checkout.submit("resources/tiny/truth/features.h5", *SOON, "--configfile", TINY)
    assert [job["state"] for job in cluster.jobs()] == ["COMPLETED"]
    cluster.stop()


def test_a_controller_that_is_away_at_the_start_is_named(make_cluster, tmp_path):
    cluster = make_cluster(accounting=False)
    checkout = OnCluster(tmp_path, cluster)
    cluster.end("slurmctld")
    done = checkout.submit("all", *SOON, "--configfile", TINY, check=False, timeout=300)
    assert done.returncode != 0 and "Slurm does not answer" in done.stdout
    cluster.stop()


def test_an_account_that_does_not_exist_is_named(checkout, cluster):
    checkout.site({"account": "nobodys"})
    checkout.first("freeze_split", NOTE)
    done = checkout.submit(SPLIT, *SOON, *SMALL_RUN, check=False)
    assert done.returncode != 0 and "nobodys" in done.stdout and "lab" in done.stdout
    assert cluster.jobs() == []
