# What one job reads of the stages before it.


def weights_of(plugin):
    """Manifests of the frozen networks that a target, a generator or the scoring loads."""
    return manifests(plugin.backbones)


def manifests(names):
    """Manifests of networks of the catalogue and of their parts."""
    closed = catalogue.closure(names)
    for name in set(closed) - set(PUBLISHED):
        backbones.require(name, contents=False)  # part of the checkout: no rule could bring it back
    return [below(backbones.manifest_path(name)) for name in closed]


def networks_of(plugin):
    """How the frozen networks that a target, a generator or the scoring loads are read."""
    return read_as(plugin.backbones)


def read_as(names):
    """How frozen networks are read, which no file of theirs says: settings, and parts of other networks."""
    entries = map(catalogue.named, catalogue.closure(names))
    return {entry.name: [dict(entry.settings), dict(entry.components)] for entry in entries}


def target_networks(wildcards):
    """How the networks that encode a target are read."""
    return networks_of(CONFIG.targets[wildcards.target])


def generator_networks(wildcards):
    """How the networks that make images are read."""
    return read_as(made_by(wildcards.reconstruction))


def made_by(reconstruction):
    """Frozen networks that make images; a GAN that is trained here compares them by that of its condition."""
    generator = CONFIG.reconstructions[reconstruction].generator
    compares = generator.gans and generator.z != "zero"
    conditions = [CONFIG.gans[name].conditions[0] for name in generator.gans] if compares else []
    return (
        *generator.backbones,
        *(network for name in conditions for network in CONFIG.targets[name].backbones),
    )


def fetched_backbones():
    """Manifests of all published networks that the configuration names."""
    sections = [*CONFIG.targets.values(), CONFIG.evaluation.images, *CONFIG.gans.values()]
    sections += [each.generator for each in CONFIG.reconstructions.values()] + analysis_plugins()
    wanted = {path for plugin in sections for path in weights_of(plugin)} | {*split_weights(None)}
    return sorted(wanted & {below(backbones.manifest_path(name)) for name in PUBLISHED})


def backbone_source(wildcards):
    """Where a published network comes from: another revision is fetched anew."""
    entry = catalogue.named(wildcards.backbone)
    return {"repository": entry.repository, "revision": entry.revision}


def target_weights(wildcards):
    """Manifests of the networks that encode a target."""
    return weights_of(CONFIG.targets[wildcards.target])


def generator_weights(wildcards):
    """Manifests of the networks that make images."""
    return manifests(made_by(wildcards.reconstruction))


def metric_weights(wildcards):
    """Manifests of the networks that compare images."""
    return weights_of(CONFIG.evaluation.images)


def decoder_section(wildcards):
    """Settings that one training of a decoder depends on: not how often it is trained or saved."""
    decoder = DECODERS[wildcards.decoder]
    return decoder.model_dump(mode="json", exclude={"seeds": True, **decoder.harmless})


def decoder_code(wildcards):
    """Hash of the training script and of the module of this kind of decoder, not of the others."""
    return code("train_decoder", type(DECODERS[wildcards.decoder]).__module__)


def target_code(wildcards):
    """Hash of the encoding script and of the module of this kind of target."""
    return code("encode_target", type(CONFIG.targets[wildcards.target]).__module__)


def generator_code(wildcards):
    """Hash of the reconstructing script and of the module of this kind of generator."""
    generator = CONFIG.reconstructions[wildcards.reconstruction].generator
    return code("reconstruct_images", type(generator).__module__)


def splits_code(wildcards):
    """Hash of the script that makes images of other splits and of the module of this kind of generator."""
    generator = CONFIG.reconstructions[wildcards.reconstruction].generator
    return code("reconstruct_splits", type(generator).__module__)


def target_section(wildcards):
    """Settings of a target."""
    return section(f"targets.{wildcards.target}")


