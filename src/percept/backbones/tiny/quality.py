"""How good the small networks are on scenes that none of them has seen."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

RETRIEVAL_POOL = 100


def top1_present(scores: NDArray, present: NDArray[np.bool_]) -> float:
    """Share of scenes whose best-scored category is among those in the picture, in [0, 1].

    Parameters
    ----------
    scores : (scene, category), higher is likelier
    present : (scene, category), whether the scene shows it
    """
    return float(np.take_along_axis(present, scores.argmax(axis=1)[:, None], axis=1).mean())


def chance_present(present: NDArray[np.bool_]) -> float:
    """What `top1_present` is on average for a category that is drawn at random."""
    return float(present.mean())


def constant_present(present: NDArray[np.bool_]) -> float:
    """The best `top1_present` of one and the same answer to every picture."""
    return float(present.mean(axis=0).max())


def top1_main(scores: NDArray, names: Sequence[str], main: Sequence[str]) -> float:
    """Share of scenes whose best-scored category is that of the largest object; chance is one over them."""
    best = np.asarray(names)[scores.argmax(axis=1)]
    return float((best == np.asarray(main)).mean())


def retrieval_top1(similarity: NDArray, pool: int = RETRIEVAL_POOL) -> tuple[float, float]:
    """Share of images whose own caption is the most similar of a pool, and of captions likewise.

    Parameters
    ----------
    similarity : (image, caption); the caption of an image has its number
    pool : images are taken in consecutive groups of this size, a remainder is left out; chance is 1 / pool.
        Equal captions tie, and a tie for the first place counts as its share.

    Raises
    ------
    ValueError : fewer images than one pool
    """
    n_pools = len(similarity) // pool
    if not n_pools:
        raise ValueError(f"retrieval in pools of {pool} needs as many images, there are {len(similarity)}")
    blocks = [similarity[k * pool : (k + 1) * pool, k * pool : (k + 1) * pool] for k in range(n_pools)]
    return (
        float(np.mean([_first(block) for block in blocks])),
        float(np.mean([_first(block.T) for block in blocks])),
    )


def _first(block: NDArray) -> float:
    """Mean credit of the diagonal for being the row's largest value."""
    best = block == block.max(axis=1, keepdims=True)
    return float((np.diag(best) / best.sum(axis=1)).mean())


def names_it(caption: str, category: str) -> bool:
    """Whether a caption names a category, in singular or plural."""
    return re.search(rf"\b({_forms(category)})\b", caption.lower()) is not None


def _forms(category: str) -> str:
    plural = {"person": "people", "sheep": "sheep"}.get(category, f"{category}(?:e?s)?")
    return f"{category}|{plural}"


def named_main(captions: Sequence[str], main: Sequence[str]) -> float:
    """Share of captions that name the largest object of their scene."""
    return float(np.mean([names_it(said, name) for said, name in zip(captions, main, strict=True)]))
