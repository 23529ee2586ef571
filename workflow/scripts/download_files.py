"""Fetch the files of the bucket that a rule declares as its outputs."""

import os

from percept import config, log
from percept.datasets import download

log.to_file(snakemake.log[0])
dataset = config.dataset(snakemake.config["dataset"])  # not a parameter: how it is fetched changes no byte
download.require_terms(dataset.terms_accepted)
keys = [os.path.relpath(path, dataset.root) for path in snakemake.output]
download.preflight(keys, dataset.root, dataset.download)
download.fetch(keys, dataset.root, dataset.download)
