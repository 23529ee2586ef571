"""Folders of small random networks, in the layouts of the real ones."""

import json
from pathlib import Path
from typing import Any

from percept.backbones import store
from percept.backbones.catalogue import CATALOGUE

VISION = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 7, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
CLIP = {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}
PREPROCESS = {"mean": [0.2, 0.4, 0.6], "std": [0.5, 0.4, 0.3]}
WORDS = ["[PAD]", "[UNK]", "a", "red", "blue", "circle", "square", "left", "of", "the", "[CLS]", "[SEP]"]


def finish(root: Path, name: str) -> Path:
    """Write the manifest of a folder, at the revision that the catalogue demands."""
    store.write_manifest(root / name, name, CATALOGUE[name].revision)
    return root / name


def write_settings(folder: Path, clip: dict[str, Any], preprocess: dict[str, Any] = PREPROCESS) -> None:
    """The file that says how a CLIP of open_clip is built."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {"model_cfg": clip, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))


def scatter(network: Any, seed: int = 0) -> Any:
    """Give every weight of a network a size that matters: fresh ones leave attention all but uniform."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weights in network.named_parameters():
            noise = torch.randn(weights.shape, generator=generator) * 0.3
            weights.copy_(noise + (1 if "norm" in name and name.endswith("weight") else 0))
    return network.eval()


def clip(root: Path, name: str, words: bool = False, features: int = CLIP["embed_dim"]) -> Any:
    """A small CLIP of open_clip as the backbone `name`; returns the network in memory."""
    import open_clip
    from safetensors.torch import save_file

    settings = CLIP | {"embed_dim": features}
    if words:
        text = TEXT | {"vocab_size": len(WORDS), "hf_tokenizer_name": "."}
        settings |= {"text_cfg": text}
    write_settings(root / name, settings)
    if words:
        bert(root / name, length=TEXT["context_length"])
    quick = CATALOGUE[name].settings.get("quick_gelu", False)
    network = open_clip.create_model(f"local-dir:{root / name}", load_weights=False, force_quick_gelu=quick)
    scatter(network)
    stored = network.half() if words else network  # the shipped ones are stored in half precision
    state = {key: value.clone().contiguous() for key, value in stored.state_dict().items()}
    save_file(state, root / name / "open_clip_model.safetensors")
    finish(root, name)
    return network.float()


def bert(folder: Path, length: int) -> None:
    """A tokenizer of whole words; the token that ends a text has the highest number."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": length, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def diffusion(root: Path, name: str, encoder: str = "CLIPTextModel", length: int = 9) -> Any:
    """The text half of a pipeline of diffusers as the backbone `name`; returns the encoder in memory."""
    import transformers

    settings = transformers.CLIPTextConfig(
        vocab_size=len(WORDS), hidden_size=16, intermediate_size=20, num_hidden_layers=2, projection_dim=12,
        num_attention_heads=2, max_position_embeddings=length, pad_token_id=0, bos_token_id=10,
        eos_token_id=11,
    )  # fmt: skip
    network = scatter(getattr(transformers, encoder)(settings))
    network.save_pretrained(root / name / "text_encoder")
    bert(root / name / "tokenizer", length)
    classes = {"text_encoder": ["transformers", encoder], "tokenizer": ["transformers", "BertTokenizer"]}
    (root / name / "model_index.json").write_text(json.dumps(classes))
    finish(root, name)
    return network
