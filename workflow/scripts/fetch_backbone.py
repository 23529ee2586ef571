"""Fetch one published network into its folder; the manifest, its output, is written last."""

from pathlib import Path

from percept import log
from percept.backbones import fetch

log.to_file(snakemake.log[0])
fetch.fetch(Path(snakemake.output[0]).parent.name)
