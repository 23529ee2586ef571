"""Simulate one subject of the twin: masks, behaviour and the betas of all sessions."""

from percept import config, log
from percept.datasets.twin import write

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.params.dataset)
write.write_subject(dataset, dataset.root, snakemake.params.subject)
