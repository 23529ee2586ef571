"""One category per stimulus, as a one-hot vector: ridge on it is a linear classifier."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError
from percept.targets.encode import Source, capability
from percept.targets.settings import DirectConfig


class LabelsConfig(DirectConfig):
    """Category of each stimulus, one-hot over the categories in alphabetical order."""

    reads: ClassVar[tuple[str, ...]] = ("labels",)

    kind: Literal["labels"] = "labels"

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """One-hot vectors (stimulus, category)."""
        labels = capability(source, "labels", self.kind)
        categories = _categories(labels(stimuli))
        for batch in batches:
            yield one_hot(labels(batch), categories)

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """The categories, in the order of the columns."""
        return {
            "kind": self.kind,
            "categories": _categories(capability(source, "labels", self.kind)(stimuli)),
        }


def one_hot(labels: NDArray | list[str], categories: list[str]) -> NDArray[np.float32]:
    """(label, category): 1 where the label is the category, else 0."""
    return (np.asarray(labels, dtype=str)[:, None] == np.asarray(categories, dtype=str)).astype(np.float32)


def _categories(labels: NDArray | list[str]) -> list[str]:
    """Distinct labels in alphabetical order.

    Raises
    ------
    PerceptError : a single category, which leaves nothing to decode
    """
    found = sorted({str(label) for label in labels})
    if len(found) < 2:
        raise PerceptError(
            f"the target `labels` needs at least two categories, the stimuli have {found}: check the "
            "stimulus column of the trial table, or name a target of kind `pixels`."
        )
    return found
