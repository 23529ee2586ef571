"""Weights of one network in the hidden layers of another: all of them, or none."""

from collections.abc import Mapping

import torch
from numpy.typing import NDArray
from torch import nn

from percept.decoders.networks.blocks import Encoder
from percept.files import PerceptError

LAST = "last."  # of a `Backbone`, which is no part of its encoder


def fill(encoder: Encoder, weights: Mapping[str, NDArray], of: str) -> None:
    """Load weights (name -> array) into the hidden layers of `encoder`, in place.

    Parameters
    ----------
    of : what messages call the network that they come from

    Raises
    ------
    PerceptError : a tensor of the hidden layers has no weights, weights have no tensor, or shapes differ
    """
    wanted = {
        name: tuple(one.shape) for name, one in encoder.state_dict().items() if not name.startswith(LAST)
    }
    found = {name: tuple(one.shape) for name, one in weights.items()}
    if wanted != found:
        raise PerceptError(
            f"the encoder of {of} does not fit the network that should begin with it "
            f"({_differences(wanted, found)}), so that part of it would silently stay random: set the "
            "`network` of both decoders alike, and the same `roi`, or remove `init`."
        )
    encoder.load_state_dict({name: torch.tensor(one) for name, one in weights.items()}, strict=False)


def parts(network: nn.Module, encoder: Encoder) -> list[str]:
    """Modules of a network, three names deep, with parameters outside the hidden layers of `encoder`."""
    hidden = {id(one) for name, one in encoder.named_parameters() if not name.startswith(LAST)}
    others = [name for name, one in network.named_parameters() if id(one) not in hidden]
    return list(dict.fromkeys(".".join(name.split(".")[:-1][:3]) or name for name in others))


def _differences(wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> str:
    """In words: what is missing, what is too much, and what has another shape."""
    told = [f"{name} is missing" for name in wanted if name not in found]
    told += [f"{name} has no place" for name in found if name not in wanted]
    told += [
        f"{name} is {_size(found[name])} instead of {_size(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    return "; ".join(told)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
