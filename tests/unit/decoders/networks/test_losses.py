"""Losses against closed forms, and their gradients against finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from percept.decoders.networks import losses
from percept.decoders.networks.mixing import Mixing

N, DIM, T = 5, 7, 0.3
SOFT = {
    "info_nce": lambda a, b: losses.info_nce(a, b, T),
    "bimixco": lambda a, b: losses.bimixco(a, b, LABELS, T),
    "soft_clip": lambda a, b: losses.soft_clip(a, b, T),
}
LABELS = Mixing(torch.tensor([2, 1, 0, 4, 3]), torch.tensor([0.3, 0.5, 1.0, 0.0, 0.8])).labels().double()


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def entropy(p):
    return -(p * p.log()).sum(dim=-1).mean().item()


# Closed forms.


@pytest.mark.parametrize("n", [1, 2, 7, 32])
@pytest.mark.parametrize("loss", ["info_nce", "soft_clip"])
def test_images_that_all_look_the_same_cost_log_n(loss, n):
    same = torch.ones(n, DIM)
    found = getattr(losses, loss)(random(n, DIM).float(), same, 0.05)
    found_same = getattr(losses, loss)(same, same, 0.05)
    assert found_same.item() == pytest.approx(math.log(n), abs=1e-5)
    assert found.item() >= math.log(n) - 1e-5  # no choice of predictions helps


@pytest.mark.parametrize("temperature", [0.006, 0.1, 2.0])
@pytest.mark.parametrize("n", [2, 5, 7])
def test_a_perfect_prediction_of_orthogonal_images_costs_what_the_formula_says(n, temperature):
    x = torch.eye(n, DIM, dtype=torch.float64) * 3.7  # lengths do not matter
    expected = math.log1p((n - 1) * math.exp(-1 / temperature))
    assert losses.info_nce(x * 2, x, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_a_swapped_prediction_costs_one_over_temperature_more():
    x = torch.eye(4, 4, dtype=torch.float64)
    right, wrong = losses.info_nce(x, x, T), losses.info_nce(x.roll(1, 0), x, T)
    assert (wrong - right).item() == pytest.approx(1 / T)


@pytest.mark.parametrize("temperature", [0.0075, 0.1, 1.0])
def test_soft_clip_of_a_perfect_prediction_is_the_entropy_of_its_labels(temperature):
    x = torch.nn.functional.normalize(random(N, DIM), dim=1)
    labels = (x @ x.T / temperature).softmax(dim=1)
    labels = labels.clamp(min=1e-300)
    assert losses.soft_clip(2 * x, 5 * x, temperature).item() == pytest.approx(entropy(labels), rel=1e-9)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.05, 0.3, 1.0]))
def test_no_prediction_beats_the_entropy_of_the_labels(seed, temperature):
    brain, image = random(2, N, DIM, seed=seed)
    assert losses.soft_clip(brain, image, temperature) >= losses.soft_clip(image, image, temperature) - 1e-12


def test_soft_clip_pools_labels_where_two_images_are_one():
    image = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    cold = losses.soft_clip(image, image, 0.01).item()
    assert cold == pytest.approx(2 / 3 * math.log(2))  # of three rows, two hesitate between two
    assert losses.info_nce(image, image, 0.01).item() == pytest.approx(cold)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_bimixco_with_whole_images_is_info_nce_with_the_images_in_that_order(weight):
    partner = torch.tensor([1, 2, 0, 4, 3])
    brain, image = random(2, N, DIM)
    labels = Mixing(partner, torch.full((N,), weight)).labels().double()
    expected = losses.info_nce(brain, image if weight else image[partner], T)
    torch.testing.assert_close(losses.bimixco(brain, image, labels, T), expected)


def test_bimixco_is_linear_in_its_labels():
    brain, image = random(2, N, DIM)
    own, other = torch.eye(N).double(), torch.eye(N).double().roll(1, 0)
    ends = [losses.bimixco(brain, image, labels, T) for labels in (own, other)]
    middle = losses.bimixco(brain, image, 0.3 * own + 0.7 * other, T)
    torch.testing.assert_close(middle, 0.3 * ends[0] + 0.7 * ends[1])


def test_an_unmixed_fixed_point_costs_nothing_where_labels_are_assigned():
    """Such a row gets no label at all: MindEye's code learns nothing from it."""
    mixing = Mixing(torch.arange(N), torch.ones(N))
    brain, image = random(2, N, DIM)
    assert losses.bimixco(brain, image, mixing.labels("assigned").double(), T) == 0
    right = losses.bimixco(brain, image, mixing.labels("added").double(), T)
    torch.testing.assert_close(right, losses.info_nce(brain, image, T))


