"""Which objects the images of a data set show, where the data set knows."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from percept.files import PerceptError
from percept.targets.sources import NativeSource

NOTHING = "no object"
log = logging.getLogger(__name__)


class Known(NamedTuple):
    """What is known of the objects in some images.

    names : (image,), objects in each, largest first; None where the data set does not know
    reason : why it does not; empty where it does
    """

    names: list[tuple[str, ...]] | None
    reason: str = ""


def known(source: Any, stimuli: Sequence[int]) -> Known:  # noqa: ANN401 (any source of stimuli)
    """The objects in each image, or why nobody knows: no annotations, no column `objects` in own tables.

    Raises
    ------
    PerceptError : annotations that are there and damaged, or about other images
    """
    if not hasattr(source, "objects"):
        return _unknown("this data set does not say what its images show")
    try:
        return Known(source.objects(stimuli))
    except PerceptError as error:
        if isinstance(source, NativeSource) and not _lacks_annotations(source):
            raise
        return _unknown(str(error))


def kinds(source: Any, stimuli: Sequence[int]) -> list[str] | None:  # noqa: ANN401 (any source of stimuli)
    """The kind of the main object in each image, (image,): its supercategory in COCO, such as "animal".

    The main object is the one with the largest visible area. Names that COCO does not group stand for
    themselves; images without objects are `NOTHING`. None where the data set does not know.
    """
    names = known(source, stimuli).names
    if names is None:
        return None
    broader = _supercategories(source, stimuli) if isinstance(source, NativeSource) else {}
    return [broader.get(each[0], each[0]) if each else NOTHING for each in names]


def _supercategories(source: NativeSource, stimuli: Sequence[int]) -> dict[str, str]:
    from percept.datasets import coco

    seen = coco.visible(source.root, stimuli)
    return {thing.category: thing.supercategory for things in seen for thing in things}


def _lacks_annotations(source: NativeSource) -> bool:
    from percept.datasets import coco

    return any(not (source.root / coco.key("instances", split)).is_file() for split in coco.SPLITS)


def _unknown(reason: str) -> Known:
    log.info("Objects in the images are not known: %s", reason)
    return Known(None, reason)
