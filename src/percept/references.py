"""Names in a configuration that refer to other entries: each has to exist, and to be of use there.

Read by `percept.config` once every section is checked alone.
"""

from collections.abc import Iterable
from typing import Any

from percept import spaces, starting
from percept.gan_settings import require, require_shown, require_trainable


def require_all(config: Any) -> None:  # noqa: ANN401 (percept.config.BaseConfig)
    """Refuse a configuration of which an entry names what is not there, or what it can do nothing with.

    Raises
    ------
    ValueError : names the first such setting, what is wrong with it and what would be right
    """
    _require_targets(config)
    for name in config.gans:
        require_trainable(name, config)
    for name in config.reconstructions:
        _require_decoders(config, name)
        _require_rescalable(config, name)
        _require_candidates(config, name)
        _require_splits(config, name)
    for at, name in enumerate(config.evaluation.latents.decoders):
        require(name, config.decoders, f"evaluation.latents.decoders.{at}", "decoders")
    for name in config.interpretation.leave_one_out:
        _require_analysable(config, name)


def listed(names: Iterable[str]) -> str:
    """Names for a message, in the order of the alphabet."""
    return ", ".join(sorted(names))


def _require_targets(config: Any) -> None:  # noqa: ANN401
    """Refuse targets that are not there or cannot be learned, and decoders that no other may begin with."""
    for name, sweep in config.sweeps.items():
        require(sweep.decoder, config.decoders, f"sweeps.{name}.decoder", "decoders")
    if twice := {*config.decoders} & {*config.swept}:
        raise ValueError(
            f"{listed(twice)}: a decoder of a sweep and an entry of `decoders` are of one name: rename the "
            "entry"
        )
    for name, encoding in config.encodings.items():
        require(encoding.target, config.targets, f"encodings.{name}.target", "targets")
    for name, decoder in config.every_decoder.items():
        for field in ("target", *type(decoder).further_fields):
            if (target := getattr(decoder, field)) is not None:
                require(target, config.targets, f"decoders.{name}.{field}", "targets")
                spaces.require_learnable(name, decoder, field, config.targets)
        if decoder.fitted and config.split.protocol == "leave-one-run-out":
            raise ValueError(
                f"`decoders.{name}.fitted`: the protocol leave-one-run-out trains a decoder per run, and "
                "every image trains most of them, so that none is apart as a training image: leave "
                "`fitted` out, or choose a `split.protocol` with one test set"
            )
        if decoder.starts_from is not None:
            require(decoder.starts_from, config.decoders, f"decoders.{name}.init", "decoders")
            starting.require_startable(name, config.every_decoder)


def _require_decoders(config: Any, name: str) -> None:  # noqa: ANN401
    """Refuse a reconstruction from decoders, seeds or pools that are not there, or of another space."""
    reconstruction = config.reconstructions[name]
    for role, decoder in reconstruction.roles.items():
        require(decoder, config.decoders, f"reconstructions.{name}.{role}", "decoders")
        _require_space(config, name, role)
    seeds = {seed for decoder in reconstruction.roles.values() for seed in config.decoders[decoder].seeds}
    if (seed := reconstruction.training_seed) not in {None, *seeds}:
        raise ValueError(
            f"`reconstructions.{name}.training_seed` is {seed}, but its decoders are trained with "
            f"seeds {listed(map(str, seeds))}: name one of these, or add it to `seeds` of a decoder"
        )
    for pool in reconstruction.generator.pools:
        require(pool, config.pools, f"reconstructions.{name}.generator.pool", "pools")
    require_shown(name, config)


def _require_analysable(config: Any, name: str) -> None:  # noqa: ANN401
    """Refuse an analysis of what is not there, or of what it cannot say anything about."""
    analysis, path = config.interpretation.leave_one_out[name], f"interpretation.leave_one_out.{name}"
    require(analysis.decoder, config.decoders, f"{path}.decoder", "decoders")
    decoder = config.decoders[analysis.decoder]
    if analysis.training_seed not in {None, *decoder.seeds}:
        raise ValueError(
            f"`{path}.training_seed` is {analysis.training_seed}, but {analysis.decoder!r} is trained "
            f"with seeds {listed(map(str, decoder.seeds))}: name one of these"
        )
    if config.split.protocol == "leave-one-run-out":
        raise ValueError(
            f"`{path}`: the protocol leave-one-run-out trains a decoder per run, and an analysis is of "
            "one decoder: choose a `split.protocol` with one test set, or leave the analysis out"
        )
    if decoder.mask is not None:
        raise ValueError(
            f"`{path}`: the input of {analysis.decoder!r} is 0 outside {decoder.mask!r}, so random sets "
            "of voxels would lose nothing and every region within would stand out: analyse a decoder "
            "without `mask` that has this set as its `roi`"
        )
    if analysis.information and decoder.kind != "ridge":
        raise ValueError(
            f"`{path}.information` trains ridge decoders again, and {analysis.decoder!r} is of kind "
            f"`{decoder.kind}`: leave it out, or analyse a ridge decoder"
        )
    if analysis.images is not None:
        _require_imaged(config, analysis.images.reconstruction, analysis.decoder, f"{path}.images")