def reconstruction_section(wildcards):
    """Settings of a reconstruction: its decoders, how they are rescaled, and its generator."""
    return shown_as(wildcards.reconstruction)


def shown_as(reconstruction):
    """Settings that the images of a reconstruction depend on: not whether other splits are shown too."""
    settings = section(f"reconstructions.{reconstruction}")
    return {key: value for key, value in settings.items() if key != "splits"}


def split_images(wildcards):
    """How many images of each further split a reconstruction makes."""
    return section(f"reconstructions.{wildcards.reconstruction}.splits.images")


def target_gpus(wildcards):
    """GPUs that encoding a target asks for."""
    return CONFIG.targets[wildcards.target].n_gpus


def target_threads(wildcards):
    """Threads that encode a target: a GPU is fed by several, which resize the images."""
    return 4 if target_gpus(wildcards) else 1


def generator_threads(wildcards):
    """Threads that make images."""
    return 4 if generator_gpus(wildcards) else 1


def decoder_priority(wildcards):
    """Decoders of images first: what is made of them takes longest, and ends in one job."""
    shown = {name for one in CONFIG.reconstructions.values() for name in one.roles.values()}
    return SECOND if wildcards.decoder in shown else THIRD


def decoder_threads():
    """Threads that train a decoder; a twin is so small that two jobs side by side are quicker."""
    return 1 if DATASET.kind == "twin" else 4


def generator_minutes(wildcards, attempt):
    """Time to make images: published networks need hours for a test set."""
    return times.generating(generator_gpus(wildcards)) * attempt


def decoder_mb(wildcards, input, attempt):
    """Memory to train a decoder; a network of full size passes through that of the host with its optimiser."""
    betas = Path(input.betas).stat().st_size
    return memory.training_mb(betas, decoder_gpus(wildcards), DATASET.kind) * attempt


def decoder_minutes(wildcards, input, attempt):
    """Time to train a decoder, by the size of what it is trained on."""
    return times.training(Path(input.betas).stat().st_size, decoder_gpus(wildcards)) * attempt


def decoder_gpus(wildcards):
    """GPUs that training a decoder asks for."""
    return DECODERS[wildcards.decoder].n_gpus


def generator_gpus(wildcards):
    """GPUs that a generator asks for."""
    return CONFIG.reconstructions[wildcards.reconstruction].generator.n_gpus


def features_of(decoder):
    """Index of the cached features that a decoder predicts."""
    return f"{RESULTS}/targets/{DECODERS[decoder].target}/index.json"


def voxels_of(subject):
    """The matrix and the two tables of a subject."""
    folder = f"{RESULTS}/voxels/{subject}"
    return {
        name: f"{folder}/{name}.{'h5' if name == 'betas' else 'parquet'}"
        for name in ("betas", "trials", "voxels")
    }


def training_files(wildcards):
    """What a decoder is trained on."""
    decoder = DECODERS[wildcards.decoder]
    folder, start = f"{RESULTS}/decoders/{wildcards.subject}", decoder.starts_from
    return {
        **voxels_of(wildcards.subject),
        "features": features_of(wildcards.decoder),
        "further": [f"{RESULTS}/targets/{target}/index.json" for target in decoder.further],
        "initial": [f"{folder}/{start}/seed-{wildcards.seed}/weights.safetensors"] if start else [],
    }


def scoring_files(wildcards):
    """What scoring reads of every run: predictions, the features they predict, and on the twin the limits."""
    runs = [f"{wildcards.subject}/{run}" for run in RUNS + SWEPT]
    files = {
        "predictions": [f"{RESULTS}/decoders/{run}/predictions.h5" for run in runs],
        "features": [features_of(run.split("/")[0]) for run in RUNS + SWEPT],
        "trials": voxels_of(wildcards.subject)["trials"],
    }
    if DATASET.kind == "twin":
        files["limits"] = f"{RESULTS}/evaluation/{wildcards.subject}/limits.parquet"
    return files


