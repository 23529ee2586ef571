"""What the best possible decoders of one simulated subject would score, for every ROI set that is decoded."""

import numpy as np
import pandas as pd

from percept import config, files, log
from percept.datasets import nsd
from percept.datasets.twin import limits, truth
from percept.voxels import roi

log.to_file(snakemake.log[0])
params, subject = snakemake.params, snakemake.wildcards.subject
dataset = config.dataset(params.dataset)
known = truth.read(dataset.root, subject)
shape = nsd.subject_shape(dataset.root, subject, dataset.space)
trials, voxels = files.read_parquet(snakemake.input.trials), files.read_parquet(snakemake.input.voxels)
flat = np.ravel_multi_index(voxels[["i", "j", "k"]].to_numpy().T, shape)
tables = []
for name in params.rois:
    seen = known.at(flat[roi.select(voxels, name, params.voxels["rois"])])
    tables.append(limits.of_units(seen, trials, params.pools, params.units, params.seed).assign(roi=name))
files.write_parquet(pd.concat(tables, ignore_index=True), snakemake.output[0])
