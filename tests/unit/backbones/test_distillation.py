"""Self-distillation: closed forms of its loss, what reaches whom, and the two ways to collapse."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from percept.backbones import distillation
from percept.backbones.distillation import Head, Pair

K, N_IN = 16, 6


def logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(seed=0, width=12):
    torch.manual_seed(seed)
    return Pair(
        lambda: nn.Sequential(nn.Linear(N_IN, width), nn.Dropout(0.5)), partial(Head, width, K, 10, 8)
    )


def pairwise(student, taught, temperature):
    """The loss by its formula, pair by pair and row by row."""
    found = []
    for row in range(len(student)):
        for q in range(taught.shape[1]):
            for v in range(student.shape[1]):
                if v != q:
                    said = (student[row, v] / temperature).softmax(-1).log()
                    found.append(-(taught[row, q] * said).sum())
    return torch.stack(found).mean()


# The head.


def test_the_head_has_the_published_number_of_parameters():
    with torch.device("meta"):
        head = Head(384, 65_536)
    mlp = 384 * 2048 + 2048 + 2048 * 2048 + 2048 + 2048 * 256 + 256
    assert sum(one.numel() for one in head.parameters()) == mlp + 65_536 * 256


def test_logits_are_cosines_whatever_the_length_of_a_prototype():
    head = Head(N_IN, K, 10, 8)
    found = head(logits(5, N_IN))
    assert found.shape == (5, K) and found.abs().max() <= 1 + 1e-6
    with torch.no_grad():
        head.prototypes.mul_(torch.linspace(0.1, 9, K)[:, None])
    torch.testing.assert_close(head(logits(5, N_IN)), found)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_prototypes_have_no_gradient_while_the_layers_below_learn(frozen):
    head = Head(N_IN, K, 10, 8)
    head(logits(5, N_IN), torch.tensor(frozen)).square().sum().backward()
    assert (head.prototypes.grad is None or not head.prototypes.grad.any()) == frozen
    assert head.layers[0].weight.grad.any()


# The loss.


@pytest.mark.parametrize(("n_global", "n_views"), [(2, 2), (2, 6), (1, 3)])
def test_the_loss_is_the_mean_over_pairs_of_different_views(n_global, n_views):
    student, taught = logits(5, n_views, K), logits(5, n_global, K, seed=1).softmax(-1)
    counted = distillation.pairs(n_global, n_views)
    assert counted.sum() == n_global * (n_views - 1)
    found = distillation.loss(student, taught, counted, 0.1)
    torch.testing.assert_close(found, pairwise(student, taught, 0.1))


def test_a_view_is_never_compared_with_itself():
    """With one global view and one other, the student's answer to the global view changes nothing."""
    taught, student = logits(4, 1, K).softmax(-1), logits(4, 2, K, seed=1)
    found = distillation.loss(student, taught, distillation.pairs(1, 2), 0.1)
    changed = student.clone()
    changed[:, 0] = 100 * logits(4, K, seed=2)
    assert found == distillation.loss(changed, taught, distillation.pairs(1, 2), 0.1)
    changed[:, 1] += logits(4, K, seed=3)
    assert found != distillation.loss(changed, taught, distillation.pairs(1, 2), 0.1)


def test_of_a_uniform_teacher_and_student_the_loss_is_log_k():
    taught = torch.full((3, 2, K), 1 / K)
    found = distillation.loss(torch.full((3, 4, K), 0.7), taught, distillation.pairs(2, 4), 0.1)
    np.testing.assert_allclose(found, math.log(K), rtol=1e-6)


def test_of_a_teacher_that_is_sure_the_loss_is_the_surprise_of_its_prototype():
    taught = nn.functional.one_hot(torch.tensor([[3]]), K).float()
    student = logits(1, 2, K)
    found = distillation.loss(student, taught, distillation.pairs(1, 2), 0.5)
    torch.testing.assert_close(found, -(student[0, 1] / 0.5).log_softmax(-1)[3])


@pytest.mark.parametrize("temperature", [0.04, 0.1, 1.0])
def test_the_loss_is_the_teachers_entropy_plus_the_divergence_from_it(temperature):
    same = logits(6, 1, K)
    taught = distillation.assigned(same, torch.zeros(K), temperature)
    entropy = torch.special.entr(taught).sum(-1).mean()
    agreed = distillation.loss(same.expand(6, 2, K), taught, distillation.pairs(1, 2), temperature)
    torch.testing.assert_close(agreed, entropy)  # identical views: nothing but the entropy
    other = logits(6, 2, K, seed=1)
    said = (other[:, 1] / temperature).log_softmax(-1)
    divergence = nn.functional.kl_div(said, taught[:, 0], reduction="batchmean")
    found = distillation.loss(other, taught, distillation.pairs(1, 2), temperature)
    torch.testing.assert_close(found, entropy + divergence)


def test_there_are_no_negatives():
    """The loss of a batch is the mean of the losses of its rows: no row is contrasted with another."""
    student, taught = logits(7, 5, K), logits(7, 2, K, seed=1).softmax(-1)
    counted = distillation.pairs(2, 5)
    alone = [distillation.loss(student[[n]], taught[[n]], counted, 0.1) for n in range(7)]
    torch.testing.assert_close(distillation.loss(student, taught, counted, 0.1), torch.stack(alone).mean())


# The centre.


def test_centring_is_a_shift_of_the_teachers_logits_and_of_nothing_else():
    found, shift = logits(5, 2, K), logits(K, seed=4)
    centred = distillation.assigned(found, torch.zeros(K), 0.04)
    torch.testing.assert_close(
        distillation.assigned(found + shift, shift, 0.04), centred, rtol=1e-3, atol=1e-5
    )
    assert not torch.allclose(distillation.assigned(found + shift, torch.zeros(K), 0.04), centred)


