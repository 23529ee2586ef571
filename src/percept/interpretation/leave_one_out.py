"""Replace some voxels of the test responses, and see what the decoder loses (question Q-c: this decoder).

Every effect stands beside that of as many random voxels from outside the group: a decoder of thousands of
voxels loses a little whatever is taken from it, and more the more is taken.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from percept.decoders.predictor import Predictor
from percept.decoders.units import average
from percept.interpretation.effects import METRICS, Scale
from percept.interpretation.groups import Group, matched_size, random_sets
from percept.interpretation.replacement import Replacement

ROWS = 1024  # trials widened to float64 at a time
PARTS = 20  # random parts of a group that is too large to be compared whole


@dataclass(frozen=True)
class Probe:
    """A trained decoder, the test responses, and what replaces voxels.

    Attributes
    ----------
    X : (image, voxel) float32, responses to the test images
    scale : how predictions are read
    """

    decoder: Predictor
    X: NDArray[np.float32]
    replacement: Replacement
    scale: Scale

    @cached_property
    def before(self) -> NDArray[np.float32]:
        """Predictions (image, dim) from the responses as they are."""
        return self.decoder.predict(self.X)

    @cached_property
    def _scores_before(self) -> NDArray[np.float64]:
        return self.scale.table(self.before)

    def after(self, voxels: NDArray[np.intp], repetition: int = 0) -> NDArray[np.float32]:
        """Predictions (image, dim) with these voxels replaced; of a linear decoder by what they add."""
        values = self.replacement.values(voxels, repetition).astype(np.float32)
        if self.decoder.weights is not None:
            return self.before + (values - self.X[:, voxels]) @ self.decoder.weights[voxels]
        changed = self.X.copy()
        changed[:, voxels] = values
        return self.decoder.predict(changed)

    def change(self, voxels: NDArray[np.intp], repetitions: Sequence[int] | None = None) -> NDArray:
        """Scores after less those before, (image, metric), in mean over the answers of the replacement.

        That of the projection is -<f(x) - f(x'), u>. Negative: the decoder has lost something.
        """
        chosen = range(self.replacement.repetitions) if repetitions is None else repetitions
        after = np.mean([self.scale.table(self.after(voxels, one)) for one in chosen], axis=0)
        return after - self._scores_before

    def sensitivity(self, sd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Size of the change of the projection if one voxel rises by its `sd` (voxel,): (image, voxel).

        The half difference between one sd up and one down; of a linear decoder sd_v |(W u_i)_v|.
        """
        towards = self.scale.directions
        if self.decoder.weights is not None:
            return np.abs(towards @ self.decoder.weights.T.astype(np.float64)) * sd
        found = np.empty(self.X.shape)
        for voxel, step in enumerate(sd):
            up, down = (self._moved(voxel, sign * step) for sign in (1, -1))
            found[:, voxel] = np.abs(np.einsum("id,id->i", up - down, towards)) / 2
        return found

    def _moved(self, voxel: int, by: float) -> NDArray[np.float32]:
        changed = self.X.copy()
        changed[:, voxel] += by
        return self.decoder.predict(changed)


@dataclass
class Null:
    """Changes of random sets of voxels, each computed once for all groups of its size.

    A group is compared with the sets that hold none of its voxels. Where these are fewer than half, because
    the group is large, sets are drawn from outside it.
    """

    probe: Probe
    draws: int
    seed: int
    shared: dict[int, tuple[NDArray, NDArray]] = field(default_factory=dict)

    def of(self, group: Group, size: int) -> NDArray[np.float64]:
        """Mean changes (draw, metric) of sets of `size` voxels outside the group."""
        n_voxels = self.probe.X.shape[1]
        if self._often_apart(len(group.voxels), size, n_voxels):
            if size not in self.shared:
                self.shared[size] = self._drawn(np.arange(n_voxels), size, (self.seed, size))
            sets, changes = self.shared[size]
            apart = ~np.isin(sets, group.voxels).any(axis=1)
            if apart.sum() >= self.draws / 2:
                return changes[apart]
        outside = np.setdiff1d(np.arange(n_voxels), group.voxels)
        return self._drawn(outside, size, (self.seed, size, int(group.voxels[0])))[1]

    @staticmethod
    def _often_apart(in_group: int, size: int, n_voxels: int) -> bool:
        """Whether most random sets are expected to miss a group: drawing them for all groups then pays."""
        return (1 - in_group / n_voxels) ** size > 0.6

    def _drawn(self, among: NDArray, size: int, seeds: tuple[int, ...]) -> tuple[NDArray, NDArray]:
        sets = among[random_sets(len(among), size, self.draws, np.random.default_rng(seeds))]
        changes = [self.probe.change(np.sort(one)).mean(axis=0) for one in sets]  # as of a group
        return sets, np.array(changes)


@dataclass(frozen=True)
class Effect:
    """What replacing a group does, and what replacing as many random voxels does.

    Attributes
    ----------
    names : of the scores
    size : voxels at which the two are compared; below that of a large group, see `groups.matched_size`
    changes : (image, metric), at that size
    whole : (metric,), mean change when all of the group is replaced
    null : (draw, metric), mean changes of random sets
    used : +1 where a rise means that the voxels were used, -1 where a fall does
    """

    group: Group
    names: tuple[str, ...]
    size: int
    changes: NDArray[np.float64]
    whole: NDArray[np.float64]
    null: NDArray[np.float64]
    used: int = -1


def effects(probe: Probe, groups: Sequence[Group], draws: int, seed: int) -> Iterator[Effect]:
    """Effects of regions or blocks."""
    null = Null(probe, draws, seed)
    for number, group in enumerate(groups):
        size = matched_size(group, probe.X.shape[1])
        whole = probe.change(group.voxels)
        changes = whole if size == len(group.voxels) else _of_parts(probe, group, size, (seed, number))
        yield Effect(group, METRICS, size, changes, whole.mean(axis=0), null.of(group, size))


def _of_parts(probe: Probe, group: Group, size: int, seeds: tuple[int, ...]) -> NDArray[np.float64]:
    """Mean change (image, metric) of random parts of a group."""
    sets = group.voxels[random_sets(len(group.voxels), size, PARTS, np.random.default_rng(seeds))]
    return np.mean([probe.change(np.sort(one), [at]) for at, one in enumerate(sets)], axis=0)


def of_voxels(probe: Probe, groups: Sequence[Group], sd: NDArray[np.float64]) -> Iterator[Effect]:
    """Effects of single voxels, compared with all other voxels: no set of one needs to be drawn.

    Parameters
    ----------
    sd : (voxel,) spread of each voxel over the repeats of an image, in which ``sensitivity`` is measured
    """
    changes = np.stack([probe.change(one.voxels) for one in groups]).astype(np.float32)  # (voxel, image, .)
    moved = probe.sensitivity(sd).T[:, :, None]  # (voxel, image, 1)
    for names, values, used in ((METRICS, changes, -1), (("sensitivity",), moved, 1)):
        means = values.mean(axis=1, dtype=np.float64)
        for at, group in enumerate(groups):
            others = np.delete(means, at, axis=0)
            yield Effect(group, names, 1, values[at].astype(np.float64), means[at], others, used)


def repeat_sd(X: NDArray[np.float32], stimulus: NDArray) -> NDArray[np.float64]:
    """Spread of each voxel over repeats of an image, (voxel,): root of the mean variance within images.

    Parameters
    ----------
    X : (trial, voxel); stimulus : (trial,). Images shown once say nothing of it; 0 if all were
    """
    _, code, count = np.unique(stimulus, return_inverse=True, return_counts=True)
    means = average(X, np.arange(len(X)), code, len(count))
    squares = sum(
        np.square(X[rows] - means[code[rows]], dtype=np.float64).sum(axis=0) for rows in _blocks(len(X))
    )
    return np.sqrt(squares / max(len(X) - len(count), 1))


def _blocks(n_rows: int) -> Iterator[slice]:
    return (slice(start, start + ROWS) for start in range(0, n_rows, ROWS))
