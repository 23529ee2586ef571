"""The gallery as HTML: cards of one test image in one subject, with a tile per method."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from percept.report import formats, page, spec
from percept.report.gallery import Method, Subject, affordable
from percept.report.reconstructions import metrics_of

GROUPS = {"best": "among the best", "worst": "among the worst", "median": "in the middle", "sample": "drawn"}


def render(
    subjects: Sequence[Subject],
    manifest: Mapping[str, Any],
    objects: Mapping[int, Sequence[str]] | None = None,
    title: str = "Gallery",
) -> str:
    """The gallery as one page that works offline, and as a plain listing without its script.

    Parameters
    ----------
    objects : stimulus -> what is in the image, largest first, where the data set knows
    """
    nouns, limit = spec.words(dict(manifest)), affordable(subjects)
    metrics = _metrics(subjects)
    names = [method.name for one in subjects[:1] for method in one.methods]
    cards = [card for one in subjects for card in _cards(one, limit, metrics, objects or {})]
    of_images = {card["stimulus"]: card["kinds"] for card in cards}  # each counts once, whoever saw it
    kinds = [name for name, _ in Counter(kind for own in of_images.values() for kind in own).most_common()]
    return (
        page.environment()
        .get_template("gallery.html.j2")
        .render(
            title=title,
            intro=_intro(subjects, limit, nouns),
            cards=cards,
            subjects=[one.name for one in subjects],
            methods=names,
            kinds=kinds,
            metrics=[{"name": name, "label": spec.load().metric(name).label,
                      "better": spec.load().metric(name).better} for name in metrics],
            most=max((len(one.stimulus) for one in subjects), default=1),
            ranked=_ranked(subjects),
            terms=page.terms(manifest, nouns),
            **page.assets(("style.css", "gallery.css"), "gallery.js"),
        )
    )  # fmt: skip


def _metrics(subjects: Sequence[Subject]) -> list[str]:
    seen = [name for one in subjects for method in one.methods for name in method.values.columns]
    return metrics_of(pd.DataFrame({"metric": pd.Series(seen, dtype="string")}))


def _intro(subjects: Sequence[Subject], limit: int, nouns: spec.Words) -> str:
    """What is shown and, where that is not all, how it was chosen."""
    totals = sorted({len(one.stimulus) for one in subjects}) or [0]
    shown = max((min(limit, len(one.rows)) for one in subjects), default=0)
    counted = formats.listed([formats.count(total) for total in totals])
    if shown >= totals[-1]:
        return f"All {counted} test {nouns.items} of each subject, with every reconstruction."
    return (
        f"{formats.count(shown)} of {counted} test {nouns.items} of each subject, so that the page stays "
        "small: the best, the median and the worst by mean rank, and as many again drawn at random."
    )


def _ranked(subjects: Sequence[Subject]) -> str:
    metrics = {method.ranking.metric for one in subjects for method in one.methods} - {None}
    labels = [spec.load().metric(name).label for name in sorted(metrics)]
    return (
        f"Ranks are those of the seen image among all test images, by {formats.listed(labels)}."
        if labels
        else ""
    )


def _cards(
    one: Subject, limit: int, metrics: Sequence[str], objects: Mapping[int, Sequence[str]]
) -> list[dict[str, Any]]:
    everything = limit >= len(one.stimulus)
    order = range(min(limit, len(one.rows)))
    cards = [_card(one, at, metrics, objects, "" if everything else one.groups[at]) for at in order]
    return sorted(cards, key=lambda card: card["rank"])


def _card(
    one: Subject, at: int, metrics: Sequence[str], objects: Mapping[int, Sequence[str]], group: str
) -> dict[str, Any]:
    row = one.rows[at]
    stimulus = int(one.stimulus[row])
    ranks = [float(method.ranking.ranks[row]) for method in one.methods if method.ranking.metric]
    return {
        "subject": one.name,
        "stimulus": stimulus,
        "rank": float(np.mean(ranks)) if ranks else 0.0,
        "group": GROUPS.get(group, ""),
        "kinds": list(objects.get(stimulus, ())),
        "seen": one.seen[at],
        "tiles": [_tile(method, at, row, stimulus, metrics) for method in one.methods],
    }


def _tile(method: Method, at: int, row: int, stimulus: int, metrics: Sequence[str]) -> dict[str, Any]:
    known = method.values.loc[stimulus] if stimulus in method.values.index else pd.Series(dtype=float)
    values = [known.get(name, float("nan")) for name in metrics]
    ranked = method.ranking.metric is not None
    return {
        "name": method.name,
        "uri": method.thumbnails[at],
        "rank": f"{method.ranking.ranks[row]:.1f}".removesuffix(".0") if ranked else "",
        "scores": ",".join("" if pd.isna(value) else f"{value:.4g}" for value in values),
        "caption": method.captions.get(stimulus, ""),
    }
