"""Networks that only score images: features at the layers that the field compares, and LPIPS.

Definitions are those of MindEye's evaluation (Scotti et al. 2023, 2024; layers, sizes and normalisation of
their metric notebooks, which follow Ozcelik and VanRullen 2023). Every image is first resized to 256 x 256,
then to the network's size, bilinearly and without antialiasing: published values depend on that. The tiny
networks see images as they were trained to.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from percept.backbones import store
from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.precision import dtype
from percept.backbones.resize import resize, resized
from percept.files import PerceptError, read_json

COMMON = 256  # pixels; the size to which the field resizes both images before anything else
TINY = 64  # pixels; of the scenes on which the tiny networks were trained
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LPIPS_TAPS = ("features.1", "features.4", "features.7", "features.9", "features.11")  # after each ReLU
LPIPS_SCALING = ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450))  # of images in [-1, 1]
HEADS = Path(__file__).parent / "lpips_heads" / "alex.safetensors"
LOGITS = "judge_logits"  # the layer that says what the judge sees
Antialias = bool | None


class Spec(NamedTuple):
    """A published network: class of torchvision, its arguments, and what is read from it."""

    architecture: str
    size: int  # pixels that it sees
    layers: Mapping[str, str]  # name of the metric -> module whose output it compares
    head: tuple[str, ...]  # modules behind these layers, which are left out
    arguments: Mapping[str, Any] = MappingProxyType({})


NETWORKS: Mapping[str, Spec] = MappingProxyType({
    # features.4 is the ReLU after the second convolution, features.11 the one after the fifth
    "alexnet": Spec("alexnet", 256, {"alexnet2": "features.4", "alexnet5": "features.11"}, ("classifier",)),
    # torchvision's released weights want its further `transform_input`, on top of ImageNet's normalisation
    "inception_v3": Spec(
        "inception_v3", 342, {"inception": "avgpool"}, ("fc",),
        {"transform_input": True, "aux_logits": False, "init_weights": False},
    ),
    "efficientnet_b1": Spec("efficientnet_b1", 255, {"effnet": "avgpool"}, ("classifier",)),
    "swav": Spec("resnet50", 224, {"swav": "avgpool"}, ("fc",)),
})  # fmt: skip
LAYERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: tuple(spec.layers) for name, spec in NETWORKS.items()}
    | {"clip_vit_l14": ("clip",), "lpips_alex": ("lpips",), "tiny_clip": ("tiny_clip",)}
    | {"tiny_judge": ("judge_early", "judge_late", LOGITS)}
)
"""What each metric network computes, by name, known before its weights are there."""


@dataclass(frozen=True)
class Preparation:
    """From an image to what a network sees.

    common : side that images get before the network's own `size`
    mean, sd : of each channel, subtracted and divided, for images in [0, 1]
    antialias : see `resize`
    """

    size: int
    mean: tuple[float, ...]
    sd: tuple[float, ...]
    common: int = COMMON
    antialias: bool = False

    def __call__(self, images: NDArray[np.uint8], device: str, antialias: Antialias = None) -> Any:  # noqa: ANN401
        """Tensor (n, 3, size, size) float32 of images (n, height, width, 3); `antialias` overrides."""
        smooth = self.antialias if antialias is None else antialias
        tensor = resized(images, self.common, device, antialias=smooth)
        tensor = resize(tensor, self.size, antialias=smooth)
        mean, sd = (tensor.new_tensor(values)[:, None, None] for values in (self.mean, self.sd))
        return (tensor - mean) / sd


class Features(Protocol):
    """A metric network that compares features: of torchvision, or an image encoder."""

    fixed: bool  # whether it always prepares images in its own way, without alternatives
    classes: tuple[str, ...]  # names of the logits; empty without them

    def features(
        self, images: NDArray[np.uint8], antialias: Antialias = None
    ) -> dict[str, NDArray[np.float32]]:
        """Layer -> (n, feature) float32 of images (n, height, width, 3)."""


@dataclass(frozen=True)
class MetricNetwork:
    """A frozen network, read at some of its layers.

    layers : name -> module whose output is read; the empty path is the network itself
    """

    module: Any  # torch.nn.Module
    layers: Mapping[str, str]
    preparation: Preparation
    device: str = "cpu"
    precision: str = "float32"
    classes: tuple[str, ...] = ()

    @property
    def fixed(self) -> bool:
        """Whether it was trained by this repository, with one way to prepare images."""
        return self.preparation.common == TINY

    def features(
        self, images: NDArray[np.uint8], antialias: Antialias = None
    ) -> dict[str, NDArray[np.float32]]:
        """Layer -> (n, feature) float32 of images (n, height, width, 3) uint8; all in one forward pass."""
        prepared = self.preparation(images, self.device, antialias)
        return {name: rows.flatten(1).cpu().numpy() for name, rows in self.outputs(prepared).items()}

    def outputs(self, prepared: Any) -> dict[str, Any]:  # noqa: ANN401 (tensors)
        """Layer -> output (n, ...) as a float32 tensor of its own, for prepared images."""
        import torch

        found: dict[str, Any] = {}
        hooks = [
            self.module.get_submodule(path).register_forward_hook(partial(_keep, found, name))
            for name, path in self.layers.items()
        ]
        try:
            with torch.inference_mode():
                self.module(prepared.to(dtype(self.precision)))
        finally:
            for hook in hooks:
                hook.remove()
        return found


def _keep(found: dict[str, Any], name: str, _module: object, _given: object, output: Any) -> None:  # noqa: ANN401
    """Copied, because a ReLU that follows may write into the same memory."""
    import torch

    found[name] = output.to(torch.float32, copy=True)


@dataclass(frozen=True)
class Encoder:
    """An image encoder as a metric network: the embedding by the encoder's own preprocessing."""

    encoder: Any  # percept.backbones.image.ImageEncoder
    layer: str
    fixed: bool = True
    classes: tuple[str, ...] = ()

    def features(
        self, images: NDArray[np.uint8], antialias: Antialias = None
    ) -> dict[str, NDArray[np.float32]]:
        """The layer -> (n, feature) float32 of images (n, height, width, 3) uint8; antialiased always."""
        return {self.layer: self.encoder.encode(images)}


