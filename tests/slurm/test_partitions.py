"""What `preflight` takes a partition of a real cluster to be."""

import pytest

from percept.preflight import machine

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
# Nodes on which no daemon runs: Slurm lists them as down, with what they would have.
NODES = """
NodeName=small NodeAddr=127.0.0.2 CPUs=2 RealMemory=8000 State=DOWN
NodeName=wide NodeAddr=127.0.0.3 CPUs=64 RealMemory=64000 State=DOWN
NodeName=large NodeAddr=127.0.0.4 CPUs=32 RealMemory=512000 Gres=gpu:a100:4 State=DOWN
PartitionName=mixed Nodes=small,wide MaxTime=1-12:00:00 State=UP
PartitionName=several Nodes=small,large State=UP
"""


@pytest.fixture(scope="module")
def diverse(make_cluster):
    """A cluster that has partitions of different nodes, one of them with a limit."""
    return make_cluster(accounting=False, more=NODES)


@pytest.fixture
def partition(diverse, monkeypatch):
    """What a partition of it is taken to be."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, diverse.environment[name])
    return machine.partition


def test_of_nodes_of_different_size_the_largest_counts(partition):
    mixed, several = partition("mixed"), partition("several")
    assert (mixed.cores, mixed.ram, mixed.gpus) == (64, 64000 * 2**20, 0)
    assert (several.cores, several.ram) == (32, 512000 * 2**20)
    assert (several.gpus, several.gpu_name) == (4, "a100")


def test_the_limit_of_a_partition_in_minutes(partition):
    assert [partition(name).minutes for name in ("main", "short", "mixed")] == [None, 1, 36 * 60]
