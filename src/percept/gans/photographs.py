"""The game on photographs: batches that are read ahead, and how far made images are from held-out ones."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from percept.backbones import metric
from percept.backbones.gan import distance
from percept.backbones.gan.game import Networks
from percept.backbones.gan.play import Play, Rules, disturbed, scores
from percept.backbones.gan.sampler import levels
from percept.gan_settings import LAYER, GanSection
from percept.gans.read import Photographs

AHEAD = 2  # batches that are read while one is trained on
AT_ONCE = 32  # images made or looked at together when the average is measured
HELD_OUT = 1  # the stream of numbers that says which images are; batches have their step in its place


class PhotographPlay(Play):
    """A game on the images of a pool, some of which are held out to measure by.

    Batches are a function of seed and step, so that a training that goes on sees what an uninterrupted one
    would have seen. Used as a context, it ends the thread that reads ahead.
    """

    def __init__(
        self, cfg: GanSection, data: Photographs, rules: Rules, seer: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(rules, seer, cfg.training.alone)
        self.cfg, self.images, self.rows = cfg, data.images, data.rows
        self.embeddings = torch.from_numpy(data.conditions)
        self.held_out, self.train = parted(len(data.rows), cfg.training.measured_images, cfg.seed)
        self.network = metric.open_named(cfg.training.measured_by, cfg.training.device)
        self.known: NDArray[np.float32] | None = None
        self.reader = ThreadPoolExecutor(1)
        self.waiting: deque[tuple[int, Future]] = deque()

    def __enter__(self) -> "PhotographPlay":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.reader.shutdown(cancel_futures=True)

    # Batches.

    def batch(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Photographs of a step, and their embeddings.

        Raises
        ------
        PerceptError : a file of the pool cannot be read
        """
        while self.waiting and self.waiting[0][0] != step:
            self.waiting.popleft()
        first = self.waiting[-1][0] + 1 if self.waiting else step
        for number in range(first, step + 1 + AHEAD):
            self.waiting.append((number, self.reader.submit(self._read, number)))
        images = self.waiting.popleft()[1].result()
        return normalised(images, device), self.embeddings[self.chosen(step)].to(device)

    def chosen(self, step: int) -> NDArray[np.int64]:
        """Which images, of those that may be learnt from, a step sees."""
        rng = np.random.default_rng([self.cfg.seed, 0, step])
        return rng.choice(self.train, self.cfg.training.batch_size, replace=False)

    def _read(self, step: int) -> NDArray[np.uint8]:
        return self.images.images(self.rows[self.chosen(step)])

    # Measures.

    def measured(self, networks: Networks) -> dict[str, float]:
        """Kernel distance of the average's pictures of held-out conditions, and the overfitting gap.

        Conditions are of one half of the held-out images, what they are compared with is the other.
        """
        half = len(self.held_out) // 2
        average = networks.average
        c = average.prepared(self.embeddings[self.held_out[:half]].to(networks.device))
        generator = torch.Generator().manual_seed(0)
        c = disturbed(c, average.size, generator, self.rules.strengths, self.rules.clean)
        made = np.concatenate([self._features(levels(part)) for part in _made(average, c)])
        if self.known is None:
            others = np.split(self.held_out[half:], range(AT_ONCE, len(self.held_out) - half, AT_ONCE))
            self.known = np.concatenate([self._features(self._pictures(rows)) for rows in others])
        return {"kid": distance.kid(made, self.known), "gap": self._gap(networks, half)}

    def _features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = self.network.features(images)[LAYER[self.cfg.training.measured_by]]
        return found.reshape(len(found), -1)

    def _pictures(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self.images.images(self.rows[rows])

    def _gap(self, networks: Networks, n: int) -> float:
        """Mean score of training images less that of as many held-out ones."""
        means = [
            np.mean([float(self._score(networks, part)) for part in np.array_split(rows, -(-n // AT_ONCE))])
            for rows in (self.train[:n], self.held_out[:n])
        ]
        return float(means[0] - means[1])

    def _score(self, networks: Networks, rows: NDArray[np.int64]) -> Tensor:
        images = normalised(self._pictures(rows), networks.device)
        return scores(networks, images, self.embeddings[rows].to(networks.device), AT_ONCE).mean()


def parted(n: int, n_held_out: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the images that are held out, and of those that are trained on."""
    order = np.random.default_rng([seed, HELD_OUT]).permutation(n)
    return order[:n_held_out], order[n_held_out:]


def normalised(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Images (image, 3, row, column) in -1..1 of grey levels (image, row, column, 3)."""
    sent = torch.from_numpy(images).to(device)
    return sent.permute(0, 3, 1, 2).float() / 127.5 - 1


def _made(average: torch.nn.Module, c: Tensor) -> list[Tensor]:
    """Images of conditions, z = 0, a few at a time."""
    with torch.inference_mode():
        return [average(part.new_zeros(len(part), average.size.latent), part) for part in c.split(AT_ONCE)]
