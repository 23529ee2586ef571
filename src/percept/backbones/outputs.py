"""What is read off an image tower of open_clip: one vector for an image, or one for each token.

The tokens of a network are those that the field's generators were trained on:

- `projected` (OpenAI ViT-L/14, the tiny CLIP): the final norm and the projection on every token, all divided
  by the length of the projected CLS token. That is the space of Versatile Diffusion's image branch, which
  Brain-Diffuser and MindEye predict (257 x 768; Scotti et al. 2023, §3.2): the CLS token has unit length, the
  patches do not.
- `penultimate` (OpenCLIP ViT-H/14): what enters the last block, without norm or projection (257 x 1280). It
  is what the resampler of IP-Adapter plus reads (Ye et al. 2023, §3.2.2; `hidden_states[-2]` in diffusers).
- `patches` (OpenCLIP ViT-bigG/14): the patch tokens after the final norm, without projection (256 x 1664), as
  MindEye2 predicts them (Scotti et al. 2024). open_clip before 2.23 gave them before the norm: the two are
  different targets.
"""

from collections.abc import Callable
from typing import Any

Output = Callable[[Any, Any], Any]  # tower, prepared images (n, 3, size, size) -> (n, feature) or tokens


def pooled(tower: Any, prepared: Any) -> Any:  # noqa: ANN401 (tensors)
    """The image embedding, (image, feature): the projected CLS token, not normalised."""
    return tower(prepared)


def projected(tower: Any, prepared: Any) -> Any:  # noqa: ANN401
    """All tokens, (image, token, feature), projected and divided by the length of the CLS token."""
    tokens = (_hidden(tower, prepared, block=-1, norm=True) @ tower.proj).float()
    return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)


def penultimate(tower: Any, prepared: Any) -> Any:  # noqa: ANN401
    """All tokens, (image, token, width), as they enter the last block."""
    return _hidden(tower, prepared, block=-2, norm=False)


def patches(tower: Any, prepared: Any) -> Any:  # noqa: ANN401
    """The patch tokens, (image, patch, width), after the final norm."""
    return _hidden(tower, prepared, block=-1, norm=True)[:, 1:]


TOKENS: dict[str, Output] = {"projected": projected, "penultimate": penultimate, "patches": patches}


def _hidden(tower: Any, prepared: Any, block: int, norm: bool) -> Any:  # noqa: ANN401
    """Tokens (image, token, width) that leave a block of a VisionTransformer, CLS first."""
    import torch

    found = tower.forward_intermediates(
        prepared,
        indices=[tower.transformer.layers + block],
        stop_early=True,
        normalize_intermediates=norm,
        intermediates_only=True,
        output_fmt="NLC",
        output_extra_tokens=True,
    )
    return torch.cat([found["image_intermediates_prefix"][0], found["image_intermediates"][0]], dim=1)
