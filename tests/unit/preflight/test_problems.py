"""What cannot work is refused, each thing in its own paragraph, all at once; what works is not."""

import os
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from percept import config
from percept.preflight import hours, machine, problems, run, table, times
from percept.preflight.machine import Machine
from percept.preflight.sizes import Stored
from tests.unit.source import REPOSITORY

BIG = Machine("this machine", 16, 512e9, 1, 140e9)
SMALL = Machine("this machine", 2, 8e9, 0)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def configured(name, **dataset):
    given = yaml.safe_load((REPOSITORY / "config" / name).read_text())
    given["dataset"] |= dataset
    return config.load(given)


@cache
def outlook(name, place=BIG, **dataset):
    """What is known without any results; paths in it are relative, so that it serves every folder."""
    return run.look(configured(name, **dataset), dict.fromkeys(run.RULES, place))


@pytest.fixture
def roomy(monkeypatch):
    monkeypatch.setattr(machine, "free", lambda folder: 10**15)


def test_all_of_nsd_works_on_a_large_machine_once_its_terms_are_accepted(roomy):
    assert run.refusals(outlook("nsd.yaml", terms_accepted=True)) == []


def test_everything_that_cannot_work_is_said_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "free", lambda folder: 10**9)
    (tmp_path / "results").write_text("a file")
    refused = run.refusals(outlook("nsd.yaml", SMALL))
    for words in (
        "Data Access Agreement",
        "results is no folder",
        "1.0 GB free",
        "jobs ask for more",
        "training mindeye needs",
    ):
        assert [words in paragraph for paragraph in refused].count(True) == 1, words
    assert all(paragraph.count("\n") == 0 for paragraph in refused)


def test_files_of_the_users_own_that_are_absent_are_named():
    (refused,) = problems.inputs(configured("experiments/haxby.yaml"))
    assert "resources/haxby/bold.nii.gz" in refused and "attributes_literal.txt" in refused


def test_a_challenge_that_is_neither_there_nor_simulated_is_refused():
    (refused,) = problems.inputs(configured("experiments/algonauts-twin.yaml", simulate=None))
    assert "resources/algonauts-twin/subj01" in refused
    assert list(problems.inputs(configured("experiments/algonauts-twin.yaml"))) == []


def test_weights_that_nothing_will_fetch_are_refused(monkeypatch):
    assert list(problems.networks(configured("nsd.yaml"))) == []
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (refused,) = problems.networks(configured("nsd.yaml"))
    assert "snakemake backbones" in refused


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path):
    (tmp_path / "logs").mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    (refused,) = problems.folders(configured("experiments/tiny.yaml"), [])
    assert "may not be written" in refused


def test_parts_on_one_disk_are_added_up(monkeypatch):
    monkeypatch.setattr(machine, "free", lambda folder: 10e9)
    one, other = (Stored(name, Path(name), 4e9, passing=2e9) for name in ("decoders", "targets"))
    assert list(problems.disks([one])) == []
    (refused,) = problems.disks([one, other])
    assert "12.0 GB come to it" in refused and "decoders 6 GB" in refused


@pytest.mark.parametrize(("gpu_bytes", "n"), [(80e9, 0), (24e9, 1), (None, 0)])
def test_a_training_is_compared_with_the_memory_of_a_gpu_where_it_is_known(gpu_bytes, n):
    found = outlook("nsd.yaml", Machine("this machine", 16, 512e9, 1, gpu_bytes))
    assert len(list(problems.gpus(found.trained, found.gans, found.where))) == n


@pytest.mark.parametrize(("gpu_bytes", "n"), [(80e9, 0), (8.4e9, 3), (None, 0)])
def test_images_are_compared_with_the_memory_of_a_gpu_where_it_is_known(gpu_bytes, n):
    found = outlook("nsd.yaml", Machine("this machine", 16, 512e9, 1, gpu_bytes))
    refused = list(problems.images(found.made, found.where))
    assert len(refused) == n and all("batch_size" in paragraph for paragraph in refused)
    on_cpu = dict.fromkeys(run.RULES, Machine("this machine", 16, 512e9, 0))
    assert list(problems.images(found.made, on_cpu)) == []


