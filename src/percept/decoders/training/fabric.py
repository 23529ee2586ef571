"""What is used of Lightning's Fabric, imported without what it would bring along.

Fabric imports torchmetrics to learn its version, and that imports torchvision and transformers: five seconds
of every training, as long as a small network takes to train, for a detector of spikes that is not used here.
"""

import sys

_hidden = "torchmetrics" not in sys.modules
if _hidden:
    sys.modules["torchmetrics"] = None  # type: ignore[assignment]  # to whoever imports it, it is not there
try:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins import MixedPrecision
    from lightning_fabric.plugins.environments import LightningEnvironment
    from lightning_fabric.strategies import DDPStrategy
finally:
    if _hidden:
        del sys.modules["torchmetrics"]

__all__ = ["DDPStrategy", "Fabric", "LightningEnvironment", "MixedPrecision"]
