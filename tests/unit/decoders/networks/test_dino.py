"""The learner of self-supervision: what student and teacher see, what moves, and what is looked at."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from percept.decoders.networks import dino
from percept.decoders.networks.blocks import Backbone, Encoder
from percept.decoders.networks.dino import Dino, Surroundings, neighbours
from percept.decoders.networks.dino_settings import DinoLosses, DinoNetwork, DinoTraining, DinoViews
from percept.decoders.networks.dino_views import Noise
from percept.decoders.training.fit import Job, fit
from tests.unit.decoders.networks.cases import N_VOXELS, TRIALS, data, when

WHOLE = {"dropout": (0, 0), "global_dropout": (0, 0)}  # views that lack nothing


def settings(network=None, losses=None, **views):
    small = {"width": 12, "blocks": 1, "prototypes": 9, "head_width": 10, "bottleneck": 6}
    return SimpleNamespace(
        network=DinoNetwork(**small | (network or {})),
        views=DinoViews(**{"local": 3, **views}),
        losses=DinoLosses(**losses or {}),
    )


def tiny(around=None, **given):
    torch.manual_seed(0)
    return Dino(N_VOXELS, settings(**given), around)


def batch_of(learner, seed=3, at=None):
    own = data()
    return learner.draw(own, torch.arange(own.n_rows), at or when(), np.random.default_rng(seed)), own


def members(*regions):
    found = np.zeros((len(regions), N_VOXELS), dtype=bool)
    for row, voxels in enumerate(regions):
        found[row, voxels] = True
    return found


def test_the_encoder_is_the_hidden_part_of_mindeyes_backbone():
    layers = dino.layers(DinoNetwork())
    with torch.device("meta"):
        encoder, backbone = Encoder(15_724, layers), Backbone(15_724, 257 * 768, layers)
    hidden = {name: tuple(one.shape) for name, one in backbone.state_dict().items() if "last" not in name}
    assert {name: tuple(one.shape) for name, one in encoder.state_dict().items()} == hidden
    assert sum(one.numel() for one in encoder.parameters()) == (15_724 + 1 + 2) * 4096 + 4 * (4096 + 3) * 4096


# Views.


def test_the_global_views_are_different_repeats_of_the_same_image():
    learner = tiny()
    for seed in range(20):
        batch, own = batch_of(learner, seed)
        for row, trials in enumerate(TRIALS):
            there = own.tensors["voxels"][[one for one in trials if one >= 0]]
            which = [int((there == seen).all(dim=1).nonzero()) for seen in batch["student"][row]]
            assert len(set(which[:2])) == min(2, len(there))
    assert batch["student"].shape == (7, 5, N_VOXELS)
    assert torch.equal(batch["teacher"], batch["student"][:, :2])


def test_an_averaging_teacher_sees_the_mean_which_the_student_never_sees():
    learner = tiny(teacher="averaged")
    batch, own = batch_of(learner)
    assert batch["teacher"].shape == (7, 1, N_VOXELS) and batch["student"].shape == (7, 3, N_VOXELS)
    torch.testing.assert_close(batch["teacher"][0, 0], own.tensors["voxels"][:3].mean(dim=0))
    assert learner.counted().tolist() == [[True, True, True]]


def test_a_global_view_is_compared_with_all_views_but_itself():
    assert tiny().counted().tolist() == [[False, True, True, True, True], [True, False, True, True, True]]


def test_views_that_lack_nothing_are_the_responses():
    learner = tiny(**WHOLE)
    batch, _ = batch_of(learner)
    assert torch.equal(learner.perturbed(batch), batch["student"].flatten(0, 1))


def test_only_local_views_lack_regions_and_exactly_the_labelled_voxels():
    regions = [range(5), range(3, 9), range(20, 23)]
    learner = tiny(Surroundings(members(*regions)), region_dropout=0.6, **WHOLE)
    batch, _ = batch_of(learner)
    seen = learner.perturbed(batch).unflatten(0, (7, 5))
    assert batch["missing"].any() and not batch["missing"][:, :2].any()
    for row in range(7):
        for view in range(5):
            gone = {v for r in range(3) if batch["missing"][row, view, r] for v in regions[r]}
            expected = batch["student"][row, view].clone()
            expected[sorted(gone)] = 0
            assert torch.equal(seen[row, view], expected)


def test_the_teacher_sees_all_voxels_without_added_noise():
    around = Surroundings(
        members(range(9)), Noise(np.ones((1, N_VOXELS), np.float32), np.ones(N_VOXELS, np.float32))
    )
    learner = tiny(around, noise=1.0, region_dropout=0.9)
    batch, own = batch_of(learner)
    trials = own.tensors["voxels"]
    assert all((trials == one).all(dim=1).any() for one in batch["teacher"].flatten(0, 1))
    found = learner(batch)["teacher"]
    torch.testing.assert_close(found.flatten(0, 1), learner.pair.taught(batch["teacher"].flatten(0, 1)))


@pytest.mark.parametrize(("noise", "added"), [(0.0, False), (0.5, True)])
def test_noise_is_added_to_the_students_views_where_it_is_asked_for(noise, added):
    around = Surroundings(noise=Noise(np.ones((1, N_VOXELS), np.float32), np.zeros(N_VOXELS, np.float32)))
    learner = tiny(around, noise=noise, **WHOLE)
    batch, _ = batch_of(learner)
    change = learner.perturbed(batch) - batch["student"].flatten(0, 1)
    assert bool(change.any()) == added
    torch.testing.assert_close(change, change[:, :1].expand_as(change))  # one pattern, alike in all voxels


def test_the_same_numbers_draw_the_same_batch():
    first, second = (batch_of(tiny(), 5)[0] for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# Steps.


def test_the_loss_follows_its_settings():
    learner = tiny(losses={"teacher": 0.07, "teacher_start": 0.04, "teacher_warmup": 3})
    batch, _ = batch_of(learner)
    learner.eval()
    found = learner(batch)
    for epoch, temperature in [(0, 0.04), (1, 0.05), (3, 0.07), (50, 0.07)]:
        taught = dino.distillation.assigned(found["teacher"], learner.pair.centre, temperature)
        expected = dino.distillation.loss(found["student"], taught, learner.counted(), 0.1)
        torch.testing.assert_close(learner.loss(found, batch, when(epoch))["loss"], expected)


@pytest.mark.parametrize(("epoch", "learns"), [(0, False), (1, False), (2, True)])
def test_prototypes_stay_as_drawn_for_the_first_epochs(epoch, learns):
    learner = tiny(losses={"frozen_epochs": 2})
    batch, _ = batch_of(learner, at=when(epoch))
    learner.loss(learner(batch), batch, when(epoch))["loss"].backward()
    assert bool(learner.pair.student.head.prototypes.grad.any()) == learns
    assert learner.pair.student.encoder.stem[0].weight.grad.any()


def test_after_a_step_the_teacher_has_moved_by_the_momentum_of_that_step():
    learner = tiny(losses={"momentum": 0.5})
    batch, _ = batch_of(learner)
    found = learner(batch)
    learner.loss(found, batch, when())
    with torch.no_grad():
        learner.pair.student.head.prototypes.add_(1)
    before = learner.pair.teacher.head.prototypes.clone()
    learner.updated(when(0, n_epochs=4))
    torch.testing.assert_close(learner.pair.teacher.head.prototypes, before + 0.5)
    torch.testing.assert_close(learner.pair.centre, 0.1 * found["teacher"].mean(dim=(0, 1)))
    last, after = when(3, n_epochs=4, step=2), learner.pair.teacher.head.prototypes.clone()
    learner.updated(last)  # of the last step, momentum 1: the teacher stays
    assert torch.equal(learner.pair.teacher.head.prototypes, after)


@pytest.mark.parametrize(("frozen", "moves"), [(6, False), (1, True)])
def test_in_a_training_frozen_prototypes_keep_their_directions(tmp_path, frozen, moves):
    """Weight decay shortens them, which changes no logit."""
    learner = tiny(losses={"frozen_epochs": frozen})
    before = learner.pair.student.head.prototypes.detach().clone()
    cfg = DinoTraining(epochs=6, batch_size=4, peak_epochs=1, device="cpu", learning_rate=1e-2)
    fit(learner, data(), None, cfg, Job(tmp_path, 3, "these data", "toy"))
    after = learner.pair.student.head.prototypes
    cosines = torch.nn.functional.cosine_similarity(before, after)
    assert bool((cosines < 0.9999).any()) == moves
    moved = learner.pair.teacher.encoder.stem[0].weight - tiny().pair.teacher.encoder.stem[0].weight
    assert moved.any()


# What is looked at.


def test_validation_trains_nothing_and_says_the_same_each_time():
    learner = tiny()
    _, own = batch_of(learner)
    before = {name: one.clone() for name, one in learner.state_dict().items()}
    held_out = data(seed=1)
    learner.eval()
    scores = []
    for _ in range(2):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            scores.append(learner.validate(held_out, when()))
    assert scores[0] == scores[1]
    assert set(scores[0]) == {"loss", "entropy", "divergence", "neighbours"}
    assert learner.known is not None and torch.equal(learner.known.tensors["voxels"], own.tensors["voxels"])
    assert all(torch.equal(one, before[name]) for name, one in learner.state_dict().items())


def test_neighbours_vote_by_how_near_they_are():
    known, targets = torch.eye(3), torch.tensor([[1.0, 0], [0, 1], [5, 5]])
    asked = torch.tensor([[1.0, 1, 0]])
    cosine = 1 / np.sqrt(2)
    weights = np.exp(np.array([cosine, cosine, 0]) / 0.07)
    expected = weights @ targets.numpy() / weights.sum()
    np.testing.assert_allclose(neighbours(asked, known, targets)[0], expected, rtol=1e-4)


def test_features_do_not_depend_on_how_many_are_asked_for_at_once(monkeypatch):
    learner, X = tiny(), np.random.default_rng(0).standard_normal((11, N_VOXELS)).astype(np.float32)
    whole = learner.embed(X)
    monkeypatch.setattr(dino, "ROWS", 4)
    np.testing.assert_allclose(learner.embed(X), whole, rtol=1e-5, atol=1e-6)
    assert whole.shape == (11, 12) and learner.training
