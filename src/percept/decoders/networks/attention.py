"""The transformer of MindEye's diffusion prior: multi-query attention on cosine similarities, without biases.

Its parts: rotary positions (Su et al. 2021) on part of each head, a relative position bias in buckets (Raffel
et al. 2020, section 2.1), one key and value shared by all heads (Shazeer 2019) beside a learned null pair,
and gated feed-forward layers (SwiGLU, Shazeer 2020). Every token attends to every other.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

Direction = Literal["symmetric", "causal"]
BUCKETS, FARTHEST = 32, 128  # of the relative bias; distances from FARTHEST on share a bucket
COSINE_SCALE = 16.0  # logits are cosine similarities times this
ROTARY_WIDTH, ROTARY_BASE = 32, 10_000.0
FEED_FORWARD = 4  # hidden width, relative to the model's
KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]  # of training on a GPU
TINY = 1e-6  # smallest divisor; half precision can still hold it


def bucket_of(distance: Tensor, buckets: int = BUCKETS) -> Tensor:
    """Bucket of a distance of 0 or more, any shape: exact for the first half, then spaced logarithmically."""
    exact = buckets // 2
    share = (distance.clamp(min=1) / exact).log() / math.log(FARTHEST / exact)
    far = exact + (share * (buckets - exact)).clamp(min=0).long()
    return torch.where(distance < exact, distance, far.clamp(max=buckets - 1))


def relative_buckets(length: int, direction: Direction) -> Tensor:
    """Bucket of each pair of positions, (query, 1 + key) long; column 0 belongs to the null key.

    ``causal`` is the formula of MindEye's prior in an attention that is not causal: all later keys share
    bucket 0, and the null key counts as a position, so that key j is taken to stand at j + 1. ``symmetric``
    has half of the buckets for keys before a query and half for those after it; the null key gets -1, none.
    """
    query = torch.arange(length)[:, None]
    if direction == "causal":
        return bucket_of((query - torch.arange(length + 1)).clamp(min=0))
    before = query - torch.arange(length)
    half = BUCKETS // 2
    found = bucket_of(before.abs(), half) + half * (before < 0)
    return F.pad(found, (1, 0), value=-1)


class RelativeBias(nn.Module):
    """Learned term of the logits for each bucket of distance and each head.

    Parameters
    ----------
    length : tokens of a sequence
    heads : heads of the attention; all layers share the bias
    direction : see `relative_buckets`
    """

    def __init__(self, length: int, heads: int, direction: Direction) -> None:
        super().__init__()
        self.table = nn.Embedding(BUCKETS, heads)
        buckets = relative_buckets(length, direction)
        self.register_buffer("buckets", buckets.clamp(min=0), persistent=False)
        self.register_buffer("known", (buckets >= 0)[..., None], persistent=False)

    def forward(self) -> Tensor:
        """Bias of the logits, (head, query, 1 + key)."""
        found = self.table(self.buckets) * self.known  # (query, 1 + key, head)
        return found.permute(2, 0, 1)


class Rotation(NamedTuple):
    """Cosines and sines of the angles by which pairs of features turn, (token, pair) each."""

    cosine: Tensor
    sine: Tensor

    def since(self, first: int) -> "Rotation":
        """The rotation of the positions from `first` on."""
        return Rotation(self.cosine[first:], self.sine[first:])


class Rotary(nn.Module):
    """Angles that grow with the position, at a frozen frequency for each pair of features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        exponents = torch.arange(0, width, 2) / width
        self.frequencies = nn.Parameter(ROTARY_BASE**-exponents, requires_grad=False)

    def forward(self, length: int) -> Rotation:
        """The rotation of positions 0 to `length` - 1."""
        positions = torch.arange(length, device=self.frequencies.device)
        angles = positions[:, None] * self.frequencies
        return Rotation(angles.cos(), angles.sin())


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the first pairs of neighbouring features of `x`, (..., token, feature), in its own precision."""
    n_pairs = rotation.cosine.shape[-1]
    cosine, sine = rotation.cosine.to(x.dtype), rotation.sine.to(x.dtype)
    first, second = x[..., : 2 * n_pairs].unflatten(-1, (n_pairs, 2)).unbind(dim=-1)
    turned = torch.stack((first * cosine - second * sine, first * sine + second * cosine), dim=-1)
    return torch.cat((turned.flatten(-2), x[..., 2 * n_pairs :]), dim=-1)


class Attention(nn.Module):
    """Attention with many queries per token and one key and value.

    Parameters
    ----------
    dim : features of a token
    heads, head_width : number of queries per token and their width
    """

    def __init__(self, dim: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(dim, bias=False)
        self.queries = nn.Linear(dim, heads * head_width, bias=False)
        self.keys_values = nn.Linear(dim, 2 * head_width, bias=False)
        self.null = nn.Parameter(torch.randn(2, head_width))  # a key and a value that belong to no token
        self.out = nn.Linear(heads * head_width, dim, bias=False)
        self.out_norm = nn.LayerNorm(dim, bias=False)

    def forward(self, x: Tensor, bias: Tensor, rotation: Rotation, first: int = 0) -> Tensor:
        """What each token from `first` on gathers from all of them, (row, token, dim).

        Parameters
        ----------
        x : (row, token, dim)
        bias : (head, query, 1 + key), see `RelativeBias`
        rotation : of the tokens' positions
        first : position of the first token that gathers
        """
        x = self.norm(x)
        q = self.queries(x[:, first:]).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.keys_values(x).chunk(2, dim=-1)  # (row, token, width); q: (row, head, token, width)
        q, k = rotate(q, rotation.since(first)), rotate(k, rotation)
        null_k, null_v = self.null.to(k.dtype).expand(len(x), 2, -1).chunk(2, dim=1)
        k, v = torch.cat((null_k, k), dim=1), torch.cat((null_v, v), dim=1)  # (row, 1 + token, width)
        q, k = F.normalize(q, dim=-1, eps=TINY), F.normalize(k, dim=-1, eps=TINY)
        # Since the heads share keys and values, their queries may stand in one long row: no key is repeated.
        q, k, v = q.to(v.dtype).flatten(1, 2)[:, None], k.to(v.dtype)[:, None], v[:, None]
        mask = bias[:, first:].flatten(0, 1).to(v.dtype)[None, None]  # (1, 1, head x query, 1 + key)
        with _kernel(x.device):
            found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=COSINE_SCALE)
        found = found.squeeze(1).unflatten(1, (self.heads, -1)).transpose(1, 2).flatten(2)
        return self.out_norm(self.out(found))


def _kernel(device: torch.device) -> AbstractContextManager[None]:
    """What computes attention. While gradients are kept on a GPU, kernels are excluded whose choice differs
    from version to version and that may have no gradient for the mask.
    """
    return sdpa_kernel(KERNELS) if device.type == "cuda" and torch.is_grad_enabled() else nullcontext()


class FeedForward(nn.Module):
    """Gated hidden layer of each token on its own."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, bias=False)
        self.hidden = nn.Linear(dim, 2 * FEED_FORWARD * dim, bias=False)
        self.out = nn.Linear(FEED_FORWARD * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of (row, token, dim), the same shape."""
        value, gate = self.hidden(self.norm(x)).chunk(2, dim=-1)
        return self.out(value * F.silu(gate))


class StableNorm(nn.LayerNorm):
    """Layer norm of tokens divided by their largest value first, so that large ones do not overflow."""

    def forward(self, x: Tensor) -> Tensor:
        """Of (..., dim), the same shape."""
        largest = x.detach().abs().amax(dim=-1, keepdim=True)
        return super().forward(x / largest.clamp(min=TINY))


class Transformer(nn.Module):
    """Layers of attention and feed-forward, each added to its input, then a norm and a linear layer.

    Parameters
    ----------
    dim, length : features of a token, tokens of a sequence
    depth : layers
    heads, head_width : see `Attention`
    direction : of the relative bias, see `relative_buckets`
    """

    def __init__(
        self, dim: int, length: int, depth: int, heads: int, head_width: int, direction: Direction
    ) -> None:
        super().__init__()
        self.bias = RelativeBias(length, heads, direction)
        self.rotary = Rotary(min(ROTARY_WIDTH, head_width // 2 * 2))
        self.attention = nn.ModuleList(Attention(dim, heads, head_width) for _ in range(depth))
        self.feed_forward = nn.ModuleList(FeedForward(dim) for _ in range(depth))
        self.norm = StableNorm(dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, first: int = 0) -> Tensor:
        """Of (row, token, dim), the tokens from `first` on; the last layer does not compute the others."""
        bias, rotation = self.bias(), self.rotary(x.shape[1])
        firsts = [0] * (len(self.attention) - 1) + [first]
        for attention, feed_forward, start in zip(self.attention, self.feed_forward, firsts, strict=True):
            x = x[:, start:] + attention(x, bias, rotation, start)
            x = x + feed_forward(x)
        return self.out(self.norm(x))
