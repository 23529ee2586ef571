# Conditional GANs, trained on the images of a pool: no brain activity, and no image of the data set.
if CONFIG.gans:

    rule train_gan:
        input:
            unpack(gan_files),
            weights=gan_weights,
        output:
            weights=f"{RESULTS}/gans/{{gan}}/model.safetensors",
            size=f"{RESULTS}/gans/{{gan}}/config.json",
            about=f"{RESULTS}/gans/{{gan}}/about.json",
            history=f"{RESULTS}/gans/{{gan}}/history.parquet",
        log:
            f"{LOGS}/gans/{{gan}}/train_gan.log",
        benchmark:
            f"{BENCHMARKS}/gans/{{gan}}/train_gan.tsv"
        conda:
            "../envs/decoding.yaml"
        threads: gan_threads
        resources:
            **ON_GPUS,
            mem_mb=growing(16000),
            runtime=growing(1440),
            gpu=gan_gpus,
        params:
            gan=gan_section,
            pool=gan_pool,
            targets=gan_targets,
            networks=gan_networks,
            code=code("train_gan"),
        message:
            "Training the GAN {wildcards.gan} on images of a pool"
        script:
            "../workflow/scripts/train_gan.py"
