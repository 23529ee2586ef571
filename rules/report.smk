rule tabulate_results:
    input:
        unpack(all_scores),
        published=PUBLISHED_SCORES,
    output:
        parquet=f"{RESULTS}/report/results.parquet",
        csv=f"{RESULTS}/report/results.csv",
        tex=f"{RESULTS}/report/results.tex",
        audit=f"{RESULTS}/report/audit.csv",
        comparisons=f"{RESULTS}/report/comparisons.csv",
        html=report(
            f"{RESULTS}/report/results.html",
            caption="../workflow/report/results.rst",
            category="Results",
            labels={"table": "results"},
        ),
    log:
        f"{LOGS}/report/tabulate_results.log",
    benchmark:
        f"{BENCHMARKS}/report/tabulate_results.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        dataset=measured(),
        evaluation=scoring(),
        title=section("report.title"),
        code=code("tabulate_results"),
    message:
        "Putting all scores into one table"
    script:
        "../workflow/scripts/tabulate_results.py"


rule tabulate_splits:
    input:
        SPLITS,
    output:
        parquet=f"{RESULTS}/report/splits.parquet",
        csv=report(
            f"{RESULTS}/report/splits.csv",
            caption="../workflow/report/splits.rst",
            category="Results",
            labels={"table": "splits"},
        ),
    log:
        f"{LOGS}/report/tabulate_splits.log",
    benchmark:
        f"{BENCHMARKS}/report/tabulate_splits.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        names=[*CONFIG.decoders, *CONFIG.reconstructions],
        code=code("tabulate_splits"),
    message:
        "Putting the scores by split into one table"
    script:
        "../workflow/scripts/tabulate_splits.py"


rule tabulate_sweep:
    input:
        unpack(sweep_files),
    output:
        parquet=f"{RESULTS}/report/sweeps/{{sweep}}.parquet",
        csv=f"{RESULTS}/report/sweeps/{{sweep}}.csv",
        figure=report(
            f"{RESULTS}/report/sweeps/{{sweep}}.svg",
            caption="../workflow/report/sweeps.rst",
            category="Sweeps",
            labels={"sweep": "{sweep}"},
        ),
    log:
        f"{LOGS}/report/sweeps/{{sweep}}/tabulate_sweep.log",
    benchmark:
        f"{BENCHMARKS}/report/sweeps/{{sweep}}/tabulate_sweep.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        runs=sweep_runs,
        grid=sweep_grid,
        code=code("tabulate_sweep"),
    message:
        "Putting what the sweep {wildcards.sweep} scored into one table"
    script:
        "../workflow/scripts/tabulate_sweep.py"


rule record_manifest:
    input:
        recorded_files,
        # a table that was made anew was made by what is recorded anew
        results=rules.tabulate_results.output.parquet,
    output:
        f"{RESULTS}/report/manifest.json",
    log:
        f"{LOGS}/report/record_manifest.log",
    benchmark:
        f"{BENCHMARKS}/report/record_manifest.tsv"
    localrule: True
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(30),
    params:
        config=config,
        repository=below(workflow.basedir),
        code=code("record_manifest"),
    message:
        "Recording configuration, versions and hashes of the inputs"
    script:
        "../workflow/scripts/record_manifest.py"


# Pictures of every test image, apart from the numbers: the page of the report stays small.
if CONFIG.reconstructions:

    rule write_gallery:
        input:
            unpack(all_images),
            stimuli=stimulus_files,
            objects=annotation_files,
        output:
            report(
                f"{RESULTS}/report/gallery.html",
                caption="../workflow/report/gallery.rst",
                category="Reconstructions",
                labels={"subject": "all", "reconstruction": "gallery"},
            ),
        log:
            f"{LOGS}/report/write_gallery.log",
        benchmark:
            f"{BENCHMARKS}/report/write_gallery.tsv"
        conda:
            "../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=growing(8000),
            runtime=growing(60),
        params:
            dataset=measured(),
            title=section("report.title"),
            subjects=SUBJECTS,
            reconstructions=list(CONFIG.reconstructions),
            seed=section("evaluation.seed"),
            code=code("write_gallery"),
        message:
            "Writing the gallery of reconstructions"
        script:
            "../workflow/scripts/write_gallery.py"


rule write_report:
    input:
        unpack(all_scores),
        gallery=GALLERY[0] if GALLERY else [],
        published=PUBLISHED_SCORES,
        split_table=SPLIT_TABLE,
        sweeps=SWEEP_TABLES,
        sweep_figures=SWEEP_FIGURES,
        results=rules.tabulate_results.output.parquet,
        manifest=rules.record_manifest.output[0],
    output:
        page=report(
            f"{RESULTS}/report/index.html",
            caption="../workflow/report/page.rst",
            category="Results",
            labels={"table": "report"},
        ),
        systems=[
            report(
                f"{RESULTS}/report/systems/{name}.html",
                caption="../workflow/report/systems.rst",
                category="Systems",
                labels={"system": name},
            )
            for name in SYSTEMS
        ],
    log:
        f"{LOGS}/report/write_report.log",
    benchmark:
        f"{BENCHMARKS}/report/write_report.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        dataset=measured(),
        evaluation=scoring(),
        title=section("report.title"),
        subjects=SUBJECTS,
        runs=RUNS,
        latent_runs=LATENT_RUNS,
        decoders=section("decoders"),
        reconstructions=section("reconstructions"),
        votes=cast_votes(),
        grids={name: sweep.grid(name) for name, sweep in CONFIG.sweeps.items()},
        surfaces=[
            (subject, name) for subject in SUBJECTS if surfaces_of(subject) for name in CONFIG.encodings
        ],
        code=code("write_report"),
    message:
        "Writing the report"
    script:
        "../workflow/scripts/write_report.py"
