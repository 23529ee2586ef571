"""Make images from the predicted targets of the test images, and from the true ones as the ceiling."""

from percept import config, log
from percept.decoders import predict
from percept.generators import store
from percept.targets import store as targets

log.to_file(snakemake.log[0])
generator = config.plugin("generators", snakemake.params.generator).build()
predictions = predict.read_predictions(snakemake.input.predictions, "test/average")
true = targets.read(snakemake.input.features, predictions.stimulus)
store.write_images(snakemake.output.images, generator.generate(predictions.predicted), predictions.stimulus)
store.write_images(snakemake.output.recovery, generator.generate(true), predictions.stimulus)
