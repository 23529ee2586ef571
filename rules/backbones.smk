# Frozen networks. The tiny ones are part of this repository; the published ones come from their authors. That
# needs the network, which the compute nodes of clusters lack: a local rule. What is fetched already stays.
rule fetch_backbone:
    output:
        "resources/backbones/{backbone}/backbone.json",
    log:
        "logs/backbones/{backbone}.log",
    localrule: True
    conda:
        "../envs/decoding.yaml"
    params:
        source=backbone_source,
    message:
        "Fetching the weights of {wildcards.backbone}"
    script:
        "../workflow/scripts/fetch_backbone.py"
