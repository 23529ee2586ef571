"""The features from which the twin generated its responses: the target of a decoder that knows the world."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from percept.backbones.fingerprint import digest
from percept.targets.encode import Source, capability
from percept.targets.settings import DirectConfig


class TruthConfig(DirectConfig):
    """Generating features of the twin; refused for measured data."""

    reads: ClassVar[tuple[str, ...]] = ("truth",)

    kind: Literal["truth"] = "truth"

    def blocks(
        self, source: Source, stimuli: NDArray[np.int32], batches: Sequence[NDArray[np.int32]]
    ) -> Iterator[NDArray[np.float32]]:
        """Features (stimulus, mode)."""
        yield from map(capability(source, "truth", self.kind), batches)

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """A digest of the features themselves: a twin of another seed has others."""
        features = capability(source, "truth", self.kind)(stimuli)
        return {"kind": self.kind, "features_sha256": digest({"features": features})}
