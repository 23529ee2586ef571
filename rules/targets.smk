rule encode_target:
    input:
        stimuli=stimulus_files,
        truth=truth_files,
        design=design_files,
    output:
        f"{RESULTS}/targets/{{target}}/features.h5",
    log:
        f"{LOGS}/targets/{{target}}/encode_target.log",
    benchmark:
        f"{BENCHMARKS}/targets/{{target}}/encode_target.tsv"
    conda:
        "../envs/decoding.yaml"
    threads: 2
    resources:
        mem_mb=growing(8000),
        runtime=growing(240),
        gpu=target_gpus,
    params:
        dataset={**measured(), "subjects": SUBJECTS},
        target=target_section,
        code=target_code,
    message:
        "Encoding the stimuli as {wildcards.target}"
    script:
        "../workflow/scripts/encode_target.py"
