"""Choose among the images that several reconstructions made of the same responses.

The voting of Koios1143/Machine-Learning-Final (2023, code) is `self_consistency`: the candidate whose CLIP
embedding is most like that of the low-level image it was itself drawn from. It needs no truth, but it rewards
a diffusion that changes nothing, not one that is right. `medoid` and `decoded_clip` ask for agreement
instead: with the other candidates, or with an embedding that another decoder read from the same responses.
`random` says what any choice has to beat. `oracle` looks at the image that was seen: an upper bound, and no
method.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator, model_validator

from percept.backbones.catalogue import n_gpus
from percept.config import GeneratorConfig, ReconstructionConfig
from percept.files import PerceptError
from percept.generators import choose
from percept.generators.roles import Candidates, Context, Made, Roles, noise_seeds
from percept.sections import Identifier, Precision

Rule = Literal["self_consistency", "medoid", "decoded_clip", "random", "oracle"]
EQUAL = 6  # decimals to which similarities are compared: float32 differs below that with the batch
Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # (..., height, width, 3) -> (..., feature)


class VoteConfig(GeneratorConfig):
    """For each test image one of the images that other reconstructions made of it."""

    kind: Literal["vote"] = "vote"
    of: tuple[Identifier, ...] = Field(
        min_length=2, description="Entries of `reconstructions` among whose images one is chosen."
    )
    rule: Rule = Field(
        "medoid",
        description="What is chosen: the image most like the low-level image it was drawn from "
        "(self_consistency), most like the other candidates (medoid), most like the embedding that the "
        "decoder of the role `semantic` predicts (decoded_clip), any one (random), or the one most like what "
        "was seen (oracle: an upper bound, no method). Of equal ones the first in the order of `of`.",
    )
    network: Literal["tiny_clip", "clip_vit_l14", "openclip_vit_h14"] = Field(
        "clip_vit_l14", description="Image encoder whose pooled embeddings are compared, by their cosine."
    )
    precision: Precision = Field("float32", description="Of the image encoder.")
    batch_size: PositiveInt = Field(
        64, description="Test images at a time; the choice does not depend on it."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @field_validator("of")
    @classmethod
    def _differ(cls, of: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(of)) < len(of):
            raise ValueError(
                f"a vote is a choice between different reconstructions, not {', '.join(of)}: name each once"
            )
        return of

    @model_validator(mode="after")
    def _has_a_medoid(self) -> "VoteConfig":
        if self.rule == "medoid" and len(self.of) == 2:
            raise ValueError(
                "of two images each is as like the other, so that no medoid can be chosen: name three "
                "reconstructions, or set another `rule`"
            )
        return self

    @property
    def chooses_from(self) -> tuple[str, ...]:
        """Whose images it chooses among."""
        return self.of

    @property
    def needs(self) -> tuple[str, ...]:
        """The decoded embedding, where the choice goes by it."""
        return ("semantic",) if self.rule == "decoded_clip" else ()

    @property
    def demands(self) -> Mapping[str, tuple[Mapping[str, str], ...]]:
        """A decoded embedding is of the network that encodes the candidates."""
        return {"semantic": ({"kind": "clip_image", "backbone": self.network, "output": "pooled"},)}

    @property
    def backbones(self) -> tuple[str, ...]:
        """The image encoder; drawing lots needs none."""
        return () if self.rule == "random" else (self.network,)

    @property
    def n_gpus(self) -> int:
        """One, unless the CPU is asked for, or the network is tiny or none."""
        return n_gpus(self.device, *self.backbones) if self.backbones else 0

    @property
    def uses_truth(self) -> bool:
        """Whether what was seen decides."""
        return self.rule == "oracle"

    @property
    def note(self) -> str:
        """What the table says of it: the rule, and of the oracle that it is no method."""
        bound = "upper bound, no method: " if self.uses_truth else ""
        return f"{bound}one of {', '.join(self.of)} chosen by {self.rule}"

    def require_candidate(self, name: str, reconstruction: ReconstructionConfig) -> None:
        """Refuse a candidate without what the rule looks at.

        Raises
        ------
        ValueError : self-consistency of images that were not drawn from a low-level one
        """
        if self.rule == "self_consistency" and reconstruction.lowlevel is None:
            raise ValueError(
                f"the rule self_consistency compares an image with the low-level image it was drawn from, "
                f"and `reconstructions.{name}` has no role `lowlevel`: leave it out of `of`, or set another "
                "`rule`"
            )

    def build(self, context: Context) -> "Vote":
        """Return the generator, its weights read where it has some.

        Raises
        ------
        PerceptError : weights are absent
        """
        return Vote(self, Encoders().of(self))


class Encoders:
    """Image encoders that remember the embedding of every image they have seen.

    Votes among the same candidates look at the same images, and candidates made from a true target are often
    equal: each is encoded once.
    """

    def __init__(self) -> None:
        self.opened: dict[tuple[str, ...], Encode] = {}

    def of(self, cfg: VoteConfig) -> Encode | None:
        """The encoder of a vote; None for a rule that compares nothing.

        Raises
        ------
        PerceptError : weights are absent
        """
        if not cfg.backbones:
            return None
        key = (cfg.network, cfg.device, cfg.precision)
        if key not in self.opened:
            from percept.backbones import image

            network = image.open_named(cfg.network, "pooled", cfg.device, cfg.precision)
            self.opened[key] = remembering(network.encode)
        return self.opened[key]


def remembering(encode: Encode) -> Encode:
    """The same function, which encodes no image twice."""
    known: dict[bytes, NDArray[np.float32]] = {}

    def remembered(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        keys = [hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest() for image in images]
        new = list({key: row for row, key in enumerate(keys) if key not in known}.values())
        if new:
            known.update(zip((keys[row] for row in new), encode(images[new]), strict=True))
        return np.stack([known[key] for key in keys])

    return remembered


class Vote:
    """Chooses one of several images by one rule."""

    def __init__(self, cfg: VoteConfig, encode: Encode | None) -> None:
        self.cfg, self.encode, self.batch_size = cfg, encode, cfg.batch_size

    def generate(self, roles: Roles, seed: int) -> Made:
        """The chosen images as they are, with the low-level image, the caption and the name of each.

        Raises
        ------
        PerceptError : candidates without the low-level images that the rule compares with
        """
        found: Candidates = roles.candidates
        scores = np.round(RULES[self.cfg.rule](self, roles, seed), EQUAL)  # (candidate, image)
        chosen = choose.best(found.images.swapaxes(0, 1), scores)
        number, every = np.array([one["sample"] for one in chosen.details]), np.arange(len(roles))
        started = None if found.lowlevel is None else found.lowlevel[every, number]
        details = [
            {**one, "member": found.names[at], "caption": found.captions[row][at] if found.captions else None}
            for row, (one, at) in enumerate(zip(chosen.details, number, strict=True))
        ]
        return Made(chosen.images, started, details)

    def embedded(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeddings (candidate, image, feature) of images (image, candidate, height, width, 3)."""
        return np.stack([self.encode(images[:, at]) for at in range(images.shape[1])])


