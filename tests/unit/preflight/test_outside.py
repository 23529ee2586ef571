"""GANs, pools, votes, splits and encodings: what they take is told, and what they lack is refused."""

import re
from dataclasses import replace
from functools import cache

import pytest
import yaml

from percept import config
from percept.preflight import asks, figures, gans, pools, problems, run, table
from percept.preflight.machine import Machine
from tests.unit.source import REPOSITORY

GAN = "experiments/mind-reader-nsd.yaml"
SPLITS = "experiments/voting-3-clip.yaml"
GPUS = Machine("partition gpu", 64, 512e9, 4, 80 * 2**30, "a100", cluster=True)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def configured(name):
    return config.load(yaml.safe_load((REPOSITORY / "config" / name).read_text()))


@cache
def outlook(name):
    return run.look(configured(name), dict.fromkeys(run.RULES, GPUS))


def gpu_rules():
    """Rules whose text has a `gpu` resource."""
    text = "\n".join(path.read_text() for path in sorted((REPOSITORY / "rules").glob("*.smk")))
    blocks = re.split(r"^\s*(?:rule|checkpoint) (\w+):", text, flags=re.MULTILINE)
    return {name for name, body in zip(blocks[1::2], blocks[2::2], strict=True) if re.search(r"\bgpu=", body)}


def planned(cfg):
    """Those of them that a configuration plans, by its sections."""
    made = list(cfg.reconstructions.values())
    trained = {name for one in made for name in one.generator.gans}
    pooled = {cfg.gans[name].pool for name in trained} | {
        name for one in made for name in one.generator.pools
    }
    when = {
        "train_decoder": cfg.every_decoder,
        "encode_target": cfg.targets,
        "encode_pool": [name for name in pooled if cfg.pools[name].embeddings is None],
        "train_gan": trained,
        "reconstruct_images": [one for one in made if not one.generator.chooses_from],
        "reconstruct_splits": [one for one in made if one.splits],
        "vote_images": [one for one in made if one.generator.chooses_from],
        "score_reconstructions": made,
        "score_splits": [one for one in cfg.every_decoder.values() if one.fitted],
        "leave_voxels_out": cfg.interpretation.leave_one_out,
    }
    assert when.keys() == gpu_rules()  # a new rule that asks for a GPU has to be known here
    return {rule for rule, there in when.items() if there}


@pytest.mark.parametrize("name", ["config.yaml", "nsd.yaml", GAN, SPLITS])
def test_every_rule_that_may_ask_for_a_gpu_and_is_planned_has_its_hours(name):
    found = outlook(name)
    assert planned(found.cfg) <= {one.rule for one in found.works} and gpu_rules() <= set(run.RULES)
    asked = asks.gpus(found.cfg)
    assert asked.keys() == planned(found.cfg)
    for one in found.works:
        assert one.gpus == asked.get(one.rule, {}).get(one.name, 0), one


def test_a_gan_has_hours_and_memory():
    found = outlook(GAN)
    (gan,) = found.gans
    assert gan.parameters == 41_696_226 + 24_395_073  # as docs/mind-reader.md says
    assert gan.device == pytest.approx(1.4e9 + 23.6e9 / 2, rel=0.01)  # bfloat16
    (work,) = [one for one in found.works if one.rule == "train_gan"]
    assert work.resumes and 5 < work.longest < 50
    text = table.text(found)
    assert "lafite" in text and "photographs/clip" in text
    assert figures.POOL_IMAGES.said in text and figures.POOL_IMAGES.said not in table.text(
        outlook("nsd.yaml")
    )
    assert {"gans", "pools"} <= {one.stage for one in found.stored if one.to_come}


def test_the_hours_of_a_gan_grow_with_its_steps_and_penalties():
    cfg = configured(GAN)
    (whole,) = gans.trainings(cfg)
    lafite = cfg.gans["lafite"]
    for section, changes, share in (
        ("training", {"steps": 200_000}, (0.49, 0.51)),
        ("losses", {"path_every": 400}, (0.8, 0.99)),
    ):
        changed = lafite.model_copy(update={section: getattr(lafite, section).model_copy(update=changes)})
        (other,) = gans.trainings(cfg.model_copy(update={"gans": {"lafite": changed}}))
        assert share[0] < other.flop / whole.flop < share[1]


