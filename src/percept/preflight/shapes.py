"""What a target of one stimulus looks like, and which frozen networks a configuration names."""

from typing import Any

from percept import files
from percept.backbones import catalogue, store
from percept.config import BaseConfig
from percept.preflight import figures
from percept.preflight.world import results

Shape = tuple[int, ...]


def shape_of(name: str, cfg: BaseConfig) -> Shape | None:
    """Shape of a target for one stimulus; None where nobody knows before it is computed."""
    index = results(cfg) / "targets" / name / "index.json"
    if index.is_file():
        return tuple(files.read_json(index)["shape"])
    target = cfg.targets[name]
    if target.kind == "pixels":
        return (target.size, target.size, 3) if target.colour == "rgb" else (target.size, target.size)
    if target.kind == "vae_latent":
        side = target.size or catalogue.named(target.backbone).settings["size"]
        return (4, side // 8, side // 8)
    if target.kind in ("clip_image", "clip_text"):
        known = figures.SHAPES.get(target.backbone, {}).get((target.kind, target.output))
        return known or _of_shipped(target)
    return None


def _of_shipped(target: Any) -> Shape | None:  # noqa: ANN401 (one of two kinds of targets)
    """Shape of the answers of a small network, by its own configuration."""
    place = store.folder(target.backbone)
    if (about := place / "open_clip_config.json").is_file():
        model = files.read_json(about)["model_cfg"]
        width, vision = model["embed_dim"], model["vision_cfg"]
        n_tokens = (vision["image_size"] // vision["patch_size"]) ** 2 + 1
        n_tokens = model["text_cfg"]["context_length"] if target.kind == "clip_text" else n_tokens
    elif (about := place / "text_encoder/config.json").is_file():
        model = files.read_json(about)
        width, n_tokens = model["hidden_size"], model["max_position_embeddings"]
    else:
        return None
    return (width,) if target.output == "pooled" else (n_tokens, width)


def networks(cfg: BaseConfig) -> list[str]:
    """Frozen networks that the configuration names, with their parts."""
    plugins = [*cfg.targets.values(), *cfg.gans.values()]
    plugins += [one.generator for one in cfg.reconstructions.values()]
    names = {name for plugin in plugins for name in plugin.backbones} | {*cfg.evaluation.images.backbones}
    for one in cfg.interpretation.leave_one_out.values():
        names |= {one.images.network} if one.images is not None else set()
    names |= {one.splits.network for one in cfg.reconstructions.values() if one.splits is not None}
    return list(catalogue.closure(names))


def missing_networks(cfg: BaseConfig) -> list[str]:
    """Those of them whose files are not there."""
    return [name for name in networks(cfg) if not store.manifest_path(name).is_file()]
