"""Encode every stimulus that some subject saw as the features of one target."""

from pathlib import Path

import numpy as np

from percept import config, files, log
from percept.targets import encode

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.params.dataset)
target = config.plugin("targets", snakemake.params.target)
trials = [files.read_parquet(path) for path in snakemake.input.trials]
stimuli = np.unique(np.concatenate([table["stimulus"] for table in trials]))
source = encode.source(dataset)
encode.encode_to(Path(snakemake.output[0]), snakemake.wildcards.target, target, source, stimuli)