def test_a_gan_is_compared_with_gpus():
    found = outlook(GAN)
    assert list(problems.gpus([], found.gans, found.where)) == []
    small = dict.fromkeys(run.RULES, replace(GPUS, gpu_bytes=12e9, gpu_name="2080ti"))
    (refused,) = problems.gpus([], found.gans, small)
    assert "training the GAN lafite needs about 13.2 GB" in refused and "gans.lafite.training" in refused
    unknown = dict.fromkeys(run.RULES, replace(GPUS, gpu_bytes=None))
    assert list(problems.gpus([], found.gans, unknown)) == []


def test_a_gan_whose_gpu_is_named_and_not_there_is_refused():
    given = yaml.safe_load((REPOSITORY / "config" / GAN).read_text())
    given["gans"]["lafite"]["training"]["device"] = "cuda"
    given["evaluation"]["images"]["device"] = "cuda"
    here = dict.fromkeys(run.RULES, Machine("this machine", 2, 8e9, 0))
    (refused,) = problems.absent_gpus(config.load(given), here)
    assert "gans.lafite" in refused and "evaluation.images" in refused


def test_a_pool_without_images_is_refused_and_one_with_them_is_counted(tmp_path):
    cfg = configured(GAN)
    (refused,) = pools.missing(cfg, pools.counted(cfg))
    assert "`pools.photographs.images`: the folder resources/photographs is not there" in refused
    assert ".jpg" in refused and refused in run.refusals(outlook(GAN))
    folder = tmp_path / "resources/photographs"
    folder.mkdir(parents=True)
    (refused,) = pools.missing(cfg, pools.counted(cfg))
    assert "holds no image" in refused
    (folder / "one.jpg").write_bytes(b"")
    assert pools.counted(cfg) == {"photographs": 1} and list(pools.missing(cfg, pools.counted(cfg))) == []
    (work,) = pools.works(cfg, pools.counted(cfg), gpus=True)
    assert work.origin == "model" and work.longest < 0.01
    (unknown,) = pools.works(cfg, {"photographs": 0}, gpus=True)
    assert unknown.origin == "assumed" and unknown.longest > 0.05


def test_embeddings_of_a_pool_that_are_not_there_are_refused():
    cfg = configured(GAN)
    own = cfg.pools["photographs"].model_copy(update={"embeddings": "mine.npy"})
    cfg = cfg.model_copy(update={"pools": {"photographs": own}})
    (refused,) = pools.missing(cfg, {"photographs": 5})
    assert "`pools.photographs.embeddings`: there is no mine.npy" in refused and asks.pools(cfg) == []


def test_a_pool_and_a_gan_that_nothing_uses_are_not_asked_for():
    cfg = configured(GAN)
    cfg = cfg.model_copy(update={"reconstructions": {"nearest": cfg.reconstructions["nearest"]}})
    assert pools.counted(cfg) == {} and gans.trainings(cfg) == [] and "train_gan" not in asks.gpus(cfg)


def test_what_was_recorded_of_a_pool_is_found_by_both_of_its_names(tmp_path):
    path = tmp_path / "results/nsd/benchmarks/pools/photographs/clip/encode_pool.tsv"
    path.parent.mkdir(parents=True)
    path.write_text("s\th:m:s\n7200\t2:00:00\n")
    here = Machine("this machine", 16, 512e9, 1, 80e9)
    works = run.look(configured(GAN), dict.fromkeys(run.RULES, here)).works
    (work,) = [one for one in works if one.rule == "encode_pool"]
    assert (work.longest, work.origin) == (2.0, "recorded (1)")


def test_encodings_splits_votes_and_latents_have_hours():
    rules = {name: {one.rule for one in outlook(name).works} for name in ("config.yaml", SPLITS)}
    assert {"vote_images", "analyse_latents"} <= rules["config.yaml"]
    assert {"reconstruct_splits", "score_splits"} <= rules[SPLITS]
    encoded = [one for one in outlook("experiments/algonauts-twin.yaml").works if "encod" in one.rule]
    assert {"encode_responses", "score_encoding"} <= {one.rule for one in encoded}


def test_networks_of_a_gan_are_among_the_weights_to_fetch():
    cfg = configured(GAN)
    cfg = cfg.model_copy(
        update={"evaluation": cfg.evaluation.model_copy(update={"images": config.ImagesConfig()})}
    )
    assert "inception_v3" in run.sizes.networks(cfg)
