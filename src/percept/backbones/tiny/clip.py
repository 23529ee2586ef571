"""The small CLIP: an open_clip network of 64-pixel images and the scenes' captions.

Trained contrastively (Radford et al. 2021, section 2.3), with one change that small, repetitive captions
need: a caption of the batch that is also true of another picture counts as a match of that one too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones.tiny import cards, data, origin, quality, tokenizer
from percept.backbones.tiny.data import SIDE, Batch, Scenes
from percept.backbones.tiny.trainer import Job, Recipe, fit
from percept.files import write_json

if TYPE_CHECKING:
    import torch

NAME = "tiny_clip"
RECIPE = Recipe(steps=3500, learning_rate=1.5e-3, batch_size=128, weight_decay=0.1, warmup=150)
EMBED = 64
WIDTH, HEADS, TEXT_LAYERS = 128, 2, 3
VISION = {"image_size": SIDE, "patch_size": 8, "width": WIDTH, "layers": 6, "head_width": WIDTH // HEADS}
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's
BARE = 0.25  # share of captions that name one object and nothing else
SCALE_LIMIT = float(np.log(100))  # of the logits, as in CLIP
DESCRIPTION = """A CLIP in open_clip's layout: a vision transformer over 8 x 8 patches of 64-pixel images
(width 128, 6 layers, 65 tokens), a text transformer over words (width 128, 3 layers), and a shared space of
64 dimensions. Load it with `open_clip.create_model_and_transforms("local-dir:<folder>")`."""
DATA = """Each scene comes with one of its five captions, or in a quarter of the cases with a bare one ("A
picture of a dog.") that names one of its objects. Pictures are moved by up to two pixels and tinted by up to
four percent; they are never mirrored, because captions say left and right."""
TRAINING = """Symmetric contrastive loss. Captions of the batch that are true of several of its pictures are
matches of all of them. AdamW, warm-up and cosine decay, bfloat16 matrix products."""


@dataclass(frozen=True)
class Captions:
    """What is said of each scene of a batch, and of which of its scenes each saying is true."""

    texts: tuple[str, ...]
    matches: NDArray[np.bool_]  # (image, text)


def model_config(n_tokens: int) -> dict[str, Any]:
    """The content of open_clip_config.json."""
    text = {
        "context_length": tokenizer.CONTEXT,
        "vocab_size": n_tokens,
        "hf_tokenizer_name": NAME,
        "width": WIDTH,
        "heads": HEADS,
        "layers": TEXT_LAYERS,
    }
    preprocessing = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "shortest"}
    model = {"embed_dim": EMBED, "vision_cfg": dict(VISION), "text_cfg": text}
    return {"model_cfg": model, "preprocess_cfg": preprocessing}


def build(n_tokens: int, seed: int) -> "torch.nn.Module":
    """An untrained network."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    config = model_config(n_tokens)["model_cfg"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(EMBED, CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"]))


