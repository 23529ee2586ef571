"""The small DINO: a vision transformer that learned from pictures alone (Caron et al. 2021).

It has never seen a caption or a category: its student sees large and small crops of a picture, its teacher
the large ones, and the student learns to say of each what the teacher says of another. What is kept is the
teacher's encoder, in open_clip's layout, so that it is opened like the image tower of a CLIP.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from percept.backbones import distillation, towers
from percept.backbones.tiny import cards, clip, origin, quality
from percept.backbones.tiny.crops import Crops, cropped
from percept.backbones.tiny.data import SIDE, Scenes
from percept.backbones.tiny.trainer import Job, Recipe, fit
from percept.files import write_json

NAME = "tiny_dino"
RECIPE = Recipe(steps=800, learning_rate=1e-3, batch_size=64, weight_decay=0.04, warmup=100)
PATCH, WIDTH, LAYERS, HEADS = 8, 64, 4, 2
VISION = {
    "image_size": SIDE, "patch_size": PATCH, "width": WIDTH, "layers": LAYERS, "head_width": WIDTH // HEADS,
}  # fmt: skip
TEXT = {"context_length": 1, "vocab_size": 2, "width": 8, "heads": 1, "layers": 1}  # the layout asks for one
PROTOTYPES, HEAD_WIDTH, BOTTLENECK = 1024, 256, 64
TEACHER, STUDENT = 0.04, 0.1  # temperatures
MOMENTUM = 0.99  # at the start: few steps of small batches
FROZEN = 100  # steps in which the prototypes stay as they were drawn
CROPS = Crops()
NEIGHBOURS, SHARPNESS = 20, 0.07  # of the vote that measures it (Caron et al. 2021, section 4.1)
DESCRIPTION = f"""A vision transformer over {PATCH} x {PATCH} patches of 64-pixel images (width {WIDTH},
{LAYERS} layers), trained by DINO on pictures alone: no captions, no categories. The teacher's encoder is
kept, without its head, as the image tower of open_clip's layout. There is no text tower: the one that
`open_clip_config.json` names has no weights."""
DATA = f"""Of each picture {CROPS.n_global} crops of {CROPS.large[0]:.0%} to {CROPS.large[1]:.0%} of its area
at 64 pixels and {CROPS.n_local} of {CROPS.small[0]:.0%} to {CROPS.small[1]:.0%} at {CROPS.local_size}, half
of them mirrored, with changed brightness, contrast and channels."""
TRAINING = f"""Cross entropy between the student's answer to a crop and the teacher's, centred and sharpened,
to another; the teacher is the student's average (momentum {MOMENTUM} to 1 along half a cosine), temperatures
{TEACHER} and {STUDENT}, {PROTOTYPES} prototypes, which stay fixed for the first {FROZEN} steps. AdamW,
warm-up and cosine decay, bfloat16 matrix products. `entropy` and `divergence` would show a collapse: both
are shares of the largest possible value, and a divergence near 0 is one."""


def model_config() -> dict[str, Any]:
    """The content of open_clip_config.json."""
    preprocessing = {
        "mean": clip.MEAN, "std": clip.STD, "interpolation": "bicubic", "resize_mode": "shortest",
    }  # fmt: skip
    model = {"embed_dim": WIDTH, "vision_cfg": dict(VISION), "text_cfg": dict(TEXT)}
    return {"model_cfg": model, "preprocess_cfg": preprocessing}


class Tower(nn.Module):
    """open_clip's vision transformer, also for images smaller than its own: (image, 3, side, side) ->
    (image, WIDTH).
    """

    def __init__(self) -> None:
        from open_clip.model import CLIPVisionCfg, _build_vision_tower

        super().__init__()
        self.visual = _build_vision_tower(WIDTH, CLIPVisionCfg(**VISION))

    def forward(self, images: Tensor) -> Tensor:
        """The embedding of the class token; `images` are normalised, their side a multiple of `PATCH`."""
        tower = self.visual
        patches = tower.conv1(images).flatten(2).transpose(1, 2)  # (image, patch, width)
        first = tower.class_embedding.expand(len(images), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + positions(tower.positional_embedding, patches.shape[1])
        return tower.ln_post(tower.transformer(tower.ln_pre(tokens)))[:, 0] @ tower.proj


def positions(embedding: Tensor, n_patches: int) -> Tensor:
    """Embeddings of places (1 + n_patches, width) in a square grid, resized from those of the full grid."""
    if len(embedding) == n_patches + 1:
        return embedding
    side, full = round(n_patches**0.5), round((len(embedding) - 1) ** 0.5)
    grid = embedding[1:].T.reshape(1, -1, full, full)
    resized = F.interpolate(grid, (side, side), mode="bilinear", antialias=True, align_corners=False)
    return torch.cat([embedding[:1], resized.flatten(2)[0].T])


def build(seed: int) -> distillation.Pair:
    """Student and teacher before training."""
    head = partial(distillation.Head, WIDTH, PROTOTYPES, HEAD_WIDTH, BOTTLENECK)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return distillation.Pair(Tower, head)


def train(job: Job, recipe: Recipe = RECIPE) -> None:
    """Train the network and write its folder."""
    cards.clear(job.folder)
    pair = build(recipe.seed)

    def loss_of_step(module: distillation.Pair, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        if step:  # the teacher follows the student that the step before left
            module.follow(distillation.momentum(MOMENTUM, (step - 1) / max(1, recipe.steps - 1)))
        rng = np.random.default_rng([recipe.seed, step])
        rows = rng.choice(len(job.train), recipe.batch_size, replace=False)
        large, small = cropped(job.train.images[rows], CROPS, rng)
        return distilled(module, scaled(large), scaled(small), step)

    history = fit(pair, loss_of_step, recipe, job.work, origin.origin(job, __name__))
    write_json(model_config(), job.folder / towers.CONFIG)
    clip.save_half(pair.teacher.encoder.state_dict(), job.folder / towers.WEIGHTS)
    cards.finish(
        job, NAME, recipe, history, measure(job.folder, job.train, job.held_out),
        library="open_clip", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def distilled(pair: distillation.Pair, large: Tensor, small: Tensor, step: int) -> dict[str, Tensor]:
    """Loss of a batch, in nats, and how many prototypes its answers use (`distillation.spread`).

    Parameters
    ----------
    large, small : (view x picture, 3, side, side), normalised global and local views, view by view
    """
    frozen = torch.tensor(step < FROZEN)
    # On processors the fused attention is slower backwards than the plain one at this size.
    with sdpa_kernel(SDPBackend.MATH), torch.autocast("cpu", torch.bfloat16):
        logits = pair.taught(large)
        parts = [pair.student(views, frozen) for views in (large, small) if len(views)]
    n_global, n_local = CROPS.n_global, CROPS.n_local
    n = len(large) // n_global
    logits = logits.unflatten(0, (n_global, n)).transpose(0, 1)  # (picture, view, K)
    student = torch.cat(parts).unflatten(0, (n_global + n_local, n)).transpose(0, 1)
    taught = distillation.assigned(logits, pair.centre, TEACHER)
    pair.note(logits)
    counted = distillation.pairs(n_global, n_global + n_local)
    found = {name: torch.tensor(value) for name, value in distillation.spread(taught[:, 0]).items()}
    return {"loss": distillation.loss(student, taught, counted, STUDENT), **found}


def scaled(views: Tensor) -> Tensor:
    """Views (view, 3, row, column) in [0, 1] as the network reads them."""
    mean, sd = (views.new_tensor(values)[:, None, None] for values in (clip.MEAN, clip.STD))
    return (views - mean) / sd


def load(folder: str | Path) -> nn.Module:
    """The trained encoder, in evaluation mode and single precision."""
    from safetensors.torch import load_file

    tower = Tower()
    tower.load_state_dict(load_file(Path(folder) / towers.WEIGHTS))
    return tower.float().eval().requires_grad_(False)


def embedded(encoder: nn.Module, images: NDArray[np.uint8], size: int = 256) -> NDArray[np.float32]:
    """Embeddings (image, WIDTH) of pictures (image, 64, 64, 3)."""
    with torch.inference_mode():
        starts = range(0, len(images), size)
        return np.concatenate([encoder(clip.normalised(images[at : at + size])).numpy() for at in starts])


def measure(folder: Path, known: Scenes, scenes: Scenes) -> dict[str, float]:
    """Quality on held-out scenes of the network as it was written, and of one that was never trained.

    The category of a picture is voted on by the most similar training pictures (Caron et al. 2021, section
    4.1): no weight of the vote is learned.
    """
    names = sorted(set(known.main))
    code = np.array([names.index(name) for name in known.main])
    found = {}
    for what, encoder in {"": load(folder), ", untrained": build(0).teacher.encoder}.items():
        scores = vote(embedded(encoder, scenes.images), embedded(encoder, known.images), code)
        right = quality.top1_main(scores, names, scenes.main)
        found[f"{NEIGHBOURS} nearest training pictures: the category is the largest object's{what}"] = right
    found["the same for always the most frequent category"] = max(
        scenes.main.count(name) / len(scenes) for name in names
    )
    return found


def vote(asked: NDArray, known: NDArray, code: NDArray[np.integer]) -> NDArray[np.float64]:
    """Votes (picture, category) of the nearest neighbours, each weighted by exp(cosine / `SHARPNESS`).

    Parameters
    ----------
    asked, known : embeddings (picture, feature)
    code : category of each known picture
    """
    asked, known = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (asked, known))
    cosines = asked @ known.T
    nearest = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
    weights = np.exp(np.take_along_axis(cosines, nearest, axis=1) / SHARPNESS)
    votes = np.zeros((len(asked), code.max() + 1))
    np.add.at(votes, (np.arange(len(asked))[:, None], code[nearest]), weights)
    return votes
