rule train_decoder:
    input:
        unpack(training_files),
    output:
        predictions=f"{RESULTS}/decoders/{{subject}}/{{decoder}}/seed-{{seed}}/predictions.h5",
        weights=f"{RESULTS}/decoders/{{subject}}/{{decoder}}/seed-{{seed}}/weights.safetensors",
        history=f"{RESULTS}/decoders/{{subject}}/{{decoder}}/seed-{{seed}}/history.parquet",
        normalisation=f"{RESULTS}/decoders/{{subject}}/{{decoder}}/seed-{{seed}}/normalisation.h5",
    log:
        f"{LOGS}/decoders/{{subject}}/{{decoder}}/seed-{{seed}}/train_decoder.log",
    benchmark:
        f"{BENCHMARKS}/decoders/{{subject}}/{{decoder}}/seed-{{seed}}/train_decoder.tsv"
    priority: decoder_priority
    conda:
        "../envs/decoding.yaml"
    threads: decoder_threads()
    resources:
        **ON_GPUS,
        mem_mb=decoder_mb,
        runtime=decoder_minutes,
        gpu=decoder_gpus,
    params:
        dataset=measured(),
        decoder=decoder_section,
        split=section("split"),
        voxels=decoder_voxels,
        code=decoder_code,
    message:
        "Training {wildcards.decoder} on {wildcards.subject}, seed {wildcards.seed}"
    script:
        "../workflow/scripts/train_decoder.py"
