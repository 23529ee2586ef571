"""A small contrastive learner with all that the engine has to carry: dropout, noise, mixing, phases."""

import numpy as np
import torch
from torch import Tensor, nn

from percept.decoders.training.learner import Batch, Data, Learner, When

N_IN, N_OUT = 11, 7
NOISE = 0.1


class Contrastive(Learner):
    """Two layers with dropout; a batch mixes pairs of rows; the loss couples all rows of the batch."""

    def __init__(self, dropout: float = 0.3, width: int = 13) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(N_IN, width), nn.LayerNorm(width)
        self.last = nn.Linear(width, N_OUT)
        self.unused = nn.Linear(width, 2)  # an output that the loss does not look at
        self.dropout = dropout
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def draw(self, data: Data, rows: Tensor, when: When, rng: np.random.Generator) -> Batch:
        partner = torch.from_numpy(rng.permutation(len(rows)))
        x = data.tensors["x"][rows]
        return {"x": 0.8 * x + 0.2 * x[partner], "y": data.tensors["y"][rows], "rows": rows}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        hidden = nn.functional.gelu(self.norm(self.first(batch["x"])))
        hidden = nn.functional.dropout(hidden, self.dropout, self.training)
        out = self.last(hidden)
        error = (out - batch["y"] + self.dropout * NOISE * torch.randn_like(out)).square().mean(dim=1)
        return {"out": out, "error": error, "aside": self.unused(hidden), "rows": batch["rows"]}

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        assert torch.equal(found["rows"], batch["rows"])  # of all rows, in order
        logits = (
            nn.functional.normalize(found["out"], dim=1)
            @ nn.functional.normalize(batch["y"], dim=1).T
            / (0.1 + when.fraction)
        )
        contrast = nn.functional.cross_entropy(logits, torch.arange(len(logits), device=logits.device))
        error = found["error"].mean()
        name = "early" if when.epoch < 2 else "late"
        return {"loss": contrast + 0.5 * error, name: contrast, "error": error}

    def validate(self, data: Data, when: When) -> dict[str, float]:
        batch = {**data.tensors, "rows": torch.arange(data.n_rows)}
        found = self(batch)
        return {"loss": float(found["error"].mean()), "noise": float(torch.rand(()))}


def data(n_rows: int, seed: int = 0) -> Data:
    """Rows whose targets depend on their inputs, with noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_rows, N_IN, generator=generator)
    weights = torch.randn(N_IN, N_OUT, generator=torch.Generator().manual_seed(99))
    y = x @ weights / 3 + 0.5 * torch.randn(n_rows, N_OUT, generator=generator)
    return Data(n_rows, {"x": x, "y": y})


def learner(seed: int = 0, **options: float) -> Contrastive:
    """A learner with weights of a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Contrastive(**options)


def same(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> bool:
    """Whether all weights are equal, bit for bit."""
    return left.keys() == right.keys() and all(left[name].tobytes() == right[name].tobytes() for name in left)


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    """Weights as arrays."""
    return {name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()}


class Broken(Contrastive):
    """Its loss is not finite from the fourth step on."""

    def loss(self, found: dict[str, Tensor], batch: Batch, when: When) -> dict[str, Tensor]:
        parts = super().loss(found, batch, when)
        return {name: part * (float("nan") if when.step > 2 else 1) for name, part in parts.items()}
