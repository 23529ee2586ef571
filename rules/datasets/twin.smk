rule simulate_experiment:
    output:
        tables=nsd_files("experiment"),
        stimuli=nsd_files("stimuli"),
        truth=f"{DATASET.root}/truth/features.h5",
        scenes=f"{DATASET.root}/truth/scenes.parquet",
    log:
        f"{LOGS}/datasets/simulate_experiment.log",
    benchmark:
        f"{BENCHMARKS}/datasets/simulate_experiment.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        dataset=section("dataset"),
        code=code("simulate_experiment"),
    message:
        "Drawing the twin's scenes and writing its experiment tables"
    script:
        "../../workflow/scripts/simulate_experiment.py"
