rule extract_voxels:
    input:
        unpack(raw_files),
    output:
        betas=f"{RESULTS}/voxels/{{subject}}/betas.h5",
        voxels=f"{RESULTS}/voxels/{{subject}}/voxels.parquet",
        shown=f"{RESULTS}/voxels/{{subject}}/shown.parquet",
    log:
        f"{LOGS}/voxels/{{subject}}/extract_voxels.log",
    benchmark:
        f"{BENCHMARKS}/voxels/{{subject}}/extract_voxels.tsv"
    localrule: reads_ranges()
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000 if NATIVE else 8000),  # matrices are held whole: 1.6 GB, and a copy
        runtime=extraction_minutes,
    params:
        dataset=extracted_dataset,
        voxels=extraction(),
        code=code("extract_voxels"),
    message:
        "Extracting the voxels of {wildcards.subject}"
    script:
        "../workflow/scripts/extract_voxels.py"


rule freeze_split:
    input:
        shown=rules.extract_voxels.output.shown,
        betas=rules.extract_voxels.output.betas,
        design=design_files,
    output:
        trials=f"{RESULTS}/voxels/{{subject}}/trials.parquet",
        split=f"{RESULTS}/datasets/{{subject}}/split.parquet",
        described=f"{RESULTS}/datasets/{{subject}}/split.json",
    log:
        f"{LOGS}/voxels/{{subject}}/freeze_split.log",
    benchmark:
        f"{BENCHMARKS}/voxels/{{subject}}/freeze_split.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        dataset={**measured(), "subjects": SUBJECTS},
        split=section("split"),
        code=code("freeze_split"),
    message:
        "Freezing which images train, validate and test {wildcards.subject}"
    script:
        "../workflow/scripts/freeze_split.py"


rule summarise_voxels:
    input:
        unpack(subject_anatomy),
    output:
        report(
            f"{RESULTS}/voxels/{{subject}}/summary.png",
            caption="../workflow/report/voxels.rst",
            category="Voxels",
            labels={"subject": "{subject}"},
        ),
    log:
        f"{LOGS}/voxels/{{subject}}/summarise_voxels.log",
    benchmark:
        f"{BENCHMARKS}/voxels/{{subject}}/summarise_voxels.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        dataset=measured(),
        voxels=named_sets(),
        code=code("summarise_voxels"),
    message:
        "Drawing where the voxels of {wildcards.subject} are"
    script:
        "../workflow/scripts/summarise_voxels.py"
