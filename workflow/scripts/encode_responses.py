"""Fit an encoding model of one subject, and predict its test images, those without responses too."""

from pathlib import Path

import numpy as np

from percept import config, log
from percept.backbones import device
from percept.datasets import algonauts
from percept.evaluation import encoded, encoding_model

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
given, params = snakemake.input, snakemake.params
dataset = config.dataset(params.dataset)
settings = config.EncodingConfig.model_validate(params.encoding)
of_challenge = dataset.kind == "algonauts"
withheld = algonauts.withheld(dataset, snakemake.wildcards.subject) if of_challenge else np.empty(0, np.int32)
made = encoding_model.encode(settings, Path(given.betas).parent, given.features, params.voxels, withheld)
encoded.write(made, snakemake.output[0])