def test_a_partition_without_gpus_is_refused_where_trainings_ask_for_one():
    found = outlook("nsd.yaml", Machine("partition cpu", 64, 512e9, 0, cluster=True))
    (refused,) = problems.absent_gpus(found.cfg, found.where)
    assert "never start" in refused and "gpu_partition" in refused
    for asking in ("train_decoder: mindeye", "encode_target: ", "reconstruct_images: "):
        assert asking in refused


def with_devices(n, name="nsd.yaml"):
    given = yaml.safe_load((REPOSITORY / "config" / name).read_text())
    given["decoders"]["mindeye"]["training"]["devices"] = n
    return config.load(given)


def test_more_gpus_than_a_node_has_are_refused():
    cfg, cluster = with_devices(8), dict.fromkeys(run.RULES, GPUS)
    (refused,) = problems.absent_gpus(cfg, cluster)
    assert "train_decoder of mindeye 8" in refused and "a node of partition gpu has at most 4" in refused
    assert "dino" not in refused and "training.devices" in refused
    assert list(problems.absent_gpus(with_devices(4), cluster)) == []
    (here,) = problems.absent_gpus(cfg, dict.fromkeys(run.RULES, BIG))
    assert "this machine has 1" in here and "gpu_partition" not in here
    unknown = Machine("partition gpu", 1, None, 1, cluster=True)  # `sinfo` says nothing of it
    assert list(problems.absent_gpus(cfg, dict.fromkeys(run.RULES, unknown))) == []


def test_every_rule_that_asks_for_a_gpu_is_named_where_there_is_none():
    cpu = Machine("partition cpu", 64, 512e9, 0, cluster=True)
    (refused,) = problems.absent_gpus(configured("nsd.yaml"), dict.fromkeys(run.RULES, cpu))
    assert "score_reconstructions" in refused and "leave_voxels_out" in refused
    (refused,) = problems.absent_gpus(
        configured("experiments/mind-reader-nsd.yaml"), dict.fromkeys(run.RULES, cpu)
    )
    assert "encode_pool: photographs/clip" in refused and "train_gan: lafite" in refused


def test_a_gpu_that_is_named_and_not_there_is_refused():
    given = yaml.safe_load((REPOSITORY / "config/experiments/tiny.yaml").read_text())
    given["targets"]["clip"]["device"] = "cuda"
    (refused,) = problems.absent_gpus(config.load(given), dict.fromkeys(run.RULES, SMALL))
    assert "targets.clip" in refused


@pytest.mark.parametrize(
    "name", ["experiments/tiny.yaml", "experiments/algonauts-twin.yaml", "experiments/haxby.yaml", "nsd.yaml"]
)
def test_every_kind_of_data_set_has_its_tables(name):
    text = table.text(outlook(name))
    assert all(title in text for title in ("disk, GB", "asks for GB", "longest, h", "assumed"))


def test_weights_to_fetch_are_named_with_their_command():
    text = table.text(outlook("nsd.yaml"))
    assert "snakemake backbones --cores 1" in text and "versatile_diffusion" in text
    assert "64 GPUs" in text and "assumed): what networks reach" in text


# Time limits.


def test_rules_of_which_a_partition_lets_no_job_run_so_long_are_refused_together():
    short = Machine("partition gpu", 64, 512e9, 4, cluster=True, minutes=600.0)
    long = Machine("partition cpu", 64, 512e9, 0, cluster=True, minutes=2880.0)
    where = {"train_decoder": short, "reconstruct_images": short, "audit_subject": long, "train_gan": short}
    asked = {
        ("train_decoder", "ridge"): 601, ("train_decoder", "mindeye"): 1440, ("audit_subject", ""): 1440,
        ("reconstruct_images", "unclip"): 600, ("train_gan", ""): 601,
        ("record_manifest", ""): 10**6,  # runs on the login node
    }  # fmt: skip
    (refused,) = times.refusals(asked, where)
    assert "lets a job run for 600 minutes" in refused and "end before they are done" in refused
    assert "(train_decoder 1440 minutes, train_gan 601 minutes)" in refused and "audit_subject" not in refused
    assert "--set-resources train_decoder:runtime=600" in refused


