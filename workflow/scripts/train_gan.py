"""Train a conditional GAN on the images of a pool and on their embeddings."""

from pathlib import Path

from percept import log
from percept.backbones import device
from percept.gan_settings import GanSection

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)

from percept.gans import read, train  # noqa: E402 (torch, which counts the threads when it is imported)

params = snakemake.params
# With what the parameters leave out: how often a training is saved.
settings = GanSection.model_validate(snakemake.config["gans"][snakemake.wildcards.gan])
data = read.photographs(settings, snakemake.input, params.pool["images"], params.targets)
train.train(settings, data, train.Job(Path(snakemake.output.weights).parent, params.code))
