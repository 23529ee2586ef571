"""GPUs that jobs ask for, rule by rule: what `gpu` of the rules is.

Only rules that the configuration plans are here. A GAN or a pool that no reconstruction uses is not made.
"""

from collections.abc import Iterator

from percept.backbones import catalogue
from percept.config import BaseConfig

Pool = tuple[str, str]  # names of a pool, and of the target whose network encodes it


def gpus(cfg: BaseConfig) -> dict[str, dict[str, int]]:
    """Rule -> what its jobs are about -> how many GPUs; one empty name where a rule's jobs are all alike.

    Of every rule that can ask for a GPU and is planned, also where its jobs ask for none.
    """
    made = {name: one for name, one in cfg.reconstructions.items() if not one.generator.chooses_from}
    votes = any(one.generator.chooses_from for one in cfg.reconstructions.values())
    found = {
        "train_decoder": {name: one.n_gpus for name, one in cfg.every_decoder.items()},
        "encode_target": {name: one.n_gpus for name, one in cfg.targets.items()},
        "encode_pool": {f"{pool}/{target}": cfg.targets[target].n_gpus for pool, target in pools(cfg)},
        "train_gan": {name: cfg.gans[name].n_gpus for name in gans(cfg)},
        "reconstruct_images": {name: one.generator.n_gpus for name, one in made.items()},
        "reconstruct_splits": {name: made[name].generator.n_gpus for name in splits(cfg)},
        "vote_images": {"": voting(cfg)} if votes else {},
        "score_reconstructions": {"": scoring(cfg)} if cfg.reconstructions else {},
        "score_splits": {"": comparing(cfg)} if any(one.fitted for one in cfg.every_decoder.values()) else {},
        "leave_voxels_out": {"": analysing(cfg)} if cfg.interpretation.leave_one_out else {},
    }
    return {rule: asked for rule, asked in found.items() if asked}


def gans(cfg: BaseConfig) -> list[str]:
    """GANs that a reconstruction shows embeddings by."""
    return list(dict.fromkeys(name for one in cfg.reconstructions.values() for name in one.generator.gans))


def pools(cfg: BaseConfig) -> list[Pool]:
    """Pools that are encoded here, each with its target: those that bring no embeddings of their own."""
    return [one for one in dict.fromkeys(_looked_in(cfg)) if cfg.pools[one[0]].embeddings is None]


def used_pools(cfg: BaseConfig) -> list[str]:
    """Pools that a reconstruction looks in, or that a GAN is trained on."""
    return list(dict.fromkeys(pool for pool, _ in _looked_in(cfg)))


def _looked_in(cfg: BaseConfig) -> Iterator[Pool]:
    for one in cfg.reconstructions.values():
        for pool in one.generator.pools:
            yield pool, cfg.decoders[one.semantic].target
    for name in gans(cfg):
        for target in cfg.gans[name].conditions:
            yield cfg.gans[name].pool, target


def splits(cfg: BaseConfig) -> list[str]:
    """Reconstructions that show training and validation images too."""
    return [name for name, one in cfg.reconstructions.items() if one.splits is not None]


def scoring(cfg: BaseConfig) -> int:
    """GPUs for the metric networks; the tiny ones need none."""
    images = cfg.evaluation.images
    return catalogue.n_gpus(images.device, *images.networks)


def voting(cfg: BaseConfig) -> int:
    """GPUs to compare the candidates of all votes."""
    generators = [one.generator for one in cfg.reconstructions.values()]
    return max((one.n_gpus for one in generators if one.chooses_from), default=0)


def comparing(cfg: BaseConfig) -> int:
    """GPUs to compare the images of the splits with what was seen."""
    shown = [cfg.reconstructions[name].splits for name in splits(cfg)]
    return max((catalogue.n_gpus(one.device, one.network) for one in shown), default=0)


def analysing(cfg: BaseConfig) -> int:
    """One, if a decoder or a generator of the analyses that leave voxels out asks for any."""
    named = cfg.interpretation.leave_one_out.values()
    asked = [cfg.decoders[one.decoder].n_gpus for one in named]
    shown = [one.images.reconstruction for one in named if one.images is not None]
    asked += [cfg.reconstructions[name].generator.n_gpus for name in shown]
    return min(1, max(asked, default=0))
