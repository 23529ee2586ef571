rule simulate_experiment:
    output:
        tables=raw(nsd_keys.common_files(stimuli=False)),
        stimuli=raw([nsd_keys.STIMULI]),
        truth=f"{DATASET.root}/truth/features.h5",
        scenes=f"{DATASET.root}/truth/scenes.parquet",
        annotations=annotation_files(None),
    log:
        f"{LOGS}/datasets/simulate_experiment.log",
    benchmark:
        f"{BENCHMARKS}/datasets/simulate_experiment.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 4
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        dataset=section("dataset"),
        code=code("simulate_experiment"),
    message:
        "Drawing the twin's scenes and writing its experiment tables"
    script:
        "../../workflow/scripts/simulate_experiment.py"


# One rule per subject, because subjects may have different numbers of sessions.
for subject in SUBJECTS:

    rule:
        name:
            f"simulate_{subject}"
        input:
            experiment=rules.simulate_experiment.output.tables,
            truth=rules.simulate_experiment.output.truth,
        output:
            raw(subject_keys(subject)),
            raw(session_keys(subject)),
            truth=f"{DATASET.root}/truth/{subject}.h5",
        log:
            f"{LOGS}/datasets/{subject}/simulate_subject.log",
        benchmark:
            f"{BENCHMARKS}/datasets/{subject}/simulate_subject.tsv"
        conda:
            "../../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(30),
        params:
            dataset=section("dataset"),
            subject=subject,
            code=code("simulate_subject"),
        message:
            f"Simulating the responses of {subject}"
        script:
            "../../workflow/scripts/simulate_subject.py"
