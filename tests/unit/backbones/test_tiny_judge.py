import math
import runpy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from percept import log
from percept.backbones import metric, store
from percept.backbones.tiny import clip, data, judge
from percept.datasets.scenes import CATEGORIES
from percept.files import read_json, write_json
from tests.unit.backbones.tiny_scenes import held_out

N_QUICK = 300
SCRIPT = Path(__file__).parents[3] / "workflow" / "scripts" / "train_tiny_backbone.py"


def outputs(objects, places):
    return torch.tensor([[*o, *p] for o, p in zip(objects, places, strict=True)], dtype=torch.float32)


# The loss.


def test_of_a_network_without_opinion_the_loss_is_that_of_coins_and_dice():
    found = judge.losses(torch.zeros(2, 5), torch.tensor([[1, 0, 1], [0, 1, 0.0]]), torch.tensor([0, 1]),
                         torch.tensor([1, 0]))  # fmt: skip
    np.testing.assert_allclose(found["objects"], 3 * math.log(2), rtol=1e-6)
    np.testing.assert_allclose(found["loss"], 3 * math.log(2) + (math.log(3) + math.log(2)) / 2, rtol=1e-6)


def test_a_network_that_is_right_and_sure_of_the_largest_loses_nothing():
    sure = outputs([[40, -40, 20], [-40, 20, -40]], [[-40, 40], [40, -40]])
    present = torch.tensor([[1, 0, 1], [0, 1, 0.0]])
    found = judge.losses(sure, present, torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert found["loss"] < 1e-6
    assert found["main"] == 1


@pytest.mark.parametrize("wrong", ["present", "main", "place"])
def test_each_mistake_costs(wrong):
    sure = outputs([[40, -40, 20]], [[-40, 40]])
    truth = {"present": torch.tensor([[1, 0, 1.0]]), "main": torch.tensor([0]), "place": torch.tensor([1])}
    mistaken = {
        "present": torch.tensor([[1, 1, 1.0]]), "main": torch.tensor([2]), "place": torch.tensor([0]),
    }  # fmt: skip
    assert judge.losses(sure, **truth | {wrong: mistaken[wrong]})["loss"] > 5


# The network.


def test_what_is_written_is_read_back(tmp_path):
    classes = tuple(CATEGORIES)
    network = judge.build(len(classes), seed=1).half().float().eval()
    clip.save_half(network.state_dict(), tmp_path / "model.safetensors")
    write_json(judge.config(classes), tmp_path / "config.json")
    read, names = judge.load(tmp_path)
    assert names == classes
    images = held_out(12).images
    expected = judge.logits(network, images, size=5)
    np.testing.assert_allclose(judge.logits(read, images), expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["judge_early", "judge_late"])
def test_the_layers_that_are_compared_are_modules_of_the_network(layer):
    assert judge.build(3, seed=0).get_submodule(judge.LAYERS[layer]) is not None


def test_the_seed_decides_the_first_weights():
    one, same, other = (judge.build(4, seed).fc.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.fixture
def trained_by_the_script(tmp_path, monkeypatch):
    """The folder that the script of the rule writes, after four steps on a few scenes."""
    for part, n in (("train", 80), ("held_out", 40)):
        data.save(held_out(80).take(np.arange(n)), tmp_path / part)
    short = replace(judge.RECIPE, steps=4, warmup=2, batch_size=8)
    monkeypatch.setattr(judge, "train", partial(judge.train, recipe=short))
    snakemake = SimpleNamespace(
        log=[str(tmp_path / "job.log")],
        threads=1,
        wildcards=SimpleNamespace(network="tiny_judge"),
        input=SimpleNamespace(
            train=str(tmp_path / "train" / "scenes.parquet"),
            held_out=str(tmp_path / "held_out" / "scenes.parquet"),
        ),
        output=SimpleNamespace(manifest=str(tmp_path / "tiny_judge" / store.MANIFEST)),
        params=SimpleNamespace(code="0123456789ab"),
    )
    monkeypatch.setattr(log, "to_file", lambda path: None)
    runpy.run_path(str(SCRIPT), {"snakemake": snakemake})
    return tmp_path / "tiny_judge"


def test_the_script_writes_a_whole_folder(trained_by_the_script, monkeypatch):
    folder = trained_by_the_script
    assert store.verify(folder) == []
    manifest = read_json(folder / store.MANIFEST)
    assert manifest["revision"] == "0123456789ab"
    assert manifest["recipe"]["steps"] == 4
    assert manifest["files"].keys() == {
        "README.md", "config.json", "model.safetensors", "quality.json", "training.csv",
    }  # fmt: skip
    card = (folder / "README.md").read_text()
    said = read_json(folder / "quality.json")
    assert all(f"- {what}: {value:.4g}" in card for what, value in said.items())
    assert "80 scenes" in card and "4 steps of 8" in card and "On 40 held-out" in card
    monkeypatch.setenv(store.ELSEWHERE, str(folder.parent))
    assert store.require("tiny_judge") == folder


# What is shipped.


def test_the_shipped_judge_scores_as_it_was_trained():
    network, classes = judge.load(store.require("tiny_judge"))
    images = held_out(12).images
    opened = metric.open_named("tiny_judge", device="cpu")
    np.testing.assert_allclose(
        opened.features(images)["judge_logits"], judge.logits(network, images), atol=1e-4
    )
    assert opened.classes == classes


def test_the_shipped_judge_sees_the_largest_object_also_under_blur():
    network, classes = judge.load(store.require("tiny_judge"))
    scenes = held_out(N_QUICK)
    assert set(classes) == set(CATEGORIES)
    for sigma, least in ((0.0, 0.8), (1.5, 0.75)):
        images = np.rint(data.blurred(scenes.images, np.full(N_QUICK, sigma))).astype(np.uint8)
        best = np.asarray(classes)[judge.logits(network, images).argmax(axis=1)]
        assert (best == np.asarray(scenes.main)).mean() >= least


@pytest.mark.slow
def test_the_shipped_judge_keeps_what_its_card_says():
    folder = store.require("tiny_judge")
    measured, said = judge.measure(folder, held_out(2000)), read_json(folder / "quality.json")
    assert measured == pytest.approx(said, abs=0.005)
