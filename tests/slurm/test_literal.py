"""The command of the README, as it is typed, on the demo: `snakemake --profile slurm all`."""

import pytest

from tests.slurm.conftest import OnCluster
from tests.workflow.conftest import job_counts

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(4 * 3600)]
GPU_PARTITION = {
    "train_decoder",
    "encode_target",
    "reconstruct_images",
    "score_reconstructions",
    "leave_voxels_out",
    "vote_images",
}
LOCAL = {"all", "record_manifest"}


def test_the_demo_runs_on_slurm_as_the_readme_says(cluster, tmp_path):
    checkout, before = OnCluster(tmp_path, cluster), cluster.ended()
    planned = job_counts(checkout.submit("-n", "all").stdout)

    done = checkout.submit("all", timeout=4 * 3600 - 300)

    ended = [job for job in cluster.ended() if job not in before]
    print(done.stdout[-1500:], "\n".join(map(str, ended)), sep="\n")
    submitted = {rule: n for rule, n in planned.items() if rule not in LOCAL}
    assert len(ended) == sum(submitted.values()) > 50
    assert {job["state"] for job in ended} == {"COMPLETED"} and {job["account"] for job in ended} == {"lab"}
    counted = {rule: sum(job["rule"] == rule for job in ended) for rule in submitted}
    assert counted == submitted
    assert {job["rule"] for job in ended if job["partition"] == "gpu"} == GPU_PARTITION
    assert (tmp_path / "results/twin/report/index.html").is_file()
    assert "Nothing to be done" in checkout.submit("all").stdout
