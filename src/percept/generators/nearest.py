"""Look-up instead of generation: the training images whose targets lie nearest to the decoded one.

No prior, nothing invented: a baseline that a generator has to beat, and one
that shows how much of a score is the category of a training image recalled (Shirakawa et al. 2024).
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from percept.config import GeneratorConfig
from percept.files import PerceptError
from percept.generators.roles import Context, Made, Roles, Training
from percept.targets import pool, store

BATCH = 1024  # queries: the whole pool is read for each batch, so it is large; NSD has 1000 test images
READ = 64  # images read at a time


class NearestConfig(GeneratorConfig):
    """The training image nearest to the predicted target, or the mean of the k nearest."""

    takes: ClassVar[tuple[str, ...]] = ("semantic", "text", "lowlevel")  # any one of them

    kind: Literal["nearest"] = "nearest"
    k: PositiveInt = Field(1, description="Training images that are averaged, pixel by pixel.")
    metric: Literal["cosine", "correlation", "dot"] = Field(
        "correlation", description="Similarity of predicted and true targets."
    )
    centre: bool = Field(
        True,
        description="Take the mean over the training images off first. Regression shrinks predictions "
        "towards that mean, and without this nearly all of them find the same few images.",
    )
    index: Literal["exact", "faiss"] = Field(
        "exact", description="Exact search on disk, or faiss (not installed by default), approximate."
    )

    def build(self, context: Context) -> "Nearest":
        """Return the generator.

        Raises
        ------
        PerceptError : the split has no training images, or fewer than `k`
        """
        train = context.train
        n_train = 0 if train is None else len(train.stimuli)
        if n_train < self.k:
            raise PerceptError(
                f"a generator of kind `nearest` with `k: {self.k}` looks among the training images, and the "
                f"split has {n_train} that are nobody's test images (leaving runs out, every image is tested "
                "in its turn): choose a split.protocol with a fixed test set, lower `k`, or leave this "
                "reconstruction out."
            )
        return Nearest(self, train)


@dataclass(frozen=True)
class Nearest:
    """Searches the cached targets of the training images, and reads the images that it found."""

    settings: NearestConfig
    train: Training
    batch_size: int = BATCH
    means: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # role -> (dim,), once known

    def generate(self, roles: Roles, seed: int) -> Made:
        """Training images, or means of them; nothing is random, so `seed` changes nothing.

        Raises
        ------
        PerceptError : not exactly one role is given
        """
        if len(roles.given) != 1:
            raise PerceptError(
                f"a generator of kind `nearest` works from one decoder, not from {len(roles.given)} "
                f"({', '.join(roles.given) or 'none'}): name one role of its reconstruction."
            )
        ((role, predicted),) = roles.given.items()
        found = self._search(role, predicted)
        details = [{"similarity": float(score)} for score in found.score[:, 0]]
        return Made(self._mean_images(self.train.stimuli[found.row]), details=details)

    def _search(self, role: str, predicted: NDArray[np.float32]) -> pool.Found:
        cfg = self.settings
        queries = predicted.reshape(len(predicted), -1)
        with store.open_features(self.train.features[role]) as features:
            known: pool.Pool = pool.FeaturesPool(features, self.train.stimuli)
            if cfg.centre:
                if role not in self.means:
                    self.means[role] = pool.mean(known)
                known = pool.Centred(known, self.means[role])
                queries = queries - known.mean
            return pool.search(queries, known, cfg.k, cfg.metric, cfg.index)

    def _mean_images(self, stimuli: NDArray[np.int32]) -> NDArray[np.uint8]:
        """Pixel-wise mean over each row of `stimuli`, (image, k); few are in memory in more than 8 bits."""
        step = max(READ // stimuli.shape[1], 1)
        parts = (stimuli[start : start + step] for start in range(0, len(stimuli), step))
        return np.concatenate([self._means(part) for part in parts])

    def _means(self, stimuli: NDArray[np.int32]) -> NDArray[np.uint8]:
        images = self.train.images(stimuli.ravel())
        if stimuli.shape[1] == 1:
            return images
        sums = images.reshape(*stimuli.shape, *images.shape[1:]).sum(axis=1, dtype=np.float32)
        return np.rint(sums / stimuli.shape[1]).astype(np.uint8)
