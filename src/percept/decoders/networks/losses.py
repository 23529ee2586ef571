"""Losses between predictions from voxels and embeddings of images, in nats.

All compare every row with every other, s_ij = cos(brain_i, image_j) / temperature, and ask in both
directions: which image belongs to a prediction, and which prediction to an image. Similarities are computed
in float32 at least, whatever the precision of the network: at a temperature of 0.006, float16 would be off by
tenths.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

COLDEST, HOTTEST = 5e-4, 1e3  # temperatures between which a calibrated one is sought
HALVINGS = 60  # of that range, in logarithms


def unit(x: Tensor) -> Tensor:
    """Rows (row, ...) flattened and scaled to length 1, (row, dim), in float32 or better."""
    flat = x.flatten(1)
    return F.normalize(flat if flat.dtype == torch.float64 else flat.float(), dim=1)


def similarity(a: Tensor, b: Tensor) -> Tensor:
    """Cosines (row of a, row of b), in float32 or better even where autocast or TF32 would round them."""
    with torch.autocast(a.device.type, enabled=False):
        return _Product.apply(unit(a), unit(b).T)


class _Product(torch.autograd.Function):
    """Matrix product whose factors are not rounded to TF32, nor those of its gradient."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(a, b)
        return _exact_product(a, b)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:  # noqa: ANN401
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return (
            _exact_product(gradient, b.T) if of_a else None,
            _exact_product(a.T, gradient) if of_b else None,
        )


def _exact_product(a: Tensor, b: Tensor) -> Tensor:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return a @ b
    finally:
        torch.set_float32_matmul_precision(before)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over both directions of the soft cross-entropy.

    Parameters
    ----------
    logits, labels : (row, column); columns of labels need not sum to 1
    """
    forward = -(labels * logits.log_softmax(dim=1)).sum(dim=1).mean()
    backward = -(labels * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (forward + backward) / 2


def info_nce(brain: Tensor, image: Tensor, temperature: float | Tensor) -> Tensor:
    """InfoNCE: the label of row i is image i (van den Oord et al. 2018). `brain`, `image`: (row, ...)."""
    logits = similarity(brain, image) / temperature
    own = -(logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal())
    return own.mean() / 2


def bimixco(brain: Tensor, image: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Contrastive loss of mixed responses, in both directions (Scotti et al. 2023, equation 1).

    Parameters
    ----------
    brain, image : (row, ...); the responses were mixed, the images were not
    labels : (row, row), share of each image in each response, see `Mixing.labels`
    """
    return cross_entropy(similarity(brain, image) / temperature, labels)


def soft_contrast(student: Tensor, teacher: Tensor, view: Tensor, temperature: float) -> Tensor:
    """The student should be similar to each view as the teacher is; both directions. All (row, ...).

    Labels are the softmax of the teacher's similarities to the views, in each direction of its own. It is
    least where the student is the teacher, and then the mean entropy of the labels.
    """
    logits = similarity(student, view) / temperature
    taught = similarity(teacher, view) / temperature
    forward = -(taught.softmax(dim=1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    backward = -(taught.softmax(dim=0) * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (forward + backward) / 2


def soft_clip(brain: Tensor, image: Tensor, temperature: float) -> Tensor:
    """SoftCLIP: labels are the batch's own similarities among images (Scotti et al. 2023, equation 2).

    `brain`, `image`: (row, ...). Images alike to others share their labels with them, which is softer than
    InfoNCE's one right answer.
    """
    return soft_contrast(brain, image, image, temperature)


def dense_soft_clip(
    student: Tensor, teacher: Tensor, teacher_view: Tensor | None = None, temperature: float = 0.075
) -> Tensor:
    """`soft_contrast` among all positions of all images (Scotti et al. 2023, appendix A.2).

    Parameters
    ----------
    student, teacher, teacher_view : (row, position, dim); the view is of augmented images, None takes the
        clean ones. Memory: two matrices of (row x position)^2
    """
    view = teacher if teacher_view is None else teacher_view
    return soft_contrast(*(one.flatten(0, 1) for one in (student, teacher, view)), temperature)


def calibrated(cosines: Tensor) -> float:
    """InfoNCE at the temperature that makes it least, from cosines (brain, image), the true ones on the
    diagonal: between 0 and log n.

    For choosing among states of a network: unlike the loss in training it does not change with the schedule
    of the temperature, and it cannot fall by mere sharpening. InfoNCE is convex in 1 / temperature, so the
    sign of its slope leads to the minimum; the search ends at `COLDEST` where it would go on.
    """
    cosines = cosines.double()
    low, high = math.log(1 / HOTTEST), math.log(1 / COLDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if _slope(cosines, math.exp(middle)) > 0 else (middle, high)
    logits = cosines * math.exp(low)
    own = logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()
    return min(float(-own.mean() / 2), math.log(len(cosines)))  # which the limit of heat attains


def _slope(cosines: Tensor, sharpness: float) -> float:
    """Derivative of InfoNCE with respect to 1 / temperature, times two: expected minus true cosines."""
    logits = cosines * sharpness
    expected = (logits.softmax(dim=1) * cosines).sum(dim=1) + (logits.softmax(dim=0) * cosines).sum(dim=0)
    return float((expected - 2 * cosines.diagonal()).mean())


def calibrated_info_nce(brain: Tensor, image: Tensor) -> float:
    """`calibrated` for predictions and embeddings (row, ...)."""
    return calibrated(similarity(brain, image))


def temperature(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at progress 0 to `end` at 1, flat at both ends."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
