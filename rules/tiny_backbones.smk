# The small networks are part of the checkout. These rules make them again, apart from any data set, and write
# beside them: what is shipped is replaced by hand.
rule draw_tiny_scenes:
    output:
        images=f"{TINY}/scenes/{{part}}/images.npz",
        scenes=f"{TINY}/scenes/{{part}}/scenes.parquet",
    log:
        "logs/tiny_backbones/scenes/{part}/draw_tiny_scenes.log",
    benchmark:
        f"{TINY}/benchmarks/scenes/{{part}}/draw_tiny_scenes.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        scenes=tiny_scenes,
        code=code("draw_tiny_scenes"),
    message:
        "Drawing the {wildcards.part} scenes of the small networks"
    script:
        "../workflow/scripts/draw_tiny_scenes.py"


rule train_tiny_backbone:
    input:
        train=f"{TINY}/scenes/train/scenes.parquet",
        held_out=f"{TINY}/scenes/held_out/scenes.parquet",
        parts=tiny_parts,
    output:
        manifest=f"{TINY}/{{network}}/backbone.json",
    log:
        "logs/tiny_backbones/{network}/train_tiny_backbone.log",
    benchmark:
        f"{TINY}/benchmarks/{{network}}/train_tiny_backbone.tsv"
    conda:
        "../envs/decoding.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(180),
    params:
        code=tiny_code,
    message:
        "Training {wildcards.network} from scratch"
    script:
        "../workflow/scripts/train_tiny_backbone.py"
