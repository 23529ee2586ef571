# One job for all analyses of a subject: they read the same responses.
if CONFIG.interpretation.leave_one_out:

    rule leave_voxels_out:
        input:
            unpack(analysed_files),
        output:
            [
                f"{RESULTS}/interpretation/{{subject}}/{name}/leave_one_out.parquet"
                for name in CONFIG.interpretation.leave_one_out
            ],
        log:
            f"{LOGS}/interpretation/{{subject}}/leave_voxels_out.log",
        benchmark:
            f"{BENCHMARKS}/interpretation/{{subject}}/leave_voxels_out.tsv"
        priority: THIRD
        conda:
            "../envs/decoding.yaml"
        threads: decoder_threads()
        resources:
            **ON_GPUS,
            mem_mb=analysis_mb,
            runtime=growing(240),
            gpu=asks.analysing(CONFIG),
        params:
            dataset=measured(),
            analyses=analyses(),
            protocol=section("split"),
            voxels=analysed_voxels(),
            evaluation=scoring(),
            networks=analysis_networks(),
            code=analysis_code(),
        message:
            "Leaving voxels out of the decoders of {wildcards.subject}"
        script:
            "../workflow/scripts/leave_voxels_out.py"
