"""Settings of VoxelCLIP's networks, and its variants by name. Nothing here imports torch."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from percept.decoders.training.settings import TrainingConfig
from percept.files import PerceptError
from percept.sections import Fraction, NonNegativeFraction, Section

Variant = Literal["voxelclip6", "voxelclip4", "stride_first", "convolutional", "flat_transformer"]


class VolumeNetwork(Section):
    """Three-dimensional convolutions, then attention among the positions that are left, then a head.

    Each convolution is followed by dropout of whole channels and GELU.
    """

    kind: Literal["volume"] = "volume"
    channels: tuple[PositiveInt, ...] = Field(
        (64, 128, 256, 256, 256, 64), min_length=1, description="Channels of each convolution."
    )
    strides: tuple[PositiveInt, ...] = Field((1, 1, 1, 2, 2, 2), description="Stride of each convolution.")
    kernels: tuple[PositiveInt, ...] = Field((3,) * 6, description="Side of each convolution's kernel.")
    padding: tuple[NonNegativeInt, ...] = Field(
        (1, 1, 1, 0, 1, 0), description="Zeros around the input of each convolution."
    )
    dropout: NonNegativeFraction = Field(
        0.1, description="Dropout of whole channels after each convolution, and of units in a hidden head."
    )
    attention_layers: NonNegativeInt = Field(2, description="Transformer blocks among the positions.")
    heads: PositiveInt = Field(8, description="Attention heads; they divide the last of `channels`.")
    mlp_ratio: PositiveInt = Field(4, description="Hidden width of a block over its own width.")
    attention_dropout: NonNegativeFraction = Field(0.0, description="Dropout within the blocks.")
    read: Literal["flatten", "mean"] = Field(
        "flatten",
        description="What the head is given: the positions side by side, which keeps where things are (there "
        "is no positional embedding), or their mean.",
    )
    hidden: tuple[PositiveInt, ...] = Field(
        (), description="Hidden widths of the head; without any it is one linear layer."
    )
    margin: NonNegativeInt = Field(0, description="Empty cells around the box of the mask.")
    multiple: PositiveInt = Field(1, description="Sides of the box are padded to a multiple of this.")

    @model_validator(mode="after")
    def _layers_fit(self) -> Self:
        lists = {name: getattr(self, name) for name in ("channels", "strides", "kernels", "padding")}
        if len({len(one) for one in lists.values()}) > 1:
            told = ", ".join(f"`{name}` has {len(one)}" for name, one in lists.items())
            raise ValueError(f"every convolution needs an entry in each list, but {told}: give all four")
        if self.attention_layers and self.channels[-1] % self.heads:
            raise ValueError(
                f"{self.heads} heads cannot share {self.channels[-1]} channels evenly: set `heads` to a "
                "divisor of the last of `channels`"
            )
        return self

    def grids(self, box: tuple[int, ...]) -> list[tuple[int, ...]]:
        """Output grid of each convolution for an input of `box` cells.

        Raises
        ------
        PerceptError : nothing is left of some side
        """
        found, grid = [], box
        for kernel, stride, padding in zip(self.kernels, self.strides, self.padding, strict=True):
            grid = tuple((side + 2 * padding - kernel) // stride + 1 for side in grid)
            if min(grid) < 1:
                raise PerceptError(
                    f"a box of {'x'.join(map(str, box))} voxels is too small for this network: convolution "
                    f"{len(found) + 1} would leave {'x'.join(map(str, grid))}. Set fewer convolutions, "
                    "smaller `network.strides`, more `network.padding`, or a `network.margin`."
                )
            found.append(grid)
        return found

    def n_features(self, box: tuple[int, ...]) -> int:
        """Numbers that the head is given."""
        positions = math.prod(self.grids(box)[-1]) if self.read == "flatten" else 1
        return positions * self.channels[-1]


class FlatNetwork(Section):
    """A transformer on the voxels as a list: tokens of neighbours in the list, and the mean over tokens."""

    kind: Literal["flat"] = "flat"
    patch: PositiveInt = Field(32, description="Voxels per token; 1 gives every voxel its own.")
    width: PositiveInt = Field(512, description="Width of a token.")
    layers: PositiveInt = Field(4, description="Transformer blocks.")
    heads: PositiveInt = Field(8, description="Attention heads; they divide `width`.")
    mlp_ratio: PositiveInt = Field(4, description="Hidden width of a block over its own width.")
    dropout: NonNegativeFraction = Field(0.4, description="Dropout within the blocks.")

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"{self.heads} heads cannot share a width of {self.width} evenly: set `heads` to a divisor"
            )
        return self


Network = Annotated[VolumeNetwork | FlatNetwork, Field(discriminator="kind")]

# The committed encoder (`NewVoxel3dConvEncoder`) has six convolutions; the text about it says four, which is
# what early MindEye ran. Strides first is this project's: the same layers at an eighth of the cost. The two
# ancestors are described in the text without sizes; theirs are this project's, too.
VARIANTS: dict[Variant, dict[str, Any]] = {
    "voxelclip6": {"network": {"kind": "volume"}},
    "voxelclip4": {
        "network": {
            "kind": "volume",
            "channels": (64, 128, 256, 64),
            "strides": (1, 2, 3, 3),
            "kernels": (3,) * 4,
            "padding": (1,) * 4,
        }
    },
    "stride_first": {"network": {"kind": "volume", "strides": (2, 1, 1, 2, 2, 1)}},
    "convolutional": {"network": {"kind": "volume", "attention_layers": 0, "hidden": (2048,)}},
    "flat_transformer": {"network": {"kind": "flat"}},
}


class VoxelClipTraining(TrainingConfig):
    """How VoxelCLIP is trained: AdamW at open_clip's rate and decay, a warm-up that fits the run."""

    epochs: PositiveInt = Field(32, description="Passes over the training images.")
    batch_size: PositiveInt = Field(64, description="Images per step, over all devices together.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        5e-4, description="Highest learning rate of the cycle."
    )
    warmup: Fraction | None = Field(
        0.05,
        description="Share of the training until the learning rate is highest, in place of `peak_epochs`, "
        "which then plays no part. open_clip's default of 10,000 steps would be most of a training on NSD.",
    )
    weight_decay: Annotated[float, Field(ge=0)] = Field(0.2, description="Decoupled weight decay.")
    cycle_momentum: bool = Field(
        False, description="Beta1 of AdamW falls from 0.95 to 0.85 while the learning rate rises, and back."
    )
