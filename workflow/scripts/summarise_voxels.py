"""Draw the ROI sets of one subject and the reliability of its voxels."""

from pathlib import Path

from percept import config, log
from percept.voxels import summary

log.to_file(snakemake.log[0])
settings = config.VoxelsConfig.model_validate(snakemake.params.voxels)
mean = snakemake.input.mean[0] if snakemake.input.mean else None
folder = Path(snakemake.input.voxels).parent
summary.write(folder, snakemake.output[0], snakemake.wildcards.subject, mean, settings.rois)