def test_what_all_of_nsd_asks_for_grows_with_its_data_unless_it_was_set():
    found = outlook("nsd.yaml")
    assert {rule for rule, _ in found.minutes} == {"extract_voxels", "train_decoder", "reconstruct_images"}
    assert found.minutes["extract_voxels", ""] == times.extracting(40 * 0.488e9) == 63
    assert found.minutes["train_decoder", "mindeye"] > times.training(1e9, 1) == 720
    told = times.asked(found.cfg, found.subjects, {"train_decoder": 5})
    assert told["train_decoder", ""] == 5 and ("train_decoder", "mindeye") not in told


def test_a_job_asks_for_its_own_time_and_not_for_the_longest_of_its_rule():
    minutes = outlook("nsd.yaml").minutes
    assert minutes["train_decoder", "ridge_clip"] == pytest.approx(
        minutes["train_decoder", "mindeye"] / 3, abs=1
    )
    assert minutes["reconstruct_images", "nearest"] == times.generating(0) == 120
    assert minutes["reconstruct_images", "unclip"] == times.generating(1) == 600


GPUS = Machine("partition gpu", 64, 512e9, 4, cluster=True)
WORKS = [
    hours.Work(
        "train_decoder", "ridge_clip", 8, 5.0, 4.0, 0, "model"
    ),  # begins anew: 4 h in the second attempt
    hours.Work("train_decoder", "mindeye", 8, 13.0, 24.0, 1, "model", resumes=True),  # 12 h in two attempts
    hours.Work("train_decoder", "dino", 8, 11.0, 24.0, 1, "model", resumes=True),
    hours.Work("audit_subject", "", 8, 1.9, 8.0, 0, "assumed"),
    hours.Work("leave_voxels_out", "", 8, 9.0, 9.0, 0, "assumed"),  # asks for nothing that is known
]
MINUTES = {
    ("train_decoder", "ridge_clip"): 120, ("train_decoder", "mindeye"): 240, ("train_decoder", "dino"): 240,
    ("audit_subject", ""): 60,
}  # fmt: skip


def test_a_job_that_cannot_end_in_its_attempts_is_refused_on_a_cluster_alone():
    cluster = dict.fromkeys(run.RULES, GPUS)
    (refused,) = times.overruns(WORKS, MINUTES, cluster)
    assert "train_decoder of mindeye asks for 240 minutes and would need 780 (model)" in refused
    assert "train_decoder of ridge_clip asks for 120 minutes and would need 300 (model)" in refused
    assert "dino" not in refused and "--set-resources train_decoder:runtime=1170" in refused
    assert list(times.overruns(WORKS, MINUTES, dict.fromkeys(run.RULES, BIG))) == []


def test_an_attempt_has_no_more_time_than_the_partition_allows():
    assert [times.had(60, None, resumes) for resumes in (True, False)] == [180, 120]
    assert [times.had(60, 90.0, resumes) for resumes in (True, False)] == [150, 90]
    short = dict.fromkeys(run.RULES, replace(GPUS, minutes=300.0))
    (refused,) = times.overruns(WORKS, MINUTES, short)
    # 11 h do not fit into two attempts of 5 h, so that no time that is set would do.
    assert "dino" in refused and "partition with a longer limit" in refused and "runtime=1170" in refused
    (only,) = times.overruns(WORKS[:1], MINUTES, short)
    assert "Ask for more: `--set-resources train_decoder:runtime=300`" in only


def test_jobs_have_as_many_attempts_as_the_profile_gives_them():
    profile = (REPOSITORY / "profiles/slurm/config.yaml").read_text()
    assert f"\nretries: {times.ATTEMPTS - 1}\n" in profile


