"""What the report says: `spec.yml`, checked, with the noun of the stimuli filled in."""

import re
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

from percept.config import Section

VARIANTS = {
    "_antialias": "antialiased",
    "_by_image": "by image",
    "_columns": "columns as channels",
}  # computed beside a metric when `evaluation.images.alternatives` asks for them
CLUSTERED = re.compile(r"(.+)_(kmeans|agglomerative)_(\d+)")  # of `evaluation.latents`


class Words(NamedTuple):
    """What the stimuli of a data set are called, and its subject if there is but one."""

    item: str = "image"
    items: str = "images"
    alone: str = ""

    @property
    def mean(self) -> str:
        """What a mean over subjects is called; of one subject it is that subject's own."""
        return self.alone or "mean over subjects"

    @property
    def scores(self) -> str:
        """The same of many values, as the beginning of a sentence."""
        return "Scores" if self.alone else "Means over subjects"

    def fill(self, text: str, **values: object) -> str:
        """Replace `{item}`, `{items}`, `{Item}`, `{mean}`, `{diamonds}`, given `{name}`s; no other brace."""
        several = "means over subjects with their interval; dots are subjects"
        diamonds = "scores with their interval" if self.alone else several
        names = {
            "item": self.item, "items": self.items, "Item": self.item.capitalize(), "mean": self.mean,
            "diamonds": diamonds, **values,
        }  # fmt: skip
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", str(value))
        return text


class Metric(Section):
    """How a metric is called, printed and read."""

    label: str
    format: Literal["percent", "correlation", "bits", "rank", "number"] = "number"
    better: Literal["higher", "lower"] = "higher"
    reads: str = ""


class Row(Section):
    """What a kind of control or limit is called, and where it stands."""

    label: str
    group: str
    reads: str


class Column(Section):
    """A column of the summary table."""

    metric: str
    direction: str | None = None
    pool: Literal["headline"] | None = None


class FigureText(Section):
    """Title and caption of a figure, and how to read it."""

    section: str
    title: str
    caption: str
    reads: str


class Passage(Section):
    """A titled text: a section's opening or a note on terms."""

    title: str
    intro: str = ""
    text: str = ""


class Entry(Section):
    """A word explained."""

    term: str
    meaning: str


class Spec(Section):
    """All of `spec.yml`."""

    metrics: dict[str, Metric]
    rows: dict[str, Row]
    groups: dict[str, str]
    units: dict[str, str]
    headline: dict[str, tuple[Column, ...]]
    panels: tuple[tuple[str, ...], ...]
    figures: dict[str, FigureText]
    sections: dict[str, Passage]
    glossary: tuple[Entry, ...]
    published: dict[str, str]
    terms: dict[str, Passage]

    def metric(self, name: str) -> Metric:
        """The named metric; one that the file does not know is printed as a plain number.

        A variant of a known metric ("ssim_columns"), or of a variant ("clip_antialias_by_image"), is that
        metric with the variant in its label; so is a metric of a clustering ("silhouette_kmeans_8").
        """
        if (clustered := CLUSTERED.fullmatch(name)) and clustered[1] in self.metrics:
            known, method = self.metrics[clustered[1]], clustered[2].replace("kmeans", "k-means")
            return known.model_copy(update={"label": f"{known.label}, {method}, {clustered[3]} clusters"})
        base, variants = name, []
        while base not in self.metrics and (ending := next(filter(base.endswith, VARIANTS), None)):
            base = base.removesuffix(ending)
            variants.insert(0, VARIANTS[ending])
        if base not in self.metrics:
            return Metric(label=name.replace("_", " ").capitalize())
        known = self.metrics[base]
        return known.model_copy(update={"label": ", ".join([known.label, *variants])})


@cache
def load() -> Spec:
    """The specification shipped with the package."""
    text = resources.files(__package__).joinpath("spec.yml").read_text(encoding="utf-8")
    return Spec.model_validate(yaml.safe_load(text))


def words(manifest: dict[str, Any]) -> Words:
    """What the stimuli are called, and who saw them, from the data set in the manifest's configuration.

    Own data whose stimuli are labels are categories; own data that say nothing are stimuli.
    """
    dataset = manifest.get("config", {}).get("dataset", {})
    names = list(dataset.get("subjects", []))
    alone = names[0] if len(names) == 1 else ""
    if dataset.get("kind") != "arrays" or isinstance(dataset.get("stimuli"), dict):
        return Words(alone=alone)
    if dataset.get("stimuli") == "labels":
        return Words("category", "categories", alone)
    return Words("stimulus", "stimuli", alone)


def direction(name: str | None, nouns: Words) -> str:
    """A retrieval direction in words: what is found, from what."""
    texts = {"image_from_brain": "{item} from brain", "brain_from_image": "brain from {item}"}
    return nouns.fill(texts.get(name or "", name or ""))