def scored_runs(wildcards):
    """What the table calls every run and has to say of it, in the order of `RUNS + SWEPT`."""
    return [
        ({"name": name, "target": decoder.target, "roi": decoder.roi, "seed": seed}, decoder.remark)
        for name, decoder in DECODERS.items()
        for seed in decoder.seeds
    ]


def latent_outputs(subject, name):
    """A file for every training of a subject whose embeddings are looked at."""
    return [f"{RESULTS}/evaluation/{subject}/latents/{run}/{name}" for run in LATENT_RUNS]


def latent_files(wildcards):
    """Predictions of the trainings whose embeddings are looked at, and the features they predict."""
    return {
        "predictions": [
            f"{RESULTS}/decoders/{wildcards.subject}/{run}/predictions.h5" for run in LATENT_RUNS
        ],
        "features": [features_of(run.split("/")[0]) for run in LATENT_RUNS],
    }


def latent_runs(wildcards):
    """What the table calls the trainings whose embeddings are looked at, in the order of `LATENT_RUNS`."""
    named = zip(RUNS + SWEPT, scored_runs(wildcards), strict=True)
    return [about for run, about in named if run in LATENT_RUNS]


def shown_run(subject, reconstruction, decoder):
    """Predictions of the training that a reconstruction shows: of the seed it names, else of the first."""
    seeds = CONFIG.decoders[decoder].seeds
    wanted = CONFIG.reconstructions[reconstruction].training_seed
    seed = wanted if wanted in seeds else seeds[0]
    return f"{RESULTS}/decoders/{subject}/{decoder}/seed-{seed}/predictions.h5"


def pool_folder(wildcards):
    """The folder of a pool's images."""
    return CONFIG.pools[wildcards.pool].images


def pool_section(wildcards):
    """Settings of a pool of images."""
    return section(f"pools.{wildcards.pool}")


def pool_code(wildcards):
    """Hash of the encoding script of pools and of the module of the kind of target."""
    return code("encode_pool", type(CONFIG.targets[wildcards.target]).__module__)


def pool_of(reconstruction):
    """Name of the pool that a reconstruction looks in; None where it looks in none."""
    return next(iter(CONFIG.reconstructions[reconstruction].generator.pools), None)


def pool_files(reconstruction):
    """List of the images that a reconstruction looks among, and their embeddings; {} if it does not look."""
    pool = pool_of(reconstruction)
    if pool is None:
        return {}
    made = f"{RESULTS}/pools/{pool}"
    if own := CONFIG.pools[pool].embeddings:
        return {"pool_files": f"{made}/files.parquet", "pool_embeddings": own}
    made = f"{made}/{CONFIG.decoders[CONFIG.reconstructions[reconstruction].semantic].target}"
    return {"pool_files": f"{made}/files.parquet", "pool_embeddings": f"{made}/index.json"}


def gan_weights_of(reconstruction):
    """Weights of the GAN that is trained for a reconstruction; {} where it uses none."""
    names = CONFIG.reconstructions[reconstruction].generator.gans
    return {"gan": f"{RESULTS}/gans/{name}/model.safetensors" for name in names}


def gan_files(wildcards):
    """What a GAN is trained on: list and embeddings of its pool, features of the stimuli, and, where its noise
    is matched to decoders, their predictions.
    """
    gan = CONFIG.gans[wildcards.gan]
    made, own = f"{RESULTS}/pools/{gan.pool}", CONFIG.pools[gan.pool].embeddings
    each = [own] if own else [f"{made}/{target}/index.json" for target in gan.conditions]
    predictions = {
        f"predictions_{number}": [
            f"{RESULTS}/decoders/{subject}/{name}/seed-{CONFIG.decoders[name].seeds[0]}/predictions.h5"
            for subject in gan.noise.subjects or SUBJECTS
        ]
        for number, name in enumerate(gan.noise.decoders)
    }
    return {
        "files": f"{made}/files.parquet" if own else f"{made}/{gan.conditions[0]}/files.parquet",
        "embeddings": each,
        "features": [f"{RESULTS}/targets/{target}/index.json" for target in gan.conditions],
        **predictions,
    }


