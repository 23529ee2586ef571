"""Encode every stimulus that some subject saw as the features of one target."""

from pathlib import Path

from percept import config, log
from percept.targets import encode

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.params.dataset)
target = config.plugin("targets", snakemake.params.target)
path, name = Path(snakemake.output[0]), snakemake.wildcards.target
encode.encode_to(path, name, target, encode.source(dataset), encode.shown(dataset))
