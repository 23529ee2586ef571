"""Self-distillation without labels (DINO; Caron et al. 2021): a student learns what its own average says.

Nothing here knows what is seen: `Pair` takes any encoder, of images or of brain responses. There are no
negatives. Two things keep all inputs from getting one answer, and each fails without the other (section 5.3):
*centring* subtracts a running mean from the teacher's logits, and alone ends in the uniform answer;
*sharpening* divides them by a low temperature, and alone ends in one prototype for everything.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

CENTRE_MOMENTUM = 0.9  # Caron et al. 2021, equation 4 and appendix
INITIAL_SD = 0.02  # of a head's first weights (their code)
COLLAPSED = 0.01  # of the largest possible divergence: below, all inputs get the same answer
Collapse = Literal["uniform", "one prototype"]


class Head(nn.Module):
    """Three layers with GELU, unit length, and the cosine to each of K prototypes: (..., n_in) -> (..., K).

    The last layer is weight-normalised and its gain is 1 (Caron et al. 2021, appendix C), so that logits lie
    in [-1, 1]: only their temperatures sharpen them.
    """

    def __init__(self, n_in: int, prototypes: int, width: int = 2048, bottleneck: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_in, width), nn.GELU(),
            nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, bottleneck),
        )  # fmt: skip
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.normal_(self.prototypes, std=1 / math.sqrt(bottleneck))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=INITIAL_SD)
                nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor, frozen: Tensor | None = None) -> Tensor:
        """Logits; where the scalar `frozen` is true, no gradient reaches the prototypes."""
        prototypes = self.prototypes
        if frozen is not None:
            prototypes = torch.where(frozen, prototypes.detach(), prototypes)
        return F.linear(F.normalize(self.layers(features), dim=-1), F.normalize(prototypes, dim=-1))


class Half(nn.Module):
    """An encoder with its head: student or teacher."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, seen: Tensor, frozen: Tensor | None = None) -> Tensor:
        """Logits (row, K) of what is seen (row, ...)."""
        return self.head(self.encoder(seen), frozen)


class Pair(nn.Module):
    """Student, teacher and centre. The teacher starts as the student, follows it, and never has a gradient.

    The teacher is always in evaluation mode: its dropout is off.

    Parameters
    ----------
    encoder, head : makes one; called twice, and the second takes over the weights of the first
    """

    centre: Tensor
    recent: Tensor  # the teacher's mean logits over the batch of the last step

    def __init__(self, encoder: Callable[[], nn.Module], head: Callable[[], Head]) -> None:
        super().__init__()
        self.student = Half(encoder(), head())
        self.teacher = Half(encoder(), head())
        self.teacher.load_state_dict(self.student.state_dict())
        self.teacher.requires_grad_(False).eval()
        none = torch.zeros(len(self.student.head.prototypes))
        self.register_buffer("centre", none)
        self.register_buffer("recent", none.clone())

    def train(self, mode: bool = True) -> "Pair":
        """Training or evaluation mode, of the student alone."""
        super().train(mode)
        self.teacher.eval()
        return self

    @torch.no_grad()
    def taught(self, seen: Tensor) -> Tensor:
        """The teacher's logits (row, K), without a gradient."""
        return self.teacher(seen)

    @torch.no_grad()
    def note(self, logits: Tensor) -> None:
        """Keep the mean of the teacher's logits (row, view, K) of a step, for `follow`."""
        self.recent.copy_(logits.detach().float().mean(dim=(0, 1)))

    @torch.no_grad()
    def follow(self, momentum: float) -> None:
        """After a step of the optimiser: move the teacher towards the student, and the centre towards the
        logits that were noted.
        """
        for taught, learned in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
            taught.lerp_(learned, 1 - momentum)
        for taught, learned in zip(self.teacher.buffers(), self.student.buffers(), strict=True):
            taught.copy_(learned)
        self.centre.copy_(moved(self.centre, self.recent))


def moved(centre: Tensor, logits: Tensor, momentum: float = CENTRE_MOMENTUM) -> Tensor:
    """The centre after a batch whose mean teacher logits are `logits`: 0.9 c + 0.1 mean, both (K,)."""
    return momentum * centre + (1 - momentum) * logits


def assigned(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """The teacher's probabilities (..., K): its logits, centred and sharpened; without a gradient."""
    return ((logits.detach().float() - centre) / temperature).softmax(dim=-1)


def pairs(n_global: int, n_views: int) -> Tensor:
    """Which pairs (global view, view) count: all but those of a view with itself.

    The student's first views are the global ones; the others are local.
    """
    return ~torch.eye(n_global, n_views, dtype=torch.bool)


def loss(student: Tensor, taught: Tensor, counted: Tensor, temperature: float) -> Tensor:
    """Cross entropy between teacher and student, in nats, the mean over pairs of views and over rows.

    Caron et al. 2021, equation 3: -sum_k P_t(q)_k log P_s(v)_k for a global view q and another view v.

    Parameters
    ----------
    student : (row, view, K) logits
    taught : (row, global view, K) probabilities of the teacher, see `assigned`
    counted : (global view, view) bool, see `pairs`
    temperature : of the student
    """
    said = (student.float() / temperature).log_softmax(dim=-1)
    cross = -torch.einsum("rqk,rvk->qv", taught, said) / len(student)
    return cross[counted.to(cross.device)].mean()


def momentum(start: float, fraction: float) -> float:
    """Of the teacher: from `start` at the first step (fraction 0) to 1 at the last, along half a cosine."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * fraction)) / 2


def warmed(start: float, end: float, epoch: int, warmup: int) -> float:
    """The teacher's temperature in an epoch: from `start` to `end` along a line over `warmup` epochs."""
    return end if epoch >= warmup else start + (end - start) * epoch / warmup


def spread(taught: Tensor) -> dict[str, float]:
    """How many prototypes are in use, from probabilities (row, K); each as a share of log K, in [0, 1].

    ``entropy`` of the mean answer: 0 where all rows get one prototype, 1 where all are used alike.
    ``divergence``, the mean Kullback-Leibler divergence of an answer from the mean one: 0 where all rows get
    the same answer, whatever it is. Their difference is the mean entropy of an answer.
    """
    mean, most = taught.mean(dim=0), math.log(taught.shape[-1])
    own = torch.special.entr(taught).sum(dim=-1).mean()
    entropy = torch.special.entr(mean).sum()
    return {"entropy": float(entropy / most), "divergence": float((entropy - own) / most)}


def collapse(found: dict[str, float]) -> Collapse | None:
    """What `spread` shows to have happened: all inputs get the uniform answer, or one prototype; or None."""
    if found["divergence"] >= COLLAPSED:
        return None
    return "uniform" if found["entropy"] > 1 / 2 else "one prototype"
