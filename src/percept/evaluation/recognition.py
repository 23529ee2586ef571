"""Whether a classifier sees in a reconstruction what was in the image: its main object, and of which kind."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from percept.backbones.metric import LOGITS
from percept.datasets.scenes import CATEGORIES
from percept.evaluation.measure import Measure

JUDGE = "tiny_judge"
ANSWERS = (LOGITS,)  # layers that are not compared, but read
METRICS = ("object", "category")
NOBODY = ""  # the main object of an image without objects, which no answer equals


class Answers(NamedTuple):
    """Outputs of the classifier, (image, class) each."""

    made: NDArray[np.float32]  # for reconstructions
    shown: NDArray[np.float32]  # for the true images: its score on them is the ceiling


def measures(
    answers: Answers,
    objects: Sequence[tuple[str, ...]] | None,
    classes: Sequence[str],
) -> Iterator[Measure]:
    """Share of images in which the judge's first answer is the main object of the true image, or of its kind.

    The main object is the one with the largest visible area, its kind the supercategory as in COCO. An image
    without objects counts as missed. Chance is what the same answers score in mean over all wrong pairings:
    the judge's answers and the objects keep their frequencies, and say nothing of each other.

    Parameters
    ----------
    objects : names of the objects in each true image, largest first; None: nothing to compare with
    """
    if objects is None:
        return
    main = np.array([names[0] if names else NOBODY for names in objects])
    made, shown = (np.array(classes)[logits.argmax(axis=1)] for logits in answers)
    for metric, of in zip(METRICS, (np.array, kinds), strict=True):
        hits = (of(made)[:, None] == of(main)[None, :]).astype(np.float64)  # (reconstruction, true image)
        note = f"of the true images themselves: {np.mean(of(shown) == of(main)):.3f}"
        yield Measure(metric, np.diag(hits), hits, chance(hits), note=note)


def kinds(names: Sequence[str]) -> NDArray:
    """The supercategory of each name; a name that is none of the scenes' categories stands for itself."""
    return np.array([CATEGORIES[name].supercategory if name in CATEGORIES else name for name in names])


def chance(hits: NDArray[np.float64]) -> float:
    """Mean over the pairs (reconstruction, true image) of different images; missing for a single one."""
    n_images = len(hits)
    if n_images < 2:
        return float("nan")
    return float((hits.sum() - np.trace(hits)) / (n_images * (n_images - 1)))