@dataclass(frozen=True)
class Lpips:
    """Learned perceptual distance over AlexNet, version 0.1 (Zhang et al. 2018), at 256 x 256.

    heads : per tap the weight (channel,) of each channel, at least 0
    """

    network: MetricNetwork
    heads: tuple[Any, ...] = field(repr=False)  # tensors

    def distance(
        self, first: NDArray[np.uint8], second: NDArray[np.uint8], antialias: Antialias = None
    ) -> NDArray[np.float64]:
        """Distance (n,) of images pair by pair; 0 for equal ones, lower is more alike.

        Parameters
        ----------
        first, second : (n, height, width, 3) uint8; sizes may differ between the two
        """
        return self.between(self.features(first, antialias), self.features(second, antialias))

    def features(self, images: NDArray[np.uint8], antialias: Antialias = None) -> dict[str, Any]:
        """Tap -> tensor (n, channel, row, column), channels of unit length, of images (n, ..., 3) uint8."""
        return self.of_prepared(self.network.preparation(images, self.network.device, antialias))

    def of_prepared(self, prepared: Any) -> dict[str, Any]:  # noqa: ANN401 (tensors)
        """As `features`, of what the network reads, (n, 3, height, width)."""
        return {tap: _unit(rows) for tap, rows in self.network.outputs(prepared).items()}

    def between(self, first: dict[str, Any], second: dict[str, Any]) -> NDArray[np.float64]:
        """Distance (n,) of the features of two images each."""
        parts = [
            _head(first[tap], second[tap], weight)
            for tap, weight in zip(self.network.layers, self.heads, strict=True)
        ]
        return sum(parts).double().cpu().numpy()


def _head(first: Any, second: Any, weight: Any) -> Any:  # noqa: ANN401 (tensors)
    """Weighted squared difference of unit channel vectors, (n,), in mean over places."""
    gap = (first - second) ** 2  # (n, channel, row, column)
    return (gap * weight[:, None, None]).sum(dim=1).mean(dim=(1, 2))


def _unit(features: Any) -> Any:  # noqa: ANN401
    return features / ((features**2).sum(dim=1, keepdim=True).sqrt() + 1e-10)


def open_named(name: str, device: str = "auto", precision: str = "float32") -> Features | Lpips:
    """A metric network of the catalogue, frozen, in evaluation mode.

    Parameters
    ----------
    device : auto (a GPU where there is one), cpu, cuda, cuda:1, ...
    precision : float32, float16 or bfloat16, of weights and computation; outputs are float32

    Raises
    ------
    PerceptError : no metric network of that name, weights absent, damaged or of another network
    """
    layers(name)
    place, device = store.require(name), choose(device)
    if name == "tiny_clip" or name == "clip_vit_l14":
        return _clip(name, device, precision)
    if name == "tiny_judge":
        return _judge(place, device, precision)
    if name == "lpips_alex":
        return _lpips(place, device, precision)
    spec = NETWORKS[name]
    module = load(spec.architecture, spec.arguments, spec.head, place / "model.safetensors")
    return frozen(module, spec.layers, Preparation(spec.size, *IMAGENET), device, precision)


