"""What the report says: `spec.yml`, checked, with the noun of the stimuli filled in."""

from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

import yaml

from percept.config import Section


class Words(NamedTuple):
    """What the stimuli of a data set are called."""

    item: str = "image"
    items: str = "images"

    def fill(self, text: str, **values: object) -> str:
        """Replace `{item}`, `{items}`, `{Item}` and the given `{name}`s; any other brace stays."""
        names = {"item": self.item, "items": self.items, "Item": self.item.capitalize(), **values}
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
    figures: dict[str, FigureText]
    sections: dict[str, Passage]
    glossary: tuple[Entry, ...]
    terms: dict[str, Passage]

    def metric(self, name: str) -> Metric:
        """The named metric; one that the file does not know is printed as a plain number."""
        return self.metrics.get(name) or Metric(label=name.replace("_", " ").capitalize())


@cache
def load() -> Spec:
    """The specification shipped with the package."""
    text = resources.files(__package__).joinpath("spec.yml").read_text(encoding="utf-8")
    return Spec.model_validate(yaml.safe_load(text))


def words(manifest: dict[str, Any]) -> Words:
    """What the stimuli are called, from the data set in the manifest's configuration.

    Own data whose stimuli are labels are categories; own data that say nothing are stimuli.
    """
    dataset = manifest.get("config", {}).get("dataset", {})
    if dataset.get("kind") != "arrays" or isinstance(dataset.get("stimuli"), dict):
        return Words()
    return (
        Words("category", "categories")
        if dataset.get("stimuli") == "labels"
        else Words("stimulus", "stimuli")
    )


def direction(name: str | None, nouns: Words) -> str:
    """A retrieval direction in words: what is found, from what."""
    texts = {"image_from_brain": "{item} from brain", "brain_from_image": "brain from {item}"}
    return nouns.fill(texts.get(name or "", name or ""))
