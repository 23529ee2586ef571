"""A page to look at reconstructions one by one: thumbnails in the page itself, filters, no network.

It holds as many test images as fit its size: those that come first in `priority`, so that what is left out
is never the worst.
"""

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from percept.evaluation.imagesets import Reconstructed, take
from percept.report import ranking
from percept.report.ranking import Ranking

SIDE, QUALITY = 112, 80  # of a thumbnail: pixels, and of WebP
BUDGET = 13_000_000  # bytes of all thumbnails of a page, as base64
MOST = 400  # images of a subject that are turned into thumbnails at all
FEW = 6  # images from whose thumbnails the size of the others is estimated: one turn of `PATTERN`
SPARE = 1.25  # thumbnails made per thumbnail that is expected to fit; `affordable` decides
PATTERN = ("best", "worst", "median", "sample", "sample", "sample")
Fetch = Callable[
    [NDArray], NDArray
]  # stimuli (n,) -> their images (n, height, width, 3) uint8, in this order


@dataclass(frozen=True)
class Method:
    """One reconstruction of a subject, row by row of the test images.

    thumbnails : data URIs, those of the images in the order of `Subject.rows`
    values : (image, metric), values of single images, indexed by stimulus; `ranking`, ranks of all images
    captions : stimulus -> what the generator read into the low-level image, where it did
    """

    name: str
    thumbnails: Sequence[str]
    values: pd.DataFrame
    ranking: Ranking
    captions: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """Test images of a subject with all their reconstructions.

    stimulus : (image,) ids, all of the test set
    rows, groups : which of them are shown, in order of priority, and why
    seen : thumbnails of what was seen, in the order of `rows`
    """

    name: str
    stimulus: NDArray
    rows: NDArray
    groups: Sequence[str]
    seen: Sequence[str]
    methods: Sequence[Method]

    def size(self) -> NDArray:
        """Bytes of the thumbnails of each shown image, (row,)."""
        parts = [self.seen, *(method.thumbnails for method in self.methods)]
        return np.sum([[len(uri) for uri in uris] for uris in parts], axis=0)


def priority(ranks: NDArray, seed: int = 0) -> tuple[NDArray, list[str]]:
    """Rows in the order in which they are worth showing, and the group for which each was taken.

    Best, worst and median by rank take turns with a random sample, which gets half of the places. Any
    beginning of the order is so mixed, and all rows are in it.
    """
    by_rank = np.argsort(ranks, kind="stable")
    outwards = np.argsort(np.abs(np.arange(len(ranks)) - (len(ranks) - 1) / 2), kind="stable")
    queues = {
        "best": iter(by_rank),
        "worst": iter(by_rank[::-1]),
        "median": iter(by_rank[outwards]),
        "sample": iter(np.random.default_rng(seed).permutation(len(ranks))),
    }
    taken: dict[int, str] = {}
    while len(taken) < len(ranks):
        group = PATTERN[len(taken) % len(PATTERN)]
        taken[int(next(row for row in queues[group] if int(row) not in taken))] = group
    return np.array(list(taken), dtype=np.intp), list(taken.values())


def thumbnail(image: NDArray) -> str:
    """An image (height, width, 3) uint8 as a data URI of at most `SIDE` pixels a side; small ones stay."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, format="webp", quality=QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def thumbnails(images: Iterable[NDArray]) -> list[str]:
    """Thumbnails of images (image, height, width, 3)."""
    return [thumbnail(image) for image in images]


def values_of(items: pd.DataFrame) -> pd.DataFrame:
    """Values of single images of one reconstruction, (stimulus, metric); controls play no part."""
    own = items[items["control"].isna()]
    return own.pivot_table("value", "stimulus", "metric", aggfunc="mean", sort=False)


def captions_of(details: pd.DataFrame) -> dict[int, str]:
    """Stimulus -> caption, of the test images for which the generator made one."""
    if "caption" not in details:
        return {}
    own = details[details["set"] != "recovery"] if "set" in details else details
    own = own.dropna(subset=["caption"]).drop_duplicates("stimulus")
    return {int(one): str(text) for one, text in zip(own["stimulus"], own["caption"], strict=True) if text}


def affordable(subjects: Sequence[Subject], budget: int = BUDGET) -> int:
    """Images of every subject that fit the budget, the same number for all; at least one."""
    longest = max((len(one.rows) for one in subjects), default=0)
    total = np.zeros(longest)
    for one in subjects:
        sizes = one.size()
        total[: len(sizes)] += sizes
    return max(int(np.searchsorted(np.cumsum(total), budget, side="right")), min(longest, 1))


def subject(
    name: str, stimulus: NDArray, items: Mapping[str, pd.DataFrame], seed: int = 0
) -> tuple[Subject, dict[str, Ranking]]:
    """A subject without thumbnails yet: which rows are to be shown, and each method's ranks.

    Parameters
    ----------
    stimulus : (image,) ids of the test set
    items : reconstruction -> values of its single images
    """
    rankings = {method: ranking.by_two_way(table, stimulus) for method, table in items.items()}
    order, groups = priority(ranking.mean_ranks(list(items.values()), stimulus).ranks, seed)
    return Subject(name, stimulus, order[:MOST], groups[:MOST], (), ()), rankings


def reader(path: str | Path) -> Fetch:
    """Gives images of a file of reconstructions by stimulus; only their rows are read."""
    made = Reconstructed(Path(path))
    stimulus = made.stimulus

    def fetch(wanted: NDArray) -> NDArray:
        return take(made, ranking.rows_of(wanted, stimulus))

    return fetch


def fill(
    subjects: Sequence[Subject], seen: Fetch, made: Sequence[Mapping[str, Fetch]], budget: int = BUDGET
) -> list[Subject]:
    """Subjects with thumbnails of the images that are expected to fit the page, and a few to spare.

    Parameters
    ----------
    subjects : with their methods, but without thumbnails
    seen : what was shown; made : per subject, name of each method -> its reconstructions
    """
    n_images = worth_drawing(subjects, seen, made, budget)
    filled = []
    for one, fetches in zip(subjects, made, strict=True):
        rows, groups = one.rows[:n_images], one.groups[:n_images]
        wanted = one.stimulus[rows]
        methods = [replace(m, thumbnails=thumbnails(fetches[m.name](wanted))) for m in one.methods]
        pictures = _one_by_one(seen, wanted)
        filled.append(replace(one, rows=rows, groups=groups, seen=pictures, methods=methods))
    return filled


def worth_drawing(
    subjects: Sequence[Subject], seen: Fetch, made: Sequence[Mapping[str, Fetch]], budget: int = BUDGET
) -> int:
    """How many images of each subject to turn into thumbnails, by the size of the first few."""
    per_image = 0.0
    for one, methods in zip(subjects, made, strict=True):
        wanted = one.stimulus[one.rows[:FEW]]
        drawn = [_one_by_one(seen, wanted), *(thumbnails(fetch(wanted)) for fetch in methods.values())]
        per_image += sum(float(np.mean([len(uri) for uri in uris])) for uris in drawn if uris)
    return max(FEW, math.ceil(SPARE * budget / max(per_image, 1.0)))


def _one_by_one(seen: Fetch, stimuli: NDArray) -> list[str]:
    """Thumbnails of what was seen; of large images one alone is in memory."""
    return [thumbnail(seen(stimuli[[at]])[0]) for at in range(len(stimuli))]
