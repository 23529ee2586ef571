"""What generators work from: per role the predicted (or true) targets of the images to be made."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]  # (n, height, width, 3)
ROLES = ("semantic", "text", "lowlevel", "ranking")


class Rows(Protocol):
    """An array of which some rows are asked for at a time: in memory, or read when they are asked for."""

    def __getitem__(self, rows: slice) -> NDArray:
        """Some rows."""


@dataclass(frozen=True)
class Candidates:
    """Several images of each stimulus among which one is chosen, image by image.

    Attributes
    ----------
    names : (candidate,) the reconstructions that made them
    images : (n, candidate, height, width, 3) uint8
    lowlevel : (n, candidate, height, width, 3) uint8, the blurry images they started from; None without
    seen : (n, height, width, 3) uint8, the true images; None wherever the choice is to do without them
    captions : per image and candidate what the generator read into its low-level image, or None
    """

    names: tuple[str, ...]
    images: Images
    lowlevel: Images | None = None
    seen: Images | None = None
    captions: Sequence[Sequence[str | None]] = ()

    @property
    def arrays(self) -> dict[str, NDArray[np.uint8]]:
        """What is there of the images, by name: what a choice depends on."""
        named = {"candidates": self.images, "started": self.lowlevel, "seen": self.seen}
        return {name: array for name, array in named.items() if array is not None}


@dataclass(frozen=True)
class Roles:
    """Targets of some images in the roles that a reconstruction names, row by row.

    Attributes
    ----------
    stimulus : (n,) 0-based id of the image behind each row
    semantic : (n, feature) or (n, token, feature) float32, embedding of the image; None where not given
    text : (n, feature) or (n, token, feature) float32, embedding of captions
    lowlevel : (n, ...) float32, latents of an autoencoder, (channel, height, width), or pixels, (height,
        width, 3), in 0..1
    ranking : (n, feature) or (n, token, feature) float32, embedding by which candidate images are compared;
        None where `semantic` does that too
    samples : (n, sample, ...) floating point, several embeddings in the place of `semantic`, such as samples
        of a prior; None where the decoder makes none, or the generator uses none. No role of its own. Of a
        whole test set, which may take gigabytes, they are read a batch at a time, as `rows` asks for them
    candidates : `Candidates` of some rows, read as `rows` asks for them; None for what makes images itself
    """

    stimulus: NDArray[np.int32]
    semantic: NDArray[np.float32] | None = None
    text: NDArray[np.float32] | None = None
    lowlevel: NDArray[np.float32] | None = None
    ranking: NDArray[np.float32] | None = None
    samples: Rows | None = None
    candidates: Any = None

    @property
    def given(self) -> dict[str, NDArray[np.float32]]:
        """Role -> targets, of the roles that are given."""
        return {role: value for role in ROLES if (value := getattr(self, role)) is not None}

    def __len__(self) -> int:
        return len(self.stimulus)

    def rows(self, which: slice) -> "Roles":
        """The same roles of some of the images."""
        return replace(
            self,
            stimulus=self.stimulus[which],
            samples=None if self.samples is None else self.samples[which],
            candidates=None if self.candidates is None else self.candidates[which],
            **{role: values[which] for role, values in self.given.items()},
        )


@dataclass(frozen=True)
class Made:
    """Images that a generator made, row by row of the roles it was given.

    Attributes
    ----------
    images : (n, height, width, 3) uint8
    lowlevel : (n, height, width, 3) uint8, the blurry image that it started from; None where there is none
    details : per image what is worth knowing: `sample` chosen, its `similarity`, the `caption`, the `file`
        found, the `member` whose image was chosen; empty where there is nothing to say
    """

    images: Images
    lowlevel: Images | None = None
    details: Sequence[Mapping[str, Any]] = ()


class Generator(Protocol):
    """What makes images; built from its section of the config by `build(context)`."""

    batch_size: int  # images asked for at a time, and lost at most when the job is killed

    def generate(self, roles: Roles, seed: int) -> Made:
        """One image per row; the same roles and seed give the same images, however they are batched."""


@dataclass(frozen=True)
class Training:
    """The training images: for generators that learn from them or look them up.

    Attributes
    ----------
    stimuli : (m,) 0-based ids, ascending
    features : role -> index of the cached true targets
    images : ids -> (n, height, width, 3) uint8, read when it is called
    """

    stimuli: NDArray[np.int32]
    features: Mapping[str, Path]
    images: Callable[[Sequence[int]], Images]


@dataclass(frozen=True)
class Outside:
    """A pool of images outside the data set: a folder, and where its table of files and embeddings are.

    Attributes
    ----------
    folder : of the images
    size : side in pixels to which they are brought
    files : table of the images, a row each
    embeddings : file of their embeddings, row by row of that table
    """

    folder: Path
    size: int
    files: Path
    embeddings: Path


@dataclass(frozen=True)
class Context:
    """What a generator may know besides the targets of the images that it makes; never a test image.

    Attributes
    ----------
    train : the training images; None for a generator that is built without data, in tests
    outside : the pool of images that it looks in; None for kinds that look in none
    gan : folder of the GAN that was trained for it; None for kinds that use none
    """

    train: Training | None = None
    outside: Outside | None = None
    gan: Path | None = None


def noise_seeds(seed: int, stimulus: Sequence[int] | NDArray, sample: int = 0) -> list[int]:
    """One seed per image, in 0..2^63 - 1: fixed by the run's seed, the stimulus and the number of the sample.

    A hash, so that an image starts from the same noise in whatever batch, order or subset it is made; seeds
    that count up would let neighbours share their noise from one sample to the next.
    """
    keys = (f"{seed}:{int(one)}:{sample}".encode() for one in stimulus)
    return [int.from_bytes(hashlib.sha256(key).digest()[:8], "big") >> 1 for key in keys]
