"""Measure how reliable the voxels of one subject are, per ROI set."""

from pathlib import Path

from percept import config, files, log
from percept.evaluation import reliability
from percept.evaluation.table import Label
from percept.voxels import normalise

log.to_file(snakemake.log[0])
params = snakemake.params
settings = config.VoxelsConfig.model_validate(params.voxels)
folder = Path(snakemake.input.betas).parent
z, trials, voxels = normalise.load(folder, "all", "session", settings.rois)
label = Label(params.dataset["name"], params.protocol, snakemake.wildcards.subject, "voxels", "noise_ceiling")
rows = reliability.score_voxels(z, trials, voxels, label, settings.rois)
files.write_parquet(rows, snakemake.output[0])
