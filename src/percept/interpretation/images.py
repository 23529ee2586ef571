"""How the image that is made changes when a region is left out, with the generator's noise kept as it is.

Through a generator the change of an image is also a matter of how steep the generator is where it stands
(its local Jacobian): read it beside the change in embedding space, and beside the same change for as many
random voxels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from percept.decoders.predictions import Predictions
from percept.files import PerceptError
from percept.generators import inputs, rescale
from percept.generators.roles import Generator, Roles
from percept.interpretation.groups import Group, matched_size, random_sets
from percept.interpretation.leave_one_out import Effect, Probe
from percept.targets import store

Images = NDArray[np.uint8]
Changes = dict[str, NDArray[np.float64]]  # name -> (n,), 0: the same
Compare = Callable[[Images, Sequence[Images]], list[Changes]]  # of one set to each of several


@dataclass(frozen=True)
class Maker:
    """Images of some test images, from changed predictions of one decoder.

    Attributes
    ----------
    roles : what the generator works from, of the images that are shown alone
    shown : (n,), their rows among all test images
    changed : role -> (dim,), the roles of the decoder that is analysed, and how much a change of its
        prediction is stretched there (1 where the role is not rescaled)
    seed : of the generator's noise, which depends on it and the image alone, and so stays as it was
    """

    generator: Generator
    roles: Roles
    shown: NDArray[np.intp]
    changed: Mapping[str, NDArray[np.float32]]
    seed: int

    def images(self, changes: Sequence[NDArray[np.float32]]) -> list[Images]:
        """Images (n, height, width, 3) for each change (n, dim) of the predictions."""
        roles, n = self._roles(changes), len(self.roles)
        step = self.generator.batch_size
        parts = [roles.rows(slice(start, start + step)) for start in range(0, len(roles), step)]
        made = np.concatenate([self.generator.generate(part, self.seed).images for part in parts])
        return [made[start : start + n] for start in range(0, len(made), n)]

    def _roles(self, changes: Sequence[NDArray[np.float32]]) -> Roles:
        """Roles of all images, change by change: one batch for many changes."""
        given = {}
        for role, value in self.roles.given.items():
            if role in self.changed:
                moves = [(change * self.changed[role]).reshape(value.shape) for change in changes]
                given[role] = np.concatenate([value + move for move in moves])
            else:
                given[role] = np.concatenate([value] * len(changes))
        return Roles(np.tile(self.roles.stimulus, len(changes)), **given)


def stretch(files: inputs.Decoded) -> NDArray[np.float32]:
    """What rescaling multiplies a change of each dimension by, (dim,).

    Raises
    ------
    PerceptError : the role is rescaled by the test set itself, so that no image changes alone
    """
    with store.open_features(files.features) as features:
        n_dims = features.n_dims
        if files.rescaled is None:
            return np.ones(n_dims, np.float32)
        if files.rescaled == "transductive":
            raise PerceptError(
                f"{files.predictions} is rescaled by the whole test set (`rescale: transductive`), so a "
                "region cannot be left out of single images: analyse a reconstruction that is rescaled by "
                "`cross_validated`, or not at all."
            )
        ends = np.stack([np.zeros(n_dims), np.ones(n_dims)]).astype(np.float32)  # rescaling is affine
        rows = Predictions(ends, *(np.full(2, value) for value in (0, 1, -1, -1)))
        low, high = rescale.apply(files.predictions, rows, features, files.rescaled)
    return high - low


@dataclass(frozen=True)
class Shots:
    """How the images of a group are compared: `compare` says how two differ, of `draws` random sets."""

    compare: Compare
    draws: int
    seed: int


def effects(probe: Probe, groups: Sequence[Group], maker: Maker, shots: Shots) -> Iterator[Effect]:
    """Change of the images for each region, and for random sets of as many voxels outside it.

    A region too large for that is compared as one random part of `groups.matched_size` voxels.
    """
    before = probe.before[maker.shown]
    (intact,) = maker.images([np.zeros_like(before)])
    everything = np.arange(probe.X.shape[1])
    for number, group in enumerate(groups):
        rng = np.random.default_rng((shots.seed, number))
        size = matched_size(group, len(everything))
        part = np.sort(rng.permutation(group.voxels)[:size])
        outside = np.setdiff1d(everything, group.voxels)
        drawn = np.sort(outside[random_sets(len(outside), size, shots.draws, rng)], axis=1)
        replaced = [(group.voxels, 0), (part, 0), *((one, at) for at, one in enumerate(drawn))]
        moves = [probe.after(*one)[maker.shown] - before for one in replaced]
        found = shots.compare(intact, maker.images(moves))
        whole, matched, *null = (np.stack(list(one.values()), axis=1) for one in found)  # (image, metric)
        means = np.array([one.mean(axis=0) for one in null])
        yield Effect(group, tuple(found[0]), size, matched, whole.mean(axis=0), means, used=1)


def comparison(network: str) -> Compare:
    """How two images differ: 1 - cosine of the features of a metric network, and 1 - correlation of pixels.

    Raises
    ------
    PerceptError : the network gives distances and no features (LPIPS), or is no metric network
    """
    from percept.backbones import metric

    judge = metric.open_named(network)
    if isinstance(judge, metric.Lpips):
        raise PerceptError(
            f"`images.network` of a leave-one-out analysis compares features, and {network} has none that "
            "can be compared by cosine: name another metric network, such as clip_vit_l14 or alexnet."
        )
    names = [name for name in metric.layers(network) if name != metric.LOGITS]

    def compare(first: Images, others: Sequence[Images]) -> list[Changes]:
        ends = np.cumsum([len(first), *map(len, others)])  # one pass for all of them
        looked = judge.features(np.concatenate([first, *others]))
        one, *rest = zip(*(np.split(looked[name], ends[:-1]) for name in names), strict=True)
        return [
            {f"image_{name}": 1 - _cosine(*pair) for name, *pair in zip(names, one, other, strict=True)}
            | {"image_pixels": 1 - _correlation(first, images)}
            for other, images in zip(rest, others, strict=True)
        ]

    return compare


def _cosine(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    first, second = (one.reshape(len(one), -1).astype(np.float64) for one in (first, second))
    length = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.einsum("id,id->i", first, second) / np.where(length > 0, length, 1)


def _correlation(first: Images, second: Images) -> NDArray[np.float64]:
    """Pearson correlation of the pixels of two images each, (n,); equal constant images correlate 1."""
    flat = [one.reshape(len(one), -1).astype(np.float64) for one in (first, second)]
    same = (flat[0] == flat[1]).all(axis=1)
    found = _cosine(*(one - one.mean(axis=1, keepdims=True) for one in flat))
    return np.where(same, 1.0, found)
