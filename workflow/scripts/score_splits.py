"""Score decoders and reconstructions on the training, validation and test images of a subject."""

from percept import config, files, log
from percept.backbones import device, image
from percept.evaluation import controls, floors, splits, table
from percept.generators import vote
from percept.targets import encode

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
given, params = snakemake.input, snakemake.params
settings = config.EvaluationConfig.model_validate(params.evaluation)
train = floors.training(files.read_parquet(given.trials))
about = params.dataset["name"], params.protocol, snakemake.wildcards.subject
parts = []
for named, predictions, features in zip(params.runs, given.predictions, given.features, strict=True):
    label = table.Label(*about, "decoder", **named, unit="average")
    parts.append(splits.score_predictions(predictions, features, train, label, settings))
source = encode.source(config.dataset(params.dataset))
average = controls.mean_image(source.images([one])[0] for one in train) if params.reconstructions else None
encoders = {}
for at, (named, how) in enumerate(params.reconstructions):
    paths = {split: given[split][at] for split in splits.GROUPS}
    key = (how["network"], "pooled", how["device"])
    encoders[key] = encoders.get(key) or vote.remembering(image.open_named(*key).encode)
    label = table.Label(*about, "reconstruction", **named, unit="average")
    parts.append(splits.score_images(paths, source, average, encoders[key], label, settings))
files.write_parquet(table.concat(parts, splits.SCHEMA), snakemake.output[0])
