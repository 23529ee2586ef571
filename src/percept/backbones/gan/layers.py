"""What the networks of StyleGAN2 are made of (Karras et al. 2020, "Analyzing and improving StyleGAN").

Weights are kept at unit variance and scaled when they are used, so that one learning rate suits all layers
(Karras et al. 2018, section 4.1); `rate` multiplies the learning rate of a layer without changing its output.
"""

import math

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

EPSILON = 1e-8
SLOPE, GAIN = 0.2, math.sqrt(2)  # of the leaky rectifier; the gain keeps the variance of a normal input
GROUP = 4  # images whose spread the discriminator sees together (Karras et al. 2018, section 3)


def rectified(x: Tensor) -> Tensor:
    """Leaky rectifier with a gain that about keeps the variance."""
    return F.leaky_relu(x, SLOPE) * GAIN


def unit_power(x: Tensor) -> Tensor:
    """Rows (batch, feature) scaled to a mean square of 1; zeros stay zeros."""
    return x * (x.square().mean(dim=1, keepdim=True) + EPSILON).rsqrt()


def modulated_conv(
    x: Tensor, weight: Tensor, style: Tensor, *, demodulate: bool = True, enlarge: bool = False
) -> Tensor:
    """A convolution whose input channels each image scales by its own style, (batch, out, row, column).

    w'_boik = s_bi w_oik and, demodulated, w'' = w' / sqrt(sum_ik w'^2 + eps) (Karras et al. 2020, equations 1
    and 3). Both factors are constant over an image, so they scale its input and its output and all images
    share one convolution: the same numbers as a grouped one, without a kernel per image in memory.

    Parameters
    ----------
    x : (batch, in, row, column)
    weight : (out, in, kernel, kernel), of an odd kernel; the borders are padded with zeros
    style : (batch, in)
    demodulate : give outputs the variance that they would have for inputs of unit variance: 1
    enlarge : double rows and columns by bilinear filtering first (section 4.1)
    """
    x = x * style[:, :, None, None]
    if enlarge:
        x = doubled(x)
    x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    if not demodulate:
        return x
    power = style.square() @ weight.square().sum(dim=(2, 3)).T  # (batch, out)
    return x * (power + EPSILON).rsqrt()[:, :, None, None]


def doubled(x: Tensor) -> Tensor:
    """Twice the rows and columns, by bilinear filtering."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def halved(x: Tensor) -> Tensor:
    """Half the rows and columns, by bilinear filtering: means of two by two."""
    return F.avg_pool2d(x, 2)


def with_spread(x: Tensor, group: int = GROUP) -> Tensor:
    """`x` with one more channel: how much the images of its group differ, the same at every position.

    The standard deviation over the images of a group, averaged over channels and positions (Karras et al.
    2018, section 3). Images are dealt into groups in turn; a batch that does not divide is one group.
    """
    size = group if len(x) % group == 0 else len(x)
    groups = x.reshape(size, -1, *x.shape[1:])  # (member, group, channel, row, column)
    spread = (groups.var(dim=0, unbiased=False) + EPSILON).sqrt() - math.sqrt(EPSILON)
    spread = spread.mean(dim=(1, 2, 3)).repeat(size)  # (batch,)
    return torch.cat([x, spread[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


class Linear(nn.Module):
    """Linear layer of (batch, n_in); bias starts at `bias`."""

    def __init__(self, n_in: int, n_out: int, *, bias: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / rate)
        self.bias = nn.Parameter(torch.full((n_out,), bias / rate))
        self.scale, self.rate = rate / math.sqrt(n_in), rate

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_out)."""
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class Conv(nn.Module):
    """Convolution that keeps the size, of (batch, n_in, row, column)."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.scale = 1 / math.sqrt(n_in * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n_out, row, column)."""
        return F.conv2d(x, self.weight * self.scale, self.bias, padding=self.weight.shape[-1] // 2)
