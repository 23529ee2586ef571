"""Captions of images by BLIP (transformers): how words are brought into a reconstruction that has none.

The pipeline of Koios1143's Machine-Learning-Final captions the low-level image and takes the word "blurry"
out of what it reads, since a picture of blurred things is what that image is, and not what was seen.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones import store
from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.precision import dtype
from percept.backbones.quiet import no_progress_bars

BLURRED = ("blurry", "blurred")
AT_ONCE = 32  # images in one pass


@dataclass(frozen=True)
class Captioner:
    """A frozen captioning network with its preprocessing and tokenizer.

    Captions are the most probable by beam search (greedily, with one beam), never sampled: an image has one
    caption. `longest` counts word pieces, the first and the last included.
    """

    identity: dict[str, Any]
    network: Any  # transformers.BlipForConditionalGeneration
    processor: Any  # transformers.BlipImageProcessor: size, bicubic, mean and deviation of the network
    tokenizer: Any
    beams: int = 1
    longest: int = 30

    def caption(self, images: NDArray[np.uint8], without: Collection[str] = ()) -> list[str]:
        """One caption per uint8 image (image, height, width, 3); the words `without` are taken out.

        Raises
        ------
        ValueError : not uint8 colour images
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"images to caption are uint8 of axes (image, height, width, 3), not {images.dtype} of shape "
                f"{images.shape}: scale values in [0, 1] by 255, repeat a grey image along a last axis of 3."
            )
        parts = (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE))
        return [remove(caption, without) for part in parts for caption in self._read(part)]

    def _read(self, images: NDArray[np.uint8]) -> list[str]:
        import torch

        pixels = self.processor(images=list(images), return_tensors="pt", input_data_format="channels_last")
        pixels = pixels["pixel_values"].to(self.network.device, self.network.dtype)
        with torch.no_grad():
            written = self.network.generate(
                pixel_values=pixels, num_beams=self.beams, do_sample=False, max_length=self.longest
            )
        words = written[:, 1:]  # without the token that begins every caption, which is not special to all
        return [text.strip() for text in self.tokenizer.batch_decode(words, skip_special_tokens=True)]


def open_named(name: str, device: str = "auto", precision: str = "float32") -> Captioner:
    """The captioner `name` of the catalogue (tiny_blip, blip_base, blip_large), read from its folder.

    Parameters
    ----------
    device : auto (a GPU where there is one), cpu, cuda, ...
    precision : float32, float16 or bfloat16, of weights and computation

    Raises
    ------
    PerceptError : not a captioner, absent or damaged, no such precision or device
    """
    from transformers import AutoTokenizer, BlipForConditionalGeneration, BlipImageProcessor

    named(name, "captioner")
    place, kind = choose(device), dtype(precision)
    folder = store.require(name)
    no_progress_bars()
    network = BlipForConditionalGeneration.from_pretrained(
        folder, dtype=kind, local_files_only=True, use_safetensors=True
    )
    return Captioner(
        {**store.identity(name), "precision": precision},
        network.eval().requires_grad_(False).to(place),
        BlipImageProcessor.from_pretrained(folder, local_files_only=True),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


def remove(caption: str, words: Collection[str]) -> str:
    """A caption without these words, whatever their case, and without the gaps they leave.

    Whole words only: "blurry" is not taken out of "blurrying".
    """
    if not words:
        return caption
    listed = "|".join(map(re.escape, sorted(words)))
    return " ".join(re.sub(rf"\b(?:{listed})\b", " ", caption, flags=re.IGNORECASE).split())
