"""Settings that several kinds of targets share."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field, PositiveInt, field_validator

from percept.backbones import catalogue, store
from percept.config import Identifier, TargetConfig
from percept.files import PerceptError
from percept.sections import Precision

Network = TypeVar("Network")


class DirectConfig(TargetConfig):
    """A target that no network computes: quick, small, and stored as it is."""

    precision: ClassVar[Precision] = "float32"
    batch_size: ClassVar[int] = 64


class NetworkConfig(TargetConfig):
    """A target that a frozen network computes; `role` is what the network has to be."""

    role: ClassVar[str]

    backbone: Identifier = Field(description="Frozen network, a name of the catalogue.")
    precision: Precision = Field(
        "float16", description="How features are stored; bfloat16 where float16 overflows (beyond 65,504)."
    )
    computation: Precision = Field("float32", description="Weights and arithmetic of the network.")
    batch_size: PositiveInt = Field(64, description="Images per forward pass; lower it when memory is short.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @field_validator("backbone")
    @classmethod
    def _in_the_catalogue(cls, name: str) -> str:
        try:
            catalogue.named(name, cls.role)
        except PerceptError as error:
            raise ValueError(str(error)) from None
        return name

    @property
    def n_gpus(self) -> int:
        """One, unless the CPU is asked for; for a tiny network only where a GPU is named."""
        return catalogue.n_gpus(self.device, self.backbone)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The frozen networks that encoding loads."""
        return (self.backbone,)

    def opened(self, opener: Callable[..., Network], choice: str | int | None) -> Network:
        """The network, by the `open_named` of its role, read once for its fingerprint and its features."""
        place = store.folder(self.backbone)
        return _opened(opener, place, self.backbone, choice, self.device, self.computation)


@lru_cache(maxsize=1)
def _opened(opener: Callable[..., Any], place: Path, *choices: str | int | None) -> Any:  # noqa: ANN401
    """A name alone does not say which network it is: `place` sets another folder of backbones apart."""
    return opener(*choices)