def test_the_centre_is_a_running_mean_over_batches():
    centre, first, second = torch.zeros(K), logits(K), logits(K, seed=1)
    centre = distillation.moved(distillation.moved(centre, first), second)
    torch.testing.assert_close(centre, 0.9 * 0.1 * first + 0.1 * second)


def test_a_step_moves_teacher_and_centre_by_their_formulas():
    module, batch = pair(), logits(5, 2, K)
    with torch.no_grad():
        for parameter in module.student.parameters():
            parameter.add_(1)
    before = copy.deepcopy(module)
    module.note(batch)
    module.follow(0.8)
    for taught, old, learned in zip(
        module.teacher.parameters(), before.teacher.parameters(), before.student.parameters(), strict=True
    ):
        torch.testing.assert_close(taught, 0.8 * old + 0.2 * learned)
    torch.testing.assert_close(module.centre, 0.1 * batch.mean(dim=(0, 1)))
    for learned, old in zip(module.student.parameters(), before.student.parameters(), strict=True):
        assert torch.equal(learned, old)


# Student and teacher.


def test_the_teacher_begins_as_the_student_and_answers_without_dropout():
    module = pair().train()
    assert module.student.training and not module.teacher.training
    seen = logits(5, N_IN)
    torch.testing.assert_close(module.taught(seen), copy.deepcopy(module).eval().student(seen))
    assert not torch.equal(module.taught(seen), module.student(seen))


def test_no_gradient_reaches_the_teacher():
    module = pair()
    taught = distillation.assigned(module.teacher(logits(5, N_IN))[:, None], module.centre, 0.04)
    student = module.student(logits(10, N_IN)).unflatten(0, (5, 2))
    distillation.loss(student, taught, distillation.pairs(1, 2), 0.1).backward()
    assert not taught.requires_grad
    assert all(one.grad is None and not one.requires_grad for one in module.teacher.parameters())
    assert all(one.grad is not None for one in module.student.parameters())


def test_logits_that_have_a_gradient_lose_it_as_the_teachers():
    found = logits(3, 1, K).requires_grad_()
    assert not distillation.assigned(found, torch.zeros(K), 0.04).requires_grad


@pytest.mark.parametrize("start", [0.0, 0.9, 0.996])
def test_the_momentum_goes_from_its_start_to_one(start):
    course = [distillation.momentum(start, step / 10) for step in range(11)]
    np.testing.assert_allclose([course[0], course[5], course[10]], [start, (1 + start) / 2, 1])
    assert course == sorted(course)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.04), (1, 0.05), (2, 0.06), (3, 0.07), (9, 0.07)])
def test_the_teachers_temperature_is_warmed_up_along_a_line(epoch, expected):
    np.testing.assert_allclose(distillation.warmed(0.04, 0.07, epoch, 3), expected)


# How it collapses.


def one_hot(*which):
    return nn.functional.one_hot(torch.tensor(which), K).float()


@pytest.mark.parametrize(
    ("taught", "entropy", "divergence", "collapsed"),
    [
        (torch.full((5, K), 1 / K), 1, 0, "uniform"),
        (one_hot(3, 3, 3), 0, 0, "one prototype"),
        (one_hot(*range(K)), 1, 1, None),
        (one_hot(0, 1, 0, 1), math.log(2) / math.log(K), math.log(2) / math.log(K), None),
    ],
    ids=["uniform", "one prototype", "each its own", "two"],
)
def test_a_collapse_is_seen_and_named(taught, entropy, divergence, collapsed):
    found = distillation.spread(taught)
    np.testing.assert_allclose([found["entropy"], found["divergence"]], [entropy, divergence], atol=1e-6)
    assert distillation.collapse(found) == collapsed


def test_entropy_less_divergence_is_the_mean_entropy_of_an_answer():
    taught = logits(9, K).softmax(-1)
    found = distillation.spread(taught)
    own = float(torch.special.entr(taught).sum(-1).mean()) / math.log(K)
    np.testing.assert_allclose(found["entropy"] - found["divergence"], own, rtol=1e-5)


def toy(centred: bool, temperature: float, n_steps: int = 300):
    """`spread` after a small training on five kinds of noisy inputs, with and without the centre; a
    temperature of 0.1, the student's own, does not sharpen.
    """
    torch.manual_seed(0)
    module = Pair(partial(nn.Linear, N_IN, 32), partial(Head, 32, K, 32, 8))
    optimiser = torch.optim.Adam(module.student.parameters(), lr=3e-3)
    kinds = 2 * torch.randn(5, N_IN)
    for step in range(n_steps):
        seen = kinds[torch.randint(5, (64,))][:, None] + 2 * torch.randn(64, 2, N_IN)
        found = module.taught(seen.flatten(0, 1)).unflatten(0, (64, 2))
        taught = distillation.assigned(found, module.centre * centred, temperature)
        student = module.student(seen.flatten(0, 1)).unflatten(0, (64, 2))
        optimiser.zero_grad()
        distillation.loss(student, taught, distillation.pairs(2, 2), 0.1).backward()
        optimiser.step()
        module.note(found)
        module.follow(distillation.momentum(0.9, step / (n_steps - 1)))
    return distillation.spread(taught[:, 0])


@pytest.mark.parametrize(
    ("centred", "temperature", "collapsed"),
    [(True, 0.04, None), (True, 0.1, "uniform"), (False, 0.04, "one prototype")],
    ids=["both", "centring alone", "sharpening alone"],
)
def test_centring_and_sharpening_collapse_alone_and_not_together(centred, temperature, collapsed):
    found = toy(centred, temperature)
    assert distillation.collapse(found) == collapsed
    if collapsed is None:
        assert found["divergence"] > 0.1
