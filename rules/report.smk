rule tabulate_results:
    input:
        unpack(all_scores),
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
        evaluation=section("evaluation"),
        title=section("report.title"),
        code=code("tabulate_results"),
    message:
        "Putting all scores into one table"
    script:
        "../workflow/scripts/tabulate_results.py"


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
        repository=workflow.basedir,
        code=code("record_manifest"),
    message:
        "Recording configuration, versions and hashes of the inputs"
    script:
        "../workflow/scripts/record_manifest.py"


rule write_report:
    input:
        unpack(all_scores),
        results=rules.tabulate_results.output.parquet,
        manifest=rules.record_manifest.output[0],
    output:
        report(
            f"{RESULTS}/report/index.html",
            caption="../workflow/report/page.rst",
            category="Results",
            labels={"table": "report"},
        ),
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
        title=section("report.title"),
        subjects=SUBJECTS,
        runs=RUNS,
        decoders=section("decoders"),
        targets=section("targets"),
        reconstructions=list(CONFIG.reconstructions),
        code=code("write_report"),
    message:
        "Writing the report"
    script:
        "../workflow/scripts/write_report.py"
