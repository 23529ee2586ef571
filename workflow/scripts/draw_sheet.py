"""Draw the contact sheet: seen, reconstructed, and the nearest training image, best to worst."""

from percept import config, files, log
from percept.decoders import predict
from percept.evaluation import controls, images, retrieval
from percept.generators import sheet, store
from percept.targets import encode
from percept.targets import store as targets

log.to_file(snakemake.log[0])
source = encode.source(config.dataset(snakemake.params.dataset))
made, stimulus = store.read_images(snakemake.input.images)
trials = files.read_parquet(snakemake.input.trials)
train = trials.loc[trials["split"] == "train", "stimulus"].unique()
predictions = predict.read_predictions(snakemake.input.predictions, "test/average")
known = targets.read(snakemake.input.features, train).reshape(len(train), -1)
nearest = train[controls.nearest_train(predictions.predicted, known, known.mean(axis=0))]
seen = source.images(stimulus)
large = images.resize(made, seen.shape[1])
ranks = retrieval.expected_rank(images.identification_ranks(images.pixel_correlations(large, seen), seen))
rows = {"seen": seen, "reconstructed": made, "nearest in training": source.images(nearest)}
sheet.write(snakemake.output[0], sheet.contact_sheet(rows, ranks, len(stimulus)))
