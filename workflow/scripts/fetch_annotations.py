"""Fetch COCO's captions and objects of the photographs."""

from pathlib import Path

from percept import config, log
from percept.datasets import annotations

log.to_file(snakemake.log[0])
annotations.fetch(Path(config.load(dict(snakemake.config)).dataset.root))
