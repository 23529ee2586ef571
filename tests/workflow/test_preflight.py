"""`snakemake preflight` as it is typed: tables and 0, or tables, reasons and an error."""

import os

import pytest
import yaml

from .conftest import Checkout

NSD = "config/nsd.yaml"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("preflight"))


def test_the_smallest_twin_works_and_leaves_nothing_but_its_log(fresh):
    done = fresh.run("preflight", "--cores", "1", "--configfile", "config/experiments/tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert "disk, GB" in done.stdout and "mindeye_lowlevel" in done.stdout and "longest, h" in done.stdout
    assert not (fresh.folder / "results/tiny").exists()
    assert (fresh.folder / "logs/tiny/preflight.log").is_file()


def test_nsd_without_its_terms_is_refused_with_everything_else_that_is_wrong(fresh):
    (fresh.folder / "results/nsd").write_text("in the way")
    done = fresh.run("preflight", "--cores", "1", "--configfile", NSD)
    (fresh.folder / "results/nsd").unlink()
    assert done.returncode != 0 and "disk, GB" in done.stdout
    log = (fresh.folder / "logs/nsd/preflight.log").read_text()
    for words in ("Data Access Agreement", "results/nsd is no folder"):
        assert words in done.stderr and words in log


def test_nothing_of_a_run_depends_on_it(fresh):
    assert fresh.planned("preflight") == {}
    assert "preflight" not in fresh.planned("all")


# What the commands of Slurm print on a cluster whose partitions let a job run for four hours.
SLURM = {
    "sinfo": """case "$*" in
        *nowhere*) ;;
        *%G*) echo "64|512000|gpu:a100:4|4:00:00" ;;
        *) echo 4:00:00 ;;
    esac""",
    "scontrol": 'echo "MinJobAge               = 300 sec"',
    "squeue": 'echo "4711|rule_train_decoder_wildcards_of_another_run"',
    "scancel": 'echo "$@" >> cancelled',
    **dict.fromkeys(("sacct", "sbatch", "sacctmgr"), "exit 0"),
}


@pytest.fixture
def on_slurm(fresh, tmp_path, monkeypatch):
    """Run `snakemake --profile slurm preflight` on it, with a site file; the finished process."""
    for name, script in SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    site = fresh.folder / "profiles/slurm/site.yaml"

    def run(values, *arguments):
        site.write_text(yaml.safe_dump(values))
        return fresh.run("--profile", "slurm", "preflight", *arguments)

    yield run
    site.unlink()


def test_jobs_are_compared_with_the_partitions_that_they_go_to(fresh, on_slurm):
    done = on_slurm(
        {"partition": "all", "gpu_partition": "max"}, "--configfile", NSD
    )  # names of functions too
    said = done.stdout + done.stderr
    assert done.returncode != 0 and "of all" not in said and "disk, GB" in done.stdout
    refused = [line for line in said.splitlines() if "lets a job run for 240 minutes" in line]
    assert len(refused) >= 1 and "partition max" in refused[0]
    assert "train_decoder" in refused[0] and "reconstruct_images 600 minutes" in refused[0]
    assert "train_tiny_backbone" not in said  # of no target
    assert not (fresh.folder / "cancelled").exists()  # jobs of other runs


def test_a_time_that_is_set_counts(on_slurm):
    wanted = [f"{rule}:runtime=240" for rule in ("train_decoder", "reconstruct_images")]
    done = on_slurm({}, "--configfile", NSD, "--set-resources", *wanted)
    assert "disk, GB" in done.stdout and "lets a job run for" not in done.stdout + done.stderr


@pytest.mark.parametrize("option", [(), ("--set-resources", "train_decoder:runtime=240")])
def test_rules_that_may_ask_for_a_gpu_go_where_gpus_are_whatever_is_set_of_another(on_slurm, option):
    said = on_slurm({"gpu_partition": "a100"}, "--configfile", NSD, *option).stdout.splitlines()
    places = {line.split()[0]: line.split()[-1] for line in said if "partition " in line and line.split()}
    gpu = {"train_decoder", "encode_target", "reconstruct_images"}
    assert {rule for rule, place in places.items() if place == "a100"} >= gpu, places
    assert places["score_decoders"] == "main"


def test_a_partition_that_is_not_there_is_named(on_slurm):
    done = on_slurm({"gpu_partition": "nowhere"}, "--configfile", NSD)
    assert done.returncode != 0 and "no partition 'nowhere'" in done.stdout + done.stderr


def test_a_training_on_more_gpus_than_the_run_may_hold_is_refused(fresh, on_slurm):
    decoder = {"kind": "mindeye", "target": "tokens", "training": {"devices": 4, "device": "cuda"}}
    config = fresh.configure("four", {"decoders": {"large": decoder}})
    done = on_slurm({"gpus": 2}, "--configfile", config)
    assert done.returncode != 0 and "large trains on 4 GPUs" in done.stdout + done.stderr
