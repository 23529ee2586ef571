"""List the images of a pool outside the data set, and encode each as the features of one target."""

from pathlib import Path

from percept import config, log
from percept.backbones import device
from percept.targets import encode, folder

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
made, names, params = snakemake.output, snakemake.wildcards, snakemake.params
folder.write_list(params.pool["images"], made.files)
images = folder.read_list(made.files, params.pool["images"], params.pool["size"])
target = config.plugin("targets", params.target)
name = f"{names.target} of the pool {names.pool}"
encode.encode_to(Path(made.index), name, target, images, range(len(images)), code=params.code)