def gan_backbones(gan):
    """Frozen networks that the training of a GAN loads: of its conditions, and the one that compares states."""
    conditions = [network for name in gan.conditions for network in CONFIG.targets[name].backbones]
    return tuple(dict.fromkeys([*gan.backbones, *conditions]))


def gan_weights(wildcards):
    """Manifests of the networks that the training of a GAN loads."""
    return manifests(gan_backbones(CONFIG.gans[wildcards.gan]))


def gan_networks(wildcards):
    """How these networks are read."""
    return read_as(gan_backbones(CONFIG.gans[wildcards.gan]))


def gan_section(wildcards):
    """Settings that the weights of a GAN depend on: not how often its training is saved."""
    return CONFIG.gans[wildcards.gan].model_dump(mode="json", exclude={"training": {"checkpoint_minutes"}})


def gan_pool(wildcards):
    """Settings of the pool that a GAN is trained on."""
    return section(f"pools.{CONFIG.gans[wildcards.gan].pool}")


def gan_targets(wildcards):
    """Settings of the targets that condition a GAN."""
    return [section(f"targets.{target}") for target in CONFIG.gans[wildcards.gan].conditions]


def gan_gpus(wildcards):
    """GPUs that training a GAN asks for."""
    return CONFIG.gans[wildcards.gan].n_gpus


def gan_threads(wildcards):
    """Threads that train a GAN: a GPU is fed with photographs by several."""
    return 8 if gan_gpus(wildcards) else 1


def reconstruction_pool(wildcards):
    """Settings of the pool that a reconstruction looks in; {} where it looks in none."""
    pool = pool_of(wildcards.reconstruction)
    return {} if pool is None else section(f"pools.{pool}")


def reconstruction_files(wildcards):
    """Per role of a reconstruction its predictions, and the features they predict; and its pool of images."""
    roles = CONFIG.reconstructions[wildcards.reconstruction].roles
    subject, shown = wildcards.subject, wildcards.reconstruction
    predictions = {role: shown_run(subject, shown, name) for role, name in roles.items()}
    features = {f"{role}_features": features_of(name) for role, name in roles.items()}
    pool, gan = pool_files(shown), gan_weights_of(shown)
    return {**predictions, **features, **pool, **gan, "trials": voxels_of(wildcards.subject)["trials"]}


def vote_files(wildcards):
    """Images that votes choose among, by set, and the predictions and features of the roles that decide.

    Every candidate and every role of a vote has a name of its own, `of_<reconstruction>_<set>` and
    `<vote>_<role>`.
    """
    subject, files = wildcards.subject, {}
    for vote in VOTES:
        section = CONFIG.reconstructions[vote]
        for name in section.generator.chooses_from:
            made = f"{RESULTS}/generators/{subject}/{name}"
            files |= {f"of_{name}_{kind}": f"{made}/{kind}.h5" for kind in ("images", "recovery")}
            files[f"of_{name}_details"] = f"{made}/details.parquet"
        for role, decoder in section.roles.items():
            files[f"{vote}_{role}"] = shown_run(subject, vote, decoder)
            files[f"{vote}_{role}_features"] = features_of(decoder)
    return {**files, "trials": voxels_of(subject)["trials"]}


def vote_weights(wildcards):
    """Manifests of the networks by which candidates are compared."""
    names = {name for vote in VOTES for name in CONFIG.reconstructions[vote].generator.backbones}
    return manifests(sorted(names))


def is_bound(reconstruction):
    """Whether a reconstruction looks at what was seen: an upper bound, no method."""
    return CONFIG.reconstructions[reconstruction].generator.uses_truth


def with_decoders(reconstruction):
    """The reconstruction itself, or, of a vote that no decoder takes part in, its first candidate."""
    section = CONFIG.reconstructions[reconstruction]
    return reconstruction if section.roles else section.generator.chooses_from[0]


