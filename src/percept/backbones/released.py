"""Weights of open_clip for any of its architectures: by released tag, by local file, or untrained.

Nothing here reaches for the network while features are computed, because compute nodes have none: weights
are fetched beforehand by `fetch`, which is also a command, `python -m percept.backbones.image ViT-L-14
openai`.
"""

import difflib
import logging
from pathlib import Path
from typing import Any

from percept.files import PerceptError, hash_text, sha256

log = logging.getLogger(__name__)
RANDOM = "random:"


def fetch(architecture: str, tag: str) -> Path:
    """Download released weights into the cache (once) and return their path.

    Raises
    ------
    PerceptError : unknown architecture or tag, or no connection
    """
    from open_clip.pretrained import download_pretrained

    known = released(architecture, tag)
    if not known:
        raise PerceptError(f"{tag!r} is no released tag of {architecture}: there is nothing to fetch.")
    if (path := cached(known)) is not None:
        return path
    try:
        return Path(download_pretrained(known))
    except (OSError, RuntimeError) as error:
        raise PerceptError(_absent(architecture, tag, f"downloading failed ({error})")) from error


def seed(weights: str) -> int:
    """The seed of untrained weights, `random:<seed>`.

    Raises
    ------
    PerceptError : no number follows
    """
    number = weights.removeprefix(RANDOM)
    if not number.isdecimal():
        raise PerceptError(
            f"untrained weights are written `random:<seed>`, such as `random:0`; given: {weights!r}."
        )
    return int(number)


def released(architecture: str, weights: str) -> dict[str, Any]:
    """What open_clip knows about a tag; empty for local files and untrained weights.

    Raises
    ------
    PerceptError : unknown architecture or tag
    """
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


def read_weights(
    model: Any,  # noqa: ANN401
    architecture: str,
    weights: str,
    tag: dict[str, Any],
) -> dict[str, str]:
    """Fill the image tower of a model and say where its weights come from.

    Raises
    ------
    PerceptError : weights absent, or a file that is not safetensors or does not fit
    """
    import open_clip

    if weights.startswith(RANDOM):
        log.warning(
            "%s is used with random weights (%s): its features were never trained", architecture, weights
        )
        return {"weights": weights, "trained": "no"}
    if not tag:
        _load_file(model.visual, Path(weights), architecture)
        return {"weights": Path(weights).name, "revision": sha256(weights)[:12]}
    path = cached(tag)
    if path is None:
        raise PerceptError(_absent(architecture, weights, "they are not in the cache"))
    open_clip.load_checkpoint(model, str(path), weights_only=True)  # refuses pickled code
    return {"weights": weights, "revision": revision(tag, path)}


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


def cached(tag: dict[str, Any]) -> Path | None:
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


def revision(tag: dict[str, Any], path: Path) -> str:
    """Commit of the hub's snapshot that holds the file, or a hash of the URL it came from."""
    return path.parent.name[:12] if tag.get("hf_hub") else hash_text(tag.get("url", ""))


def _absent(architecture: str, tag: str, why: str) -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return (
        f"the weights {tag!r} of {architecture} are absent: {why}. Jobs never download weights, because "
        f"compute nodes have no network; run `python -m percept.backbones.image {architecture} {tag}` once "
        f"where there is one. It fills {HF_HUB_CACHE} (moved by HF_HOME), which every node must see."
    )
