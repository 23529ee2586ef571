"""What makes a training begin anew, and what does not; what a folder and its card say afterwards."""

import importlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from percept import provenance
from percept.backbones import store
from percept.backbones.tiny import NETWORKS, cards, clip, judge, origin, vae
from percept.files import read_json
from tests.unit.backbones import tiny_parts

MODULE = "percept.backbones.tiny.unclip"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_parts.write(tmp_path_factory.mktemp("parts"))


@pytest.fixture
def job(root, tmp_path):
    made = tiny_parts.job(root, "any", clip.NAME, vae.NAME, judge.NAME)
    return replace(made, folder=tmp_path / "any", work=tmp_path / "work")


def other_pixel(scenes):
    images = scenes.images.copy()
    images[2, 30, 20, 1] ^= 1
    return replace(scenes, images=images)


CHANGES = {
    "pixel": other_pixel,
    "caption": lambda scenes: replace(scenes, captions=(("A cat.",) * 5, *scenes.captions[1:])),
    "object": lambda scenes: replace(scenes, objects=(("cat", "cat"), *scenes.objects[1:])),
    "place": lambda scenes: replace(scenes, settings=("nowhere", *scenes.settings[1:])),
    "number": lambda scenes: scenes.take(np.arange(len(scenes) - 1)),
    "order": lambda scenes: scenes.take(np.arange(len(scenes))[::-1]),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_scenes_are_another_origin(job, change):
    other = replace(job, train=CHANGES[change](job.train))
    assert origin.origin(other, MODULE) != origin.origin(job, MODULE)


def test_what_moves_no_weight_is_no_other_origin(job, root, tmp_path):
    described = tmp_path / vae.NAME
    shutil.copytree(root / vae.NAME, described)
    (described / cards.README).write_text("Another card.")
    store.write_manifest(described, vae.NAME, revision="another")
    other = replace(
        job, folder=tmp_path / "x", work=tmp_path / "y", code="another", held_out=job.train,
        parts=job.parts | {vae.NAME: described},
    )  # fmt: skip
    assert origin.origin(other, MODULE) == origin.origin(job, MODULE)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_code_of_a_training_is_its_own_modules(name):
    module, _ = NETWORKS[name]
    counted = provenance.closure([module], (*provenance.NOT_COUNTED, *origin.NO_INFLUENCE))
    inside = provenance.PACKAGE / "backbones" / "tiny"
    classes = {
        "tiny_gan": {inside.parent / "gan", inside.parent},
        "tiny_dino": {inside.parent},
    }  # others: a library's
    shared = ("__init__.py", "recipe.py")
    assert {path.parent for path in counted if path.name not in shared} == {inside} | classes.get(name, set())
    assert {"data.py", "trainer.py", f"{module.rpartition('.')[2]}.py"} <= {path.name for path in counted}


def test_what_is_not_counted_exists():
    assert all(path.is_file() for path in origin.NO_INFLUENCE)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_trained_under_its_origin(job, name, monkeypatch):
    module, parts = NETWORKS[name]
    network = importlib.import_module(module)
    own = replace(job, parts={part: job.parts[part] for part in parts})

    class BegunError(Exception):
        pass

    def begun(*given):
        raise BegunError(given[-1])

    monkeypatch.setattr(network, "fit", begun)
    with pytest.raises(BegunError) as caught:
        network.train(own)
    assert caught.value.args[0] == origin.origin(own, module)


def test_a_folder_holds_nothing_of_an_earlier_training_and_its_card_counts(job):
    left = job.folder / "part" / "old.safetensors"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    (job.folder / "old.json").write_text("{}")
    judge.train(job, tiny_parts.short(judge.RECIPE))
    assert not left.parent.exists()
    assert read_json(job.folder / store.MANIFEST)["files"].keys() == {
        "config.json", "model.safetensors", *cards.FILES,
    }  # fmt: skip
    n, places = len({name for names in job.train.objects for name in names}), len(set(job.train.settings))
    card = " ".join((job.folder / cards.README).read_text().split())
    assert f"{n} categories of flat-shaded objects in {places} kinds of place" in card
