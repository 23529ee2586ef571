"""Images outside the data set: how many there are, and how long their encoding takes."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from percept.config import BaseConfig
from percept.files import PerceptError
from percept.preflight import asks, figures
from percept.preflight.shapes import shape_of
from percept.preflight.sizes import BYTES
from percept.preflight.work import STARTING, Work, encoding
from percept.targets import folder


def counted(cfg: BaseConfig) -> dict[str, int]:
    """Images in the folder of each pool that is used; 0 where there is none."""
    return {name: _images(cfg.pools[name].images) for name in asks.used_pools(cfg)}


def _images(path: str) -> int:
    try:
        return len(folder.list_images(path))
    except PerceptError:  # no such folder, or none in it
        return 0


def missing(cfg: BaseConfig, images: Mapping[str, int]) -> Iterator[str]:
    """Pools without images, and embeddings of the user's own that are not there.

    Parameters
    ----------
    images : of each pool that is used, as of `counted`
    """
    for name, n in images.items():
        pool = cfg.pools[name]
        if not n:
            what = "holds no image" if Path(pool.images).is_dir() else "is not there"
            yield (
                f"`pools.{name}.images`: the folder {pool.images} {what}, and this workflow fetches none. "
                f"Put images ({', '.join(folder.SUFFIXES)}) there, or set it to the folder that has them."
            )
        # The index of a target below results/ may be still to come.
        if (
            pool.embeddings
            and not Path(pool.embeddings).exists()
            and "results" not in Path(pool.embeddings).parts
        ):
            yield (
                f"`pools.{name}.embeddings`: there is no {pool.embeddings}. Put the embeddings of its images "
                "there, or leave the setting out: then they are computed."
            )


def stored(cfg: BaseConfig, images: Mapping[str, int]) -> float:
    """Bytes of the embeddings of all pools that are encoded, where the shape of their target is known."""
    return sum(
        (images[pool] or figures.POOL_IMAGES.value) * math.prod(shape) * BYTES[cfg.targets[name].precision]
        for pool, name in asks.pools(cfg)
        if (shape := shape_of(name, cfg)) is not None
    )


def works(cfg: BaseConfig, images: Mapping[str, int], gpus: bool) -> Iterator[Work]:
    """The encoding of each pool by each target; of a pool without images, of as many as `figures` assumes."""
    for pool, name in asks.pools(cfg):
        target, n = cfg.targets[name], images[pool]
        asked = target.n_gpus if gpus else 0
        hours, origin = encoding(target, n or figures.POOL_IMAGES.value, asked)
        hours += STARTING
        said = origin if n else figures.POOL_IMAGES.origin
        yield Work("encode_pool", f"{pool}/{name}", 1, hours, hours, asked, said, resumes=True)
