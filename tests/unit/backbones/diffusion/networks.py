"""Small generators with random weights, in the layouts in which the real ones are published.

Sizes are unequal wherever the pipelines allow it, so that a transposition or a mixed-up part fails.
"""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
    VersatileDiffusionPipeline,
)
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import StableUnCLIPImageNormalizer
from safetensors.torch import save_file
from transformers import (
    BertTokenizer,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from percept.backbones import store

SIZE = 32  # pixels; latents are 4 x 4
LATENT = SIZE // 8
WORDS = ["[PAD]", "[UNK]", "[CLS]", "a", "red", "blue", "dog", "boat", "[MASK]", "[SEP]"]
IMAGE = 20  # features of a pooled image embedding
TEXT, TOKENS = 12, 11  # features and number of text tokens
VERSATILE = 16  # features of both kinds of tokens of Versatile Diffusion
NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}


def autoencoder(seed=0):
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(4, 4, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        sample_size=SIZE,
        scaling_factor=0.25,
    )


def unet(cross=TEXT, **options):
    torch.manual_seed(1)
    return UNet2DConditionModel(
        sample_size=LATENT,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross,
        attention_head_dim=4,
        norm_num_groups=4,
        **options,
    )


def tokenizer(folder, length=TOKENS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return BertTokenizer.from_pretrained(folder, model_max_length=length)


def text_encoder(kind=CLIPTextModel, width=TEXT, length=TOKENS):
    torch.manual_seed(2)
    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=17,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=length,
        bos_token_id=2,
        eos_token_id=len(WORDS) - 1,
        pad_token_id=0,
    )
    return kind(config).eval()


def image_encoder(width, projection, size=SIZE, patch=8):
    torch.manual_seed(3)
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=19,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=size,
        patch_size=patch,
        projection_dim=projection,
    )
    return CLIPVisionModelWithProjection(config).eval()


def stable_diffusion(folder, scheduler=None):
    StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(folder / "words"),
        unet=unet(),
        scheduler=scheduler or PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def unclip(folder, left_out=()):
    """A stable unCLIP; `left_out` are parts that lie in the folders of other backbones."""
    torch.manual_seed(4)
    normalizer = StableUnCLIPImageNormalizer(IMAGE)
    normalizer.mean.data.normal_()
    normalizer.std.data.uniform_(0.5, 2)
    network = unet(class_embed_type="projection", projection_class_embeddings_input_dim=2 * IMAGE)
    StableUnCLIPImg2ImgPipeline(
        feature_extractor=CLIPImageProcessor(size=SIZE, crop_size=SIZE),
        image_encoder=image_encoder(14, IMAGE),
        image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(folder / "words"),
        text_encoder=text_encoder(),
        unet=network,
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, **NOISE),
        vae=autoencoder(),
    ).save_pretrained(folder)
    _leave_out(folder, left_out)


def _leave_out(folder, parts):
    import shutil

    index = json.loads((folder / "model_index.json").read_text())
    for part in parts:
        shutil.rmtree(folder / part)
        del index[part]
    (folder / "model_index.json").write_text(json.dumps(index))


def versatile(folder):
    torch.manual_seed(5)
    flat = UNetFlatConditionModel(
        sample_size=LATENT,
        in_channels=(8, 1, 1),
        out_channels=(8, 1, 1),
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlockFlat", "DownBlockFlat"),
        up_block_types=("UpBlockFlat", "CrossAttnUpBlockFlat"),
        mid_block_type="UNetMidBlockFlatCrossAttn",
        cross_attention_dim=VERSATILE,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    VersatileDiffusionPipeline(
        tokenizer=tokenizer(folder / "words", 77),
        image_feature_extractor=CLIPImageProcessor(size=SIZE, crop_size=SIZE),
        text_encoder=text_encoder(CLIPTextModelWithProjection, VERSATILE, 77),
        image_encoder=image_encoder(14, VERSATILE, 32, 2),
        image_unet=unet(VERSATILE),
        text_unet=flat,
        vae=autoencoder(),
        scheduler=PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **NOISE),
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text())
    index["text_unet"] = ["versatile_diffusion", "UNetFlatConditionModel"]  # as published
    (folder / "model_index.json").write_text(json.dumps(index))


