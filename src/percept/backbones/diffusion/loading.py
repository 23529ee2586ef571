"""Pipelines of diffusers from the folders of backbones: safetensors only, nothing from the network."""

from pathlib import Path
from typing import Any

from percept.backbones import store
from percept.backbones.catalogue import Backbone
from percept.backbones.quiet import no_progress_bars


def unchecked(kind: type, entry: Backbone, folder: Path, dtype: Any) -> Any:  # noqa: ANN401
    """A pipeline of Stable Diffusion 1.x without the network that blanks images it suspects."""
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    return pipeline(kind, entry, folder, dtype, **absent)


def pipeline(kind: type, entry: Backbone, folder: Path, dtype: Any, **parts: Any) -> Any:  # noqa: ANN401
    """A pipeline of class `kind` in evaluation mode, on the CPU.

    It has no image encoder, because embeddings are given. `parts` stand in for what the folder lists, as do
    the parts that lie in the folders of other backbones.
    """
    no_progress_bars()
    parts = {"image_encoder": None, **parts, **shared(entry, dtype)}
    return kind.from_pretrained(
        str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, **parts
    )


def frozen(pipeline: Any) -> Any:  # noqa: ANN401
    """The pipeline, its networks in evaluation mode and without a parameter that could be trained.

    Channels come last in memory: a fifth faster on a processor (AMD EPYC, the small networks).
    """
    import torch

    for network in pipeline.components.values():
        if isinstance(network, torch.nn.Module):
            network.eval().requires_grad_(False)
            torch.nn.Module.to(network, memory_format=torch.channels_last)  # some have a `to` of their own
    return pipeline


def shared(entry: Backbone, dtype: Any) -> dict[str, Any]:  # noqa: ANN401
    """The parts of a pipeline that lie in the folders of other backbones."""
    from diffusers import AutoencoderKL
    from transformers import AutoTokenizer, CLIPTextModel

    readers = {
        "vae": (AutoencoderKL, {"dtype": dtype, "use_safetensors": True}),
        "text_encoder": (CLIPTextModel, {"dtype": dtype, "use_safetensors": True}),
        "tokenizer": (AutoTokenizer, {}),
    }
    return {
        role: reader.from_pretrained(part(entry.components[role], role), local_files_only=True, **options)
        for role, (reader, options) in readers.items()
        if role in entry.components
    }


def part(name: str, role: str) -> Path:
    """Where the backbone `name` keeps a part: in a folder of its own, or it is that part."""
    folder = store.require(name)
    return folder / role if (folder / role).is_dir() else folder