def _require_imaged(config: Any, reconstruction: str, decoder: str, path: str) -> None:  # noqa: ANN401
    """Refuse a reconstruction whose images do not follow from the predictions of the decoder."""
    require(reconstruction, config.reconstructions, f"{path}.reconstruction", "reconstructions")
    shown = config.reconstructions[reconstruction]
    if shown.generator.chooses_from:
        problem = "chooses among the images of others, which an analysis does not make"
    elif decoder not in shown.roles.values():
        problem = f"is made from {listed(shown.roles.values())}, not from {decoder!r}"
    elif shown.generator.from_samples and config.decoders[shown.roles["semantic"]].samples:
        problem = "is made from samples of a prior, which an analysis does not draw"
    elif shown.generator.gans:
        problem = "is made by a GAN that is trained here, which an analysis does not read"
    elif shown.generator.pools:
        problem = "looks its images up in a pool, so they change by leaps"
    elif "transductive" in shown.rescale.values():
        problem = "is rescaled by the whole test set, so no image changes alone"
    else:
        return
    raise ValueError(
        f"`{path}.reconstruction`: {reconstruction!r} {problem}: name another reconstruction, or leave "
        "`images` out"
    )


def _require_candidates(config: Any, name: str) -> None:  # noqa: ANN401
    """Refuse a choice among images that nothing makes; and one by the truth that does not say so."""
    chooser = config.reconstructions[name].generator
    for candidate in chooser.chooses_from:
        path = f"reconstructions.{name}.generator.of"
        made = [other for other, one in config.reconstructions.items() if not one.generator.chooses_from]
        require(candidate, dict.fromkeys(made), path, "reconstructions that makes images itself")
        chooser.require_candidate(candidate, config.reconstructions[candidate])
    if chooser.uses_truth and "oracle" not in name:
        raise ValueError(
            f"`reconstructions.{name}` chooses by what was seen, so it is an upper bound and no method, "
            "and tables and figures show its name alone: call it something with `oracle` in it"
        )


def _require_space(config: Any, name: str, role: str) -> None:  # noqa: ANN401
    """Refuse a decoder whose target is not of the space that the generator reads in this role."""
    reconstruction = config.reconstructions[name]
    wanted = reconstruction.generator.demands.get(role)
    decoder = reconstruction.roles[role]
    target = config.targets[config.decoders[decoder].target]
    if wanted is None or spaces.fits(target, wanted):
        return
    fitting = [
        other for other, one in config.decoders.items() if spaces.fits(config.targets[one.target], wanted)
    ]
    hint = (
        f"name a decoder of such a target ({', '.join(fitting)})"
        if fitting
        else "add such a target, and a decoder of it, and name that decoder"
    )
    raise ValueError(
        f"`reconstructions.{name}.{role}`: {spaces.generator(reconstruction.generator)} reads a target "
        f"{spaces.listed(wanted)}, but {decoder!r} predicts the target "
        f"{config.decoders[decoder].target!r}, {spaces.target(target)}. Numbers of another space make "
        f"images of nothing, even where their shape fits: {hint}, or choose the generator's settings by "
        "the target"
    )


def _require_splits(config: Any, name: str) -> None:  # noqa: ANN401
    """Refuse images of training and validation stimuli that nothing predicts."""
    reconstruction = config.reconstructions[name]
    if reconstruction.splits is None:
        return
    votes = bool(reconstruction.generator.chooses_from)
    lacking = [one for one in reconstruction.roles.values() if not config.decoders[one].fitted]
    fixed = config.split.validation_fraction > 0 and config.split.protocol != "leave-one-run-out"
    if votes or lacking or not fixed:
        missing = (
            "a vote makes no images of its own: set `splits` at those that it chooses among"
            if votes
            else f"the decoders {', '.join(lacking)} do not predict their training images: set "
            "`fitted: true` there"
            if lacking
            else "this split carves out no fixed validation images: set `split.validation_fraction`"
        )
        raise ValueError(
            f"`reconstructions.{name}.splits` asks for images of training and validation stimuli, but "
            f"{missing}, or leave `splits` out"
        )


def _require_rescalable(config: Any, name: str) -> None:  # noqa: ANN401
    """Refuse to rescale what has no need of it, or nothing to measure it on."""
    reconstruction = config.reconstructions[name]
    for role, how in reconstruction.rescale.items():
        made = config.decoders[decoder := reconstruction.roles[role]]
        if role == "semantic" and made.samples and reconstruction.generator.from_samples:
            problem = (
                f"makes {made.samples} samples of each embedding, and these condition the images: they "
                "have the spread of true embeddings already, and nothing would be rescaled"
            )
        elif how == "cross_validated" and not made.cross_validates:
            problem = "does not predict its training images by models without them, as this needs"
        else:
            continue
        raise ValueError(
            f"`reconstructions.{name}.rescale` names {role}, but the decoder {decoder!r} {problem}. "
            f"Remove `{role}` from it"
        )
