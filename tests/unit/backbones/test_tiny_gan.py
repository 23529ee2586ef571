import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from percept.backbones import store
from percept.backbones.gan import conditions, distance, loading
from percept.backbones.gan import play as rules
from percept.backbones.tiny import clip, denoising, gan, judge, kernel, latents, vae
from percept.files import read_json
from tests.unit.backbones import tiny_parts
from tests.unit.backbones.tiny_scenes import held_out

SMALL = {"channels": (8, 8, 6, 6, 4), "judging": (8, 6, 6, 4, 4), "alone": 1, "measured_every": 1}


def short():
    return dataclasses.replace(tiny_parts.short(gan.RECIPE), **SMALL)


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Two steps of a game of small networks, the first of them alone."""
    root = tiny_parts.write(tmp_path_factory.mktemp("parts"))
    made = tiny_parts.job(root, gan.NAME, clip.NAME, judge.NAME)
    made = dataclasses.replace(made, held_out=held_out(14).take(np.arange(6, 14)))  # a half of a half is two
    gan.train(made, short())
    return made


@pytest.fixture(scope="module")
def play(job):
    return gan.ScenePlay(job, short(), torch.from_numpy(latents.embeddings(job)))


@pytest.fixture(scope="module")
def networks(job):
    return gan.build(short(), latents.embeddings(job))


def turn(play, networks, step=0, seed=0):
    torch.manual_seed(seed)
    return play.turn(networks, step, torch.Generator().manual_seed(seed))


# What is played.


def test_conditions_are_of_the_pictures_that_they_are_paired_with(job, play, networks):
    found = turn(play, networks)
    pictures = ((found.real.permute(0, 2, 3, 1) + 1) * 127.5).round().byte().numpy()
    again = networks.generator.prepared(torch.from_numpy(latents.embed(job.parts[clip.NAME], pictures)))
    own = (again @ found.true.T).argmax(dim=1)  # pictures are moved and tinted a little
    assert (own == torch.arange(6)).float().mean() >= 0.5
    assert found.fake.shape == found.real.shape == (6, 3, 64, 64)


def test_z_is_zero_in_its_share_of_the_pictures_and_conditions_are_noised_in_theirs(play, networks):
    found = [turn(play, networks, seed=seed) for seed in range(40)]
    still = torch.cat([one.still for one in found]).float().mean()
    clean = torch.cat([((one.c * one.true).sum(dim=1) > 0.999) for one in found]).float().mean()
    for share, expected in ((still, gan.STILL), (clean, gan.CLEAN)):
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 240)


def test_pictures_with_z_of_zero_are_those_of_z_of_zero(play, networks):
    """Were z random throughout the training, z = 0, which reconstructs, would be a corner it never saw."""
    networks.generator.eval()
    found = turn(play, networks, seed=3)
    assert 0 < found.still.sum() < len(found.still)
    zero = networks.generator(torch.zeros(6, gan.LATENT), found.c)
    same = (found.fake - zero).abs().flatten(1).max(dim=1).values < 1e-4
    assert torch.equal(same, found.still)
    networks.generator.train()


def test_likeness_counts_pictures_with_z_of_zero_alone():
    real, fake = torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 8, 8)
    fake[0], fake[1] = 0.5, 9.0
    still = torch.tensor([True, False, True, False])
    found = rules.likeness(rules.Turn(real, fake, real, real, still, torch.Generator()))
    assert found["coarse"] == pytest.approx(0.25) and found["fine"] == pytest.approx(0.25)
    none = rules.likeness(rules.Turn(real, fake, real, real, ~still & still, torch.Generator()))
    assert none["fine"] == 0  # a batch without any is no division by zero


def gradient(module):
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("step", [gan.R1_EVERY, gan.R1_EVERY + 1])
def test_the_discriminator_learns_without_moving_the_generator(play, networks, step):
    networks.zero_grad(set_to_none=True)
    play.against(networks, turn(play, networks), step)["loss"].backward()
    assert gradient(networks.discriminator) > 0 and gradient(networks.generator) == 0


def test_the_gradient_penalty_is_added_at_its_steps(play, networks):
    found = [
        float(play.against(networks, turn(play, networks), s)["loss"].detach()) for s in (gan.R1_EVERY, 1)
    ]
    assert found[0] > found[1]


def test_the_generator_alone_has_no_opponent_and_later_has(play, networks):
    networks.zero_grad(set_to_none=True)
    play.towards(networks, turn(play, networks), 0)["loss"].backward()
    assert gradient(networks.generator) > 0 and gradient(networks.discriminator) == 0
    play.towards(networks, turn(play, networks), 1)["loss"].backward()
    assert gradient(networks.discriminator) > 0


def test_path_lengths_are_penalised_around_a_mean_that_moves(play, networks):
    before = float(networks.path_mean)
    penalty = rules.path(networks, turn(play, networks), gan.RULES.path_decay)
    assert float(penalty.detach()) > 0 and float(networks.path_mean) > before
    penalty.backward()


def test_what_clip_sees_carries_a_gradient_and_is_the_networks_embedding(job, play):
    images = job.train.images
    given = vae.normalised(images).requires_grad_()
    found = play.seer(given)
    np.testing.assert_allclose(found.detach(), latents.embed(job.parts[clip.NAME], images), atol=1e-3)
    found.sum().backward()
    assert given.grad.abs().max() > 0


def test_scenes_that_choose_a_state_are_not_those_of_the_card(job):
    chosen, measured = gan.chosen_on(job.held_out), gan.measured_on(job.held_out)
    assert len(chosen) == len(measured) == 4
    assert not any((one == other).all() for one in chosen.images for other in measured.images)


# What is written.


def test_a_trained_folder_is_whole_and_half_precise(job):
    from safetensors import safe_open

    assert store.verify(job.folder) == []
    with safe_open(job.folder / "model.safetensors", "numpy") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}
    assert read_json(job.folder / store.MANIFEST)["name"] == gan.NAME
    history = pd.read_csv(job.folder / "training.csv")
    assert history.loc[history["kid"].notna(), "step"].tolist() == [2]  # once the game has begun
    assert "compose(seed=0, stimulus)" in (job.folder / "README.md").read_text()


def test_a_finished_training_is_not_repeated(job):
    before = (job.folder / "model.safetensors").read_bytes()
    gan.train(job, short())
    assert (job.folder / "model.safetensors").read_bytes() == before


def test_the_generator_standardises_by_the_training_scenes(job):
    generator, seen = loading.load(job.folder), latents.embeddings(job)
    np.testing.assert_allclose(generator.mean, seen.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(generator.spread, seen.std(axis=0), rtol=2e-3, atol=1e-4)


# What is shipped.


@pytest.fixture(scope="module")
def own():
    return loading.load(store.SHIPPED / gan.NAME)


def test_the_shipped_network_is_small():
    assert (store.SHIPPED / gan.NAME / "model.safetensors").stat().st_size <= 3_000_000


def test_the_recipe_and_sizes_are_those_of_the_shipped_network(own):
    recipe = read_json(store.SHIPPED / gan.NAME / store.MANIFEST)["recipe"]
    assert recipe == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(gan.RECIPE).items()
    }
    assert own.size.channels == gan.CHANNELS


@pytest.fixture(scope="module")
def shown(own):
    """120 held-out scenes, and pictures of their embeddings: as they are, with noise, and exchanged."""
    scenes, true = tiny_parts.true_scenes(120)
    c = own.prepared(torch.from_numpy(true))
    noisy = gan.disturbed(c, own.size, torch.Generator().manual_seed(0), clean=0.0)
    return scenes, true, {"true": gan.pictures(own, c), "noisy": gan.pictures(own, noisy)}


@pytest.mark.parametrize(("given", "least"), [("true", 0.9), ("noisy", 0.7)])
def test_held_out_scenes_are_identified_by_clip_and_by_a_judge_that_it_was_not_trained_against(
    shown, given, least
):
    scenes, true, made = shown
    again = latents.embed(store.SHIPPED / clip.NAME, made[given])
    folder = store.SHIPPED / judge.NAME
    judged = denoising.identified(
        kernel.features(folder, made[given]), kernel.features(folder, scenes.images)
    )
    assert denoising.identified(again, true) >= least
    assert judged >= least - 0.1


def test_pictures_are_nearer_to_scenes_than_the_mean_of_the_scenes_is(shown):
    scenes, _, made = shown
    folder = store.SHIPPED / judge.NAME
    real = kernel.features(folder, scenes.images[60:])
    mean = np.repeat(scenes.images.mean(axis=0, keepdims=True).astype(np.uint8), 60, axis=0)
    apart = distance.kid(kernel.features(folder, made["true"][:60]), real)
    assert apart < 0.5 * distance.kid(kernel.features(folder, mean), real)


def test_noise_strengths_are_ascending_shares():
    assert len(gan.STRENGTHS) == len(conditions.LEVELS)
    assert list(gan.STRENGTHS) == sorted(gan.STRENGTHS) and 0 < gan.STRENGTHS[0] < gan.STRENGTHS[-1] < 1


@pytest.mark.slow
def test_the_card_says_what_many_scenes_measure(own):
    from percept.backbones.tiny import data
    from percept.datasets.scenes import drawn

    written = read_json(store.SHIPPED / gan.NAME / "quality.json")
    scenes = drawn.draw(data.FIRST_HELD_OUT + 1000, 1000)
    true = latents.embed(store.SHIPPED / clip.NAME, scenes.images)
    made = gan.pictures(own, own.prepared(torch.from_numpy(true)))
    measured = denoising.identified(latents.embed(store.SHIPPED / clip.NAME, made), true)
    key = next(name for name in written if "by tiny_clip" in name and "from true" in name)
    assert measured == pytest.approx(written[key], abs=0.01)