def adapter_attention(network):
    """Weights of an adapter's attention, numbered as published: one pair per cross-attention."""
    torch.manual_seed(6)
    crossed = [name for name in network.attn_processors if name.endswith("attn2.processor")]
    weights = {}
    for i, name in enumerate(crossed):
        into = network.get_submodule(name.removesuffix(".processor")).to_k
        for role in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{2 * i + 1}.{role}.weight"] = torch.randn(into.weight.shape) / 4
    return weights


def adapter(path, projection):
    """An adapter's file over `unet()`; `projection` are the weights of its entrance."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {f"image_proj.{key}": value for key, value in projection.items()}
    save_file({**named, **adapter_attention(unet())}, path)


def plain_projection(n_tokens=4):
    torch.manual_seed(7)
    return {
        "proj.weight": torch.randn(n_tokens * TEXT, IMAGE) / 4,
        "proj.bias": torch.randn(n_tokens * TEXT) / 4,
        "norm.weight": torch.ones(TEXT),
        "norm.bias": torch.zeros(TEXT),
    }


def plus_projection(width=14, hidden=128, queries=3, depth=4):
    """A resampler of (token, width) to `queries` tokens, named as published."""
    torch.manual_seed(8)
    inner = 64 * 2  # heads of 64, as the loader assumes
    weights = {
        "latents": torch.randn(1, queries, hidden),
        "proj_in.weight": torch.randn(hidden, width) / 4,
        "proj_in.bias": torch.zeros(hidden),
        "proj_out.weight": torch.randn(TEXT, hidden) / 8,
        "proj_out.bias": torch.zeros(TEXT),
        "norm_out.weight": torch.ones(TEXT),
        "norm_out.bias": torch.zeros(TEXT),
    }
    for layer in range(depth):
        attention, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        for norm in ("norm1", "norm2"):
            weights[f"{attention}.{norm}.weight"] = torch.ones(hidden)
            weights[f"{attention}.{norm}.bias"] = torch.zeros(hidden)
        weights[f"{attention}.to_q.weight"] = torch.randn(inner, hidden) / 8
        weights[f"{attention}.to_kv.weight"] = torch.randn(2 * inner, hidden) / 8
        weights[f"{attention}.to_out.weight"] = torch.randn(hidden, inner) / 8
        weights[f"{forward}.0.weight"] = torch.ones(hidden)
        weights[f"{forward}.0.bias"] = torch.zeros(hidden)
        weights[f"{forward}.1.weight"] = torch.randn(4 * hidden, hidden) / 8
        weights[f"{forward}.3.weight"] = torch.randn(hidden, 4 * hidden) / 8
    return weights


def write_all(root: Path) -> Path:
    """Every generator that the catalogue knows a loader for, with its manifest, in a folder of backbones."""
    stable_diffusion(root / "sd15")
    stable_diffusion(root / "tiny_text")
    _leave_out(root / "tiny_text", ["vae"])
    autoencoder(9).save_pretrained(root / "tiny_vae")
    unclip(root / "stable_unclip")
    unclip(root / "tiny_unclip", ["vae", "text_encoder", "tokenizer", "image_encoder", "feature_extractor"])
    versatile(root / "versatile_diffusion")
    adapter(root / "ip_adapter" / "models" / "ip-adapter_sd15.safetensors", plain_projection())
    image_encoder(14, IMAGE).save_pretrained(root / "ip_adapter" / "models" / "image_encoder")
    adapter(root / "ip_adapter_plus" / "models" / "ip-adapter-plus_sd15.safetensors", plus_projection())
    for folder in root.iterdir():
        store.write_manifest(folder, folder.name)
    return root
