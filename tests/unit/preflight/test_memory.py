"""A network without content is estimated as one with it."""

import pytest
import torch

from percept import config
from percept.decoders.training import preflight
from percept.decoders.training.learner import Data, When
from percept.preflight import memory, world
from tests.unit.source import REPOSITORY

NSD = REPOSITORY / "config/nsd.yaml"
DEMO = REPOSITORY / "config/config.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def on_the_cpu(asked):
    """The same estimate with tensors that have content."""
    learner, decoder = memory._built(asked), asked.decoder
    shapes = {name: tensor.shape for name, tensor in memory._data(asked).tensors.items()}
    kinds = {"trials": torch.long, "n_trials": torch.long, "voxels": torch.float32}
    data = {name: torch.ones(shape, dtype=kinds.get(name, torch.float16)) for name, shape in shapes.items()}
    data["trials"] = torch.zeros_like(data["trials"])
    batch = preflight.probe(learner, Data(asked.n_images, data), When(0, 10, 5), 0)
    kept = preflight.kept_bytes(learner, batch)
    return preflight.estimate(
        learner, Data(asked.n_images, data), decoder.training, decoder.training.batch_size, kept
    )


@pytest.mark.parametrize("name", ["mindeye", "mindeye_lowlevel", "mapper", "voxelclip_flat", "dino"])
def test_a_network_on_the_meta_device_takes_as_much_as_on_the_cpu(name):
    cfg = config.load(DEMO)
    (found,) = [one for one in memory.trainings(cfg, world.subjects(cfg)[:1]) if one.decoder == name]
    shape = memory.shape_of(cfg.decoders[name].target, cfg)
    real = on_the_cpu(memory._Asked(name, cfg, world.subjects(cfg)[0], shape))
    assert found.device == pytest.approx(real.total, rel=0.02) and real.activations > 0


def test_mindeye_of_subject_1_has_the_parameters_and_the_memory_that_are_known_of_it():
    cfg = config.load(NSD)
    alone = cfg.model_copy(update={"decoders": {"mindeye": cfg.decoders["mindeye"]}})
    (found,) = memory.trainings(alone, world.subjects(cfg)[:1])
    assert found.parameters == pytest.approx(1.0e9, rel=0.01)
    assert found.saved == pytest.approx(4.0e9, rel=0.02)  # as docs/nsd.md says
    assert found.checkpoint == pytest.approx(16e9, rel=0.02)
    assert found.device > found.checkpoint + 8100 * 257 * 768 * 2  # and the targets


def test_seeds_and_equal_settings_are_estimated_once(monkeypatch):
    cfg, asked = config.load(DEMO), []
    voter = cfg.decoders["voter_1"]
    twice = {"one": voter, "other": voter.model_copy(update={"seeds": (1, 2)})}
    alone = cfg.model_copy(update={"decoders": twice, "sweeps": {}})
    whole = memory._training
    monkeypatch.setattr(memory, "_training", lambda one: asked.append(one) or whole(one))
    assert [one.decoder for one in memory.trainings(alone, world.subjects(cfg))] == ["one", "other"]
    assert len(asked) == 1


def test_a_network_on_volumes_is_not_estimated_before_its_voxels_are_known():
    cfg = config.load(DEMO)
    found = {one.decoder for one in memory.trainings(cfg, world.subjects(cfg))}
    untold = {"ridge_truth"}  # nobody knows how many features the twin was generated from
    assert set(cfg.decoders) - found == {"voxelclip", "voxelclip_convolutional"} | untold


@pytest.mark.parametrize(("gpus", "kind", "more"), [(1, "nsd", 56_000), (1, "twin", 0), (0, "nsd", 0)])
def test_a_network_of_full_size_asks_for_host_memory_beside_the_voxels(gpus, kind, more):
    assert memory.training_mb(1e9, gpus, kind) == 8000 + more
