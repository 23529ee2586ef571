"""The published networks at their real size, on the meta device: shapes and numbers of parameters, no bytes.

Settings are those of the configuration files that are published with the weights.
"""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.embeddings import ImageProjection, IPAdapterPlusImageProjection
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

from percept.backbones import autoencoder
from percept.backbones.diffusion import versatile
from tests.unit.backbones.diffusion import networks

CHANNELS = (320, 640, 1280, 1280)
STABLE_DIFFUSION_1 = {
    "sample_size": 64,
    "block_out_channels": CHANNELS,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
UNCLIP_2_1 = {
    "sample_size": 96,
    "block_out_channels": CHANNELS,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),
    "use_linear_projection": True,
    "class_embed_type": "projection",
}
VERSATILE_TEXT = {
    "sample_size": 64,
    "in_channels": (320, 1, 1),
    "out_channels": (320, 1, 1),
    "block_out_channels": CHANNELS,
    "down_block_types": ("CrossAttnDownBlockFlat",) * 3 + ("DownBlockFlat",),
    "up_block_types": ("UpBlockFlat",) + ("CrossAttnUpBlockFlat",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}


@pytest.fixture(autouse=True)
def _without_bytes():
    with torch.device("meta"):
        yield


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_autoencoder_of_stable_diffusion_has_its_size():
    network = AutoencoderKL(**VAE)
    assert count(network) == 83_653_863
    assert network.config.scaling_factor == 0.18215 and autoencoder.factor(network) == 8


@pytest.mark.parametrize(("size", "side"), [(512, 64), (320, 40), (768, 96)])
def test_latents_of_the_published_autoencoder_are_an_eighth_of_the_image(size, side):
    images = np.zeros((2, 5, 7, 3), np.uint8)
    latents = autoencoder.encode(AutoencoderKL(**VAE), images, size)
    assert latents.shape == (2, 4, side, side) and latents.dtype == torch.float32


def test_the_network_of_stable_diffusion_1_has_its_size():
    network = UNet2DConditionModel(**STABLE_DIFFUSION_1)
    assert count(network) == 859_520_964
    noise = network(torch.zeros(2, 4, 64, 64), 1, torch.zeros(2, 77, 768)).sample
    assert noise.shape == (2, 4, 64, 64)


@pytest.mark.parametrize(("embedding", "entrance"), [(1024, 4_262_400), (768, 3_607_040)])
def test_stable_unclip_reads_the_embedding_beside_its_noise_level(embedding, entrance):
    """ViT-H/14 of 1024, and of the small one ViT-L/14 of 768: twice that enter."""
    network = UNet2DConditionModel(**UNCLIP_2_1, projection_class_embeddings_input_dim=2 * embedding)
    assert count(network) == 865_910_724 + entrance  # Stable Diffusion 2.1, and the class projection
    noise = network(
        torch.zeros(2, 4, 96, 96), 1, torch.zeros(2, 77, 1024), class_labels=torch.zeros(2, 2 * embedding)
    ).sample
    assert noise.shape == (2, 4, 96, 96)


def test_versatile_diffusion_has_both_attentions_and_reads_both_kinds_of_tokens():
    image, text = UNet2DConditionModel(**STABLE_DIFFUSION_1), UNetFlatConditionModel(**VERSATILE_TEXT)
    attention = sum(count(module) for name, module in text.named_modules() if name.endswith("attentions"))
    parts = dict.fromkeys(("tokenizer", "image_feature_extractor", "text_encoder", "image_encoder"))
    pipeline = versatile.pipeline_class()(
        **parts, image_unet=image, text_unet=text, vae=AutoencoderKL(**VAE), scheduler=DDIMScheduler()
    )
    pipeline.remove_unused_weights()
    versatile.ignore_masks(pipeline.image_unet)
    assert count(pipeline.image_unet) == 859_520_964 + attention
    assert attention == sum(count(module.transformers[1]) for module in dual_attention(pipeline.image_unet))
    tokens = torch.zeros(2, 77 + versatile.IMAGE_TOKENS, 768)
    assert pipeline.image_unet(torch.zeros(2, 4, 64, 64), 1, tokens).sample.shape == (2, 4, 64, 64)


def dual_attention(network):
    from diffusers.models import DualTransformer2DModel

    found = [module for module in network.modules() if isinstance(module, DualTransformer2DModel)]
    assert len(found) == 16  # as many as Stable Diffusion 1 has
    return found


def test_the_plain_adapter_has_the_size_of_its_file():
    entrance = ImageProjection(image_embed_dim=1024, cross_attention_dim=768, num_image_text_embeds=4)
    assert entrance(torch.zeros(2, 1024)).shape == (2, 4, 768)
    attention = networks.adapter_attention(UNet2DConditionModel(**STABLE_DIFFUSION_1))
    assert len(attention) == 2 * 16
    n_parameters = count(entrance) + sum(weights.numel() for weights in attention.values())
    assert n_parameters == 22_319_616  # 44.6 MB in float16, as published


def test_the_plus_adapter_reads_the_tokens_of_the_penultimate_layer():
    entrance = IPAdapterPlusImageProjection(
        embed_dims=1280, output_dims=768, hidden_dims=768, heads=12, num_queries=16
    )
    assert entrance(torch.zeros(2, 257, 1280)).shape == (2, 16, 768)
    attention = networks.adapter_attention(UNet2DConditionModel(**STABLE_DIFFUSION_1))
    n_parameters = count(entrance) + sum(weights.numel() for weights in attention.values())
    assert n_parameters * 2 == pytest.approx(98.2e6, rel=2e-3)  # bytes of the published file, float16
