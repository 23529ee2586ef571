"""The small judge: a convolutional network of torchvision that says which objects a picture shows.

It scores reconstructions and is never decoded. Reconstructions are blurry, so it is trained on blurred and
noisy pictures as well.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones.tiny import cards, data, origin, quality
from percept.backbones.tiny.clip import save_half
from percept.backbones.tiny.data import Scenes
from percept.backbones.tiny.trainer import Job, Recipe, fit
from percept.files import read_json, write_json

if TYPE_CHECKING:
    import torch

NAME = "tiny_judge"
RECIPE = Recipe(
    steps=5000, learning_rate=4e-3, batch_size=64, weight_decay=0.02, betas=(0.9, 0.99), ema=0.998
)
ARCHITECTURE = "shufflenet_v2_x0_5"
SIZE = 96  # pixels that it sees: enlarged, because the network's first layers shrink fourfold
MEAN, SD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
LAYERS = {"judge_early": "stage2", "judge_late": "conv5", "judge_logits": ""}
PROBED_BLUR = (0.0, 1.0, 2.0)
DESCRIPTION = """A ShuffleNetV2 (x0.5) of torchvision with one output per category of the scenes: above zero
where the network believes that the picture shows such an object, and largest for the largest object. It
judges reconstructions, and is never among what is decoded. `config.json` holds its name, its arguments, the
size and normalisation of its input, the layers that are compared, and the names of its outputs."""
DATA = """Pictures are moved by up to two pixels and tinted; half of them are blurred (Gaussian of up to
2.5 pixels) and made noisy, as reconstructions are."""
TRAINING = """Binary cross-entropy of every category, half the cross-entropy of the largest object's
category, and half that of the kind of place, whose outputs are dropped afterwards. AdamW, warm-up and cosine
decay; kept is a running average of the weights."""


def config(classes: tuple[str, ...]) -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architecture": ARCHITECTURE,
        "arguments": {"num_classes": len(classes)},
        "size": SIZE,
        "mean": MEAN,
        "sd": SD,
        "layers": LAYERS,
        "classes": classes,
    }


def build(n_outputs: int, seed: int) -> "torch.nn.Module":
    """An untrained network."""
    import torch
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.get_model(ARCHITECTURE, weights=None, num_classes=n_outputs)


def train(job: Job, recipe: Recipe = RECIPE) -> None:
    """Train the network and write its folder."""
    import torch

    cards.clear(job.folder)
    classes = tuple(sorted({name for objects in job.train.objects for name in objects}))
    places = tuple(sorted(set(job.train.settings)))
    present = torch.from_numpy(data.present(job.train, classes)).float()
    main = torch.tensor([classes.index(name) for name in job.train.main])
    place = torch.tensor([places.index(name) for name in job.train.settings])
    network = build(len(classes) + len(places), recipe.seed)

    def loss_of_step(
        module: "torch.nn.Module", step: int, generator: "torch.Generator"
    ) -> dict[str, "torch.Tensor"]:
        batch = data.batch(job.train, step, recipe.batch_size, recipe.seed)
        outputs = module(prepared(data.spoilt(batch.images, (recipe.seed, step))))
        rows = torch.from_numpy(batch.rows)
        return losses(outputs, present[rows], main[rows], place[rows])

    history = fit(network, loss_of_step, recipe, job.work, origin.origin(job, __name__))
    state = network.state_dict()
    for name in ("fc.weight", "fc.bias"):
        state[name] = state[name][: len(classes)]
    save_half(state, job.folder / "model.safetensors")
    write_json(config(classes), job.folder / "config.json")
    cards.finish(
        job, NAME, recipe, history, measure(job.folder, job.held_out),
        library="torchvision", description=DESCRIPTION, data=DATA, training=TRAINING,
    )  # fmt: skip


def losses(
    outputs: "torch.Tensor", present: "torch.Tensor", main: "torch.Tensor", place: "torch.Tensor"
) -> dict[str, "torch.Tensor"]:
    """Losses of a batch in nats.

    Parameters
    ----------
    outputs : (image, category + kind of place) logits
    present : (image, category), 1 where the picture shows the category
    main, place : (image,), category of the largest object and kind of place
    """
    from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

    n = present.shape[1]
    objects = binary_cross_entropy_with_logits(outputs[:, :n], present, reduction="none").sum(1).mean()
    largest, where = cross_entropy(outputs[:, :n], main), cross_entropy(outputs[:, n:], place)
    right = (outputs[:, :n].argmax(dim=1) == main).float().mean()
    return {"loss": objects + (largest + where) / 2, "objects": objects, "main": right}


def prepared(images: NDArray[np.uint8]) -> "torch.Tensor":
    """Network input, (image, 3, 96, 96), from (image, row, column, 3)."""
    import torch
    from torch.nn.functional import interpolate

    tensor = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2))).float() / 255
    larger = interpolate(tensor, (SIZE, SIZE), mode="bilinear", align_corners=False, antialias=True)
    mean, sd = (larger.new_tensor(values)[:, None, None] for values in (MEAN, SD))
    return (larger - mean) / sd


def load(folder: str | Path) -> tuple["torch.nn.Module", tuple[str, ...]]:
    """The trained network, in evaluation mode and single precision, and the names of its outputs."""
    from safetensors.torch import load_file

    about = read_json(Path(folder) / "config.json")
    network = build(len(about["classes"]), seed=0)
    network.load_state_dict(load_file(Path(folder) / "model.safetensors"))
    return network.float().eval().requires_grad_(False), tuple(about["classes"])


def logits(network: "torch.nn.Module", images: NDArray[np.uint8], size: int = 256) -> NDArray[np.float32]:
    """(image, category) for images (image, row, column, 3)."""
    import torch

    with torch.inference_mode():
        starts = range(0, len(images), size)
        return np.concatenate([network(prepared(images[at : at + size])).numpy() for at in starts])


def measure(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Quality on held-out scenes, sharp and blurred, of the network as it was written."""
    network, classes = load(folder)
    present = data.present(scenes, classes)
    found: dict[str, float] = {}
    for sigma in PROBED_BLUR:
        images = np.rint(data.blurred(scenes.images, np.full(len(scenes), sigma))).astype(np.uint8)
        scores = logits(network, images)
        how = f"blurred by {sigma:g} pixels" if sigma else "sharp"
        right = quality.top1_main(scores, classes, scenes.main)
        found[f"{how}: the first category is the largest object's"] = right
        found[f"{how}: the first category is in the picture"] = quality.top1_present(scores, present)
    found["the first category for always the most frequent"] = max(
        scenes.main.count(name) / len(scenes) for name in classes
    )
    return found
