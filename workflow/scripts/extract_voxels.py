"""Extract the voxels of one subject: a matrix, a voxel table, and what was shown when."""

from pathlib import Path

from percept import config, files, log
from percept.datasets import nsd
from percept.voxels import arrays, extract

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.config["dataset"])  # with what the parameters leave out: the server
settings = config.VoxelsConfig.model_validate(snakemake.params.voxels)
subject, folder = snakemake.wildcards.subject, Path(snakemake.output.betas).parent
if isinstance(dataset, config.NativeTree):
    sessions = extract.extract_subject(dataset, settings, subject, folder)
    shown = nsd.read_trials(dataset.root, subject, sessions)
else:
    shown = arrays.store_subject(dataset, settings, subject, folder)
files.write_parquet(shown, snakemake.output.shown)
