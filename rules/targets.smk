rule encode_target:
    input:
        stimuli=stimulus_files,
        truth=truth_files,
        design=design_files,
        captions=caption_files,
        weights=target_weights,
    output:
        f"{RESULTS}/targets/{{target}}/index.json",
    log:
        f"{LOGS}/targets/{{target}}/encode_target.log",
    benchmark:
        f"{BENCHMARKS}/targets/{{target}}/encode_target.tsv"
    priority: FIRST
    conda:
        "../envs/decoding.yaml"
    threads: target_threads
    resources:
        **ON_GPUS,
        mem_mb=growing(8000),
        runtime=growing(240),
        gpu=target_gpus,
    params:
        dataset={**measured(), "subjects": SUBJECTS},
        target=target_section,
        networks=target_networks,
        code=target_code,
    message:
        "Encoding the stimuli as {wildcards.target}"
    script:
        "../workflow/scripts/encode_target.py"


# Images outside the data set: their list, where their embeddings are given; or both, by the network of a target.
# A folder changes when a file comes or goes in it, not in a folder below it: so the list is made with each encoding.
if CONFIG.pools:

    rule list_pool:
        input:
            images=pool_folder,
        output:
            f"{RESULTS}/pools/{{pool}}/files.parquet",
        log:
            f"{LOGS}/pools/{{pool}}/list_pool.log",
        benchmark:
            f"{BENCHMARKS}/pools/{{pool}}/list_pool.tsv"
        conda:
            "../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(60),
        params:
            code=code("list_pool"),
        message:
            "Listing the images of the pool {wildcards.pool}"
        script:
            "../workflow/scripts/list_pool.py"

    rule encode_pool:
        input:
            images=pool_folder,
            weights=target_weights,
        output:
            index=f"{RESULTS}/pools/{{pool}}/{{target}}/index.json",
            files=f"{RESULTS}/pools/{{pool}}/{{target}}/files.parquet",
        log:
            f"{LOGS}/pools/{{pool}}/{{target}}/encode_pool.log",
        benchmark:
            f"{BENCHMARKS}/pools/{{pool}}/{{target}}/encode_pool.tsv"
        conda:
            "../envs/decoding.yaml"
        threads: target_threads
        resources:
            **ON_GPUS,
            mem_mb=growing(8000),
            runtime=growing(1440),
            gpu=target_gpus,
        params:
            pool=pool_section,
            target=target_section,
            networks=target_networks,
            code=pool_code,
        message:
            "Encoding the images of the pool {wildcards.pool} as {wildcards.target}"
        script:
            "../workflow/scripts/encode_pool.py"
