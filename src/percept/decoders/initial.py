"""The setting `init` of networks: to begin with the encoder that another decoder trained."""

import logging
from typing import TYPE_CHECKING, Any

from pydantic import Field

from percept.config import DecoderConfig
from percept.decoders.task import Task
from percept.sections import Identifier

if TYPE_CHECKING:
    from torch import nn

    from percept.decoders.networks.blocks import Encoder

log = logging.getLogger(__name__)


class InitialisedConfig(DecoderConfig):
    """A decoder whose network has an `Encoder`; its class says of which layers, by the property `encoder`."""

    init: Identifier | None = Field(
        None,
        description="Entry of `decoders`, of kind `dino`, whose encoder the network begins with, trained on "
        "the same voxels with the same seed; its `network` has the same hidden layers. null: random weights.",
    )

    @property
    def starts_from(self) -> str | None:
        """The decoder that is trained before."""
        return self.init

    def begin(self, network: "nn.Module", encoder: "Encoder", task: Task) -> None:
        """Put the weights of `Task.initial` into the hidden layers of a network, its `encoder`, where `init`
        names any; what they leave at random is named in the log.

        Raises
        ------
        PerceptError : they are not the weights of such layers
        """
        if self.init is None:
            return
        from percept.decoders.networks.initial import fill, parts

        fill(encoder, task.initial, self.init)
        log.info(
            "%s begins with the encoder of %s (%d tensors); drawn at random, as ever: %s",
            task.name, self.init, len(task.initial), ", ".join(parts(network, encoder)),
        )  # fmt: skip


def hidden(network: Any, **fixed: Any) -> dict[str, Any]:  # noqa: ANN401 (one of several sections)
    """Settings of hidden layers that have to agree, from a `network` section; `fixed` are those it lacks."""
    names = ("width", "blocks", "residual", "stem", "block", "activation", "bias")
    return {name: fixed[name] if name in fixed else getattr(network, name) for name in names}
