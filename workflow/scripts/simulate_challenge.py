"""Simulate a challenge: images, responses, masks and mappings of all of its subjects."""

from percept import config, log
from percept.datasets.algonauts import simulate

log.to_file(snakemake.log[0])
simulate.write(config.dataset(snakemake.params.dataset))