def main_decoder(reconstruction):
    """The decoder in the first role of a reconstruction: what its nearest training image goes by."""
    return next(iter(CONFIG.reconstructions[with_decoders(reconstruction)].roles.values()))


def neighbours_of_subject(wildcards):
    """Per reconstruction the predictions of its main decoder and the features they predict."""
    decoders = {name: main_decoder(name) for name in CONFIG.reconstructions}
    return {
        "predictions": [
            shown_run(wildcards.subject, with_decoders(name), decoder) for name, decoder in decoders.items()
        ],
        "features": [features_of(decoder) for decoder in decoders.values()],
        "trials": voxels_of(wildcards.subject)["trials"],
    }


def reconstructed_files(wildcards):
    """Images of every reconstruction of a subject, and what its generator makes of the true targets."""
    made = f"{RESULTS}/generators/{wildcards.subject}"
    return {
        "images": [f"{made}/{name}/images.h5" for name in CONFIG.reconstructions],
        "recovery": [f"{made}/{name}/recovery.h5" for name in CONFIG.reconstructions],
    }


def images_of_subject(wildcards):
    """Images of every reconstruction of a subject, and how each image scored."""
    scored = f"{RESULTS}/evaluation/{wildcards.subject}/reconstructions"
    items = [f"{scored}/{name}/items.parquet" for name in CONFIG.reconstructions]
    return {**reconstructed_files(wildcards), "per_item": items}


def split_files(wildcards):
    """Predictions of every run that predicts its training images too, and images made of every split."""
    made = f"{RESULTS}/generators/{wildcards.subject}"
    runs = [f"{wildcards.subject}/{run}" for run in FITTED]
    return {
        "predictions": [f"{RESULTS}/decoders/{run}/predictions.h5" for run in runs],
        "features": [features_of(run.split("/")[0]) for run in FITTED],
        "train": [f"{made}/{name}/splits/train.h5" for name in SPLIT_IMAGES],
        "validation": [f"{made}/{name}/splits/validation.h5" for name in SPLIT_IMAGES],
        "test": [f"{made}/{name}/images.h5" for name in SPLIT_IMAGES],
        "trials": voxels_of(wildcards.subject)["trials"],
    }


def split_weights(wildcards):
    """Manifests of the networks by which images of the splits are compared."""
    return manifests(split_comparers())


def split_comparers():
    """Networks by which images of the splits are compared."""
    return sorted({CONFIG.reconstructions[name].splits.network for name in SPLIT_IMAGES})


def split_runs(wildcards):
    """What the table calls every run that is scored by split, in the order of `FITTED`."""
    runs = [run.split("/") for run in FITTED]
    return [
        {
            "name": name,
            "target": DECODERS[name].target,
            "roi": DECODERS[name].roi,
            "seed": int(seed.removeprefix("seed-")),
        }
        for name, seed in runs
    ]


def split_reconstructions(wildcards):
    """What the table calls every reconstruction that is scored by split, and how its images are compared."""
    main = main_decoders(wildcards)
    return [
        ({**main[name], "name": name}, section(f"reconstructions.{name}.splits")) for name in SPLIT_IMAGES
    ]


def swept_runs(sweep):
    """Subject, decoder and seed of every training of a sweep."""
    members = CONFIG.sweeps[sweep].members.items()
    return [(subject, name, seed) for subject in SUBJECTS for name, one in members for seed in one.seeds]


def sweep_files(wildcards):
    """Scores and history of every training of a sweep, and its scores by split where there are any."""
    runs = [f"{subject}/{name}/seed-{seed}" for subject, name, seed in swept_runs(wildcards.sweep)]
    fitted = DECODERS[CONFIG.sweeps[wildcards.sweep].decoder].fitted
    return {
        "scores": [f"{RESULTS}/evaluation/{run}/scores.parquet" for run in runs],
        "histories": [f"{RESULTS}/decoders/{run}/history.parquet" for run in runs],
        "splits": SPLITS if fitted else [],
    }


