"""Jobs of one kind and their hours; and how long a device takes for operations.

The model: operations over what the device does in a second, or bytes over its bandwidth, whichever takes
longer. `figures` has its constants and says which of them were measured.
"""

from dataclasses import dataclass

from percept.config import TargetConfig
from percept.preflight import figures

HOUR = 3600.0
STARTING = figures.STARTING.value / HOUR
DIRECT = ("pixels", "labels", "truth")  # targets that no network computes


@dataclass(frozen=True)
class Work:
    """Jobs of one kind: how many, the hours of the longest and of all, on the CPU or on a GPU.

    name : of the target, decoder or reconstruction; empty where all jobs of the rule are alike
    resumes : whether a second attempt goes on where the first one ended
    """

    rule: str
    name: str
    jobs: int
    longest: float
    total: float
    gpus: int
    origin: str
    resumes: bool = False


def on_gpu(flop: float, moved: float, half: bool) -> float:
    """Hours of some operations and of some traffic of memory on one GPU."""
    rate = figures.GPU_SHARE.value * figures.GPU_FLOPS["half" if half else "float32"].value
    return max(flop / rate, moved / figures.GPU_BANDWIDTH.value) / HOUR


def computing(flop: float, moved: float, gpus: int, precision: str) -> float:
    """Hours of operations of networks: on one GPU where there are `gpus`, else on two cores."""
    if gpus:
        return on_gpu(flop, moved, precision != "float32")
    return flop / figures.CPU_FLOPS.value / HOUR


def encoding(target: TargetConfig, n: float, gpus: int) -> tuple[float, str]:
    """Hours of encoding `n` stimuli, on a GPU where there are `gpus`, without starting; and their origin."""
    if target.kind in DIRECT:
        return n / figures.DIRECT_IMAGES.value / HOUR, figures.DIRECT_IMAGES.origin
    precision = getattr(target, "computation", "float32")
    return computing(1e9 * n * encoding_gflop(target), 0, gpus, precision), "model"


def encoding_gflop(target: TargetConfig) -> float:
    """Work of encoding one stimulus: an image, or all of its captions."""
    backbone, small = getattr(target, "backbone", ""), figures.TINY_GFLOP.value
    if target.kind == "clip_text":
        return figures.CAPTIONS * figures.CAPTION_GFLOP.get(backbone, small)
    side = getattr(target, "size", None) or figures.LATENT_SIDE
    return seen_gflop(backbone) * (side / figures.LATENT_SIDE) ** 2


def seen_gflop(network: str) -> float:
    """Work of one image in an image encoder, by its name."""
    return figures.ENCODING_GFLOP.get(network, figures.TINY_GFLOP.value)
