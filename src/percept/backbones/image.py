"""Image encoders of open_clip: those of the catalogue by name, any other by architecture and weights.

Nothing here reaches for the network while features are computed, because compute nodes have none.
"""

import argparse
import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones import fingerprint, outputs, released, store
from percept.backbones.catalogue import named
from percept.backbones.device import choose
from percept.backbones.precision import dtype
from percept.backbones.quiet import no_false_alarms
from percept.backbones.towers import image_tower
from percept.backbones.views import N_VIEWS, Augmentation, augmented
from percept.files import PerceptError

log = logging.getLogger(__name__)
AHEAD = 2  # batches under way beside the one that the caller has: one is computed, one prepared
MOST_THREADS = 16  # of preprocessing: resizing releases the interpreter lock


@dataclass(frozen=True)
class Preprocessing:
    """How images become what a tower reads, as released with its weights.

    `geometry` resizes and crops a PIL image on the CPU. Scaling to `mean` and `sd` (in [0, 1], by channel) is
    left to the device of the network: the copy there is a quarter of the size.
    """

    geometry: Any  # PIL image -> PIL image of the tower's size
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """One image (height, width, 3) at the size of the tower."""
        from PIL import Image

        return np.asarray(self.geometry(Image.fromarray(np.ascontiguousarray(image))))

    def scale(self, images: Any) -> Any:  # noqa: ANN401 (tensors)
        """Images uint8 (image, row, column, 3) as float32 (image, 3, row, column), on their device."""
        import torch

        mean, sd = (
            torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.sd)
        )
        return (images.permute(0, 3, 1, 2).float() / 255 - mean) / sd


