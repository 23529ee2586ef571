"""Image encoders of open_clip: any architecture; weights by released tag, by local file, or untrained.

Nothing here reaches for the network while features are computed, because compute nodes have none: weights
are fetched beforehand by `fetch`, which is also a command, `python -m percept.backbones.image ViT-L-14
openai`.
"""

import argparse
import difflib
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from percept.backbones import fingerprint
from percept.backbones.device import choose
from percept.files import PerceptError, hash_text, sha256

log = logging.getLogger(__name__)
RANDOM = "random:"
PREPROCESSING_THREADS = 4  # decoding and resizing release the interpreter lock


@dataclass(frozen=True)
class ImageEncoder:
    """A frozen image tower with its preprocessing.

    `identity` says which architecture and weights it is; `encode` is the only thing that callers need.
    """

    identity: dict[str, Any]
    tower: Any  # torch.nn.Module: (image, 3, size, size) -> (image, feature)
    transform: Any  # PIL image -> (3, size, size), as released with the weights
    device: str

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pooled features, (image, feature), of uint8 images (image, height, width, 3)."""
        return next(self.stream([images]))

    def stream(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.float32]]:
        """Pooled features of each batch; the next batch is prepared while the network works on this one."""
        with ThreadPoolExecutor(PREPROCESSING_THREADS) as pool, ThreadPoolExecutor(1) as ahead:
            waiting = None
            for batch in batches:
                following = ahead.submit(self._prepare, batch, pool)
                if waiting is not None:
                    yield self._forward(waiting.result())
                waiting = following
            if waiting is not None:
                yield self._forward(waiting.result())

    def fingerprint(self) -> dict[str, Any]:
        """Identity, digest of the weights in use, and the answer to the fixed image."""
        weights = {name: value.numpy(force=True) for name, value in self.tower.state_dict().items()}
        answer = self.encode(fingerprint.probe_image())
        return {
            **self.identity,
            "weights_sha256": fingerprint.digest(weights),
            "probe": fingerprint.summarise(answer),
        }

    def _prepare(self, images: NDArray[np.uint8], pool: ThreadPoolExecutor) -> Any:  # noqa: ANN401 (a tensor)
        import torch
        from PIL import Image

        return torch.stack(list(pool.map(lambda image: self.transform(Image.fromarray(image)), images)))

    def _forward(self, prepared: Any) -> NDArray[np.float32]:  # noqa: ANN401
        import torch

        with torch.inference_mode():
            return self.tower(prepared.to(self.device)).float().cpu().numpy()


def load(architecture: str, weights: str, device: str = "auto") -> ImageEncoder:
    """An image tower, in evaluation mode, without ever touching the network.

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
    tag = _released(architecture, weights)
    seed = _seed(weights) if weights.startswith(RANDOM) else 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(
            architecture,
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=tag.get("quick_gelu", False),
        )
    source = _read_weights(model, architecture, weights, tag)
    tower = model.visual.eval().requires_grad_(False).to(device)
    identity = {"library": "open_clip", "architecture": _portable(architecture), **source}
    return ImageEncoder(identity, tower, _transform(tower, tag), device)


def fetch(architecture: str, tag: str) -> Path:
    """Download released weights into the cache (once) and return their path.

    Raises
    ------
    PerceptError : unknown architecture or tag, or no connection
    """
    from open_clip.pretrained import download_pretrained

    released = _released(architecture, tag)
    if not released:
        raise PerceptError(f"{tag!r} is no released tag of {architecture}: there is nothing to fetch.")
    if (path := _cached(released)) is not None:
        return path
    try:
        return Path(download_pretrained(released))
    except (OSError, RuntimeError) as error:
        raise PerceptError(_absent(architecture, tag, f"downloading failed ({error})")) from error


def _seed(weights: str) -> int:
    seed = weights.removeprefix(RANDOM)
    if not seed.isdecimal():
        raise PerceptError(
            f"untrained weights are written `random:<seed>`, such as `random:0`; given: {weights!r}."
        )
    return int(seed)


