"""What a machine, or a partition of Slurm, is taken to have."""

import os
from dataclasses import replace

import pytest

from percept.preflight import figures, machine, problems, run, table
from tests.unit.preflight.test_problems import outlook


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("(null)", (0, ())),
        ("gpu:4", (4, ("",))),
        ("gpu:a100:8(S:0-1)", (8, ("a100",))),
        ("shard:9,gpu:h100:2,gpu:v100:1", (3, ("h100", "v100"))),
    ],
)
def test_gpus_are_read_from_generic_resources(gres, expected):
    assert machine._gpus(gres) == expected


def command(folder, monkeypatch, name, text):
    """A program of this name, first in the path."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")


# What a slurmctld answers of a node of 64 GB, one of 512 GB and one with GPUs, in two partitions.
EXACT = """
64|512000|(null)|4:00:00
16|64000|(null)|4:00:00
32|128000|gpu:a100:4|2-00:00:00
"""
ROUGH = "16+|64000+|(null)|4:00:00"


def test_a_partition_is_as_large_as_its_largest_node(tmp_path, monkeypatch):
    exact = f"cat <<'END'{EXACT}END"
    command(tmp_path, monkeypatch, "sinfo", f"""case " $* " in *" -e "*) {exact}
    ;; *) echo '{ROUGH}' ;; esac""")  # fmt: skip
    found, wrong = run.places({"train_decoder": "main,gpu"})
    assert wrong == [] and found["encode_target"].name == "this machine"
    place = found["train_decoder"]
    assert (place.cores, place.ram, place.gpus) == (64, 512000 * 2**20, 4)
    assert (place.gpu_name, place.gpu_bytes) == ("a100", 80 * 2**30)
    assert place.minutes == 2880


@pytest.mark.parametrize(("limits", "most"), [(("1:00:00", "infinite"), None), (("2:00:00", "1:00:00"), 120)])
def test_of_several_partitions_the_most_generous_limit_counts(tmp_path, monkeypatch, limits, most):
    answers = "; ".join(f"echo '8|1000|(null)|{limit}'" for limit in limits)
    command(tmp_path, monkeypatch, "sinfo", answers)
    assert machine.partition("a,b").minutes == most


@pytest.mark.parametrize(
    ("gres", "gpu_bytes"),
    [
        ("gpu:a100:4", 80 * 2**30),
        ("gpu:v100:2,gpu:h100:2", 80 * 2**30),
        ("gpu:4", None),
        ("gpu:a100:2,gpu:special:2", None),  # which may be larger
        ("(null)", None),
    ],
)
def test_the_memory_of_gpus_of_a_partition_is_what_is_published_of_their_types(
    tmp_path, monkeypatch, gres, gpu_bytes
):
    command(tmp_path, monkeypatch, "sinfo", f"echo '8|1000|{gres}|infinite'")
    assert machine.partition("gpu").gpu_bytes == gpu_bytes


@pytest.mark.parametrize(
    ("kind", "gb"),
    [
        ("a100", 80), ("A100-SXM4-40GB", 40), ("nvidia_a100_80gb_pcie", 80), ("a100_40g", 40),
        ("nvidia_a100_80gb_pcie_1g.10gb", 10), ("tesla_v100-sxm2-16gb", 16), ("v100s", 32), ("t4", 16),
        ("nvidia_a10g", 24), ("a10", 24), ("nvidia_l4", 24), ("l40s", 48), ("rtx_a6000", 48), ("rtx3090", 24),
        ("nvidia_geforce_rtx_2080_ti", 11), ("rtx_6000_ada", 48), ("gh200_480gb", 144), ("h200", 141),
        ("a1000", None), ("special", None), ("", None),
    ],
)  # fmt: skip
def test_types_of_gpus_are_known_by_their_many_names(kind, gb):
    found = figures.gpu_memory(kind)
    assert (found and found.value) == gb
    assert found is None or found.origin == "published"


def test_trainings_and_images_are_compared_with_the_gpus_of_a_partition(tmp_path, monkeypatch):
    command(tmp_path, monkeypatch, "sinfo", "echo '64|512000|gpu:t4:4|infinite'")
    place = machine.partition("gpu")
    found = outlook("nsd.yaml", place)
    (refused,) = problems.gpus(found.trained, found.gans, found.where)
    assert "training mindeye needs" in refused and "partition gpu has 17.2 GB of GPU (t4)" in refused
    assert "memory of a GPU of the type t4" in table.text(found)
    unknown = table.text(outlook("nsd.yaml", replace(place, gpu_bytes=None, gpu_name="special")))
    assert "memory of the GPUs of partition gpu is not known (special)" in unknown


@pytest.mark.parametrize(("answer", "words"), [("true", "has no partition"), ("exit 1", "did not say")])
def test_a_partition_that_is_not_there_or_not_told_is_a_problem_once(tmp_path, monkeypatch, answer, words):
    command(tmp_path, monkeypatch, "sinfo", answer)
    _, wrong = run.places({"train_decoder": "gpu", "encode_target": "gpu"})
    assert len(wrong) == 1 and words in wrong[0]


def test_the_gpus_of_this_machine_are_what_its_driver_says(tmp_path, monkeypatch):
    command(tmp_path, monkeypatch, "nvidia-smi", "echo '81559, NVIDIA H100'; echo '40960, NVIDIA A100'")
    place = machine.local()
    assert (place.gpus, place.gpu_bytes, place.gpu_name) == (2, 81559 * 2**20, "NVIDIA H100")


def test_a_container_bounds_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "max")
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "meminfo")
    assert machine.memory() is None
    (tmp_path / "meminfo").write_text("MemTotal:  1000 kB\nMemAvailable:  7 kB\n")
    (tmp_path / "max").write_text("max\n")
    assert machine.memory() == 1_024_000
    (tmp_path / "max").write_text("500000\n")
    assert machine.memory() == 500_000


# The text.
