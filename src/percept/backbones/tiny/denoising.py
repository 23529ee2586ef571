"""Diffusion in the latents of tiny_vae: network, noise, loss, and sampling to measure what was learnt.

Latents z of unit spread become x_t = a_t z + s_t e with a_t^2 + s_t^2 = 1, in the 1,000 steps of Stable
Diffusion (Rombach et al. 2022); the network predicts v = a_t e - s_t z (Salimans and Ho 2022, section 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones.tiny import clip, tokenizer
from percept.files import write_json

if TYPE_CHECKING:
    import torch
    from diffusers import DDIMScheduler, UNet2DConditionModel

SIDE, CHANNELS = 8, 4  # of the latents
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "steps_offset": 1,  # read by other spacings alone
    "timestep_spacing": "trailing",  # begins at the noisiest step, however few there are
}
TEXT_PARTS = {
    "text_encoder": ("transformers", "CLIPTextModel"),
    "tokenizer": ("transformers", "BertTokenizer"),
}
STEPS, GUIDANCE, AT_ONCE = 20, 3.0, 250  # of the samples that are measured


@dataclass(frozen=True)
class Condition:
    """What the network is told, one row per image; `image` is absent where it knows of texts alone.

    ``text`` (row, token, width) hidden states; ``image`` (row, 2 x feature), see `unclip.noised`.
    """

    text: "torch.Tensor"
    image: "torch.Tensor | None" = None

    def take(self, rows: slice) -> "Condition":
        """The conditions of some rows."""
        return Condition(self.text[rows], None if self.image is None else self.image[rows])


class Reader:
    """The text tower of tiny_clip, as the pipelines use it: all tokens, padding too, after the last norm."""

    def __init__(self, folder: Path) -> None:
        self.tower = clip.text_model(folder)
        self.tokenizer = tokenizer.read(folder)
        self.empty = self.states([""])  # (1, token, width): what stands for no text

    @property
    def width(self) -> int:
        """Features of one token."""
        return self.tower.config.hidden_size

    def states(self, texts: Sequence[str]) -> "torch.Tensor":
        """Hidden states, (text, token, width)."""
        import torch

        with torch.no_grad():
            tokens = torch.from_numpy(tokenizer.encode(self.tokenizer, list(texts)))
            return self.tower(tokens).last_hidden_state

    def means(self, captions: Sequence[Sequence[str]]) -> "torch.Tensor":
        """Mean hidden states of several captions of each image: the target that decoders predict."""
        import torch

        counts = [len(each) for each in captions]
        states = self.states([text for each in captions for text in each])
        return torch.stack([part.mean(dim=0) for part in states.split(counts)])


def scheduler() -> "DDIMScheduler":
    """The noise that the network is trained with, and its sampler."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**SCHEDULE)


def build(channels: tuple[int, int], text_width: int, seed: int, **settings: Any) -> "UNet2DConditionModel":  # noqa: ANN401
    """An untrained network: convolutions at 8 x 8, convolutions and attention at 4 x 4.

    The step, and the image where there is one, scale and shift every normalisation.
    """
    import torch
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=SIDE,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            block_out_channels=channels,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=1,
            norm_num_groups=8,
            attention_head_dim=2,  # the library's name for the number of heads
            cross_attention_dim=text_width,
            use_linear_projection=True,
            resnet_time_scale_shift="scale_shift",
            **settings,
        )


def loss(
    unet: "UNet2DConditionModel",
    noising: "DDIMScheduler",
    latents: "torch.Tensor",
    condition: Condition,
    generator: "torch.Generator",
) -> dict[str, "torch.Tensor"]:
    """Squared error of the predicted v, at steps spread evenly over the batch."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    noise = torch.randn(latents.shape, generator=generator)
    steps = spread_steps(len(latents), noising.config.num_train_timesteps, generator)
    noisy = noising.add_noise(latents, noise, steps)
    # On processors the fused attention is several times slower backwards than the plain one at this size.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        predicted = unet(noisy, steps, condition.text, class_labels=condition.image).sample
    return {"loss": (predicted.float() - noising.get_velocity(latents, noise, steps)).square().mean()}


def spread_steps(n: int, n_steps: int, generator: "torch.Generator") -> "torch.Tensor":
    """`n` steps of 0 .. n_steps - 1, one in each n-th of the range, which makes losses comparable."""
    import torch

    return (
        ((torch.arange(n) + torch.rand(n, generator=generator)) * n_steps / n).long().clamp(max=n_steps - 1)
    )


def sample(
    unet: "UNet2DConditionModel", condition: Condition, nothing: Condition, seed: int = 0
) -> NDArray[np.float32]:
    """Latents, (image, 4, 8, 8), of unit spread, by `STEPS` steps of DDIM with guidance of `GUIDANCE`.

    `nothing` (one row) is the condition that guidance leads away from.
    """
    import torch

    noise = torch.randn(
        len(condition.text), CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)
    )
    with torch.inference_mode():
        parts = [
            _sampled(
                unet, noise[first : first + AT_ONCE], condition.take(slice(first, first + AT_ONCE)), nothing
            )
            for first in range(0, len(noise), AT_ONCE)
        ]
    return torch.cat(parts).numpy()


def _sampled(
    unet: "UNet2DConditionModel", latents: "torch.Tensor", condition: Condition, nothing: Condition
) -> "torch.Tensor":
    import torch

    steps, n = scheduler(), len(latents)
    steps.set_timesteps(STEPS)
    text = torch.cat([nothing.text.expand(n, -1, -1), condition.text])
    image = None if condition.image is None else torch.cat([nothing.image.expand(n, -1), condition.image])
    for step in steps.timesteps:
        without, told = unet(latents.repeat(2, 1, 1, 1), step, text, class_labels=image).sample.chunk(2)
        latents = steps.step(without + GUIDANCE * (told - without), step, latents).prev_sample
    return latents


def identified(made: NDArray, true: NDArray) -> float:
    """Two-way identification in [0, 1], chance 0.5; rows of (image, feature) belong together.

    For each made image the share of the other true images that correlate with it less than its own does
    (Pearson over features, strictly), averaged over the images.
    """
    n = len(true)
    correlation = np.corrcoef(made, true)[:n, n:]
    return float((correlation < np.diag(correlation)[:, None]).sum() / (n * (n - 1)))


def write_index(
    folder: Path,
    pipeline: str,
    parts: dict[str, tuple[str, str] | None],
    **settings: Any,  # noqa: ANN401
) -> None:
    """The model_index.json of a pipeline of diffusers: library and class of every part; None is absent.

    Parts that lie in the folders of other networks are listed as well: who loads the pipeline gives them.
    """
    import diffusers

    listed = {name: [None, None] if part is None else list(part) for name, part in parts.items()}
    about = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__}
    write_json(about | listed | settings, folder / "model_index.json")
