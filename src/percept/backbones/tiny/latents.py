"""What the small diffusion models denoise and read: latents and embeddings of all scenes, computed once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.backbones.tiny import clip, origin, vae
from percept.backbones.tiny.data import Scenes
from percept.backbones.tiny.trainer import Job
from percept.files import atomic

AT_ONCE = 250  # scenes in one pass


def latents(job: Job) -> NDArray[np.float32]:
    """Latents of the training scenes by tiny_vae, (scene, 4, 8, 8), of unit spread."""

    def compute() -> NDArray[np.float32]:
        autoencoder = vae.load(job.parts[vae.NAME])
        return vae.encode(autoencoder, job.train.images) * autoencoder.config.scaling_factor

    return _remembered(job, "latents", vae.NAME, compute)


def embeddings(job: Job) -> NDArray[np.float32]:
    """Image embeddings of the training scenes by tiny_clip, (scene, 64), not normalised."""

    def compute() -> NDArray[np.float32]:
        return embed(job.parts[clip.NAME], job.train.images)

    return _remembered(job, "embeddings", clip.NAME, compute)


def embed(folder: str | Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Image embeddings by the tiny_clip in a folder, (image, 64), not normalised.

    They are those of `percept.backbones.image`, output `pooled`.
    """
    import torch

    network, _ = clip.load(folder)
    parts = [images[first : first + AT_ONCE] for first in range(0, len(images), AT_ONCE)]
    with torch.inference_mode():
        return np.concatenate([network.encode_image(clip.normalised(part)).numpy() for part in parts])


def captions(scenes: Scenes, rows: NDArray[np.integer], rng: np.random.Generator) -> list[str]:
    """One caption of each of some scenes, drawn at random."""
    return [scenes.captions[row][rng.integers(len(scenes.captions[row]))] for row in rows]


def _remembered(
    job: Job, what: str, network: str, compute: Callable[[], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """What `compute` returns, or what it returned for the same scenes, network and code."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path = job.work / f"{what}.safetensors"
    mark = " ".join([job.data, origin.part(job.parts[network]), origin.code(__name__)])
    if path.is_file():
        with safe_open(path, "numpy") as stored:
            if (stored.metadata() or {}).get("source") == mark:
                return stored.get_tensor("values")
    values = np.ascontiguousarray(compute(), dtype=np.float32)
    with atomic(path) as temporary:
        save_file({"values": values}, temporary, metadata={"source": mark})
    return values
