"""Draw the twin's scenes and write what all of its subjects share."""

from percept import config, log
from percept.datasets.twin import write

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.params.dataset)
write.write_experiment(dataset, dataset.root, snakemake.threads)
