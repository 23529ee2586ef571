rule reconstruct_images:
    input:
        unpack(reconstruction_files),
        stimuli=stimulus_files,
        weights=generator_weights,
    output:
        images=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/images.h5",
        recovery=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/recovery.h5",
        details=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/details.parquet",
    log:
        f"{LOGS}/generators/{{subject}}/{{reconstruction}}/reconstruct_images.log",
    benchmark:
        f"{BENCHMARKS}/generators/{{subject}}/{{reconstruction}}/reconstruct_images.tsv"
    wildcard_constraints:
        reconstruction="|".join(MADE) or "none",
    priority: SECOND
    conda:
        "../envs/decoding.yaml"
    threads: generator_threads
    resources:
        **ON_GPUS,
        mem_mb=growing(8000),
        runtime=generator_minutes,
        gpu=generator_gpus,
    params:
        dataset=measured(),
        reconstruction=reconstruction_section,
        pool=reconstruction_pool,
        networks=generator_networks,
        code=generator_code,
    message:
        "Making the images of {wildcards.reconstruction} for {wildcards.subject}"
    script:
        "../workflow/scripts/reconstruct_images.py"


rule reconstruct_splits:
    input:
        unpack(reconstruction_files),
        stimuli=stimulus_files,
        weights=generator_weights,
    output:
        train=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/splits/train.h5",
        validation=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/splits/validation.h5",
        details=f"{RESULTS}/generators/{{subject}}/{{reconstruction}}/splits/details.parquet",
    log:
        f"{LOGS}/generators/{{subject}}/{{reconstruction}}/reconstruct_splits.log",
    benchmark:
        f"{BENCHMARKS}/generators/{{subject}}/{{reconstruction}}/reconstruct_splits.tsv"
    wildcard_constraints:
        reconstruction="|".join(SPLIT_IMAGES) or "none",
    conda:
        "../envs/decoding.yaml"
    threads: generator_threads
    resources:
        **ON_GPUS,
        mem_mb=growing(8000),
        runtime=generator_minutes,
        gpu=generator_gpus,
    params:
        dataset=measured(),
        reconstruction=reconstruction_section,
        pool=reconstruction_pool,
        n_images=split_images,
        networks=generator_networks,
        code=splits_code,
    message:
        "Making the images of {wildcards.reconstruction} for training and validation images of {wildcards.subject}"
    script:
        "../workflow/scripts/reconstruct_splits.py"


# One job for all votes of a subject: their candidates are the same images, which are encoded once.
if VOTES:

    rule vote_images:
        input:
            unpack(vote_files),
            stimuli=stimulus_files,
            weights=vote_weights,
        output:
            images=[f"{RESULTS}/generators/{{subject}}/{name}/images.h5" for name in VOTES],
            recovery=[f"{RESULTS}/generators/{{subject}}/{name}/recovery.h5" for name in VOTES],
            details=[f"{RESULTS}/generators/{{subject}}/{name}/details.parquet" for name in VOTES],
        log:
            f"{LOGS}/generators/{{subject}}/vote_images.log",
        benchmark:
            f"{BENCHMARKS}/generators/{{subject}}/vote_images.tsv"
        priority: FIRST
        conda:
            "../envs/decoding.yaml"
        threads: 4 if asks.voting(CONFIG) else 1
        resources:
            **ON_GPUS,
            mem_mb=growing(4000),
            runtime=growing(60),
            gpu=asks.voting(CONFIG),
        params:
            dataset=measured(),
            votes={name: shown_as(name) for name in VOTES},
            networks={name: networks_of(CONFIG.reconstructions[name].generator) for name in VOTES},
            code=code("vote_images"),
        message:
            "Choosing among the images of {wildcards.subject}"
        script:
            "../workflow/scripts/vote_images.py"


# One job for all reconstructions of a subject: they show the same images, which are read once.
if CONFIG.reconstructions:

    rule draw_sheets:
        input:
            unpack(images_of_subject),
            unpack(neighbours_of_subject),
            stimuli=stimulus_files,
        output:
            subject=report(
                f"{RESULTS}/generators/{{subject}}/sheet.png",
                caption="../workflow/report/reconstructions.rst",
                category="Reconstructions",
                labels={"subject": "{subject}", "reconstruction": "all"},
            ),
            each=[
                report(
                    f"{RESULTS}/generators/{{subject}}/{name}/sheet.png",
                    caption="../workflow/report/reconstructions.rst",
                    category="Reconstructions",
                    labels={"subject": "{subject}", "reconstruction": name},
                )
                for name in CONFIG.reconstructions
            ],
        log:
            f"{LOGS}/generators/{{subject}}/draw_sheets.log",
        benchmark:
            f"{BENCHMARKS}/generators/{{subject}}/draw_sheets.tsv"
        conda:
            "../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=growing(8000),
            runtime=growing(60),
        params:
            dataset=measured(),
            reconstructions=list(CONFIG.reconstructions),
            bounds=[name for name in CONFIG.reconstructions if is_bound(name)],
            seed=section("evaluation.seed"),
            code=code("draw_sheets"),
        message:
            "Drawing the contact sheets of {wildcards.subject}"
        script:
            "../workflow/scripts/draw_sheets.py"
