"""Look-up among images from outside the data set: MindEye's retrieval from LAION-5B, on a pool of one's own.

The predicted embedding finds the nearest images of a large pool, and the tokens of a second decoder choose
among these candidates (Scotti et al. 2023: 16 of them). An image that is found is sharp and natural whatever
was decoded: how good a picture it makes says little, how well it fits says much.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from percept.backbones.catalogue import n_gpus
from percept.config import GeneratorConfig, Identifier
from percept.files import PerceptError
from percept.generators import choose, spaces
from percept.generators.roles import Context, Made, Roles, Training
from percept.sections import Precision
from percept.targets import folder, pool, store

log = logging.getLogger(__name__)
SAME = 0.999  # cosine of two embeddings from which they are of one image, stored twice


class OutsideConfig(GeneratorConfig):
    """The image of an outside pool that is nearest to the prediction."""

    kind: Literal["outside"] = "outside"
    pool: Identifier = Field(description="Name of an entry of `pools`.")
    candidates: PositiveInt = Field(
        16, description="Nearest images among which the role `ranking` chooses, where it is given."
    )
    ranking_backbone: (
        Literal["tiny_clip", "clip_vit_l14", "openclip_vit_h14", "openclip_vit_bigg14"] | None
    ) = Field(
        None,
        description="CLIP whose tokens the decoder in the role `ranking` predicts: the candidate whose "
        "own tokens are nearest to these is kept. null: the nearest by the semantic embedding is.",
    )
    centre: bool = Field(
        False,
        description="Take the mean over the training images off both sides before the search. Regression "
        "shrinks predictions towards that mean, so that ridge needs it; contrastive training does not.",
    )
    index: Literal["exact", "faiss"] = Field(
        "exact", description="Exact search on disk, or faiss (not installed by default), approximate."
    )
    precision: Precision = Field("float32", description="Of the network that encodes candidates.")
    batch_size: PositiveInt = Field(
        256, description="Test images at a time; the whole pool is read once for each such batch."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @model_validator(mode="after")
    def _choosable(self) -> "OutsideConfig":
        if self.ranking_backbone and self.candidates < 2:
            raise ValueError(
                "of one candidate nothing can be chosen: set `candidates` to 2 or more, or "
                "`ranking_backbone` to null"
            )
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """What searches; and what chooses, where a network to compare candidates by is named."""
        return ("semantic", "ranking") if self.ranking_backbone else ("semantic",)

    @property
    def pools(self) -> tuple[str, ...]:
        """The pool."""
        return (self.pool,)

    @property
    def backbones(self) -> tuple[str, ...]:
        """The network that encodes candidates; the pool itself is encoded by its target."""
        return (self.ranking_backbone,) if self.ranking_backbone else ()

    @property
    def demands(self) -> dict[str, tuple[spaces.Space, ...]]:
        """One vector per image to search by, and tokens to choose by."""
        chosen = {"ranking": spaces.tokens(self.ranking_backbone)} if self.ranking_backbone else {}
        return {"semantic": spaces.embeddings(), **chosen}

    @property
    def n_gpus(self) -> int:
        """One where candidates are encoded, unless by the CPU or the tiny network."""
        return n_gpus(self.device, *self.backbones)

    def build(self, context: Context) -> "Finder":
        """Return the generator; the network, if one is needed, is read.

        Raises
        ------
        PerceptError : no pool; embeddings of another number of images, of another network, or of too few
            images; or weights are absent
        """
        if context.outside is None:
            raise PerceptError(
                f"a generator of kind `outside` looks in the pool {self.pool!r}, and was built without one: "
                "give it the folder of its images and their embeddings."
            )
        given = context.outside
        images = folder.read_list(given.files, given.folder, given.size)
        check(self, images, given.embeddings, context.train)
        mean = training_mean(context.train) if self.centre else None
        return Finder(self, images, given.embeddings, mean, self._encoder())

    def _encoder(self) -> Any:  # noqa: ANN401 (percept.backbones.image.ImageEncoder, which brings torch)
        if not self.ranking_backbone:
            return None
        from percept.backbones import image

        return image.open_named(self.ranking_backbone, "tokens", self.device, self.precision)


@dataclass(frozen=True)
class Finder:
    """Searches the embeddings of a pool, and reads the images that it found.

    Attributes
    ----------
    mean : (dim,) taken off predictions and pool alike; None: nothing is
    encoder : by which candidates are compared with the role `ranking`; None: the nearest is the answer
    """

    settings: OutsideConfig
    images: folder.ImageFolder
    embeddings: Path
    mean: NDArray[np.float32] | None = None
    encoder: Any = None

    @property
    def batch_size(self) -> int:
        """Images asked for at a time."""
        return self.settings.batch_size

    def generate(self, roles: Roles, seed: int) -> Made:
        """Images of the pool; nothing is random, so `seed` changes nothing.

        Raises
        ------
        PerceptError : predictions of other dimensions than the pool's, or images that cannot be read
        """
        found = self._search(roles.semantic)
        scores = found.score.T if self.encoder is None else self._scores(found.row, roles.ranking)
        chosen = choose.best(found.row.T, scores)
        files = [{"file": self.images.files[row]} for row in chosen.images]
        details = [{**one, **other} for one, other in zip(chosen.details, files, strict=True)]
        return Made(self.images.images(chosen.images), details=details)

    def _search(self, predicted: NDArray[np.float32]) -> pool.Found:
        cfg = self.settings
        with pool.open_pool(self.embeddings) as known:
            if self.mean is not None:
                known, predicted = pool.Centred(known, self.mean), predicted - self.mean
            k = cfg.candidates if cfg.ranking_backbone else 1
            found = pool.search(predicted, known, k, "cosine", cfg.index)
        if n_same := int((found.score[:, 0] > SAME).sum()):
            log.warning(
                "%d of %d embeddings that were looked for are in the pool %r themselves (cosine above %g). "
                "Of true embeddings this means that the pool holds the images that were seen: no decoder "
                "is needed to show these. Take them out of the pool.",
                n_same, len(predicted), cfg.pool, SAME,
            )  # fmt: skip
        return found

    def _scores(self, rows: NDArray[np.int64], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
        """Cosine (candidate, image) of the tokens of the images in `rows`, (image, candidate), to the wanted.

        One image's candidates at a time: the tokens of all of them would take gigabytes.
        """
        encoded = self.encoder.stream(self.images.images(candidates) for candidates in rows)
        each = (
            choose.similarity_to(tokens[:, None], one[None])[:, 0]
            for tokens, one in zip(encoded, wanted, strict=True)
        )
        return np.stack(list(each), axis=1)


def check(cfg: OutsideConfig, images: folder.ImageFolder, embeddings: Path, train: Training | None) -> None:
    """Refuse embeddings that cannot be those of the images, or not of the network that is decoded.

    Raises
    ------
    PerceptError : another number of rows than images, fewer than `candidates`, or a foreign fingerprint
    """
    with pool.open_pool(embeddings) as known:
        n_rows = known.shape[0]
        if n_rows != len(images):
            raise PerceptError(
                f"{embeddings} holds {n_rows} embeddings, and {images.path} has {len(images)} images: row i "
                "has to belong to the i-th of the sorted paths, or the images shown are not those that were "
                f"found. Make the embeddings of the pool {cfg.pool!r} again, or leave out `embeddings` of "
                "its entry of `pools` to have them made."
            )
        if n_rows < cfg.candidates and cfg.ranking_backbone:
            raise PerceptError(
                f"the pool {cfg.pool!r} has {n_rows} images, fewer than the `candidates: {cfg.candidates}` "
                "among which the best is to be chosen: lower `candidates`, or add images."
            )
        if train is not None and isinstance(known, pool.FeaturesPool):
            with store.open_features(train.features["semantic"]) as features:
                store.check(known.features.fingerprint, features.fingerprint, embeddings)


def training_mean(train: Training | None) -> NDArray[np.float32]:
    """Mean (dim,) of the semantic targets of the training images.

    Raises
    ------
    PerceptError : the split has no training images
    """
    if train is None or not len(train.stimuli):
        raise PerceptError(
            "`centre: true` of a generator of kind `outside` takes off the mean over the training images, "
            "and the split has none (leaving runs out, every image is tested in its turn): set `centre: "
            "false`, or choose a split.protocol with a fixed test set."
        )
    with store.open_features(train.features["semantic"]) as features:
        return pool.mean(pool.FeaturesPool(features, train.stimuli))
