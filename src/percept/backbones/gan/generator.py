"""The generator: noise z and conditions c to an image (Zhou et al. 2022, section 3; Lin et al. 2022)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from percept.backbones.gan.layers import Linear, doubled, modulated_conv, rectified, unit_power

SMALLEST = 4  # pixels of the learned constant that every image grows from
MAPPING_RATE = 0.01  # learning rate of the mapping network, relative (Karras et al. 2019, appendix C)


@dataclass(frozen=True)
class Size:
    """How large a generator is.

    Attributes
    ----------
    channels : at 4 pixels, at 8, ...; their number decides the side of the image
    conditions : features of each condition, which are concatenated: one in LAFITE; image and caption vectors
        in Mind Reader (its structure 4)
    latent, style : features of z and of w
    mapping : layers from z to w
    rate : relative learning rate of the condition's own layers (0.01 in LAFITE's code)
    """

    channels: tuple[int, ...]
    conditions: tuple[int, ...]
    latent: int = 512
    style: int = 512
    mapping: int = 8
    rate: float = 0.01

    @property
    def side(self) -> int:
        """Pixels of the image, in rows and columns."""
        return SMALLEST * 2 ** (len(self.channels) - 1)

    @property
    def condition(self) -> int:
        """Features of all conditions together."""
        return sum(self.conditions)


class Style(nn.Module):
    """One layer's style from its own view of the conditions and from w: Affine([MLP(c), w])."""

    def __init__(self, size: Size, n_out: int) -> None:
        super().__init__()
        self.widths = size.conditions
        self.views = nn.ModuleList(
            nn.ModuleList(
                [Linear(n, size.style, rate=size.rate), Linear(size.style, size.style, rate=size.rate)]
            )
            for n in size.conditions
        )
        self.affine = Linear(size.style * (1 + len(size.conditions)), n_out, bias=1.0)

    def forward(self, w: Tensor, c: Tensor) -> Tensor:
        """(batch, n_out), around 1, from w (batch, style) and conditions c (batch, condition)."""
        seen = []
        for (first, second), one in zip(self.views, c.split(self.widths, dim=1), strict=True):
            seen.append(rectified(second(rectified(first(unit_power(one))))))
        return self.affine(torch.cat([*seen, w], dim=1))


class Layer(nn.Module):
    """A modulated convolution, noise, bias and rectifier; `enlarge` doubles the side first.

    Noise is drawn anew in training and is a constant buffer afterwards, so that an image depends on its
    inputs alone.
    """

    noise: Tensor

    def __init__(self, size: Size, n_in: int, n_out: int, side: int, *, enlarge: bool) -> None:
        super().__init__()
        self.style = Style(size, n_in)
        self.weight = nn.Parameter(torch.randn(n_out, n_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.strength = nn.Parameter(torch.zeros(()))  # of the noise, learned
        self.enlarge = enlarge
        self.register_buffer("noise", torch.randn(side, side))

    def forward(self, x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        """(batch, n_out, side, side)."""
        x = modulated_conv(x, self.weight, self.style(w, c), enlarge=self.enlarge)
        noise = torch.randn_like(x[:, :1]) if self.training else self.noise
        return rectified(x + noise * self.strength + self.bias[:, None, None])


class Colour(nn.Module):
    """Colours of one resolution, which are added up over all of them (Karras et al. 2020, section 4.1)."""

    def __init__(self, size: Size, n_in: int) -> None:
        super().__init__()
        self.style = Style(size, n_in)
        self.weight = nn.Parameter(torch.randn(3, n_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.scale = 1 / math.sqrt(n_in)

    def forward(self, x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        """(batch, 3, row, column)."""
        style = self.style(w, c) * self.scale
        return modulated_conv(x, self.weight, style, demodulate=False) + self.bias[:, None, None]


class Generator(nn.Module):
    """Images (batch, 3, side, side), about -1..1, of z (batch, latent) and conditions c (batch, condition).

    Conditions are unit vectors, one beside the other; `prepared` makes them of embeddings. z = 0 stands for
    no variation, and is in distribution if training shows it.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size
        widths = [size.latent, *[size.style] * size.mapping]
        self.mapping = nn.ModuleList(Linear(n, m, rate=MAPPING_RATE) for n, m in pairwise(widths))
        self.constant = nn.Parameter(torch.randn(size.channels[0], SMALLEST, SMALLEST))
        self.layers, self.colours = nn.ModuleList(), nn.ModuleList()
        for number, n in enumerate(size.channels):
            side, before = SMALLEST * 2**number, size.channels[max(0, number - 1)]
            if number:
                self.layers.append(Layer(size, before, n, side, enlarge=True))
            self.layers.append(Layer(size, n, n, side, enlarge=False))
            self.colours.append(Colour(size, n))
        self.register_buffer("mean", torch.zeros(size.condition))
        self.register_buffer("spread", torch.ones(size.condition))

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """Images of z and c."""
        return self.synthesis(self.mapped(z), c)

    def mapped(self, z: Tensor) -> Tensor:
        """Styles w (batch, style) of z (batch, latent)."""
        w = unit_power(z)
        for layer in self.mapping:
            w = rectified(layer(w))
        return w

    def synthesis(self, w: Tensor, c: Tensor, mixed: tuple[Tensor, int] | None = None) -> Tensor:
        """Images of w and c; `mixed` is another w, and the number of the layer that first reads it."""
        x, image = self.constant.expand(len(w), -1, -1, -1), None
        for at, layer in enumerate(self.layers):
            if mixed is not None and at == mixed[1]:
                w = mixed[0]
            x = layer(x, w, c)
            number = int(math.log2(x.shape[-1] // SMALLEST))
            if number and layer.enlarge:
                continue  # colours are read where a resolution ends
            colours = self.colours[number](x, w, c)
            image = colours if image is None else doubled(image) + colours
        return image

    def prepared(self, embeddings: Tensor) -> Tensor:
        """Conditions of embeddings (batch, condition): standardised, each condition of length 1.

        Mean and spread are of the images that it was trained on, or 0 and 1. Direction alone remains, so that
        a regression's shrinkage towards the mean changes nothing.
        """
        parts = ((embeddings - self.mean) / self.spread).split(self.size.conditions, dim=1)
        return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], dim=1)
