"""Stable Diffusion: text, and optionally an image to start from (sd15, sd14, tiny_text)."""

from typing import Any, ClassVar

from percept.backbones import store
from percept.backbones.catalogue import Backbone
from percept.backbones.diffusion import loading
from percept.backbones.diffusion.sampler import Conditions, PipelineSampler, Run, Tensor


class TextSampler(PipelineSampler):
    """StableDiffusionPipeline, started by `PipelineSampler` from noise or from an image.

    That start is diffusers' img2img, but from the mode of the autoencoder's posterior instead of a sample.
    Guidance is against the empty prompt.
    """

    accepts: ClassVar = frozenset({"text", "prompts", "init"})

    @classmethod
    def load(cls, entry: Backbone, dtype: Any) -> Any:  # noqa: ANN401
        """StableDiffusionPipeline without its safety checker: nothing leaves the laboratory unseen."""
        from diffusers import StableDiffusionPipeline

        return loading.unchecked(StableDiffusionPipeline, entry, store.require(entry.name), dtype)

    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {"text": (None, self.unet.config.cross_attention_dim)}

    def _denoise(self, conditions: Conditions, run: Run) -> Tensor:
        return self.pipeline(**self._text(conditions, len(run)), **run.to_pipeline()).images

    def _text(self, conditions: Conditions, n_images: int) -> dict[str, Any]:
        """Prompts or their embeddings, as pipelines name them; empty prompts if there are none."""
        if conditions.text is not None:
            return {"prompt_embeds": self._tensor(conditions.text)}
        return {"prompt": list(conditions.prompts or [""] * n_images)}