def train(job: Job, recipe: Recipe = RECIPE) -> None:
    """Train the network and write its folder."""
    cards.clear(job.folder)
    spoken = (*(text for each in job.train.captions for text in each), data.prompt("orange"))
    tokens = tokenizer.vocabulary(spoken)
    tokenizer.write(tokens, job.folder)
    words = tokenizer.read(job.folder)
    model = build(len(tokens), recipe.seed)

    def loss_of_step(
        module: "torch.nn.Module", step: int, generator: "torch.Generator"
    ) -> dict[str, "torch.Tensor"]:
        batch = data.batch(job.train, step, recipe.batch_size, recipe.seed)
        said = captions_of(batch, job.train, (recipe.seed, step))
        return contrast(module, normalised(batch.images), tokenizer.encode(words, said.texts), said.matches)

    history = fit(model, loss_of_step, recipe, job.work, origin.origin(job, __name__))
    write_json(model_config(len(tokens)), job.folder / "open_clip_config.json")
    save_half(model.state_dict(), job.folder / "open_clip_model.safetensors")
    measured = measure(job.folder, job.held_out)
    cards.finish(
        job, NAME, recipe, history, measured,
        library="open_clip", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def captions_of(batch: Batch, scenes: Scenes, seed: Sequence[int]) -> Captions:
    """One caption for each scene of a batch, some of them bare, with all their matches in the batch."""
    rng = np.random.default_rng([*seed, 1])
    objects = [scenes.objects[row] for row in batch.rows]
    one = [data.prompt(names[rng.integers(len(names))]) for names in objects]
    bare = rng.random(len(one)) < BARE
    texts = tuple(short if few else full for short, full, few in zip(one, batch.captions, bare, strict=True))
    true = [
        {*scenes.captions[row], *(data.prompt(name) for name in names)}
        for row, names in zip(batch.rows, objects, strict=True)
    ]
    return Captions(texts, np.array([[text in known for text in texts] for known in true]))


def normalised(images: NDArray[np.uint8]) -> "torch.Tensor":
    """Network input, (image, 3, 64, 64), from (image, 64, 64, 3)."""
    import torch

    scaled = (images.astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def contrast(
    model: "torch.nn.Module",
    images: "torch.Tensor",
    tokens: NDArray[np.int64],
    matches: NDArray[np.bool_],
) -> dict[str, "torch.Tensor"]:
    """Loss of a batch, and the share of images whose most similar text is a match."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # On processors the fused attention is several times slower backwards than the plain one at this size.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        seen = model.encode_image(images, normalize=True)
        said = encode_tokens(model, torch.from_numpy(tokens))
    logits = model.logit_scale.clamp(max=SCALE_LIMIT).exp() * seen.float() @ said.float().T
    true = torch.from_numpy(matches)
    found = true.gather(1, logits.detach().argmax(dim=1, keepdim=True)).float().mean()
    return {"loss": soft_contrastive(logits, true), "matched": found}


def soft_contrastive(logits: "torch.Tensor", matches: "torch.Tensor") -> "torch.Tensor":
    """Mean cross-entropy of rows and of columns, in nats, with the labels spread evenly over all matches.

    `logits` and `matches` are (image, text); each row and each column has a match. With one match each it is
    CLIP's loss.
    """
    from torch.nn.functional import cross_entropy

    labels = matches.float()
    rows = cross_entropy(logits, labels / labels.sum(dim=1, keepdim=True))
    columns = cross_entropy(logits.T, labels.T / labels.T.sum(dim=1, keepdim=True))
    return (rows + columns) / 2


def encode_tokens(model: "torch.nn.Module", tokens: "torch.Tensor") -> "torch.Tensor":
    """`model.encode_text`, normalised, without the padding that all texts share.

    Attention is causal, so that nothing behind the end token changes what is read there.
    """
    from torch.nn.functional import normalize

    end = tokens.argmax(dim=1)
    length = int(end.max()) + 1
    x = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return normalize(x[range(len(x)), end] @ model.text_projection, dim=-1)


def save_half(state: dict[str, "torch.Tensor"], path: Path) -> None:
    """Write floating-point weights in half precision, others as they are."""
    from safetensors.torch import save_file

    from percept.files import atomic

    half = {name: (w.half() if w.is_floating_point() else w).contiguous() for name, w in state.items()}
    with atomic(path) as temporary:
        save_file(half, temporary, metadata={"format": "pt"})


def load(folder: str | Path) -> tuple["torch.nn.Module", Any]:
    """The trained network, in evaluation mode and single precision, and its tokenizer."""
    import open_clip

    model = open_clip.create_model(f"local-dir:{Path(folder).resolve()}")
    return model.eval().requires_grad_(False), tokenizer.read(folder)


def embed_images(model: "torch.nn.Module", images: NDArray[np.uint8], size: int = 256) -> NDArray[np.float32]:
    """Normalised embeddings, (image, 64), of images (image, 64, 64, 3)."""
    import torch

    with torch.inference_mode():
        parts = [
            model.encode_image(normalised(images[start : start + size]), normalize=True).numpy()
            for start in range(0, len(images), size)
        ]
    return np.concatenate(parts)


def embed_texts(model: "torch.nn.Module", words: Any, texts: Sequence[str]) -> NDArray[np.float32]:  # noqa: ANN401
    """Normalised embeddings, (text, 64)."""
    import torch

    with torch.inference_mode():
        return encode_tokens(model, torch.from_numpy(tokenizer.encode(words, texts))).numpy()


def measure(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Quality on held-out scenes, of the network as it was written.

    Zero-shot: the categories are ranked by the similarity of their bare caption to the picture.
    """
    model, words = load(folder)
    names = tuple(sorted({name for objects in scenes.objects for name in objects}))
    present = data.present(scenes, names)
    seen = embed_images(model, scenes.images)
    scores = seen @ embed_texts(model, words, [data.prompt(name) for name in names]).T
    said = embed_texts(model, words, [captions[0] for captions in scenes.captions])
    to_text, to_image = quality.retrieval_top1(seen @ said.T)
    return {
        "zero-shot: the first category is in the picture": quality.top1_present(scores, present),
        "the same for a random category (chance)": quality.chance_present(present),
        "the same for always the most frequent category": quality.constant_present(present),
        f"zero-shot: the first of {len(names)} categories is the largest object's": quality.top1_main(
            scores, names, scenes.main
        ),
        "retrieval of the full caption among 100, first": to_text,
        "retrieval of the picture among 100, first": to_image,
    }


def text_model(folder: str | Path) -> "torch.nn.Module":
    """The text tower as `transformers.CLIPTextModel`, for diffusion models.

    Its last hidden state is open_clip's after the final norm, before the projection.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    model, words = load(folder)
    config = CLIPTextConfig(
        vocab_size=model.vocab_size,
        hidden_size=model.ln_final.weight.shape[0],
        intermediate_size=model.transformer.resblocks[0].mlp.c_fc.out_features,
        num_hidden_layers=len(model.transformer.resblocks),
        num_attention_heads=model.transformer.resblocks[0].attn.num_heads,
        max_position_embeddings=model.context_length,
        hidden_act="gelu",
        projection_dim=model.text_projection.shape[1],
        pad_token_id=words.pad_token_id,
        bos_token_id=words.cls_token_id,
        eos_token_id=words.sep_token_id,
    )
    converted = CLIPTextModel(config)
    prefix = "text_model." if hasattr(converted, "text_model") else ""  # gone since transformers 5
    weights = {f"{prefix}{name}": value for name, value in _as_transformers(model).items()}
    converted.load_state_dict(weights)
    return converted.eval().requires_grad_(False)


def _as_transformers(model: "torch.nn.Module") -> dict[str, "torch.Tensor"]:
    """Weights of open_clip's text tower under the names of transformers."""
    weights = {
        "embeddings.token_embedding.weight": model.token_embedding.weight,
        "embeddings.position_embedding.weight": model.positional_embedding,
        "final_layer_norm.weight": model.ln_final.weight,
        "final_layer_norm.bias": model.ln_final.bias,
    }
    for number, block in enumerate(model.transformer.resblocks):
        here = f"encoder.layers.{number}"
        for kind in ("weight", "bias"):
            joint = getattr(block.attn, f"in_proj_{kind}").chunk(3)
            for part, value in zip("qkv", joint, strict=True):
                weights[f"{here}.self_attn.{part}_proj.{kind}"] = value
            own = {
                "self_attn.out_proj": block.attn.out_proj, "layer_norm1": block.ln_1,
                "layer_norm2": block.ln_2, "mlp.fc1": block.mlp.c_fc, "mlp.fc2": block.mlp.c_proj,
            }  # fmt: skip
            for name, layer in own.items():
                weights[f"{here}.{name}.{kind}"] = getattr(layer, kind)
    return weights
