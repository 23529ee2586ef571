"""Fetch the files of the bucket that a rule declares as its outputs."""

import os
from pathlib import Path

from percept import config, log
from percept.datasets import download, nsd_keys, ownership
from percept.datasets.download import whole
from percept.voxels import roi

log.to_file(snakemake.log[0])
# The configuration is no parameter: how a file is fetched, and what else is, changes no byte of it.
settings = config.load(dict(snakemake.config))
dataset = settings.dataset
download.require_terms(dataset.terms_accepted)
sets = {*settings.voxels.extract, *(decoder.roi for decoder in settings.decoders.values())}
results = Path("results", dataset.name)
extracted = [subject for subject in dataset.subjects if (results / f"voxels/{subject}/betas.h5").exists()]
atlases = roi.atlases_of(sets, settings.voxels.rois)
wanted = nsd_keys.files_to_fetch(dataset, atlases, extracted)
whole.check_once(wanted, dataset.root, dataset.download, results / "datasets/download.json")
ownership.claim(dataset.root)
keys = [os.path.relpath(path, dataset.root) for path in snakemake.output]
download.preflight(keys, dataset.root, dataset.download)
download.fetch(keys, dataset.root, dataset.download)