def test_the_loss_asks_in_both_directions():
    """A prediction near all images (a hub) is seen only from the side of the images."""
    cosines = torch.tensor([[4.0, 3.0], [0.0, 2.0]], dtype=torch.float64)
    labels = torch.eye(2, dtype=torch.float64)
    rows = (math.log1p(math.exp(-1)) + math.log1p(math.exp(-2))) / 2
    columns = (math.log1p(math.exp(-4)) + math.log1p(math.exp(1))) / 2
    assert losses.cross_entropy(cosines, labels).item() == pytest.approx((rows + columns) / 2)


def test_columns_of_labels_need_not_sum_to_one():
    logits, labels = random(3, 4), torch.zeros(3, 4).double()
    labels[0, 1], labels[2, 1] = 0.3, 1.0
    rows, columns = logits.log_softmax(1), logits.log_softmax(0)
    forward = -(0.3 * rows[0, 1] + rows[2, 1]) / 3
    backward = -(0.3 * columns[0, 1] + columns[2, 1]) / 4
    torch.testing.assert_close(losses.cross_entropy(logits, labels), (forward + backward) / 2)


# Gradients and invariances.


@pytest.mark.parametrize("loss", SOFT)
def test_the_gradient_is_that_of_finite_differences(loss):
    brain, image = random(2, N, DIM)
    assert gradcheck(SOFT[loss], (brain.requires_grad_(), image.requires_grad_()))


def test_the_gradient_of_the_dense_loss_is_that_of_finite_differences():
    student, teacher, view = (random(2, 3, 4, seed=seed).requires_grad_() for seed in range(3))
    assert gradcheck(lambda *x: losses.dense_soft_clip(*x, temperature=T), (student, teacher, view))


@pytest.mark.parametrize("loss", SOFT)
@settings(deadline=None)
@given(scales=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)))
def test_lengths_of_rows_do_not_matter(loss, scales):
    brain, image = random(2, N, DIM)
    torch.testing.assert_close(SOFT[loss](brain * scales[0], image * scales[1]), SOFT[loss](brain, image))


@pytest.mark.parametrize("loss", ["info_nce", "soft_clip"])
@settings(deadline=None)
@given(order=st.permutations(range(N)))
def test_the_order_of_rows_does_not_matter(loss, order):
    brain, image = random(2, N, DIM)
    torch.testing.assert_close(SOFT[loss](brain[order], image[order]), SOFT[loss](brain, image))


def test_info_nce_is_symmetric_in_its_sides():
    brain, image = random(2, N, DIM)
    torch.testing.assert_close(losses.info_nce(brain, image, T), losses.info_nce(image, brain, T))


def test_bimixco_is_symmetric_in_its_sides_if_the_labels_are_transposed():
    brain, image = random(2, N, DIM)
    swapped = losses.bimixco(image, brain, LABELS.T, T)
    torch.testing.assert_close(losses.bimixco(brain, image, LABELS, T), swapped)


@pytest.mark.parametrize("loss", SOFT)
def test_tokens_count_as_one_flat_vector(loss):
    brain, image = random(2, N, 12)
    tokens = SOFT[loss](brain.unflatten(1, (3, 4)), image.unflatten(1, (3, 4)))
    torch.testing.assert_close(tokens, SOFT[loss](brain, image))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", ["info_nce", "soft_clip"])
def test_half_precision_rounds_what_comes_in_but_not_the_logits(loss, dtype):
    brain = random(16, 500).to(dtype)
    image = (brain + random(16, 500, seed=1).to(dtype)).to(dtype)
    exact = getattr(losses, loss)(brain.double(), image.double(), 0.006)
    with torch.autocast("cpu", dtype):
        found = getattr(losses, loss)(brain, image, 0.006)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", SOFT)
def test_a_prediction_of_nothing_is_finite_with_a_finite_gradient(loss):
    brain = torch.zeros(N, DIM, dtype=torch.float64, requires_grad=True)
    found = SOFT[loss](brain, random(N, DIM))
    found.backward()
    assert torch.isfinite(found) and torch.isfinite(brain.grad).all()


# The dense loss.


