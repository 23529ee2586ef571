"""Percept: from NSD's scanner files to reconstructed images and a results table."""

from snakemake.utils import min_version

min_version("9.19")

if "dataset" not in config:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/datasets.smk"
include: "rules/voxels.smk"
include: "rules/targets.smk"
include: "rules/decoders.smk"
include: "rules/generators.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


localrules:
    all,
    report,
    audit,


rule all:
    default_target: True
    input:
        rules.report.input,
        rules.audit.input,
