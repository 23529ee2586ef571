"""Versatile Diffusion, dual-guided: CLIP image tokens and CLIP text tokens, mixed inside every attention.

MindEye (Scotti et al. 2023) uses the image branch alone; Brain-Diffuser (Ozcelik and VanRullen 2023) 0.6
image and 0.4 text.
"""

from functools import cache
from typing import Any, ClassVar

import numpy as np

from percept.backbones import store
from percept.backbones.catalogue import Backbone
from percept.backbones.diffusion import loading
from percept.backbones.diffusion.sampler import Conditions, PipelineSampler, Run, Tensor
from percept.backbones.diffusion.unclip import text_weight

IMAGE_TOKENS = 257  # built into the pipeline: ViT-L/14 at 224 px, one class token and 16 x 16 patches
BRAIN_DIFFUSER = 0.4  # weight of the text, where both are given and nothing else is asked for


@cache
def pipeline_class() -> type:
    """VersatileDiffusionDualGuidedPipeline that reads embeddings where it expects texts and images.

    Its check of inputs asks for lists: lists of tensors are. Guidance is against zeros, as in MindEye.
    """
    import torch
    from diffusers import VersatileDiffusionDualGuidedPipeline

    class EmbeddingVersatile(VersatileDiffusionDualGuidedPipeline):
        """Versatile Diffusion on tokens."""

        def _encode_image_prompt(
            self,
            prompt: list[Tensor],
            device: Any,  # noqa: ANN401
            num_images_per_prompt: int,
            do_classifier_free_guidance: bool,
        ) -> Tensor:
            tokens = torch.stack(prompt).to(device)
            return torch.cat([torch.zeros_like(tokens), tokens]) if do_classifier_free_guidance else tokens

        def _encode_text_prompt(self, prompt: list[Tensor] | list[str], *given: Any) -> Tensor:  # noqa: ANN401
            if isinstance(prompt[0], str):
                prompt = list(super()._encode_text_prompt(prompt, given[0], 1, False))
            return self._encode_image_prompt(prompt, *given)

    return EmbeddingVersatile


def ignore_masks(unet: Any) -> None:  # noqa: ANN401 (a network with dual attention)
    """Let the dual attention be called as the installed diffusers calls any attention.

    The blocks pass it a mask of the condition's tokens, None here, which it has no argument for: without
    this the pipeline of diffusers 0.42 stops with a TypeError.
    """
    from diffusers.models import DualTransformer2DModel

    def without(_: Any, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:  # noqa: ANN401
        return given, {name: value for name, value in named.items() if name != "encoder_attention_mask"}

    for module in unet.modules():
        if isinstance(module, DualTransformer2DModel):
            module.register_forward_pre_hook(without, with_kwargs=True)


class VersatileSampler(PipelineSampler):
    """Image tokens divided by the norm of their class token, text tokens by that of the pooled text, or both.

    Each branch has its own attention, whose outputs are mixed: a `mixing` of 0 is the image branch alone, 1
    the text branch; None is 0.4 where both are given. What is not given is zeros.
    """

    accepts: ClassVar = frozenset({"image", "text", "prompts", "init"})

    @classmethod
    def load(cls, entry: Backbone, dtype: Any) -> Any:  # noqa: ANN401
        """The pipeline from a folder in the published layout.

        Its index names the library of the text network as `versatile_diffusion`, which the installed
        diffusers refuses to look up: the network is read apart, and the pipeline put together with it,
        whereby its attention moves into the image network and the rest of it can go.
        """
        from diffusers.pipelines.deprecated.versatile_diffusion import modeling_text_unet

        folder = store.require(entry.name)
        absent = dict.fromkeys(("image_feature_extractor", "text_unet"))
        parts = loading.pipeline(pipeline_class(), entry, folder, dtype, **absent).components
        parts["text_unet"] = modeling_text_unet.UNetFlatConditionModel.from_pretrained(
            folder / "text_unet", dtype=dtype, local_files_only=True, use_safetensors=True
        )
        pipeline = pipeline_class()(**parts)
        pipeline.remove_unused_weights()
        ignore_masks(pipeline.image_unet)
        return pipeline

    @property
    def unet(self) -> Any:  # noqa: ANN401
        """The denoising network: the image network, with the text network's attention beside its own."""
        return self.pipeline.image_unet

    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        n_features = self.unet.config.cross_attention_dim
        return {"image": (IMAGE_TOKENS, n_features), "text": (self._text_tokens, n_features)}

    @property
    def _text_tokens(self) -> int:
        return self.pipeline.text_encoder.config.max_position_embeddings

    def _denoise(self, conditions: Conditions, run: Run) -> Tensor:
        weight = text_weight(conditions, run.mixing)
        return self.pipeline(
            prompt=self._text(conditions, len(run)),
            image=list(self._or_zeros(conditions.image, len(run), IMAGE_TOKENS)),
            text_to_image_strength=BRAIN_DIFFUSER if weight is None else weight,
            **run.to_pipeline(),
        ).images

    def _text(self, conditions: Conditions, n_images: int) -> list[Tensor] | list[str]:
        if conditions.prompts is not None:
            return list(conditions.prompts)
        return list(self._or_zeros(conditions.text, n_images, self._text_tokens))

    def _or_zeros(self, values: Any, n_images: int, n_tokens: int) -> Tensor:  # noqa: ANN401
        if values is None:
            values = np.zeros((n_images, n_tokens, self.unet.config.cross_attention_dim), dtype=np.float32)
        return self._tensor(values)