def test_positions_of_all_images_are_rows_of_one_batch():
    student, teacher, view = (random(2, 3, DIM, seed=seed) for seed in range(3))
    flat = losses.soft_contrast(*(x.reshape(6, DIM) for x in (student, teacher, view)), 0.075)
    torch.testing.assert_close(losses.dense_soft_clip(student, teacher, view), flat)


def test_without_a_view_the_dense_loss_is_soft_clip():
    student, teacher = random(2, 2, 3, DIM)
    found = losses.dense_soft_clip(student, teacher, temperature=T)
    expected = losses.soft_clip(student.reshape(6, DIM), teacher.reshape(6, DIM), T)
    torch.testing.assert_close(found, expected)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_the_teacher_itself_is_the_best_student(seed):
    student, teacher, view = random(3, 2, 3, DIM, seed=seed)
    best = losses.dense_soft_clip(teacher, teacher, view, T)
    assert losses.dense_soft_clip(student, teacher, view, T) >= best - 1e-12


def test_labels_come_from_the_clean_teacher_and_logits_from_the_student_against_the_view():
    student, teacher, view = random(3, 4, DIM)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (student, teacher, view)]
    logits, taught = unit[0] @ unit[2].T / T, unit[1] @ unit[2].T / T
    there = torch.nn.functional.cross_entropy(logits, taught.softmax(1))
    back = torch.nn.functional.cross_entropy(logits.T, taught.T.softmax(1))
    torch.testing.assert_close(losses.soft_contrast(student, teacher, view, T), (there + back) / 2)


# Calibration.


@pytest.mark.parametrize("noise", [1.0, 2.0, 4.0])
def test_the_calibrated_loss_is_the_least_over_temperatures(noise):
    image = random(40, DIM)
    brain = image + noise * random(40, DIM, seed=1)
    peer = optimize.minimize_scalar(
        lambda log: losses.info_nce(brain, image, math.exp(log)).item(), bounds=(-7, 6), method="bounded"
    )
    assert losses.calibrated_info_nce(brain, image) == pytest.approx(peer.fun, rel=1e-7)
    assert -6 < peer.x < 5  # the oracle is no end of its range


def test_a_perfect_prediction_is_calibrated_to_zero():
    image = torch.eye(6, 9)
    assert losses.calibrated_info_nce(image, image) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 11])
def test_a_prediction_worse_than_chance_is_calibrated_to_log_n(n):
    image = torch.eye(n, n)
    assert losses.calibrated_info_nce(-image, image) == pytest.approx(math.log(n), abs=1e-3)


def test_sharper_cosines_do_not_change_the_calibrated_loss():
    cosines = random(12, 12).clamp(-1, 1) * 0.1 + 0.1 * torch.eye(12)
    assert losses.calibrated(cosines) == pytest.approx(losses.calibrated(cosines * 3), rel=1e-9)


def test_better_predictions_have_a_lower_calibrated_loss():
    image = random(50, 30)
    found = [losses.calibrated_info_nce(image + s * random(50, 30, seed=1), image) for s in (1, 2, 4, 8)]
    assert found == sorted(found)


# The schedule.


def test_the_temperature_is_0_00575_half_way():
    assert losses.temperature(0.5, 0.004, 0.0075) == pytest.approx(0.00575)


@pytest.mark.parametrize(("progress", "expected"), [(0, 0.004), (1, 0.0075)])
def test_the_temperature_starts_and_ends_as_told(progress, expected):
    assert losses.temperature(progress, 0.004, 0.0075) == pytest.approx(expected)


@settings(deadline=None)
@given(st.floats(0, 1))
def test_the_schedule_is_point_symmetric(progress):
    there, back = losses.temperature(progress, 2, 5), losses.temperature(1 - progress, 2, 5)
    assert there + back == pytest.approx(7)


# Arithmetic.


class Products(TorchDispatchMode):
    """Notes the precision that is set while matrices are multiplied."""

    def __init__(self):
        super().__init__()
        self.precisions = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten.mm.default:
            self.precisions.append(torch.get_float32_matmul_precision())
        return function(*arguments, **(keywords or {}))


def test_similarities_and_their_gradients_are_not_rounded_to_tf32_where_the_training_allows_it():
    before = torch.get_float32_matmul_precision()
    a, b = random(N, DIM).float().requires_grad_(), random(N + 1, DIM, seed=1).float().requires_grad_()
    try:
        torch.set_float32_matmul_precision("high")
        with Products() as products:
            losses.similarity(a, b).square().sum().backward()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert products.precisions == ["highest"] * 3  # of the similarities, and the gradients of both
