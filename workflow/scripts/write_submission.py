"""Write the challenge's submission files of one subject."""

from pathlib import Path

from percept import config, log
from percept.evaluation import encoded, submission
from percept.voxels import store

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.params.dataset)
made = encoded.read(snakemake.input.predictions)
voxels = store.read_voxels(Path(snakemake.input.voxels).parent)
sizes = submission.sizes_of(dataset.folder(snakemake.wildcards.subject))
predicted = submission.full(made.withheld, made.columns, voxels, sizes)
submission.write(predicted, Path(snakemake.output[0]).parent)
