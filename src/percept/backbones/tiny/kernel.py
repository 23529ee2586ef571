"""What tiny_judge sees in pictures: the features in which sets of them are compared (`gan.distance`)."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from percept.backbones.tiny import judge

PARTS = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")
AT_ONCE = 250


def features(folder: str | Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What tiny_judge sees, (image, feature): its last convolution averaged over the picture."""
    network, _ = judge.load(folder)
    with torch.inference_mode():
        parts = [_seen(network, images[at : at + AT_ONCE]) for at in range(0, len(images), AT_ONCE)]
    return np.concatenate(parts)


def _seen(network: torch.nn.Module, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    x = judge.prepared(images)
    for name in PARTS:
        x = getattr(network, name)(x)
    return x.mean(dim=(2, 3)).numpy()