def sweep_runs(wildcards):
    """Subject, decoder and seed of every training of a sweep, in the order of its files."""
    return swept_runs(wildcards.sweep)


def sweep_grid(wildcards):
    """Decoder -> its values of the settings that a sweep varies."""
    return CONFIG.sweeps[wildcards.sweep].grid(wildcards.sweep)


def scores_of(subject, name):
    """One file of scores for every decoder run and reconstruction of a subject."""
    folder = f"{RESULTS}/evaluation/{subject}"
    made = [f"{folder}/{run}/{name}.parquet" for run in RUNS]
    return made + [f"{folder}/reconstructions/{each}/{name}.parquet" for each in CONFIG.reconstructions]


def sheets_of(subject):
    """Contact sheets of a subject: over all reconstructions, and of each."""
    if not CONFIG.reconstructions:
        return []
    folder = f"{RESULTS}/generators/{subject}"
    return [f"{folder}/sheet.png", *(f"{folder}/{name}/sheet.png" for name in CONFIG.reconstructions)]


def subject_results(subject):
    """Everything that is made for one subject alone."""
    sheets = sheets_of(subject)
    return [
        *scores_of(subject, "scores"),
        *encodings_of(subject),
        *sheets,
        f"{RESULTS}/evaluation/{subject}/comparisons.parquet",
        f"{RESULTS}/evaluation/{subject}/noise_ceiling.parquet",
        f"{RESULTS}/evaluation/{subject}/audit.parquet",
        f"{RESULTS}/voxels/{subject}/summary.png",
        *latent_outputs(subject, "scores.parquet"),
        *([f"{RESULTS}/evaluation/{subject}/splits.parquet"] if FITTED else []),
        *analyses_of(subject),
    ]


def encoding_section(wildcards):
    """Settings of an encoding model."""
    return section(f"encodings.{wildcards.encoding}")


def encoding_features(wildcards):
    """Index of the cached features from which an encoding model predicts."""
    return f"{RESULTS}/targets/{CONFIG.encodings[wildcards.encoding].target}/index.json"


def encoding_voxels(wildcards):
    """How an encoding model reads responses: the normalisation, and the ROI sets of the configuration."""
    return {"rois": section("voxels.rois"), "normalisation": section("voxels.normalisation")}


def encodings_of(subject):
    """Scores, maps and submissions of the encoding models of a subject, as far as its data allow them."""
    folders = [f"{RESULTS}/evaluation/{subject}/encoding/{name}" for name in CONFIG.encodings]
    made = [f"{folder}/scores.parquet" for folder in folders]
    if DATASET.kind == "algonauts" and DATASET.withholds_test(subject):
        made += [f"{folder}/submission/{side}_pred_test.npy" for folder in folders for side in ("lh", "rh")]
    return made + surfaces_of(subject)


def surfaces_of(subject):
    """Maps of the encoding models of a subject, where it is known which vertices its responses are from."""
    if DATASET.kind != "algonauts" or not DATASET.has_surface(subject):
        return []
    return [f"{RESULTS}/evaluation/{subject}/encoding/{name}/surface.png" for name in CONFIG.encodings]


def training_responses(wildcards):
    """Released responses of a challenge's subject, which say how many vertices a submission has."""
    return [path for path in DATASET.inputs(wildcards.subject) if path.endswith("_training_fmri.npy")]


def challenge_files(subject):
    """Files that the simulation of a challenge writes for a subject."""
    return [path for path in DATASET.inputs(subject) if path.endswith(".npy")]


def challenge_images(subject):
    """Folders of images that the simulation of a challenge writes for a subject."""
    return [path for path in DATASET.inputs(subject) if not path.endswith(".npy")]


