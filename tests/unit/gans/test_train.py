"""A training of seconds: what is written, that it goes on after a kill, and what it may never see."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch

from percept.backbones import image
from percept.backbones.gan import loading, sampler
from percept.config import plugin
from percept.files import PerceptError, read_json
from percept.gans import memory, read, train
from percept.gans.photographs import PhotographPlay, parted
from percept.generators.roles import Context, Roles
from tests.unit.gans import pools
from tests.unit.gans.pools import SIDE, TARGET, N, section

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    given, place, *_ = pools.write(tmp_path_factory.mktemp("train"))
    return read.photographs(section(), given, place, [TARGET])


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    train.train(section(), data, train.Job(folder, "code"))
    return folder


@pytest.fixture
def play(data):
    cfg = section()
    with PhotographPlay(cfg, data, train.rules(cfg, data), train.encoder(cfg, data, "cpu")) as made:
        yield made


# What is written.


def test_the_folder_holds_the_network_and_what_is_known_of_it(data, trained):
    assert {path.name for path in trained.iterdir()} == {
        WEIGHTS, "config.json", "about.json", "history.parquet",
    }  # fmt: skip
    generator, about = loading.load(trained), read_json(trained / "about.json")
    assert generator.size.channels == (8, 8, 4) and generator.size.side == SIDE
    np.testing.assert_allclose(generator.mean, data.conditions.mean(axis=0), atol=2e-3)
    assert about["conditions"] == [TARGET] and about["images"] == {"used": N, "left_out": 0}
    history = pd.read_parquet(trained / "history.parquet")
    measured = history.dropna(subset="kid")
    assert measured["step"].tolist() == [2, 4, 6] and np.isfinite(measured["gap"]).all()
    assert about["kept"]["step"] == measured.loc[measured["kid"].idxmin(), "step"]
    assert history["discriminator"].notna().all() and (history["apart"] > 0).all()


def test_what_is_kept_was_trained(data, trained):
    before = train.build(section(), data).average.state_dict()
    after = loading.load(trained).state_dict()
    assert (before["constant"] - after["constant"]).abs().max() > 1e-3


@pytest.mark.parametrize("z", ["zero", "optimised", "sampled"])
def test_a_reconstruction_shows_embeddings_by_it(data, trained, z):
    settings = {"kind": "gan", "trained": "own", "z": z, "steps": 2, "samples": 2, "device": "cpu"}
    roles = Roles(np.arange(3, dtype=np.int32), data.conditions[:3])
    made = plugin("generators", settings).build(Context(gan=trained)).generate(roles, seed=0)
    assert made.images.shape == (3, SIDE, SIDE, 3) and len(made.details) == 3
    if z == "zero":
        own = sampler.open_folder(trained, "cpu").draw(data.conditions[:3])
        np.testing.assert_array_equal(made.images, own)


def test_without_its_folder_it_cannot_be_built():
    with pytest.raises(PerceptError, match=r"network 'own', which is trained here.*`train_gan`"):
        plugin("generators", {"kind": "gan", "trained": "own"}).build(Context())


# Going on.


@pytest.mark.parametrize("at", [1, 4])
def test_a_killed_training_goes_on_to_the_same_weights(data, trained, tmp_path, monkeypatch, at):
    obeyed, own = [], PhotographPlay.batch
    job = train.Job(tmp_path / "gan", "code")

    def killed(self, step, device):
        if step == at and not obeyed:
            os.kill(os.getpid(), signal.SIGTERM)
        return own(self, step, device)

    monkeypatch.setattr(PhotographPlay, "batch", killed)
    before = signal.signal(signal.SIGTERM, lambda number, frame: obeyed.append(number))
    try:
        with pytest.raises(PerceptError, match="interrupted by a signal"):
            train.train(section(), data, job)
    finally:
        signal.signal(signal.SIGTERM, before)
    kept = torch.load(job.work / "checkpoint.pt", weights_only=True)
    assert (obeyed, kept["step"]) == ([signal.SIGTERM], at + 1) and not (job.folder / WEIGHTS).exists()
    train.train(section(), data, job)
    assert (job.folder / WEIGHTS).read_bytes() == (trained / WEIGHTS).read_bytes()
    assert not job.work.exists()


def test_a_checkpoint_of_other_settings_data_or_code_is_void_but_not_of_another_rhythm(data):
    def mark(cfg=None, data=data, code="code"):
        return train.identity(cfg or section(), data, train.Job("gan", code), "cpu")

    assert mark(section(training={"checkpoint_minutes": 1.0})) == mark()
    others = [
        mark(section(losses={"fine": 3.0})), mark(code="edited"),
        mark(data=read.Photographs(**{**vars(data), "rows": data.rows[::-1]})),
    ]  # fmt: skip
    assert len({mark(), *others}) == 4


def test_bfloat16_computes_in_half_precision_and_keeps_single_weights(data, trained, tmp_path):
    train.train(section(training={"precision": "bfloat16"}), data, train.Job(tmp_path, "code"))
    one, other = (loading.load(folder).state_dict() for folder in (trained, tmp_path))
    gap = max(float((one[name] - other[name]).abs().max()) for name in one)
    assert 0 < gap and all(torch.isfinite(value).all() for value in other.values())


# What is seen.


def test_images_that_are_held_out_train_nothing(play):
    held_out = set(play.held_out.tolist())
    seen = {int(row) for step in range(60) for row in play.chosen(step)}
    assert seen == set(range(N)) - held_out and len(held_out) == 8
    first, second = parted(N, 8, seed=1)
    assert sorted([*first, *second]) == list(range(N)) and set(first.tolist()) != held_out


def test_batches_are_a_function_of_the_step_whatever_was_read_ahead(data, play):
    device = torch.device("cpu")
    images, embeddings = play.batch(3, device)
    for step in (0, 1):
        play.batch(step, device)
    again, same = play.batch(3, device)
    torch.testing.assert_close(again, images, rtol=0, atol=0)
    torch.testing.assert_close(same, embeddings, rtol=0, atol=0)
    rows = data.rows[play.chosen(3)]
    expected = data.images.images(rows).transpose(0, 3, 1, 2) / 127.5 - 1
    np.testing.assert_allclose(images, expected, atol=1e-6)
    np.testing.assert_array_equal(embeddings, data.conditions[play.chosen(3)])


def test_a_picture_that_cannot_be_read_is_named(tmp_path):
    given, place, *_ = pools.write(tmp_path)
    found = read.photographs(section(), given, place, [TARGET])
    (place / "05.png").write_bytes(b"no image")
    with pytest.raises(PerceptError, match=r"05\.png"):
        train.train(section(), found, train.Job(tmp_path / "gan"))
    assert not (tmp_path / "gan" / WEIGHTS).exists()


def test_what_looks_at_images_is_the_network_of_the_conditions(data):
    look = train.encoder(section(), data, "cpu")
    side = image.open_named("tiny_clip", "pooled", "cpu").tower.preprocess_cfg["size"]
    grey = pools.pictures(3, side=side if isinstance(side, int) else side[0])
    given = torch.from_numpy(grey).permute(0, 3, 1, 2) / 127.5 - 1
    found = look(given.requires_grad_())
    encoded = image.open_named("tiny_clip", "pooled", "cpu").encode(grey)
    np.testing.assert_allclose(found.detach(), encoded, atol=1e-3)
    found.sum().backward()
    assert given.grad.abs().max() > 0


def test_where_nothing_is_asked_of_that_network_it_is_not_opened(data, monkeypatch):
    monkeypatch.setattr(image, "open_named", None)
    look = train.encoder(section(losses={"consistent": 0.0, "contrast": 0.0}), data, "cpu")
    assert look(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, data.conditions.shape[1])


# How large it is.


def test_memory_grows_with_the_batch_and_what_is_kept_is_counted():
    with torch.device("meta"):
        players = train.players(section(), (64,))
        four, eight = (memory.estimate(*players, batch) for batch in (4, 8))
    made, judging = (sum(4 * value.numel() for value in player.parameters()) for player in players)
    assert four.weights == made + judging and four.rest == 3 * (made + judging) + 2 * made
    assert 1.8 < eight.activations / four.activations < 2.2
    one_image = 4 * 3 * SIDE**2  # of a batch every side keeps at least the images and each layer's output
    assert four.activations > 4 * one_image * len(players[0].layers)
    assert four.total == four.weights + four.rest + four.activations


@pytest.mark.parametrize(
    ("side", "channels"),
    [(64, (512, 512, 512, 512, 256)), (128, (512,) * 4 + (256, 128)), (256, (512,) * 4 + (256, 128, 64))],
)
def test_the_default_widths_are_those_of_the_published_network(side, channels):
    assert (
        section(network={"side": side, "capacity": 16384, "most_channels": 512}).network.channels == channels
    )


def test_r1_is_typed_or_follows_the_rule():
    assert section(losses={"r1": 10.0}).gamma == 10
    cfg = section(network={"side": 256}, training={"batch_size": 32})
    assert cfg.gamma == pytest.approx(0.0002 * 256**2 / 32)
