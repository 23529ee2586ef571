"""Stable unCLIP: a pooled CLIP image embedding, and optionally text (stable_unclip, tiny_unclip)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, ClassVar

from percept.backbones import store
from percept.backbones.catalogue import Backbone
from percept.backbones.diffusion import loading
from percept.backbones.diffusion.sampler import Conditions, Run, Tensor
from percept.backbones.diffusion.text import TextSampler

NO_IMAGE: list[Any] = []  # what the pipeline takes for a list of images, and finds empty


@cache
def pipeline_class() -> type:
    """StableUnCLIPImg2ImgPipeline that needs no image encoder, because embeddings are given."""
    import torch
    from diffusers import StableUnCLIPImg2ImgPipeline

    class EmbeddingUnclip(StableUnCLIPImg2ImgPipeline):
        """Stable unCLIP on embeddings; without one, on the zeros that guidance calls unconditional."""

        def _encode_image(self, *, image_embeds: Tensor, noise_level: Tensor, **given: Any) -> Tensor:  # noqa: ANN401
            if image_embeds is None:
                n_features = 2 * self.image_normalizer.config.embedding_dim  # embedding, noise level
                conditions = torch.zeros(given["batch_size"], n_features, dtype=self.unet.dtype)
                conditions = conditions.to(given["device"])
            else:
                conditions = self.noise_image_embeddings(
                    image_embeds, int(noise_level), generator=given["generator"]
                )
            if not given["do_classifier_free_guidance"]:
                return conditions
            return torch.cat([torch.zeros_like(conditions), conditions])

    return EmbeddingUnclip


class UnclipSampler(TextSampler):
    """Image embedding, text, or both.

    Given both and no `mixing`, they condition one network at once, as it was trained. With a `mixing` w the
    predictions for each alone are composed (Liu et al. 2022): (1 - w) image + w text.

    `noise_level` is that of the embedding: 0 follows it closely, up to 999 hardly at all.
    """

    accepts: ClassVar = frozenset({"image", "text", "prompts", "init"})

    @classmethod
    def load(cls, entry: Backbone, dtype: Any) -> Any:  # noqa: ANN401
        """The pipeline, without an image encoder."""
        folder = store.require(entry.name)
        return loading.pipeline(pipeline_class(), entry, folder, dtype, feature_extractor=None)

    @property
    def _noise_levels(self) -> int:
        return self.pipeline.image_noising_scheduler.config.num_train_timesteps

    def _shapes(self) -> dict[str, tuple[int | None, ...]]:
        n_features = self.pipeline.image_normalizer.config.embedding_dim
        return {"image": (n_features,), **super()._shapes()}

    def _denoise(self, conditions: Conditions, run: Run) -> Tensor:
        weight = text_weight(conditions, run.mixing)
        text = {"prompt": [""] * len(run)} if weight == 0 else self._text(conditions, len(run))
        image = {"image": NO_IMAGE} if weight == 1 else {"image_embeds": self._tensor(conditions.image)}
        given = {**text, **image, "noise_level": self.noise_level, **run.to_pipeline()}
        if weight in (None, 0, 1):
            return self.pipeline(**given).images
        with composed(self.unet, len(run), weight, self._empty()):
            return self.pipeline(**given).images

    def _empty(self) -> Tensor:
        """Hidden states of the empty prompt, (1, token, feature)."""
        return self.pipeline.encode_prompt([""], self.unet.device, 1, False)[0]


def text_weight(conditions: Conditions, mixing: float | None) -> float | None:
    """Share of the text in the condition; 0 or 1 where only one of the two is given."""
    if conditions.image is None:
        return 1
    if conditions.text is None and conditions.prompts is None:
        return 0
    return mixing


@contextmanager
def composed(unet: Any, n_images: int, weight: float, empty: Tensor) -> Iterator[None]:  # noqa: ANN401
    """Within it, the last `n_images` rows of what the network predicts are a mean of two predictions.

    Those rows are the conditional ones, with or without guidance. The network sees them twice, once with
    their image and `empty` text, once with their text and no image (zeros).
    """
    before, after = _split(n_images, empty), _combine(n_images, weight)
    hooks = (
        unet.register_forward_pre_hook(before, with_kwargs=True),
        unet.register_forward_hook(after),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _split(n: int, empty: Tensor) -> Callable[..., tuple[tuple, dict[str, Any]]]:
    import torch

    def before(_: Any, given: tuple, named: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:  # noqa: ANN401
        latents, *others = given
        text, image = named["encoder_hidden_states"], named["class_labels"]
        twice = {
            "encoder_hidden_states": torch.cat([text[:-n], empty.expand(n, -1, -1), text[-n:]]),
            "class_labels": torch.cat([image, torch.zeros_like(image[-n:])]),
        }
        return (torch.cat([latents, latents[-n:]]), *others), {**named, **twice}

    return before


def _combine(n: int, weight: float) -> Callable[..., tuple[Tensor]]:
    import torch

    def after(_: Any, given: tuple, predicted: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ANN401
        by_image, by_text = predicted[0][-2 * n : -n], predicted[0][-n:]
        return (torch.cat([predicted[0][: -2 * n], (1 - weight) * by_image + weight * by_text]),)

    return after
