"""Make images from the predicted targets of the test images, and from the true ones as the ceiling."""

from percept import log
from percept.backbones import device
from percept.generators import inputs, make, start

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
outputs = {name: snakemake.output[name] for name in ("images", "recovery", "details")}
begun = start.begin(snakemake.input, snakemake.params, outputs)
make.run(begun.generator, inputs.sets(begun.decoded, begun.section.from_samples), begun.job)