def subject_matrix(wildcards):
    """The matrix and the two tables of a subject."""
    return voxels_of(wildcards.subject)


def items_of_subject(wildcards):
    """Values of every item, of all decoders and reconstructions of a subject."""
    return scores_of(wildcards.subject, "items")


def main_decoders(wildcards):
    """Per reconstruction its main decoder: name, target and ROI set."""
    main = {name: main_decoder(name) for name in CONFIG.reconstructions}
    return {
        name: {"name": decoder, **{key: section(f"decoders.{decoder}.{key}") for key in ("target", "roi")}}
        for name, decoder in main.items()
    }


def said_of_roles(wildcards):
    """Per reconstruction what the table has to say of its roles: how they are rescaled, and by what decoded."""
    return {
        name: {
            "rescaled": section(f"reconstructions.{name}.rescale"),
            "decoders": {role: CONFIG.decoders[decoder].remark for role, decoder in each.roles.items()},
            "generator": each.generator.note,
        }
        for name, each in CONFIG.reconstructions.items()
    }


def audited_files(wildcards):
    """Everything that the audit of a subject looks at; per run, in the order of `RUNS`."""
    runs = [f"{wildcards.subject}/{run}" for run in RUNS]
    return {
        **voxels_of(wildcards.subject),
        "predictions": [f"{RESULTS}/decoders/{run}/predictions.h5" for run in runs],
        "normalisation": [f"{RESULTS}/decoders/{run}/normalisation.h5" for run in runs],
        "features": [features_of(run.split("/")[0]) for run in RUNS],
        "scores": [f"{RESULTS}/evaluation/{run}/scores.parquet" for run in runs],
        "stimuli": stimulus_files(wildcards),
    }


def all_scores(wildcards):
    """Scores, values of the items, and what else the report shows, of every subject."""
    each = {
        name: [f"{RESULTS}/evaluation/{subject}/{name}.parquet" for subject in SUBJECTS]
        for name in ("comparisons", "noise_ceiling", "audit")
    }
    runs = [f"{RESULTS}/decoders/{subject}/{run}" for subject in SUBJECTS for run in RUNS]
    encoded = [
        f"{RESULTS}/evaluation/{subject}/encoding/{name}/scores.parquet"
        for subject in SUBJECTS
        for name in CONFIG.encodings
    ]
    made = {"latent_scores": "scores.parquet", "latents": "images.parquet", "maps": "map.png"}
    latents = {
        key: [path for subject in SUBJECTS for path in latent_outputs(subject, name)]
        for key, name in made.items()
    }
    return {
        **latents,
        "scores": [path for subject in SUBJECTS for path in scores_of(subject, "scores")] + encoded,
        "surfaces": [path for subject in SUBJECTS for path in surfaces_of(subject)],
        "per_item": [path for subject in SUBJECTS for path in scores_of(subject, "items")],
        **each,
        "voxels": [voxels_of(subject)["voxels"] for subject in SUBJECTS],
        "summaries": [f"{RESULTS}/voxels/{subject}/summary.png" for subject in SUBJECTS],
        "sheets": [path for subject in SUBJECTS for path in sheets_of(subject)],
        "votes": [f"{RESULTS}/generators/{subject}/{vote}/details.parquet" for subject, vote in cast_votes()],
        "histories": [f"{run}/history.parquet" for run in runs],
        "leave_one_out": [path for subject in SUBJECTS for path in analyses_of(subject)],
        "answers": [
            f"{RESULTS}/evaluation/{subject}/{run}/answers.parquet" for subject in SUBJECTS for run in RUNS
        ],
    }


def cast_votes():
    """Subject and reconstruction of every vote."""
    return [(subject, vote) for subject in SUBJECTS for vote in VOTES]


