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


rule score_decoder:
    input:
        unpack(scoring_files),
    output:
        scores=f"{RESULTS}/evaluation/{{subject}}/{{decoder}}/seed-{{seed}}/scores.parquet",
        per_item=f"{RESULTS}/evaluation/{{subject}}/{{decoder}}/seed-{{seed}}/items.parquet",
        answers=f"{RESULTS}/evaluation/{{subject}}/{{decoder}}/seed-{{seed}}/answers.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/{{decoder}}/seed-{{seed}}/score_decoder.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/{{decoder}}/seed-{{seed}}/score_decoder.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        dataset=measured(),
        decoder=decoder_section,
        protocol=section("split.protocol"),
        units=section("split.test_units"),
        evaluation=section("evaluation"),
        code=code("score_decoder"),
    message:
        "Scoring {wildcards.decoder} of {wildcards.subject}, seed {wildcards.seed}"
    script:
        "../workflow/scripts/score_decoder.py"


rule score_reconstruction:
    input:
        unpack(reconstruction_files),
        images=rules.reconstruct_images.output.images,
        recovery=rules.reconstruct_images.output.recovery,
        stimuli=stimulus_files,
    output:
        scores=f"{RESULTS}/evaluation/{{subject}}/reconstructions/{{reconstruction}}/scores.parquet",
        per_item=f"{RESULTS}/evaluation/{{subject}}/reconstructions/{{reconstruction}}/items.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/reconstructions/{{reconstruction}}/score_reconstruction.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/reconstructions/{{reconstruction}}/score_reconstruction.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(60),
    params:
        dataset=measured(),
        decoder=reconstructed_decoder,
        protocol=section("split.protocol"),
        evaluation=section("evaluation"),
        code=code("score_reconstruction"),
    message:
        "Scoring the images of {wildcards.reconstruction} for {wildcards.subject}"
    script:
        "../workflow/scripts/score_reconstruction.py"


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
        evaluation=section("evaluation"),
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
        mem_mb=memory_mb,
        runtime=growing(60),
    params:
        dataset=measured(),
        decoders=section("decoders"),
        runs=RUNS,
        units=section("split.test_units"),
        voxels=named_sets(),
        evaluation=section("evaluation"),
        code=code("audit_subject"),
    message:
        "Auditing the results of {wildcards.subject} for leaks and wrong labels"
    script:
        "../workflow/scripts/audit_subject.py"
