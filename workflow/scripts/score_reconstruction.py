"""Score the images of one reconstruction, and what any of them has to be compared with."""

from percept import config, files, log
from percept.decoders import predict
from percept.evaluation import controls, images, reconstruction, table
from percept.generators import store
from percept.targets import encode
from percept.targets import store as targets

log.to_file(snakemake.log[0])
params, given = snakemake.params, snakemake.input
settings = config.EvaluationConfig.model_validate(params.evaluation)
source = encode.source(config.dataset(params.dataset))
trials = files.read_parquet(given.trials)
train = trials.loc[trials["split"] == "train", "stimulus"].unique()
made, stimulus = store.read_images(given.images)
predictions = predict.read_predictions(given.predictions, "test/average")
known = targets.read(given.features, train).reshape(len(train), -1)
nearest = train[controls.nearest_train(predictions.predicted, known, known.mean(axis=0))]
drawn = train[controls.random_train(len(stimulus), len(train), settings.seed)]
mean = controls.mean_image(source.images([one])[0] for one in train)
others = {
    "mean_image": controls.repeated(mean, len(stimulus)),
    "nearest_train": source.images(nearest),
    "random_image": source.images(drawn),
    "recovery": images.resize(store.read_images(given.recovery).images),
}
decoder = params.decoder
label = table.Label(
    params.dataset["name"], params.protocol, snakemake.wildcards.subject, "reconstruction",
    snakemake.wildcards.reconstruction, decoder["target"], decoder["roi"], unit="average",
)  # fmt: skip
scores = reconstruction.score_reconstruction(
    images.resize(made), source.images(stimulus), stimulus, label, settings, others
)
files.write_parquet(scores.rows, snakemake.output.scores)
files.write_parquet(scores.items, snakemake.output.per_item)
