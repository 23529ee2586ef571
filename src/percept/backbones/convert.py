"""PyTorch's own files of weights, read once and turned into safetensors, which cannot run code."""

import zipfile
from pathlib import Path
from typing import Any

from percept.files import PerceptError, atomic

ORIGIN = "source_sha256"  # key in the metadata of a converted file
TWINS = {
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
    "diffusion_pytorch_model.bin": "diffusion_pytorch_model.safetensors",
    "pytorch_model.bin": "model.safetensors",
}
"""How the libraries name the same weights in the two formats."""


def twin(path: str) -> str:
    """The path of a file of weights as safetensors; empty for a file that needs no conversion."""
    folder, _, name = path.rpartition("/")
    other = TWINS.get(name, "")
    return f"{folder}/{other}" if folder and other else other


def origin(file: Path) -> str:
    """SHA-256 of the file that a safetensors file was converted from; empty if it was not, or is absent."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return ""
    try:
        with safe_open(file, framework="pt") as opened:
            return (opened.metadata() or {}).get(ORIGIN, "")
    except SafetensorError:
        return ""


def convert(source: Path, target: Path, sha256: str, prefix: str = "", drop: tuple[str, ...] = ()) -> None:
    """Write the tensors of a PyTorch file as safetensors, whole or not at all.

    Parameters
    ----------
    sha256 : digest of `source`, kept in the metadata
    prefix : taken off the names of the tensors
    drop : tensors whose names (without the prefix) begin so are left out

    Raises
    ------
    PerceptError : the file holds anything but tensors, or is damaged
    """
    from safetensors.torch import save_file

    named = {name.removeprefix(prefix): tensor for name, tensor in _read(source).items()}
    kept = {name: tensor.clone().contiguous() for name, tensor in named.items() if not name.startswith(drop)}
    with atomic(target) as temporary:
        save_file(kept, temporary, metadata={"format": "pt", ORIGIN: sha256})


def _read(source: Path) -> dict[str, Any]:
    """The tensors of a file, by name; never anything that has to be unpickled as an object."""
    import torch
    from torch.serialization import pickle as errors  # for the name of the refusal only

    try:
        mapped = zipfile.is_zipfile(source)  # the format since PyTorch 1.6, which need not fit into memory
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (errors.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise PerceptError(
            f"{source} is no plain file of weights ({str(error)[:300]}): it is damaged, or holds objects "
            "that would have to be executed, which Percept never does. Delete it and fetch it again; if that "
            "does not help, its author has to publish the weights as safetensors."
        ) from error
    state = state.get("state_dict", state)
    return {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
