"""Draw the scenes that the small networks are trained on, or those that measure them."""

from pathlib import Path

from percept import log
from percept.backbones.tiny import data
from percept.datasets.scenes import drawn

log.to_file(snakemake.log[0])
data.save(drawn.draw(**snakemake.params.scenes), Path(snakemake.output.scenes).parent)