def all_images(wildcards):
    """Images, details and scores of every reconstruction, subject by subject."""
    names = [(subject, name) for subject in SUBJECTS for name in CONFIG.reconstructions]
    return {
        "images": [f"{RESULTS}/generators/{subject}/{name}/images.h5" for subject, name in names],
        "details": [f"{RESULTS}/generators/{subject}/{name}/details.parquet" for subject, name in names],
        "per_item": [
            f"{RESULTS}/evaluation/{subject}/reconstructions/{name}/items.parquet" for subject, name in names
        ],
    }


def recorded_files(wildcards):
    """Files whose content the manifest records: what every number rests on."""
    matrices = [path for subject in SUBJECTS for path in voxels_of(subject).values()]
    splits = [f"{RESULTS}/datasets/{subject}/split.parquet" for subject in SUBJECTS]
    features = [f"{RESULTS}/targets/{target}/index.json" for target in CONFIG.targets]
    pools = {path for name in CONFIG.reconstructions for path in pool_files(name).values()}
    gans = {path for name in CONFIG.reconstructions for path in gan_weights_of(name).values()}
    return matrices + splits + features + sorted(pools | gans)


def subject_anatomy(wildcards):
    """The voxel table of a subject, its matrix, and the mean volume where there is one."""
    files = voxels_of(wildcards.subject)
    mean = raw([nsd_keys.key_mean(wildcards.subject, DATASET.space)]) if NATIVE else []
    return {"betas": files["betas"], "voxels": files["voxels"], "mean": mean}


# The training of the small networks.


def tiny_scenes(wildcards):
    """Number of the first scene of a part, and how many there are."""
    return dict(zip(("first", "n"), TINY_SCENES[wildcards.part], strict=True))


def tiny_parts(wildcards):
    """Manifests of the small networks that the training of another uses."""
    return [f"{TINY}/{part}/backbone.json" for part in tiny.NETWORKS[wildcards.network][1]]


def tiny_code(wildcards):
    """Hash of the training script and of the module of one network, not of the others."""
    return code("train_tiny_backbone", tiny.NETWORKS[wildcards.network][0])


def on_slurm():
    """Whether the jobs of this run go to Slurm."""
    return workflow.executor_plugin is not None and workflow.executor_plugin.name == "slurm"


def submitted_rules():
    """Rules whose jobs this configuration may submit; none where jobs run on this machine."""
    unused = {"draw_tiny_scenes", "train_tiny_backbone"}  # part of the checkout, and of no target
    unused |= set() if CONFIG.encodings else {"encode_responses", "score_encoding"}
    unused |= set() if SPLIT_IMAGES else {"reconstruct_splits"}
    unused |= set() if CONFIG.sweeps else {"tabulate_sweep"}
    unused |= set() if SPLITS else {"score_splits"}
    here = [one for one in workflow.rules if one.name not in unused and not one.norun]
    return [one for one in here if not workflow.is_local(one)] if on_slurm() else []


def asked_for(resource, but=()):
    """What rules ask of a resource at the first attempt, without those that go `but` the data, unless it was set."""
    found = {}
    for one in submitted_rules():
        asked = one.resources.get(resource)
        if asked is not None and (one.name not in but or asked.raw is not None):
            given = {"input": [], "attempt": 1, "threads": 1, "rulename": one.name, "async_run": None}
            with suppress(WorkflowError, AttributeError, TypeError, LookupError):  # what goes by the data
                found[one.name] = asked.evaluate(None, **given).value
    return found


def partitions(wildcards):
    """Partitions of Slurm that the jobs of each rule are sent to; {} where they run on this machine."""
    return asked_for("slurm_partition")


def minutes(wildcards):
    """Minutes that jobs of a rule are submitted with, where these do not depend on the data."""
    return asked_for("runtime", times.OF_DATA)


def megabytes(wildcards):
    """Memory that jobs of a rule are submitted with, where it does not depend on the data."""
    return asked_for("mem_mb", memory.OF_DATA)


def most_gpus():
    """The decoder that asks for most GPUs, and for how many."""
    return max(((one.n_gpus, name) for name, one in DECODERS.items()), default=(0, ""))
