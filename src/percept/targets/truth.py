"""The features from which the twin generated its responses: the target of a decoder that knows the world."""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from percept.backbones.fingerprint import digest
from percept.config import TargetConfig
from percept.targets.encode import Source, capability


class TruthConfig(TargetConfig):
    """Generating features of the twin; refused for measured data."""

    kind: Literal["truth"] = "truth"

    def blocks(self, source: Source, stimuli: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
        """Features (stimulus, mode)."""
        yield capability(source, "truth", self.kind)(stimuli)

    def fingerprint(self, source: Source, stimuli: NDArray[np.int32]) -> dict[str, Any]:
        """A digest of the features themselves: a twin of another seed has others."""
        features = capability(source, "truth", self.kind)(stimuli)
        return {"kind": self.kind, "features_sha256": digest({"features": features})}