def _self_consistency(vote: Vote, roles: Roles, seed: int) -> NDArray[np.float64]:
    """Cosine of each candidate's embedding to that of its own low-level image."""
    found = roles.candidates
    if found.lowlevel is None:
        raise PerceptError(
            f"the candidates {', '.join(found.names)} are not all kept with the low-level images they were "
            "drawn from, so that none can be compared with its own: name reconstructions by diffusion from a "
            "low-level image, or set another `rule` of the vote."
        )
    images, started = vote.embedded(found.images), vote.embedded(found.lowlevel)
    return np.stack(
        [choose.similarity_to(one[None], own)[0] for one, own in zip(images, started, strict=True)]
    )


def _medoid(vote: Vote, roles: Roles, seed: int) -> NDArray[np.float64]:
    """Mean cosine of each candidate's embedding to those of the others."""
    return choose.likeness(vote.embedded(roles.candidates.images))


def _decoded_clip(vote: Vote, roles: Roles, seed: int) -> NDArray[np.float64]:
    """Cosine of each candidate's embedding to the decoded one."""
    return choose.similarity_to(vote.embedded(roles.candidates.images), roles.semantic)


def _random(vote: Vote, roles: Roles, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) of the seed, the stimulus and the place of the candidate."""
    places = range(len(roles.candidates.names))
    return np.array([noise_seeds(seed, roles.stimulus, at) for at in places], np.float64) / 2**63


def _oracle(vote: Vote, roles: Roles, seed: int) -> NDArray[np.float64]:
    """Cosine of each candidate's embedding to that of the image that was seen."""
    found = roles.candidates
    return choose.similarity_to(vote.embedded(found.images), vote.encode(found.seen))


RULES: dict[str, Callable[[Vote, Roles, int], NDArray[Any]]] = {
    "self_consistency": _self_consistency,
    "medoid": _medoid,
    "decoded_clip": _decoded_clip,
    "random": _random,
    "oracle": _oracle,
}
