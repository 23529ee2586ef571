"""A pool of small pictures with their embeddings, stimuli of a data set, and a training of seconds."""

import numpy as np
from PIL import Image

from percept.backbones import image
from percept.decoders.predictions import Predictions, write_predictions
from percept.gan_settings import GanSection
from percept.targets import folder, store

N, N_STIMULI, SIDE = 24, 5, 16
TARGET = {"kind": "clip_image", "backbone": "tiny_clip", "output": "pooled"}
TYPED = (0.1, 0.2, 0.3, 0.4, 0.5)
SETTINGS = {
    "pool": "web",
    "conditions": ["clip"],
    "noise": {"strengths": [TYPED]},
    "network": {
        "side": SIDE, "capacity": 64, "most_channels": 8, "latent": 4, "style": 6, "mapping": 2, "rate": 1.0,
    },
    "losses": {"r1_every": 2, "path_every": 2, "mixing": 0.5},
    "training": {
        "steps": 6, "batch_size": 4, "warmup": 1, "looked_at": 2, "measured_every": 2, "measured_images": 8,
        "measured_by": "tiny_judge", "device": "cpu", "learning_rate": 0.01, "ema": 0.5,
    },
}  # fmt: skip


def section(**changes):
    """The settings with some replaced, section by section."""
    merged = {**SETTINGS}
    for name, value in changes.items():
        merged[name] = {**SETTINGS[name], **value} if isinstance(value, dict) else value
    return GanSection.model_validate(merged)


def pictures(n, seed=0, side=20):
    """Blocks of colour, (n, side, side, 3)."""
    blocks = np.random.default_rng(seed).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side))) for one in blocks])


def write(root, known=()):
    """Inputs of the rule: a pool whose first images are those of the stimuli `known`; and its folder."""
    place, stimuli = root / "web", pictures(N_STIMULI, seed=9)
    place.mkdir(parents=True)
    images = pictures(N)
    images[: len(known)] = stimuli[list(known)]
    for number, one in enumerate(images):
        Image.fromarray(one).save(place / f"{number:02d}.png")
    folder.write_list(place, root / "files.parquet")
    encoder = image.open_named("tiny_clip", "pooled", "cpu")
    embeddings, features = encoder.encode(images), encoder.encode(stimuli)
    store.write(root / "pool/index.json", embeddings, np.arange(N), {"backbone": "same"}, "clip of the pool")
    store.write(root / "clip/index.json", features, np.arange(N_STIMULI), {"backbone": "same"}, "clip")
    given = {
        "files": root / "files.parquet",
        "embeddings": [root / "pool/index.json"],
        "features": [root / "clip/index.json"],
    }  # fmt: skip
    return given, place, embeddings, features


def predict(path, predicted):
    """A file of predictions of validation images, in the order of the stimuli."""
    n = len(predicted)
    whole = Predictions(predicted, np.arange(n, dtype=np.int32), *(np.zeros((3, n), dtype=np.int16)))
    write_predictions(path, {"validation": whole}, {})