def layers(name: str) -> tuple[str, ...]:
    """What a metric network computes, without its weights.

    Raises
    ------
    PerceptError : no metric network of that name
    """
    if name not in LAYERS:
        named(name, "metric", "image")  # says which name is nearest
        raise PerceptError(
            f"the backbone {name!r} is no metric network: `evaluation.images.networks` takes "
            f"{', '.join(LAYERS)}."
        )
    return LAYERS[name]


def frozen(
    module: Any,  # noqa: ANN401
    layers: Mapping[str, str],
    preparation: Preparation,
    device: str = "cpu",
    precision: str = "float32",
    classes: tuple[str, ...] = (),
) -> MetricNetwork:
    """A network in evaluation mode, without gradients, on a device and in a precision."""
    module = module.eval().requires_grad_(False).to(device, dtype(precision))
    return MetricNetwork(module, layers, preparation, device, precision, classes)


def build(architecture: str, arguments: Mapping[str, Any], head: tuple[str, ...] = ()) -> Any:  # noqa: ANN401
    """A network of torchvision on the meta device, without values, its `head` modules replaced by nothing."""
    import torch
    from torchvision.models import get_model

    with torch.device("meta"):
        module = get_model(architecture, weights=None, **arguments)
    for name in head:
        setattr(module, name, torch.nn.Identity())
    return module


def load(architecture: str, arguments: Mapping[str, Any], head: tuple[str, ...], weights: Path) -> Any:  # noqa: ANN401
    """A network of torchvision with the weights of a safetensors file, which may hold more than it needs.

    Raises
    ------
    PerceptError : the file lacks weights of the network, or they have other shapes
    """
    from safetensors.torch import load_file

    module, stored = build(architecture, arguments, head), load_file(weights)
    wanted = module.state_dict()
    wrong = [
        name for name, empty in wanted.items() if name not in stored or stored[name].shape != empty.shape
    ]
    if wrong:
        raise PerceptError(
            f"{weights} does not hold the weights of torchvision's {architecture}: {wrong[0]} and "
            f"{len(wrong) - 1} more are absent or of another shape, so its features would be noise. Delete "
            f"{weights.parent} and fetch it again, with the torchvision that constraints.txt pins."
        )
    module.load_state_dict({name: stored[name] for name in wanted}, assign=True)
    return module


def _clip(name: str, device: str, precision: str) -> Features:
    """The pooled embedding: of the published CLIP by way of the field's sizes, of the tiny one by its own."""
    from percept.backbones import image

    encoder = image.open_named(name, device=device, precision=precision)
    (layer,) = LAYERS[name]
    if name == "tiny_clip":
        return Encoder(encoder, layer)
    size, scaling = encoder.tower.image_size[0], encoder.preprocessing  # 224, and OpenAI's mean and sd
    preparation = Preparation(size, tuple(scaling.mean), tuple(scaling.sd))
    return MetricNetwork(encoder.tower, {layer: ""}, preparation, encoder.device, precision)


def _judge(place: Path, device: str, precision: str) -> MetricNetwork:
    """The tiny classifier of scenes; its folder says how it is built and read."""
    about = read_json(place / "config.json")
    module = load(about["architecture"], about["arguments"], (), place / "model.safetensors")
    preparation = Preparation(about["size"], tuple(about["mean"]), tuple(about["sd"]), TINY, antialias=True)
    return frozen(module, about["layers"], preparation, device, precision, tuple(about["classes"]))


def _lpips(place: Path, device: str, precision: str) -> Lpips:
    """LPIPS over the AlexNet of a folder; the heads are part of this package."""
    spec = NETWORKS["alexnet"]
    module = load(spec.architecture, spec.arguments, spec.head, place / "model.safetensors")
    return lpips(module, _released_heads(), device, precision)


def lpips(module: Any, heads: Any, device: str = "cpu", precision: str = "float32") -> Lpips:  # noqa: ANN401
    """LPIPS over a torchvision AlexNet, with one weight tensor of as many numbers as channels per tap."""
    shift, scale = (np.array(values) for values in LPIPS_SCALING)
    preparation = Preparation(COMMON, tuple((1 + shift) / 2), tuple(scale / 2))  # of images in [0, 1]
    network = frozen(module, {tap: tap for tap in LPIPS_TAPS}, preparation, device, precision)
    return Lpips(network, tuple(head.float().flatten().to(device) for head in heads))


def _released_heads() -> list[Any]:
    """The heads of LPIPS 0.1 over AlexNet, per tap (channel,): 1,152 numbers, which this package brings."""
    from safetensors.torch import load_file

    stored = load_file(HEADS)
    return [stored[f"lin{tap}"] for tap in range(len(LPIPS_TAPS))]
