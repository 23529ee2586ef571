"""The small captioner: a BLIP of transformers that says in words what a picture shows.

It captions reconstructions, which are blurry, and therefore is trained on blurred pictures as well. As BLIP
itself starts from a trained vision transformer (Li et al. 2022, section 4.1), it starts from that of the
small CLIP.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones.tiny import cards, clip, data, origin, quality, tokenizer
from percept.backbones.tiny.data import SIDE, Scenes
from percept.backbones.tiny.trainer import Job, Recipe, fit

if TYPE_CHECKING:
    import torch

NAME = "tiny_blip"
RECIPE = Recipe(steps=3000, learning_rate=1e-3, batch_size=64, weight_decay=0.05)
WIDTH, HEADS, LAYERS, TEXT_LAYERS = 128, 2, 6, 3
TYPICAL = 2000  # scenes from which the typical size of CLIP's tokens is taken
PROBED_BLUR = (0.0, 1.0, 2.0)
IGNORED = -100  # label of padding
DESCRIPTION = """A BLIP captioner of transformers: a vision transformer over 8 x 8 patches of 64-pixel images
(width 128, 6 layers) and a text decoder with cross-attention (width 128, 3 layers), over the words of the
scenes' captions. Load it with `BlipForConditionalGeneration.from_pretrained` and `BlipProcessor`."""
DATA = """The caption is always the fullest of a scene's five (numbers, colours, categories, place). Pictures
are moved by up to two pixels and tinted; half of them are blurred (Gaussian of up to 2.5 pixels) and made
noisy, as reconstructions are."""
TRAINING = """Cross-entropy of the next word. The vision transformer starts from that of tiny_clip. AdamW,
warm-up and cosine decay, bfloat16 matrix products."""


