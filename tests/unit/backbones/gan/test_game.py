"""The loop of two players: resumption, the average, which state is kept."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from percept.backbones import recipe as recipes
from percept.backbones.gan import game as games
from percept.backbones.gan.discriminator import Discriminator
from percept.backbones.gan.game import GameRecipe, Networks
from percept.backbones.gan.generator import Generator, Size
from percept.files import PerceptError

SIZE = Size((4, 3), (2,), latent=3, style=4, mapping=1, rate=1.0)
RECIPE = GameRecipe(
    steps=8, learning_rate=0.01, batch_size=4, weight_decay=0.0, warmup=2, betas=(0.0, 0.99), ema=0.9,
    alone=3, measured_every=2, seed=5,
)  # fmt: skip


class Toy:
    """Images against noise; what is measured is given."""

    def __init__(self, kids=(), crash=None):
        self.kids, self.crash, self.happened, self.states = list(kids), crash, [], []

    def turn(self, networks, step, generator):
        if step == self.crash and step not in self.happened:
            self.happened.append(step)
            raise OSError("no space left")
        z, c = torch.randn(4, 3, generator=generator), torch.randn(4, 2, generator=generator)
        return networks.generator(z, c), c  # noise of the layers is drawn from torch's own generator

    def against(self, networks, turn, step):
        fake, c = turn
        return {
            "loss": networks.discriminator(fake.detach()).score(c).mean(),
            "told": torch.tensor(float(step)),
        }

    def towards(self, networks, turn, step):
        assert not any(parameter.requires_grad for parameter in networks.discriminator.parameters())
        fake, c = turn
        networks.path_mean = networks.path_mean + 1
        return {"loss": fake.square().mean() - networks.discriminator(fake).score(c).mean()}

    def measured(self, networks):
        assert not networks.average.training
        self.states.append(copy.deepcopy(networks.average.state_dict()))
        return {"kid": self.kids[len(self.states) - 1] if self.kids else 1.0}


def networks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Networks(Generator(SIZE), Discriminator((4, 3), (2,)))


def trained(folder, game=None, recipe=RECIPE, identity=""):
    made = networks()
    return made, games.fit(made, game or Toy(), recipe, folder, identity)


def assert_same(one, other):
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), other.state_dict()[name].numpy(), err_msg=name)


@pytest.mark.parametrize("at", [1, 3, 7])
def test_after_a_crash_both_players_are_those_of_an_uninterrupted_game(tmp_path, monkeypatch, at):
    whole, history = trained(tmp_path / "whole")
    monkeypatch.setattr(games, "CHECKPOINT_S", 0.0)
    with pytest.raises(OSError, match="no space"):
        trained(tmp_path / "parts", Toy(crash=at))
    resumed, again = trained(tmp_path / "parts")
    assert_same(whole, resumed)
    same = [name for name in history if name != "seconds"]
    assert history[same].equals(again[same])


def test_a_finished_game_is_not_repeated_and_another_one_is(tmp_path):
    done, _ = trained(tmp_path)
    again, _ = trained(tmp_path, Toy(crash=0))
    assert_same(done, again)
    for recipe, identity in ((replace(RECIPE, seed=6), ""), (RECIPE, "other data")):
        with pytest.raises(OSError, match="no space"):
            trained(tmp_path, Toy(crash=0), recipe, identity)


def test_the_state_of_the_lowest_distance_is_kept(tmp_path):
    game = Toy(kids=[0.5, 0.2, 0.3])  # at steps 4, 6 and 8
    made, history = trained(tmp_path, game)
    assert history.loc[history["kid"].notna(), "step"].tolist() == [4, 6, 8]
    for name, value in made.average.state_dict().items():
        np.testing.assert_array_equal(value, game.states[1][name])
    assert any((game.states[2][name] != value).any() for name, value in made.average.state_dict().items())


def test_the_discriminator_waits_while_the_generator_learns_alone(tmp_path):
    before = networks()
    made, history = trained(tmp_path, recipe=replace(RECIPE, steps=3))
    for name, value in made.discriminator.state_dict().items():
        np.testing.assert_array_equal(value, before.discriminator.state_dict()[name])
    assert "discriminator" not in history
    _, played = trained(tmp_path / "more")
    assert played["discriminator"].notna().all() and played["told"].tolist() == [3.0, 4.5, 6.5]


@pytest.mark.parametrize("decay", [0.0, 0.25, 1.0])
def test_the_average_follows_its_formula(decay):
    made = networks()
    with torch.no_grad():
        for parameter in made.generator.parameters():
            parameter.add_(1.0)
    before = copy.deepcopy(made.average.state_dict())
    made.follow(decay)
    for name, value in made.average.state_dict().items():
        expected = decay * before[name] + (1 - decay) * made.generator.state_dict()[name]
        torch.testing.assert_close(value, expected)


def test_the_average_is_not_trained(tmp_path):
    assert not any(parameter.requires_grad for parameter in networks().average.parameters())


@pytest.mark.parametrize(("side", "step"), [("discriminator", 3), ("generator", 0)])
def test_a_loss_that_is_not_finite_stops_the_game(tmp_path, monkeypatch, side, step):
    method = {"discriminator": "against", "generator": "towards"}[side]
    own = getattr(Toy, method)
    monkeypatch.setattr(Toy, method, lambda *given: {"loss": own(*given)["loss"] * torch.nan})
    with pytest.raises(PerceptError, match=f"loss of the {side} is nan at step {step}.*learning rate"):
        trained(tmp_path)


def test_rates_are_those_of_the_other_trainings(tmp_path):
    _, history = trained(tmp_path)
    expected = [recipes.learning_rate(RECIPE, step - 1) for step in history["step"]]
    assert history["learning_rate"].tolist() == expected


def test_checkpoints_are_written_in_the_rhythm_that_is_asked_for(tmp_path, monkeypatch):
    written = []
    own = games._State.save
    monkeypatch.setattr(games._State, "save", lambda state: written.append(state.step) or own(state))
    for seconds, expected in ((0.0, [*range(1, 9), 8]), (3600.0, [8])):
        written.clear()
        games.fit(networks(), Toy(), RECIPE, tmp_path / str(seconds), "", games.Running(checkpoint_s=seconds))
        assert written == expected


def test_another_precision_computes_in_it(tmp_path):
    types = []

    class Noting(Toy):
        def towards(self, networks, turn, step):
            types.append(networks.discriminator(turn[0]).logit.dtype)
            return super().towards(networks, turn, step)

    made = networks()
    games.fit(made, Noting(), RECIPE, tmp_path, "", games.Running("bfloat16"))
    assert set(types) == {torch.bfloat16}
    assert {parameter.dtype for parameter in made.parameters()} == {torch.float32}
