"""One cluster for all tests, and checkouts in which `snakemake --profile slurm` is typed."""

import contextlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest
import yaml

from tests.slurm.cluster import ACCOUNT, Cluster, why_not
from tests.workflow.conftest import Checkout

SITE = "profiles/slurm/site.yaml"
# Tests do not wait as long as people do: what they change of the profile, beside what they test.
SOON = ("--slurm-init-seconds-before-status-checks", "8", "--latency-wait", "10")


class OnCluster(Checkout):
    """A checkout whose jobs run on a cluster; what it types is what a user types, after `snakemake`."""

    def __init__(self, folder, cluster, copied=False):
        if copied:
            self.folder = folder
        else:
            super().__init__(folder)
        self.cluster = cluster
        self.site({"account": ACCOUNT} if cluster.accounting else {})

    @property
    def environment(self):
        own = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": str(self.folder / "src")}
        pretended = {"PERCEPT_DEVICE": "cpu"}  # the GPUs of the node are files
        return {**self.cluster.environment, **own, **pretended}

    def site(self, values):
        """Write the site file."""
        (self.folder / SITE).write_text(yaml.safe_dump(values))

    def submit(self, *arguments, check=True, timeout=800):
        """`snakemake --profile slurm` with these arguments; the finished process, its output in one text."""
        done = subprocess.run(
            ["snakemake", "--profile", "slurm", *arguments], cwd=self.folder, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout,
        )  # fmt: skip
        assert not check or done.returncode == 0, done.stdout
        return done

    @contextlib.contextmanager
    def submitting(self, *arguments):
        """The same, running: its process; what it prints is in `run.log`."""
        with (self.folder / "run.log").open("w") as log:
            process = subprocess.Popen(
                ["snakemake", "--profile", "slurm", *arguments], cwd=self.folder, env=self.environment,
                stdout=log, stderr=log, start_new_session=True, preexec_fn=heed_ctrl_c,
            )  # fmt: skip
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()

    def first(self, script, code):
        """Let a script of the workflow do something as soon as it has a log, with Python's `Path` at hand."""
        path = self.folder / f"workflow/scripts/{script}.py"
        start = "log.to_file(snakemake.log[0])\n"
        text = path.read_text()
        assert text.count(start) == 1
        path.write_text(text.replace(start, f"{start}from pathlib import Path\n{code}\n"))

    def lines(self, name):
        """Lines of a file that scripts wrote to; none before the first did."""
        path = self.folder / name
        return path.read_text().splitlines() if path.is_file() else []

    @property
    def printed(self):
        """What the running process has printed so far."""
        return (self.folder / "run.log").read_text()

    def until(self, happened, seconds=1200):
        """Wait until something is true of the run; its last value."""
        deadline = time.monotonic() + seconds
        while not (value := happened()):
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.2)
        return value


def heed_ctrl_c():
    """As in a terminal: a process that was started in the background hands on that it ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def make_cluster():
    """Start a cluster, in a folder whose name is short; all are stopped in the end."""
    if reason := why_not():
        pytest.skip(reason)
    started = []

    def make(**settings):
        started.append(Cluster(tempfile.mkdtemp(prefix="slurm", dir="/tmp"), **settings))
        return started[-1].start()

    yield make
    for cluster in started:
        cluster.stop()
        shutil.rmtree(cluster.folder)


@pytest.fixture(scope="session")
def accounted(make_cluster):
    """The cluster of most tests: with accounting, and an account that has to be named."""
    return make_cluster()


@pytest.fixture
def cluster(accounted):
    """The same without a job in it, before and after a test."""
    accounted.clear()
    yield accounted
    accounted.clear()


# The smallest runs: ridge, and a MindEye that asks for a GPU and can do without.
NETWORK = {"width": 32, "blocks": 1, "projector_width": 32}
PRIOR = {"depth": 1, "heads": 2, "head_width": 8, "sampler": "ddim", "sampling_steps": 3, "timesteps": 20}
MINDEYE = {
    "kind": "mindeye",
    "target": "clip",
    "network": NETWORK,
    "prior": PRIOR,
    "training": {"epochs": 3, "batch_size": 32, "device": "auto"},
}
SMALL = {
    "dataset": {"name": "slurm", "root": "resources/tiny"},
    "targets": {"pixels": None, "tokens": None, "latents": None},
    "decoders": {
        "ridge_pixels": None,
        "ridge_clip": None,
        "ridge_latents": None,
        "mindeye_lowlevel": None,
        "ridge_truth": {"seeds": [0]},
        "mindeye": None,
    },
    "reconstructions": None,
    "evaluation": {"bootstrap": 20, "permutations": 20},
}
RESULTS = "results/slurm"
SPLIT = f"{RESULTS}/datasets/subj01/split.json"


def trained(decoder, seed=0, subject="subj01"):
    """What a training leaves."""
    return f"{RESULTS}/decoders/{subject}/{decoder}/seed-{seed}/predictions.h5"


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A checkout in which everything before the trainings was made, on this machine; not to be changed."""
    copy = Checkout(tmp_path_factory.mktemp("prepared"))
    config = copy.configure("small", SMALL)
    splits = [f"{RESULTS}/datasets/{subject}/split.json" for subject in ("subj01", "subj02")]
    features = [f"{RESULTS}/targets/{target}/index.json" for target in ("truth", "clip")]
    copy.snakemake(*splits, *features, config=config)
    return copy


@pytest.fixture
def checkout(prepared, cluster, tmp_path):
    """A copy of it, on the cluster."""
    return OnCluster(Checkout.of(prepared, tmp_path / "run").folder, cluster, copied=True)
