rule compute_limits:
    input:
        experiment=truth_files,
        truth=f"{DATASET.root}/truth/{{subject}}.h5" if DATASET.kind == "twin" else [],
        trials=f"{RESULTS}/voxels/{{subject}}/trials.parquet",
        voxels=f"{RESULTS}/voxels/{{subject}}/voxels.parquet",
    output:
        f"{RESULTS}/evaluation/{{subject}}/limits.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/compute_limits.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/compute_limits.tsv"
    priority: FIRST
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        dataset=measured(),
        units=section("split.test_units"),
        pools=section("evaluation.retrieval.pools"),
        seed=section("evaluation.seed"),
        rois=DECODED,
        voxels=named_sets(),
        code=code("compute_limits"),
    message:
        "Computing what the best possible decoder of {wildcards.subject} would score"
    script:
        "../workflow/scripts/compute_limits.py"


# One job for all runs of a subject, one of them in memory at a time: most of a job of its own would be imports.
rule score_decoders:
    input:
        unpack(scoring_files),
    output:
        scores=[f"{RESULTS}/evaluation/{{subject}}/{run}/scores.parquet" for run in RUNS + SWEPT],
        per_item=[f"{RESULTS}/evaluation/{{subject}}/{run}/items.parquet" for run in RUNS + SWEPT],
        answers=[f"{RESULTS}/evaluation/{{subject}}/{run}/answers.parquet" for run in RUNS + SWEPT],
    log:
        f"{LOGS}/evaluation/{{subject}}/score_decoders.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/score_decoders.tsv"
    priority: FIRST
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=scoring_mb,
        runtime=growing(60 + 15 * len(RUNS + SWEPT)),
    params:
        dataset=measured(),
        runs=scored_runs,
        protocol=section("split.protocol"),
        units=section("split.test_units"),
        evaluation=scoring(),
        code=code("score_decoders"),
    message:
        "Scoring the decoders of {wildcards.subject}"
    script:
        "../workflow/scripts/score_decoders.py"


# One job for all reconstructions of a subject: the metric networks see the true images once.
if CONFIG.reconstructions:

    rule score_reconstructions:
        input:
            unpack(reconstructed_files),
            unpack(neighbours_of_subject),
            stimuli=stimulus_files,
            objects=judged_files,
            weights=metric_weights,
        output:
            scores=[
                f"{RESULTS}/evaluation/{{subject}}/reconstructions/{name}/scores.parquet"
                for name in CONFIG.reconstructions
            ],
            per_item=[
                f"{RESULTS}/evaluation/{{subject}}/reconstructions/{name}/items.parquet"
                for name in CONFIG.reconstructions
            ],
        log:
            f"{LOGS}/evaluation/{{subject}}/score_reconstructions.log",
        benchmark:
            f"{BENCHMARKS}/evaluation/{{subject}}/score_reconstructions.tsv"
        priority: FIRST
        conda:
            "../envs/decoding.yaml"
        threads: 4 if asks.scoring(CONFIG) else 1
        resources:
            **ON_GPUS,
            mem_mb=growing(8000),
            runtime=growing(240),
            gpu=asks.scoring(CONFIG),
        params:
            dataset=measured(),
            decoders=main_decoders,
            networks=networks_of(CONFIG.evaluation.images),
            reconstructions=said_of_roles,
            protocol=section("split.protocol"),
            evaluation=scoring_with("images"),
            code=code("score_reconstructions"),
        message:
            "Scoring the images reconstructed for {wildcards.subject}"
        script:
            "../workflow/scripts/score_reconstructions.py"


# Clusters and distances among predicted embeddings; all trainings of a subject in one job, which reads images once.
if LATENT_RUNS:

    rule analyse_latents:
        input:
            unpack(latent_files),
            stimuli=stimulus_files,
            objects=annotation_files,
        output:
            scores=latent_outputs("{subject}", "scores.parquet"),
            images=latent_outputs("{subject}", "images.parquet"),
            maps=latent_outputs("{subject}", "map.png"),
        log:
            f"{LOGS}/evaluation/{{subject}}/analyse_latents.log",
        benchmark:
            f"{BENCHMARKS}/evaluation/{{subject}}/analyse_latents.tsv"
        conda:
            "../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=scoring_mb,
            runtime=growing(60),
        params:
            dataset=measured(),
            runs=latent_runs,
            protocol=section("split.protocol"),
            units=section("split.test_units"),
            evaluation=scoring_with("latents"),
            code=code("analyse_latents"),
        message:
            "Comparing what was decoded of the images that {wildcards.subject} saw"
        script:
            "../workflow/scripts/analyse_latents.py"


rule score_splits:
    input:
        unpack(split_files),
        stimuli=stimulus_files,
        weights=split_weights,
    output:
        f"{RESULTS}/evaluation/{{subject}}/splits.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/score_splits.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/score_splits.tsv"
    conda:
        "../envs/decoding.yaml"
    threads: 4 if asks.comparing(CONFIG) else 1
    resources:
        **ON_GPUS,
        mem_mb=scoring_mb,
        runtime=growing(120),
        gpu=asks.comparing(CONFIG),
    params:
        dataset=measured(),
        runs=split_runs,
        reconstructions=split_reconstructions,
        networks=read_as(split_comparers()),
        protocol=section("split.protocol"),
        evaluation=scoring(),
        code=code("score_splits"),
    message:
        "Scoring what {wildcards.subject} was trained on beside what was held out"
    script:
        "../workflow/scripts/score_splits.py"


rule compare_decoders:
    input:
        per_item=items_of_subject,
    output:
        f"{RESULTS}/evaluation/{{subject}}/comparisons.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/compare_decoders.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/compare_decoders.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        evaluation=scoring(),
        code=code("compare_decoders"),
    message:
        "Comparing the decoders of {wildcards.subject} on the same images"
    script:
        "../workflow/scripts/compare_decoders.py"


rule measure_noise_ceiling:
    input:
        unpack(subject_matrix),
    output:
        f"{RESULTS}/evaluation/{{subject}}/noise_ceiling.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/measure_noise_ceiling.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/measure_noise_ceiling.tsv"
    priority: FIRST
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        runtime=growing(30),
    params:
        dataset=measured(),
        protocol=section("split.protocol"),
        voxels=named_sets(),
        code=code("measure_noise_ceiling"),
    message:
        "Measuring how reliable the voxels of {wildcards.subject} are"
    script:
        "../workflow/scripts/measure_noise_ceiling.py"


rule audit_subject:
    input:
        unpack(audited_files),
    output:
        f"{RESULTS}/evaluation/{{subject}}/audit.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/audit_subject.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/audit_subject.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=audit_mb,
        runtime=growing(60),
    params:
        dataset=measured(),
        decoders=section("decoders"),
        runs=RUNS,
        units=section("split.test_units"),
        voxels=named_sets(),
        evaluation=scoring(),
        code=code("audit_subject"),
    message:
        "Auditing the results of {wildcards.subject} for leaks and wrong labels"
    script:
        "../workflow/scripts/audit_subject.py"
