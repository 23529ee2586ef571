"""Settings of Mind Reader's mapper and its losses; nothing here imports torch."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from percept.sections import Section

Share = Annotated[float, Field(ge=0, le=1)]


class MapperNetwork(Section):
    """Layers from the flat vector of voxels, read as a signal in one dimension, to an embedding."""

    channels: PositiveInt = Field(64, description="Channels of the convolutions along the voxels.")
    blocks: NonNegativeInt = Field(4, description="Residual blocks of three convolutions.")
    hidden: PositiveInt = Field(
        128, description="Width between the positions and one number of the embedding; shared by all numbers."
    )
    multiple: PositiveInt = Field(
        32,
        description="Voxels are padded with zeros, as many on either side, to a multiple of this (even): "
        "15,724 become 15,744.",
    )


class EmbeddingSettings(Section):
    """What training sees of the embeddings; predictions come back at the length of the true ones."""

    clip: PositiveFloat | None = Field(
        3.3,
        description="Numbers beyond this, in units of `clip_unit`, are set to it: a few dimensions of CLIP's "
        "embeddings are far larger than all others. null keeps them.",
    )
    clip_unit: Literal["rms", "absolute"] = Field(
        "rms",
        description="rms: the root mean square of the training embeddings. absolute: as they are; Mind "
        "Reader's `clip: 1.5` for ViT-B/32, whose embeddings of length 10 have an rms of 0.45.",
    )
    normalise: bool = Field(True, description="Scale embeddings to length 1, after clipping.")


class MapperLosses(Section):
    """What training minimises: a regression loss, of which a share can go to a contrastive loss."""

    mse: NonNegativeFloat = Field(0.4, description="Weight of the squared error, mean over dimensions.")
    cosine: NonNegativeFloat = Field(0.6, description="Weight of 1 - cosine.")
    contrast: Share = Field(
        0.0,
        description="Share of the symmetric InfoNCE; the rest is the regression loss. Mind Reader's variant "
        "with contrast has 0.5 (and batches of 128).",
    )
    temperature: PositiveFloat = Field(0.5, description="Temperature of InfoNCE.")
