"""Make images from the predicted targets of training and of validation images."""

from percept import log
from percept.backbones import device
from percept.generators import inputs, make, start

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
outputs = {name: snakemake.output[name] for name in ("train", "validation", "details")}
begun = start.begin(snakemake.input, snakemake.params, outputs)
make.run(begun.generator, inputs.splits(begun.decoded, snakemake.params.n_images), begun.job)
