"""The image or the text half of a CLIP in open_clip's folder layout, without the memory of the other half."""

from pathlib import Path
from typing import Any

from percept.backbones.entry import Backbone
from percept.backbones.quiet import no_false_alarms
from percept.files import PerceptError
from percept.shortage import damage

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def image_tower(folder: Path, entry: Backbone) -> Any:  # noqa: ANN401 (a torch.nn.Module)
    """The image tower, (image, 3, size, size) -> (image, feature), with its weights, on the CPU.

    Raises
    ------
    PerceptError : weights that are damaged or do not fit
    """
    tower = empty(folder, entry).visual
    state = _read(folder / WEIGHTS, image=True)
    _assign(tower, {key.removeprefix("visual."): value for key, value in state.items()}, folder, entry)
    return tower


def text_tower(folder: Path, entry: Backbone) -> Any:  # noqa: ANN401
    """A CLIP without its image tower, for `encode_text`, with its weights, on the CPU.

    Raises
    ------
    PerceptError : weights that are damaged or do not fit
    """
    import torch

    model = empty(folder, entry)
    model.visual = torch.nn.Identity()
    _restore_masks(model)
    _assign(model, _read(folder / WEIGHTS, image=False), folder, entry)
    return model


def empty(folder: Path, entry: Backbone) -> Any:  # noqa: ANN401
    """The network of a folder on the meta device: neither memory nor time is spent on random weights.

    Raises
    ------
    PerceptError : no settings in the folder
    """
    import open_clip
    import torch

    if not (folder / CONFIG).is_file():
        raise PerceptError(
            f"the folder {folder} of the backbone {entry.name} has no {CONFIG}, which says how it is built: "
            "it was not fetched by Percept, or has been emptied. Delete it and fetch it again."
        )
    with torch.device("meta"), no_false_alarms():
        return open_clip.create_model(
            f"local-dir:{folder}",
            load_weights=False,
            pretrained_text=False,
            force_quick_gelu=entry.settings.get("quick_gelu", False),
            device="meta",
        )


def _read(path: Path, image: bool) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith("visual.") == image]
            return {name: file.get_tensor(name) for name in names}
    except damage(path, OSError, SafetensorError) as error:
        raise PerceptError(
            f"the weights {path} are not readable ({error}): the file is damaged. Delete it with the "
            "manifest beside it, and fetch the backbone again."
        ) from error


def _assign(module: Any, state: dict[str, Any], folder: Path, entry: Backbone) -> None:  # noqa: ANN401
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise PerceptError(
            f"the weights {folder / WEIGHTS} do not fit the network of {entry.name} that {CONFIG} beside "
            f"them describes: {str(error)[:400]}. Delete the folder and fetch the backbone again."
        ) from error


def _restore_masks(model: Any) -> None:  # noqa: ANN401
    """The causal masks of attention are no weights: they are made here, because `empty` made none."""
    import torch

    for module in model.modules():
        mask = module._buffers.get("attn_mask")
        if mask is not None:
            module._buffers["attn_mask"] = torch.full(mask.shape, float("-inf")).triu_(1)