def build(words: Any, seed: int) -> "torch.nn.Module":  # noqa: ANN401 (a tokenizer)
    """An untrained network for the vocabulary of a tokenizer."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipTextConfig, BlipVisionConfig

    size = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    vision = BlipVisionConfig(**size, num_hidden_layers=LAYERS, image_size=SIDE, patch_size=8)
    text = BlipTextConfig(
        **size,
        vocab_size=len(words),
        encoder_hidden_size=WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        max_position_embeddings=tokenizer.CONTEXT,
        bos_token_id=words.cls_token_id,
        eos_token_id=words.sep_token_id,
        sep_token_id=words.sep_token_id,
        pad_token_id=words.pad_token_id,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        label_smoothing=0.0,
    )
    config = BlipConfig(vision_config=vision.to_dict(), text_config=text.to_dict(), projection_dim=clip.EMBED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BlipForConditionalGeneration(config)


def train(job: Job, recipe: Recipe = RECIPE) -> None:
    """Train the network and write its folder."""
    import torch

    cards.clear(job.folder)
    seeing, words = clip.load(job.parts[clip.NAME])
    network = build(words, recipe.seed)
    network.vision_model.load_state_dict(vision_start(seeing.visual, job.train.images[:TYPICAL]))
    said = tokenizer.encode(words, [captions[0] for captions in job.train.captions])

    def loss_of_step(
        module: "torch.nn.Module", step: int, generator: "torch.Generator"
    ) -> dict[str, "torch.Tensor"]:
        batch = data.batch(job.train, step, recipe.batch_size, recipe.seed)
        images = data.spoilt(batch.images, (recipe.seed, step))
        with torch.autocast("cpu", torch.bfloat16):
            return next_word(module, clip.normalised(images), torch.from_numpy(said[batch.rows]))

    history = fit(network, loss_of_step, recipe, job.work, origin.origin(job, __name__))
    save(network, words, job.folder)
    cards.finish(
        job, NAME, recipe, history, measure(job.folder, job.held_out),
        library="transformers", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def next_word(
    network: "torch.nn.Module", images: "torch.Tensor", tokens: "torch.Tensor"
) -> dict[str, "torch.Tensor"]:
    """Mean cross-entropy per word in nats, of captions (image, token) padded at the end."""
    there = tokens != network.config.text_config.pad_token_id
    length = int(there.sum(dim=1).max())
    tokens, there = tokens[:, :length], there[:, :length]
    labels = tokens.masked_fill(~there, IGNORED)
    found = network(pixel_values=images, input_ids=tokens, attention_mask=there.long(), labels=labels)
    return {"loss": found.loss}


def vision_start(tower: "torch.nn.Module", images: NDArray[np.uint8]) -> dict[str, "torch.Tensor"]:
    """Weights of BLIP's vision transformer from those of open_clip's, which act alike on such images.

    CLIP normalises its tokens before the first layer, BLIP does not. Of this norm the shift of every token to
    mean zero, the gain and the bias are linear and go into the embeddings; its division by each token's own
    spread becomes one by the typical spread over `images`, (image, row, column, 3).
    """
    import torch

    norm, gain = tower.ln_pre, tower.ln_pre.weight
    with torch.inference_mode():
        patches = tower.conv1(clip.normalised(images)).flatten(2).transpose(1, 2)
        spread = (patches + tower.positional_embedding[1:]).std(dim=-1).mean().clone()

    def scaled(weight: "torch.Tensor", axis: int) -> "torch.Tensor":
        """Centred over the channels, which lie along an axis, and times the gain."""
        shape = [-1 if k == axis else 1 for k in range(weight.ndim)]
        return (weight - weight.mean(dim=axis, keepdim=True)) * gain.view(shape) / spread

    kernel, positions = scaled(tower.conv1.weight, 0), scaled(tower.positional_embedding, 1) + norm.bias
    weights = {
        "embeddings.class_embedding": scaled(tower.class_embedding, 0).view(1, 1, -1),
        "embeddings.position_embedding": positions[None],
        "embeddings.patch_embedding.weight": kernel,
        "embeddings.patch_embedding.bias": torch.zeros(len(kernel)),
        "post_layernorm.weight": tower.ln_post.weight,
        "post_layernorm.bias": tower.ln_post.bias,
    }
    for number, block in enumerate(tower.transformer.resblocks):
        weights |= _layer(block, f"encoder.layers.{number}")
    return {name: value.detach().clone() for name, value in weights.items()}


def _layer(block: "torch.nn.Module", here: str) -> dict[str, "torch.Tensor"]:
    """Weights of one of open_clip's blocks under BLIP's names."""
    own = {
        "self_attn.projection": block.attn.out_proj, "layer_norm1": block.ln_1, "layer_norm2": block.ln_2,
        "mlp.fc1": block.mlp.c_fc, "mlp.fc2": block.mlp.c_proj,
    }  # fmt: skip
    weights = {f"{here}.{name}.{kind}": getattr(layer, kind) for name, layer in own.items()
               for kind in ("weight", "bias")}  # fmt: skip
    weights[f"{here}.self_attn.qkv.weight"] = block.attn.in_proj_weight
    weights[f"{here}.self_attn.qkv.bias"] = block.attn.in_proj_bias
    return weights


def save(network: "torch.nn.Module", words: Any, folder: Path) -> None:  # noqa: ANN401
    """Write network, tokenizer and image processor, in half precision."""
    from transformers import BlipImageProcessor, BlipProcessor

    looking = BlipImageProcessor(
        size={"height": SIDE, "width": SIDE}, image_mean=list(clip.MEAN), image_std=list(clip.STD)
    )
    BlipProcessor(looking, words).save_pretrained(folder)
    network.half().save_pretrained(folder)


def captions(folder: str | Path, images: NDArray[np.uint8], size: int = 250) -> list[str]:
    """What the network of a folder says of images (image, 64, 64, 3), the likeliest word at each step."""
    import torch
    from transformers import BlipForConditionalGeneration

    network = BlipForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
    ).eval()
    words = tokenizer.read(folder)
    found = []
    with torch.inference_mode():
        for start in range(0, len(images), size):
            seen = clip.normalised(images[start : start + size])
            said = network.generate(
                pixel_values=seen, num_beams=1, do_sample=False, max_new_tokens=tokenizer.CONTEXT - 1
            )
            found += words.batch_decode(said, skip_special_tokens=True)
    return found


def measure(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Quality on held-out scenes, sharp and blurred, of the network as it was written."""
    found: dict[str, float] = {}
    for sigma in PROBED_BLUR:
        images = np.rint(data.blurred(scenes.images, np.full(len(scenes), sigma))).astype(np.uint8)
        said = captions(folder, images)
        how = f"blurred by {sigma:g} pixels" if sigma else "sharp"
        found[f"{how}: the caption names the largest object"] = quality.named_main(said, scenes.main)
        whole = [text == full[0].lower() for text, full in zip(said, scenes.captions, strict=True)]
        found[f"{how}: the caption is the scene's, word for word"] = float(np.mean(whole))
        if not sigma:
            chance = quality.named_main(said, scenes.main[1:] + scenes.main[:1])
            found["sharp: the caption names another scene's largest object (chance)"] = chance
    return found