def test_the_hours_that_jobs_ask_for_have_a_column_on_a_cluster():
    on_cluster = table.text(outlook("nsd.yaml", GPUS))
    lines = [line.split() for line in on_cluster.splitlines()]
    asked = {tuple(line[:2]): line[4] for line in lines if line[:1] == ["train_decoder"] and len(line) > 5}
    assert asked["train_decoder", "mindeye"] == "22.6"  # 1,359 minutes
    assert asked["train_decoder", "ridge_clip"] == "7.5"
    assert "asks for, h" in on_cluster and "asks for, h" not in table.text(outlook("nsd.yaml"))


@pytest.mark.parametrize(
    ("limit", "minutes"),
    [
        ("infinite", None),
        ("n/a", None),
        ("30:00", 30),
        ("1:30:00", 90),
        ("2-00:00:00", 2880),
        ("0:30", 0.5),
    ],
)
def test_time_limits_are_read_as_slurm_writes_them(limit, minutes):
    assert machine.minutes(limit) == minutes


# Hours.


def test_what_was_recorded_comes_before_the_model(tmp_path):
    cfg = configured("experiments/tiny.yaml")
    for subject, seconds in (("subj01", 36), ("subj02", 108)):
        path = tmp_path / f"results/tiny/benchmarks/decoders/{subject}/mindeye/seed-0/train_decoder.tsv"
        path.parent.mkdir(parents=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:00\n")
    works = {(one.rule, one.name): one for one in outlook.__wrapped__("experiments/tiny.yaml").works}
    found = works["train_decoder", "mindeye"]
    assert (found.longest, found.total, found.origin) == (0.03, 0.04, "recorded (2)")
    assert (
        works["train_decoder", "ridge_clip"].origin == "model"
        and hours.recorded(cfg, "train_decoder", "x") == []
    )


def test_a_record_of_this_machine_says_nothing_of_the_gpus_of_a_cluster(tmp_path):
    for rule, path in {
        "train_decoder": "decoders/subj01/mindeye/seed-0", "score_decoders": "evaluation/subj01",
    }.items():  # fmt: skip
        path = tmp_path / f"results/nsd/benchmarks/{path}/{rule}.tsv"
        path.parent.mkdir(parents=True)
        path.write_text("s\th:m:s\n3600000\t1000:00:00\n")
    for place, origins in ((GPUS, ("model", "recorded (1)")), (BIG, ("recorded (1)", "recorded (1)"))):
        found = outlook.__wrapped__("nsd.yaml", place)
        works = {(one.rule, one.name): one for one in found.works}
        told = works["train_decoder", "mindeye"].origin, works["score_decoders", ""].origin
        assert told == origins
    on_cpu = outlook.__wrapped__("nsd.yaml", SMALL)
    assert {one.origin for one in on_cpu.on_gpus if one.name == "mindeye"} == {"model"}


def test_the_whole_takes_its_longest_job_and_its_share_of_the_rest():
    works = [
        hours.Work("extract", "", 4, 1.0, 4.0, 0, ""),
        hours.Work("train", "a", 8, 2.0, 16.0, 1, ""),
        hours.Work("train", "b", 1, 3.0, 3.0, 1, ""),
    ]
    assert hours.wall(works, gpus=1, cores=4, download_hours=5) == 5 + 2 + 19
    assert hours.wall(works, gpus=64, cores=64, download_hours=0) == 1 + 3


def test_samples_steps_and_guidance_multiply():
    given = {"kind": "image_diffusion", "steps": 20, "strength": 0.5, "samples": 4}
    guided, plain = (config.plugin("generators", given | {"guidance": scale}) for scale in (3.0, 1.0))
    assert hours.passes(guided) == 2 * hours.passes(plain) == 80


# Text.


def test_columns_put_numbers_right_and_words_left():
    text = table.columns(("name", "GB"), [("long name", 1234.5), ("x", 0.125)])
    assert text.splitlines() == [
        "name          GB",
        "---------  -----",
        "long name  1,234",
        "x           0.12",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.00001, "0"), (0.0123, "0.012"), (1.26, "1.3"), (99999.0, "99,999")]
)
def test_numbers_have_the_digits_that_mean_something(value, text):
    assert table.number(value) == text
