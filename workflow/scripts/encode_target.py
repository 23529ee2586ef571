"""Encode every stimulus that some subject saw as the features of one target."""

from pathlib import Path

from percept import config, log
from percept.backbones import device
from percept.targets import encode

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
dataset = config.dataset(snakemake.params.dataset)
target = config.plugin("targets", snakemake.params.target)
path, name = Path(snakemake.output[0]), snakemake.wildcards.target
code = snakemake.params.code
encode.encode_to(path, name, target, encode.source(dataset), encode.shown(dataset), code=code)