def _released(architecture: str, weights: str) -> dict[str, Any]:
    """What open_clip knows about a tag; empty for local files and untrained weights."""
    import open_clip

    if architecture.startswith("local-dir:"):
        if not Path(architecture.removeprefix("local-dir:"), "open_clip_config.json").is_file():
            raise PerceptError(
                f"the architecture {architecture!r} names no folder with an open_clip_config.json."
            )
    elif (name := architecture.replace("/", "-")) not in (known := open_clip.list_models()):
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
        raise PerceptError(
            f"open_clip {open_clip.__version__} has no architecture {architecture!r}; the nearest are "
            f"{', '.join(close) or 'none'}: `open_clip.list_models()` lists all {len(known)}."
        )
    if weights.startswith(RANDOM) or _is_path(weights):
        return {}
    tags = open_clip.list_pretrained_tags_by_model(architecture.replace("/", "-"))
    found = open_clip.get_pretrained_cfg(architecture.replace("/", "-"), weights)
    if not found:
        raise PerceptError(
            f"open_clip {open_clip.__version__} has no weights {weights!r} for {architecture}; it has "
            f"{', '.join(tags) or 'none'}. A local file is given by its path (.safetensors), untrained "
            "weights as `random:<seed>`."
        )
    return found


def _is_path(weights: str) -> bool:
    return "/" in weights or Path(weights).suffix in {".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl"}


def _read_weights(
    model: Any,  # noqa: ANN401
    architecture: str,
    weights: str,
    tag: dict[str, Any],
) -> dict[str, str]:
    """Fill the model and say where its weights come from."""
    import open_clip

    if weights.startswith(RANDOM):
        log.warning(
            "%s is used with random weights (%s): its features were never trained", architecture, weights
        )
        return {"weights": weights, "trained": "no"}
    if not tag:
        _load_file(model.visual, Path(weights), architecture)
        return {"weights": Path(weights).name, "revision": sha256(weights)[:12]}
    path = _cached(tag)
    if path is None:
        raise PerceptError(_absent(architecture, weights, "they are not in the cache"))
    open_clip.load_checkpoint(model, str(path), weights_only=True)  # refuses pickled code
    return {"weights": weights, "revision": _revision(tag, path)}


def _load_file(tower: Any, path: Path, architecture: str) -> None:  # noqa: ANN401
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors":
        raise PerceptError(
            f"the weights {path} are not a .safetensors file: other formats can run code while they are "
            "read. Convert them once (safetensors.torch.save_file of the state dict) and name the new file."
        )
    if not path.is_file():
        raise PerceptError(
            f"the weights {path} for {architecture} do not exist: check the path in the config."
        )
    try:
        state = load_file(path)
        visual = {
            key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")
        }
        tower.load_state_dict(visual or state)
    except (SafetensorError, RuntimeError) as error:
        raise PerceptError(
            f"the weights {path} do not fit the image tower of {architecture}: {str(error)[:400]}. Name the "
            "architecture they were trained with, or fetch the file again if it is damaged."
        ) from error


def _cached(tag: dict[str, Any]) -> Path | None:
    """Where the weights of a tag lie on this machine, without asking the network."""
    from huggingface_hub import try_to_load_from_cache
    from open_clip.constants import HF_WEIGHTS_NAME
    from open_clip.pretrained import _get_safe_alternatives

    if tag.get("hf_hub"):
        repository, _, name = tag["hf_hub"].rpartition("/")
        for file in (*_get_safe_alternatives(name or HF_WEIGHTS_NAME), name or HF_WEIGHTS_NAME):
            if isinstance(found := try_to_load_from_cache(repository, file), str):
                return Path(found)
        return None
    path = Path(
        "~/.cache/clip", Path(tag.get("url", "")).name
    ).expanduser()  # open_clip's place for plain URLs
    return path if path.is_file() else None


def _revision(tag: dict[str, Any], path: Path) -> str:
    """Commit of the hub's snapshot that holds the file, or a hash of the URL it came from."""
    return path.parent.name[:12] if tag.get("hf_hub") else hash_text(tag.get("url", ""))


def _absent(architecture: str, tag: str, why: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"the weights {tag!r} of {architecture} are absent: {why}. Jobs never download weights, because "
        f"compute nodes have no network; run `python -m percept.backbones.image {architecture} {tag}` once "
        f"where there is one. It fills {HF_HUB_CACHE} (moved by HF_HOME), which every node must see."
    )


def _portable(architecture: str) -> str:
    """The architecture without the folder of one machine."""
    return architecture.removeprefix("local-dir:").rstrip("/").rpartition("/")[2]


def _transform(tower: Any, tag: dict[str, Any]) -> Any:  # noqa: ANN401
    from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict

    settings = merge_preprocess_dict({**tower.preprocess_cfg}, tag)
    settings["size"] = tower.preprocess_cfg["size"]
    return image_transform_v2(PreprocessCfg(**settings), is_train=False)


def main() -> None:
    """Fetch released weights into the cache."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("architecture", help="a name of open_clip.list_models()")
    parser.add_argument("tag", help="released weights, such as openai")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    log.info("%s", fetch(chosen.architecture, chosen.tag))


if __name__ == "__main__":
    main()
