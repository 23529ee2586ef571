"""Train a conditional GAN on the images of a pool and on their embeddings."""

from pathlib import Path

from percept import log
from percept.backbones import device
from percept.gans.start import start

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
params = snakemake.params
# With what the parameters leave out: how often a training is saved.
settings = snakemake.config["gans"][snakemake.wildcards.gan]
folder = Path(snakemake.output.weights).parent
start(settings, snakemake.input, params.pool["images"], params.targets, folder, params.code)
