# The other direction: from images to the response of every voxel or vertex.
rule encode_responses:
    input:
        unpack(subject_matrix),
        features=encoding_features,
        images=stimulus_files,
    output:
        f"{RESULTS}/evaluation/{{subject}}/encoding/{{encoding}}/predictions.h5",
    log:
        f"{LOGS}/evaluation/{{subject}}/encoding/{{encoding}}/encode_responses.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/encoding/{{encoding}}/encode_responses.tsv"
    conda:
        "../envs/decoding.yaml"
    threads: decoder_threads()
    resources:
        mem_mb=memory_mb,
        runtime=growing(120),
    params:
        dataset=measured(),
        encoding=encoding_section,
        voxels=encoding_voxels,
        code=code("encode_responses"),
    message:
        "Predicting the responses of {wildcards.subject} by {wildcards.encoding}"
    script:
        "../workflow/scripts/encode_responses.py"


rule score_encoding:
    input:
        unpack(subject_matrix),
        predictions=rules.encode_responses.output[0],
    output:
        scores=f"{RESULTS}/evaluation/{{subject}}/encoding/{{encoding}}/scores.parquet",
        vertices=f"{RESULTS}/evaluation/{{subject}}/encoding/{{encoding}}/vertices.parquet",
    log:
        f"{LOGS}/evaluation/{{subject}}/encoding/{{encoding}}/score_encoding.log",
    benchmark:
        f"{BENCHMARKS}/evaluation/{{subject}}/encoding/{{encoding}}/score_encoding.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        dataset=measured(),
        protocol=section("split.protocol"),
        encoding=encoding_section,
        voxels=encoding_voxels,
        evaluation=scoring(),
        code=code("score_encoding"),
    message:
        "Scoring the predicted responses of {wildcards.subject}"
    script:
        "../workflow/scripts/score_encoding.py"


# Of a challenge, whose vertices have a place on fsaverage, and whose test responses may be withheld.
if DATASET.kind == "algonauts":

    rule draw_surface:
        input:
            vertices=rules.score_encoding.output.vertices,
        output:
            report(
                f"{RESULTS}/evaluation/{{subject}}/encoding/{{encoding}}/surface.png",
                caption="../workflow/report/surface.rst",
                category="Encoding",
                labels={"subject": "{subject}", "encoding": "{encoding}"},
            ),
            maps=[
                f"{RESULTS}/evaluation/{{subject}}/encoding/{{encoding}}/surface/{side}.r.func.gii"
                for side in ("lh", "rh")
            ],
        log:
            f"{LOGS}/evaluation/{{subject}}/encoding/{{encoding}}/draw_surface.log",
        benchmark:
            f"{BENCHMARKS}/evaluation/{{subject}}/encoding/{{encoding}}/draw_surface.tsv"
        conda:
            "../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(30),
        params:
            fsaverage=DATASET.fsaverage,
            code=code("draw_surface"),
        message:
            "Drawing the scores of {wildcards.encoding} on the cortex of {wildcards.subject}"
        script:
            "../workflow/scripts/draw_surface.py"

    rule write_submission:
        input:
            unpack(subject_matrix),
            predictions=rules.encode_responses.output[0],
            responses=training_responses,
        output:
            [
                f"{RESULTS}/evaluation/{{subject}}/encoding/{{encoding}}/submission/{side}_pred_test.npy"
                for side in ("lh", "rh")
            ],
        log:
            f"{LOGS}/evaluation/{{subject}}/encoding/{{encoding}}/write_submission.log",
        benchmark:
            f"{BENCHMARKS}/evaluation/{{subject}}/encoding/{{encoding}}/write_submission.tsv"
        conda:
            "../envs/data.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(30),
        params:
            dataset=measured(),
            code=code("write_submission"),
        message:
            "Writing the submission of {wildcards.encoding} for {wildcards.subject}"
        script:
            "../workflow/scripts/write_submission.py"
