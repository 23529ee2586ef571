# What the analyses of trained decoders read.


def analyses():
    """Every analysis: its section, the seed of the training it is about, and the decoder's section."""
    found = {}
    for name, one in CONFIG.interpretation.leave_one_out.items():
        decoder = CONFIG.decoders[one.decoder]
        seed = decoder.seeds[0] if one.training_seed is None else one.training_seed
        plain = decoder.model_dump(mode="json", exclude={"seeds": True, **decoder.harmless})
        shown = shown_as(one.images.reconstruction) if one.images else None
        analysis = section(f"interpretation.leave_one_out.{name}")
        found[name] = {"analysis": analysis, "seed": seed, "decoder": plain, "reconstruction": shown}
    return found


def analysed_folder(subject, name):
    """Folder of the training that an analysis is about."""
    one = analyses()[name]
    return f"{RESULTS}/decoders/{subject}/{one['analysis']['decoder']}/seed-{one['seed']}"


def analysed_files(wildcards):
    """Responses; per analysis the trained decoder and its target, and what its images are made from."""
    names = list(CONFIG.interpretation.leave_one_out)
    folders = [analysed_folder(wildcards.subject, name) for name in names]
    decoders = [CONFIG.interpretation.leave_one_out[name].decoder for name in names]
    files = {
        **voxels_of(wildcards.subject),
        "weights": [f"{folder}/weights.safetensors" for folder in folders],
        "predictions": [f"{folder}/predictions.h5" for folder in folders],
        "features": list(map(features_of, decoders)),
    }
    for name, reconstruction in shown_by_analyses().items():
        roles = CONFIG.reconstructions[reconstruction].roles
        files[f"{name}_roles"] = [shown_run(wildcards.subject, reconstruction, one) for one in roles.values()]
        files[f"{name}_features"] = [features_of(one) for one in roles.values()]
    files["networks"] = sorted({path for plugin in analysis_plugins() for path in weights_of(plugin)})
    # generators may look at training images
    return {**files, "stimuli": stimulus_files(wildcards)} if shown_by_analyses() else files


def shown_by_analyses():
    """Analysis -> the reconstruction whose images it makes, of those that make images."""
    named = CONFIG.interpretation.leave_one_out.items()
    return {name: one.images.reconstruction for name, one in named if one.images is not None}


def analysis_plugins():
    """What loads frozen networks for the analyses: generators, and metric networks that compare."""
    generators = [CONFIG.reconstructions[name].generator for name in shown_by_analyses().values()]
    named = CONFIG.interpretation.leave_one_out.values()
    metrics = [
        settings.ImagesConfig(networks=(one.images.network,)) for one in named if one.images is not None
    ]
    return generators + metrics


def analysis_networks():
    """How the networks of the analyses are read."""
    return [networks_of(plugin) for plugin in analysis_plugins()]


def analysed_voxels():
    """How the analysed decoders read their voxels."""
    return {"rois": section("voxels.rois"), "normalisation": section("voxels.normalisation")}


def analysis_mb(wildcards, input, attempt):
    """Memory for the responses, the singular vectors of the training ones, and one set of predictions."""
    return (2 * memory_mb(wildcards, input, 1) + predictions_mb(input)) * attempt


def analysis_code():
    """Hash of the analysing script and of the modules of the decoders and generators that it loads."""
    named = CONFIG.interpretation.leave_one_out.values()
    plugins = [CONFIG.decoders[one.decoder] for one in named]
    plugins += [CONFIG.reconstructions[name].generator for name in shown_by_analyses().values()]
    return code("leave_voxels_out", *dict.fromkeys(type(plugin).__module__ for plugin in plugins))


def analyses_of(subject):
    """Tables of every analysis of a subject."""
    names = CONFIG.interpretation.leave_one_out
    return [f"{RESULTS}/interpretation/{subject}/{name}/leave_one_out.parquet" for name in names]
