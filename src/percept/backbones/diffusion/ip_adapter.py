"""IP-Adapter over Stable Diffusion 1.5: image embeddings through attention of their own (Ye et al. 2023)."""

from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from percept.backbones import store
from percept.backbones.catalogue import Backbone, named
from percept.backbones.diffusion import loading
from percept.backbones.diffusion.sampler import Conditions, Run, Tensor
from percept.backbones.diffusion.text import TextSampler
from percept.backbones.diffusion.unclip import text_weight


@cache
def pipeline_class() -> type:
    """StableDiffusionPipeline whose batches hold one image embedding per image.

    The installed one repeats the embeddings of one image for the whole batch.
    """
    from diffusers import StableDiffusionPipeline

    class EmbeddingAdapter(StableDiffusionPipeline):
        """Stable Diffusion with adapters, on embeddings."""

        def prepare_ip_adapter_image_embeds(
            self,
            ip_adapter_image: None,
            ip_adapter_image_embeds: list[Tensor],
            *given: Any,  # noqa: ANN401
        ) -> list[Tensor]:
            return ip_adapter_image_embeds

    return EmbeddingAdapter


class AdapterSampler(TextSampler):
    """Image embeddings with an optional text.

    `mixing` w weighs the adapter's attention by 1 - w, beside the text's full one: 0 (or None) is the adapter
    as it was published, with an empty prompt in the case of 0, and 1 the text alone. Guidance is against the
    empty prompt and `unconditional`, (token, feature): what the adapter saw instead of an image in training.
    """

    accepts: ClassVar = frozenset({"image", "text", "prompts", "init"})

    def __init__(
        self,
        entry: Backbone,
        pipeline: Any,  # noqa: ANN401
        steps: int,
        scheduler: str,
        noise_level: int = 0,
    ) -> None:
        super().__init__(entry, pipeline, steps, scheduler, noise_level)
        self.unconditional = unconditional(pipeline, image_encoder(entry))

    @classmethod
    def load(cls, entry: Backbone, dtype: Any) -> Any:  # noqa: ANN401
        """The pipeline of the base network, with the adapter in it."""
        folder, base = store.require(entry.name), named(entry.components["base"], "generator")
        pipeline = loading.unchecked(pipeline_class(), base, store.require(base.name), dtype)
        attach(pipeline, folder / entry.settings["weights"])
        return pipeline

    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        return {"image": tuple(self.unconditional.shape), **super()._shapes()}

    def _denoise(self, conditions: Conditions, run: Run) -> Tensor:
        weight = text_weight(conditions, run.mixing)
        text = {"prompt": [""] * len(run)} if weight == 0 else self._text(conditions, len(run))
        self.pipeline.set_ip_adapter_scale(1.0 - (weight or 0.0))
        return self.pipeline(
            **text, ip_adapter_image_embeds=[self._embeddings(conditions, run)], **run.to_pipeline()
        ).images

    def _embeddings(self, conditions: Conditions, run: Run) -> Tensor:
        """What the adapter projects: (image, 1, ...), with the unconditional ones first under guidance."""
        import torch

        nothing = self.unconditional.expand(len(run), *self.unconditional.shape)
        shown = nothing if conditions.image is None else self._tensor(conditions.image)
        both = torch.cat([nothing, shown]) if run.guidance > 1 else shown
        return both.unsqueeze(1)


def attach(pipeline: Any, weights: Path) -> None:  # noqa: ANN401
    """Put the adapter of a file of weights (.../models/ip-adapter*.safetensors) into a pipeline."""
    pipeline.load_ip_adapter(
        str(weights.parents[1]),
        subfolder=weights.parent.name,
        weight_name=weights.name,
        image_encoder_folder=None,
        local_files_only=True,
        low_cpu_mem_usage=False,  # strict: the economical way leaves absent weights undefined
    )


def image_encoder(entry: Backbone) -> Path | None:
    """Where the image encoder lies that an adapter of tokens was trained with; None for pooled embeddings."""
    if "image_encoder" not in entry.components:
        return None
    return store.require(entry.components["image_encoder"]) / "models" / "image_encoder"


def unconditional(pipeline: Any, encoder: Path | None) -> Tensor:  # noqa: ANN401
    """What stands for no image: zeros for pooled embeddings, else the tokens of a black image.

    (Black in the encoder's own units, pixel values of 0 after normalisation, as in the adapter's training.)
    """
    import torch
    from transformers import CLIPVisionModelWithProjection

    unet = pipeline.unet
    if encoder is None:
        entrance = unet.encoder_hid_proj.image_projection_layers[0].image_embeds
        return torch.zeros(entrance.in_features, device=unet.device, dtype=unet.dtype)
    network = CLIPVisionModelWithProjection.from_pretrained(
        encoder, dtype=unet.dtype, local_files_only=True, use_safetensors=True
    ).to(unet.device)
    side = network.config.image_size
    black = torch.zeros(1, network.config.num_channels, side, side, dtype=unet.dtype, device=unet.device)
    with torch.no_grad():
        return network(black, output_hidden_states=True).hidden_states[-2][0]
