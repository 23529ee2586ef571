"""Image metrics over whole sets: correlations of features for two-way and distance, and values pair by pair.

Two-way identification is the field's: the reconstruction is fixed and the true images compete, R[i, j] =
r(features of true image i, features of reconstruction j), the share of i != j with R[i, j] < R[j, j]. Where
the field's code counts a tie as lost, ties count half here, as everywhere in Percept: without ties the two
are the same number, and an output that does not depend on its input scores exactly 50 % in both; but a
blank output, all of whose correlations are 0, scores 50 % here and 0 % there, and two equal true images do
not cost the reconstruction that shows them. `by_image`, the orientation of some papers' text, fixes the true
image and lets reconstructions compete; it rewards reconstructions that resemble everything.

True features are computed once for all sets, and equal images once, in whichever sets they are: what was
chosen among images of other sets costs nothing. Held at a time are the features of the
true images under one network, and those of some hundred others.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from percept.backbones.metric import Features, Lpips
from percept.evaluation import controls, images, recognition, retrieval
from percept.evaluation.correlation import feature_blocks, standardised_rows
from percept.evaluation.imagesets import BATCH, Distinct, take
from percept.evaluation.measure import Measure
from percept.sections import ImagesConfig

DISTANCES = ("effnet", "swav")  # mean of 1 - r over pairs; lower is better
CHUNK = 128  # images whose features are held beside those of the true ones
Extract = Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]
Found = Iterator[tuple[int, list[Measure]]]  # the set that was measured, and its measures


@dataclass(frozen=True)
class Seen:
    """What was seen: the images, and the objects in them, largest first (None: not known)."""

    images: Distinct
    objects: tuple[tuple[str, ...], ...] | None = None
    unknown: str = "nobody said which objects the images of this data set show"  # why, where they are not

    def __len__(self) -> int:
        return len(self.images)


def pixels(seen: Seen, sets: Sequence[Distinct], how: ImagesConfig, antialias: bool = False) -> Found:
    """PixCorr and two-way identification by pixels of every set."""

    def extract(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        return {"pixels": images.pixel_vectors(images.common(batch, antialias))}

    end = _ending(antialias)
    for index, found in correlate(extract, seen, sets, BATCH):
        correlations = found.correlations["pixels"]
        two_way = identification(f"pixel_two_way{end}", correlations, seen, how)
        yield index, [Measure(f"pixcorr{end}", np.diag(correlations), correlations), *two_way]


def network(
    given: Features, seen: Seen, sets: Sequence[Distinct], how: ImagesConfig, antialias: bool | None = None
) -> Found:
    """The metrics of a network's layers, for every set."""

    def extract(batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        layers = given.features(batch, antialias)
        return {name: rows if name in recognition.ANSWERS else unit(rows) for name, rows in layers.items()}

    end = _ending(bool(antialias))
    for index, found in correlate(extract, seen, sets, how.batch_size):
        measures = [
            measure
            for layer, correlations in found.correlations.items()
            for measure in _of_layer(layer, end, correlations, seen, how)
        ]
        for answers in found.answers.values():
            measures += recognition.measures(answers, seen.objects, given.classes)
        yield index, measures


def _of_layer(
    layer: str, end: str, correlations: NDArray[np.float64], seen: Seen, how: ImagesConfig
) -> Iterator[Measure]:
    """What the field makes of a layer: the distance of each pair, or two-way identification."""
    if layer in DISTANCES:
        distance = 1 - correlations
        yield Measure(layer + end, np.diag(distance), distance, lower_is_better=True)
    else:
        yield from identification(layer + end, correlations, seen, how)


def _ending(antialias: bool) -> str:
    return "_antialias" if antialias else ""


def identification(
    metric: str, correlations: NDArray[np.float64], seen: Seen, how: ImagesConfig
) -> Iterator[Measure]:
    """Two-way identification from correlations (reconstruction, true image); none for a single image."""
    n_images = len(seen)
    if n_images < 2:
        return
    matrices = {metric: correlations}
    if "by_image" in how.alternatives:
        matrices[f"{metric}_by_image"] = correlations.T
    for name, scores in matrices.items():
        own = retrieval.rank(scores, np.arange(n_images), seen.images.number)
        every = retrieval.two_way(retrieval.rank_all(scores))
        chance = controls.chance("two_way", n_images)
        yield Measure(name, retrieval.two_way(own), every, chance, pool=n_images)


class Compared(NamedTuple):
    """A set of images against the true ones, by layer."""

    correlations: dict[str, NDArray[np.float64]]  # (image of the set, true image)
    answers: dict[str, recognition.Answers]  # outputs of the layers that are read instead


def correlate(
    extract: Extract, seen: Seen, sets: Sequence[Distinct], batch_size: int
) -> Iterator[tuple[int, Compared]]:
    """Compare every set with the true images, layer by layer.

    Parameters
    ----------
    extract : layer -> features (image, feature) of a batch, of unit length
    """
    shown = _rows(map(extract, seen.images.batches(batch_size)), len(seen.images.rows))
    kept = Kept(sets)
    for index, each in enumerate(sets):
        new = kept.new(each)
        chunks = _chunks(map(extract, each.batches(batch_size, new)), max(1, CHUNK // batch_size))
        answers = (
            {name: rows if name in recognition.ANSWERS else images.products(rows, shown[name])
             for name, rows in chunk.items()}
            for chunk in chunks
        )  # fmt: skip
        found = kept.joined(each, new, _rows(answers, len(new)))
        made, true = each.number, seen.images.number
        yield (
            index,
            Compared(
                {name: r[made][:, true] for name, r in found.items() if name not in recognition.ANSWERS},
                {
                    name: recognition.Answers(outputs[made], shown[name][true])
                    for name, outputs in found.items()
                    if name in recognition.ANSWERS
                },
            ),
        )


class Kept:
    """What was found of images that several sets have, so that each is looked at once.

    Of the other images nothing is kept.
    """

    def __init__(self, sets: Sequence[Distinct]) -> None:
        counts = Counter(key for each in sets for key in each.keys)
        self.recurring = {key for key, count in counts.items() if count > 1}
        self.known: dict[bytes, dict[str, NDArray]] = {}

    def new(self, each: Distinct) -> NDArray[np.intp]:
        """Which of the distinct images of a set are not known yet, ascending."""
        return np.array([at for at, key in enumerate(each.keys) if key not in self.known], dtype=np.intp)

    def joined(self, each: Distinct, new: NDArray[np.intp], found: dict[str, NDArray]) -> dict[str, NDArray]:
        """Rows by name of all distinct images of a set, from those of the new ones."""
        keys = each.keys
        for row, at in enumerate(new):
            if keys[at] in self.recurring:
                self.known[keys[at]] = {name: rows[row].copy() for name, rows in found.items()}
        if len(new) == len(keys):
            return found
        fresh = {int(at): row for row, at in enumerate(new)}
        names = found or self.known[keys[0]]
        return {
            name: np.stack(
                [
                    found[name][fresh[at]] if at in fresh else self.known[key][name]
                    for at, key in enumerate(keys)
                ]
            )
            for name in names
        }


def _chunks(batches: Iterator[dict[str, NDArray]], n_batches: int) -> Iterator[dict[str, NDArray]]:
    """Some batches joined at a time: fewer, larger products."""
    while waiting := list(islice(batches, n_batches)):
        yield _rows(iter(waiting), sum(len(next(iter(batch.values()))) for batch in waiting))


def _rows(batches: Iterator[dict[str, NDArray]], n_rows: int) -> dict[str, NDArray]:
    """Rows of the batches below each other, by name, never held twice."""
    joined: dict[str, NDArray] = {}
    start = 0
    for batch in batches:
        for name, rows in batch.items():
            if name not in joined:
                joined[name] = np.empty((n_rows, *rows.shape[1:]), dtype=rows.dtype)
            joined[name][start : start + len(rows)] = rows
        start += len(rows)
    return joined


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows (image, feature) less their mean and of length 1, so that products are Pearson correlations."""
    rows, out = standardised_rows(features), np.empty(features.shape, dtype=np.float32)
    for part in feature_blocks(features.shape[1]):
        out[:, part] = rows.block(part)
    return out


class Pairwise(NamedTuple):
    """A metric of two images: what is computed of each alone, and the values (image,) of two such."""

    metric: str
    prepare: Callable[[NDArray[np.uint8]], Any]
    values: Callable[[Any, Any], NDArray]  # of reconstructions, of true images
    lower_is_better: bool = False


def ssim(antialias: bool = False, columns: bool = False) -> Pairwise:
    """Structural similarity; of columns only, as old versions of scikit-image computed it unasked."""
    axes = images.ROWS if columns else images.BOTH

    def prepare(batch: NDArray[np.uint8]) -> list[images.Moments]:
        return [images.moments(grey, axes) for grey in images.field_grey(images.common(batch, antialias))]

    def values(made: list[images.Moments], shown: list[images.Moments]) -> NDArray:
        pairs = zip(made, shown, strict=True)
        return np.array([images.structural_similarity(*pair, axes) for pair in pairs])

    name = "ssim_columns" if columns else "ssim"
    return Pairwise(name + _ending(antialias), prepare, values)


def lpips(given: Lpips, antialias: bool = False) -> Pairwise:
    """Learned perceptual distance, lower is better."""

    def prepare(batch: NDArray[np.uint8]) -> Any:  # noqa: ANN401 (features by layer)
        return given.features(batch, antialias)

    return Pairwise(f"lpips{_ending(antialias)}", prepare, given.between, lower_is_better=True)


class Shuffle(NamedTuple):
    """Of which sets one shuffled pairing is scored as well, and whose true image each image then gets."""

    sets: tuple[int, ...]
    partner: NDArray[np.int64]  # (image,), a permutation


def pairwise(
    metric: Pairwise, seen: Seen, sets: Sequence[Distinct], shuffle: Shuffle, batch_size: int = BATCH
) -> Found:
    """Values of every set against the true images; all pairings would take hours, so that one is shuffled."""
    own = np.empty((len(sets), len(seen)))
    shuffled = np.empty((len(sets), len(seen)))
    for start in range(0, len(seen), batch_size):
        rows = np.arange(start, min(start + batch_size, len(seen)))
        shown = metric.prepare(take(seen.images.images, rows))
        others = metric.prepare(take(seen.images.images, shuffle.partner[rows])) if shuffle.sets else None
        looked: dict[tuple[object, ...], int] = {}  # the same images at the same places -> their set
        for index, each in enumerate(sets):
            keys = [(row, each.digests[row], index in shuffle.sets) for row in rows.tolist()]
            copied = np.array([looked.get(key, -1) for key in keys])
            if copied.min() >= 0:
                own[index, rows], shuffled[index, rows] = own[copied, rows], shuffled[copied, rows]
                continue
            made = metric.prepare(take(each.images, rows))
            own[index, rows] = metric.values(made, shown)
            if index in shuffle.sets:
                shuffled[index, rows] = metric.values(made, others)
            looked |= dict.fromkeys(keys, index)
    for index in range(len(sets)):
        once = shuffled[index] if index in shuffle.sets else None
        yield (
            index,
            [Measure(metric.metric, own[index], shuffled=once, lower_is_better=metric.lower_is_better)],
        )
