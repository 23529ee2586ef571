"""The profile for Slurm: what a site changes of it, and what Slurm is asked for; nothing is submitted."""

import ast
from types import SimpleNamespace

import pytest
import yaml
from snakemake.profiles import ProfileConfigFileParser
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

from tests.unit.source import REPOSITORY


@pytest.fixture
def profile(tmp_path, monkeypatch):
    """What Snakemake reads of the profile, with a site file of these values or none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "profiles/slurm").mkdir(parents=True)

    def read(values=None):
        if values is not None:
            (tmp_path / "profiles/slurm/site.yaml").write_text(yaml.safe_dump(values))
        with (REPOSITORY / "profiles/slurm/config.yaml").open() as stream:
            return dict(ProfileConfigFileParser().parse(stream))

    return read


def test_without_a_site_file_no_account_is_named(profile):
    read = profile()
    assert read["default-resources"] == [
        "slurm_partition='main'", "mem_mb=4000", "runtime=60", "nodes=1", "with_gpu_slurm_partition='gpu'"
    ]  # fmt: skip
    assert read["resources"] == ["gpu=8"] and read["slurm-status-command"] == "squeue"


@pytest.mark.parametrize(
    ("own", "key", "changed"),
    [
        ({"account": "lab"}, "default-resources", {"slurm_account='lab'"}),
        ({"partition": "cpu"}, "default-resources", {"slurm_partition='cpu'"}),
        ({"resources": {"qos": "long"}}, "default-resources", {"qos='long'"}),
        ({"gpu_partition": "a100"}, "default-resources", {"with_gpu_slurm_partition='a100'"}),
        ({"gpu_model": "a100"}, "default-resources", {"with_gpu_gpu_model='a100'"}),
        ({"gpu_resources": {"qos": "long"}}, "default-resources", {"with_gpu_qos='long'"}),
        ({"gpus": 2}, "resources", {"gpu=2"}),
        ({"jobs": 3}, "jobs", {"3"}),
        ({"status_command": "sacct"}, "slurm-status-command", {"sacct"}),
    ],
)
def test_one_key_of_the_site_file_changes_that_and_nothing_else(profile, own, key, changed):
    before, after = profile(), profile(own)
    assert set(after[key] if isinstance(after[key], list) else [after[key]]) >= changed
    kept = {name for name in before if before[name] == after[name]}
    assert kept == before.keys() - {key}
    if key == "default-resources":
        assert {"mem_mb=4000", "runtime=60", "nodes=1"} <= set(after[key])


def test_no_key_of_the_profile_stands_in_it_twice():
    """Of two the last would count, without a word."""
    lines = (REPOSITORY / "profiles/slurm/config.yaml").read_text().splitlines()
    keys = [line.partition(":")[0] for line in lines if line[:1].isalpha()]
    assert len(keys) > 15 and len(keys) == len(set(keys))


def test_a_misspelt_key_of_the_site_file_is_refused(profile):
    with pytest.raises(Exception, match=r"site\.yaml: unknown acount; there are account, partition"):
        profile({"acount": "lab"})


@pytest.mark.parametrize("key", ["resources", "gpu_resources"])
@pytest.mark.parametrize("resource", ["gpu", "gres", "gpu_model"])
def test_gpus_for_every_job_of_a_kind_are_refused(profile, key, resource):
    with pytest.raises(Exception, match=rf"`{key}` would ask for {resource} also where a job needs no GPU"):
        profile({key: {resource: "a100"}})


def test_no_option_of_the_command_line_replaces_what_the_profile_says_of_rules(profile):
    """`--set-resources` replaces the whole of the profile's, not one rule's."""
    assert "set-resources" not in profile()


def test_every_key_of_the_profile_has_its_reason():
    lines = (REPOSITORY / "profiles/slurm/config.yaml").read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if line[:1].isalpha() and ":" in line]
    unexplained = [lines[number] for number in keys if not lines[number - 1].startswith("#")]
    # one reason for the two keys that say how long a silent Slurm is waited for, and likewise for logs
    assert len(keys) > 15
    assert [line.split(":")[0] for line in unexplained] == [
        "executor",
        "default-resources",
        "seconds-between-status-checks",
        "slurm-delete-logfiles-older-than",
    ]


# What the executor makes of it.


def flags(read, gpus, mem_mb=4000):
    """What the executor asks sbatch for, for a job of a rule that says how many GPUs and how much memory."""
    named = dict(value.split("=", 1) for value in read["default-resources"])
    resources = {name: ast.literal_eval(value) for name, value in named.items()}
    job = SimpleNamespace(resources=Resources(resources, gpu=gpus, mem_mb=mem_mb), threads=4)
    settings = SimpleNamespace(
        requeue=ast.literal_eval(read["slurm-requeue"]), no_requeue=False, qos=None, reservation=None
    )
    given = {
        name: "" for name in ("run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir")
    }
    return (get_submit_command(job, given, settings) + set_gres_string(job)).split()


class Resources(dict):
    """Resources of a job, by name and as attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(("gpus", "asked"), [(0, []), (1, ["--gpus=1"]), (4, ["--gpus=4"])])
def test_a_job_asks_for_its_gpus_on_one_node_and_to_be_requeued(profile, gpus, asked):
    command = flags(profile(), gpus)
    assert [flag for flag in command if "gpu" in flag or "gres" in flag] == asked
    assert {"--nodes=1", "--requeue", "--cpus-per-task=4"} <= set(command)
    assert command[command.index("--mem") + 1] == "4000" and command[command.index("-t") + 1] == "60"


def test_what_a_site_asks_of_every_job_reaches_sbatch(profile):
    command = flags(profile({"resources": {"qos": "long", "constraint": "nvme"}}), 1)
    assert "--qos=long" in command and command[command.index("-C") + 1] == "nvme"
