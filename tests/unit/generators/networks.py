"""Small random networks of every role that a generator opens."""

from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

from percept.backbones import store
from tests.unit.backbones.diffusion import networks as diffusion
from tests.unit.backbones.folders import TEXT, VISION, scatter, write_settings

PARTS = ["vae", "text_encoder", "tokenizer", "image_encoder", "feature_extractor"]


def image_encoder(root: Path, name: str, features: int, tokens: int = 16) -> None:
    """A CLIP whose image embedding has as many features as a generator reads."""
    vision = VISION | {"patch_size": 32 // round(tokens**0.5)}
    write_settings(root / name, {"embed_dim": features, "vision_cfg": vision, "text_cfg": TEXT})
    network = scatter(open_clip.create_model(f"local-dir:{root / name}", load_weights=False))
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, root / name / "open_clip_model.safetensors")


def captioner(folder: Path) -> None:
    """A BLIP that writes the words of the diffusion models' tokenizer."""
    words = len(diffusion.WORDS)
    common = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 2, "sep_token_id": words - 1, "eos_token_id": words - 1, "pad_token_id": 0}
    torch.manual_seed(0)
    config = BlipConfig(
        text_config={**common, **ends, "vocab_size": words, "max_position_embeddings": 40,
                     "encoder_hidden_size": 12, "projection_dim": 8},
        vision_config={**common, "image_size": 32, "patch_size": 8, "projection_dim": 8},
    )  # fmt: skip
    scatter(BlipForConditionalGeneration(config)).save_pretrained(folder)
    BlipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    diffusion.tokenizer(folder, 16).save_pretrained(folder)


def write_all(root: Path) -> Path:
    """The tiny networks and a small Versatile Diffusion, with manifests, in a folder of backbones."""
    diffusion.stable_diffusion(root / "tiny_text")
    diffusion._leave_out(root / "tiny_text", ["vae"])
    diffusion.autoencoder(9).save_pretrained(root / "tiny_vae")
    diffusion.unclip(root / "tiny_unclip", PARTS)
    diffusion.versatile(root / "versatile_diffusion")
    image_encoder(root, "tiny_clip", diffusion.IMAGE)
    image_encoder(root, "clip_vit_l14", diffusion.VERSATILE, tokens=256)
    captioner(root / "tiny_blip")
    for folder in root.iterdir():
        store.write_manifest(folder, folder.name)
    return root
