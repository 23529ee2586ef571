"""Which decoder may begin with the weights of another: read when a workflow is planned."""

from collections.abc import Mapping
from typing import Any


def require_startable(name: str, decoders: Mapping[str, Any]) -> None:
    """Refuse a decoder that cannot begin with the encoder of the one that its setting `init` names.

    Both read the same voxels, normalised the same way (`voxels.normalisation` is one setting for all), have
    the same hidden layers and are trained with the same seeds.

    Raises
    ------
    ValueError : the other trains no encoder, or differs in one of these; what would be right is said
    """
    decoder = decoders[name]
    other = decoders[start := decoder.starts_from]
    place = f"`decoders.{name}.init` names {start!r}"
    if not other.pretrains:
        fitting = [entry for entry, one in decoders.items() if one.pretrains]
        known = f" ({', '.join(fitting)})" if fitting else ""
        raise ValueError(
            f"{place}, of kind `{other.kind}`, which trains no encoder that another decoder could begin "
            f"with: name an entry of kind `dino`{known}, or leave `init` out"
        )
    if other.roi != decoder.roi:
        raise ValueError(
            f"{place}, whose first layer reads the voxels of {other.roi!r}, but {name!r} reads those of "
            f"{decoder.roi!r}: its weights would meet other voxels. Set the same `roi` for both"
        )
    if other.mask != decoder.mask:
        raise ValueError(
            f"{place}, whose input is masked by {other.mask!r}, and that of {name!r} by {decoder.mask!r}: "
            "weights of voxels that were always 0 were never trained. Set the same `mask` for both"
        )
    _require_equal_layers(place, decoder.encoder, other.encoder)
    if missing := sorted({*decoder.seeds} - {*other.seeds}):
        raise ValueError(
            f"{place}, which is not trained with the seeds {', '.join(map(str, missing))} of {name!r}: a "
            f"training begins with the weights of its own seed. Add them to `decoders.{start}.seeds`"
        )


def _require_equal_layers(place: str, own: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    differing = [key for key in own if own[key] != other[key]]
    if differing:
        told = ", ".join(f"{key} {other[key]!r} instead of {own[key]!r}" for key in differing)
        raise ValueError(
            f"{place}, whose hidden layers are others ({told}), so that its weights do not fit: set the "
            "`network` of both alike"
        )
