import numpy as np
import torch

from percept.backbones import store
from percept.backbones.tiny import judge, kernel
from tests.unit.backbones.tiny_scenes import held_out


def test_features_are_the_pooled_last_convolution(monkeypatch):
    images = held_out(7).images
    folder = store.SHIPPED / judge.NAME
    network, _ = judge.load(folder)
    together = kernel.features(folder, images)
    logits = torch.from_numpy(together) @ network.fc.weight.T + network.fc.bias  # the head reads them
    np.testing.assert_allclose(logits, judge.logits(network, images), atol=1e-3)
    monkeypatch.setattr(kernel, "AT_ONCE", 3)
    np.testing.assert_allclose(kernel.features(folder, images), together, atol=1e-4)