@dataclass(frozen=True)
class ImageEncoder:
    """A frozen image tower with its preprocessing.

    `identity` says which architecture, weights and output it is; callers need only `encode` and `stream`.
    """

    identity: dict[str, Any]
    tower: Any  # torch.nn.Module
    preprocessing: Preprocessing
    device: str
    output: outputs.Output = outputs.pooled

    def encode(self, images: NDArray[np.uint8], augmentation: Augmentation = "none") -> NDArray[np.float32]:
        """Features, (image, feature) or (image, token, feature), of uint8 images (image, row, column, 3)."""
        return next(self.stream([images], augmentation))

    def stream(
        self, batches: Iterable[NDArray[np.uint8]], augmentation: Augmentation = "none"
    ) -> Iterator[NDArray[np.float32]]:
        """Features of each batch; while the caller has one, the network works on the next.

        With an augmentation they are the mean over the views of `percept.backbones.views.augmented`, each
        encoded (and, for tokens, divided by its CLS token) by itself.

        Raises
        ------
        PerceptError : no such augmentation
        ValueError : not uint8 RGB images
        """
        n_views = N_VIEWS.get(augmentation, 1)
        answers = self._answers(view for batch in batches for view in augmented(batch, augmentation))
        for total in answers:
            for answer in islice(answers, n_views - 1):
                total += answer
            yield total / n_views if n_views > 1 else total

    def fingerprint(self) -> dict[str, Any]:
        """Identity, digest of the weights in use, and the answer to the fixed image."""
        answer = self.encode(fingerprint.probe_image())
        return {
            **self.identity,
            "weights_sha256": fingerprint.of_weights(self.tower),
            "probe": fingerprint.summarise(answer),
        }

    def _answers(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """The next batch is computed, and the one after it prepared, while the caller has an answer."""
        with _workers() as (pool, preparing, computing):
            waiting: deque[Future] = deque()
            for batch in batches:
                cropped = preparing.submit(self._prepare, batch, pool)
                waiting.append(computing.submit(self._forward, cropped))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _prepare(self, images: NDArray[np.uint8], pool: ThreadPoolExecutor) -> NDArray[np.uint8]:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(
                f"images to encode are uint8 RGB (image, row, column, 3), not {images.dtype} {images.shape}"
            )
        return np.stack(list(pool.map(self.preprocessing.crop, images)))

    def _forward(self, cropped: Future) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            prepared = self.preprocessing.scale(torch.from_numpy(cropped.result()).to(self.device))
            weights = next(self.tower.parameters())
            return self.output(self.tower, prepared.to(weights.dtype)).float().cpu().numpy()


def open_named(
    name: str, output: str = "pooled", device: str = "auto", precision: str = "float32"
) -> ImageEncoder:
    """The image tower of a backbone of the catalogue.

    Parameters
    ----------
    output : `pooled`, the image embedding (image, feature), not normalised; or `tokens`, (image, token,
        feature), in the space that the network's generator reads (`percept.backbones.outputs`)
    precision : float32, float16 or bfloat16, of the weights and the computation; features are float32

    Raises
    ------
    PerceptError : not an image encoder, absent or damaged, no such output, precision or device
    """
    entry, device, kind = named(name, "image"), choose(device), dtype(precision)
    read = _output(output, entry.settings["tokens"])
    folder = store.require(name)
    tower = image_tower(folder, entry)
    identity = {**store.identity(name), "output": output, "precision": precision}
    tower = tower.eval().requires_grad_(False).to(device, kind)
    return ImageEncoder(identity, tower, _preprocessing(tower, {}), device, read)


def load(architecture: str, weights: str, device: str = "auto") -> ImageEncoder:
    """Any image tower of open_clip, in evaluation mode, without ever touching the network.

    Parameters
    ----------
    architecture : a name that open_clip knows, or `local-dir:<folder>` with an open_clip_config.json
    weights : a released tag (fetched before), the path of a .safetensors file (whole model or image tower
        alone), or `random:<seed>`: untrained, for tests and as a control
    device : auto (a GPU where there is one), cpu, cuda, cuda:1, ...

    Raises
    ------
    PerceptError : unknown architecture or tag, weights absent, a file that is not safetensors or does not fit
    """
    import open_clip
    import torch

    device = choose(device)
    tag = released.released(architecture, weights)
    seed = released.seed(weights) if weights.startswith(released.RANDOM) else 0
    with torch.random.fork_rng(devices=[]), no_false_alarms():
        torch.manual_seed(seed)
        model = open_clip.create_model(
            architecture,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=tag.get("quick_gelu", False),
        )
    source = released.read_weights(model, architecture, weights, tag)
    tower = model.visual.eval().requires_grad_(False).to(device)
    identity = {"library": "open_clip", "architecture": _portable(architecture), **source}
    return ImageEncoder(identity, tower, _preprocessing(tower, tag), device)


def _output(name: str, tokens: str) -> outputs.Output:
    if name not in ("pooled", "tokens"):
        raise PerceptError(
            f"an image encoder has no output {name!r}: set `output` to pooled (one vector per image) or "
            "tokens (one per patch)."
        )
    return outputs.pooled if name == "pooled" else outputs.TOKENS[tokens]


def _preprocessing(tower: Any, tag: dict[str, Any]) -> Preprocessing:  # noqa: ANN401
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
    from torchvision.transforms import Compose

    settings = merge_preprocess_dict({**tower.preprocess_cfg}, tag)
    settings["size"] = tower.preprocess_cfg["size"]
    *geometry, _to_tensor, normalise = image_transform_v2(
        PreprocessCfg(**settings), is_train=False
    ).transforms
    return Preprocessing(Compose(geometry), tuple(normalise.mean), tuple(normalise.std))


@contextmanager
def _workers() -> Iterator[tuple[ThreadPoolExecutor, ...]]:
    """Threads that crop, one that gathers, one that computes; in the end, what still waits is dropped."""
    n_threads = min(MOST_THREADS, max(2, len(os.sched_getaffinity(0))))
    workers = ThreadPoolExecutor(n_threads), ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    try:
        yield workers
    finally:
        for worker in reversed(workers):
            worker.shutdown(cancel_futures=True)


def _portable(architecture: str) -> str:
    """The architecture without the folder of one machine."""
    return architecture.removeprefix("local-dir:").rstrip("/").rpartition("/")[2]


def main() -> None:
    """Fetch released weights into the cache."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("architecture", help="a name of open_clip.list_models()")
    parser.add_argument("tag", help="released weights, such as openai")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    log.info("%s", released.fetch(chosen.architecture, chosen.tag))


if __name__ == "__main__":
    main()
