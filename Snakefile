"""Percept: from NSD's scanner files to reconstructed images and a results table."""

from snakemake.utils import min_version

min_version("9.19")

# A configuration given with --configfile replaces the demo's; the two are not merged.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


# An image that holds the environments of all rules, made with --containerize: docs/environments.md.
if config.get("container"):

    containerized: config["container"]


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/analyses.smk"
include: "rules/backbones.smk"
include: "rules/tiny_backbones.smk"
include: "rules/datasets.smk"
include: "rules/voxels.smk"
include: "rules/targets.smk"
include: "rules/decoders.smk"
include: "rules/gans.smk"
include: "rules/generators.smk"
include: "rules/evaluation.smk"
include: "rules/interpretation.smk"
include: "rules/encoding.smk"
include: "rules/report.smk"
include: "rules/cluster.smk"
include: "rules/preflight.smk"


rule all:
    default_target: True
    input:
        [subject_results(subject) for subject in SUBJECTS],
        rules.tabulate_results.output,
        rules.write_report.output,
        GALLERY,
    localrule: True


rule report:
    input:
        rules.tabulate_results.output,
        rules.write_report.output,
        GALLERY,
    localrule: True


# The small networks of the checkout, made again from nothing; hours on two cores.
rule tiny_backbones:
    input:
        TINY_MANIFESTS,
    localrule: True


# Weights of every network that the configuration names: what needs the network, on its own.
rule backbones:
    input:
        fetched_backbones(),
    localrule: True


rule audit:
    input:
        rules.tabulate_results.output.audit,
    localrule: True


# One target per subject, `snakemake subj01`: all of its results, and nothing of the others.
for subject in SUBJECTS:

    rule:
        name:
            subject
        input:
            subject_results(subject),
        localrule: True
