"""Draw the contact sheets of one subject: of each reconstruction its controls, and all reconstructions."""

from percept import config, files, log
from percept.decoders import predictions
from percept.evaluation import controls, floors
from percept.generators import sheet, store
from percept.report import ranking
from percept.targets import sources

log.to_file(snakemake.log[0])
given, params = snakemake.input, snakemake.params
source = sources.source(config.dataset(params.dataset))
train = floors.training(files.read_parquet(given.trials))
items = [files.read_parquet(path) for path in given.per_item]
stimulus = store.read_stimulus(given.images[0])
drawn = train[controls.random_train(len(stimulus), len(train), params.seed)]

for at, (name, path) in enumerate(zip(params.reconstructions, snakemake.output.each, strict=True)):
    ranks, _ = ranked = ranking.by_two_way(items[at], stimulus)
    shown = sheet.chosen(ranks)
    found = predictions.read_predictions(given.predictions[at], "test/average")
    predicted = found.predicted[ranking.rows_of(stimulus[shown], found.stimulus)]
    label = "upper bound (chosen by what was seen)" if name in params.bounds else "reconstructed"
    rows = {
        "seen": source.images(stimulus[shown]),
        "low-level": store.read_lowlevel(given.images[at], shown),
        label: store.read_images(given.images[at], shown).images,
        "recovery (true target)": store.read_images(given.recovery[at], shown).images,
        "nearest in training": source.images(floors.nearest_stimuli(predicted, given.features[at], train)),
        "random in training": source.images(drawn[shown]),
    }
    rows = {label: images for label, images in rows.items() if images is not None}
    sheet.write(path, sheet.contact_sheet(rows, ranks[shown], len(stimulus), by=ranked.told(len(stimulus))))

ranks, _ = ranked = ranking.mean_ranks(items, stimulus)
shown = sheet.chosen(ranks)
rows = {"seen": source.images(stimulus[shown])}
for name, path in zip(params.reconstructions, given.images, strict=True):
    rows[name] = store.read_images(path, shown).images
by = ranked.told(len(stimulus), of="mean rank, over the rows,")
sheet.write(snakemake.output.subject, sheet.contact_sheet(rows, ranks[shown], len(stimulus), by=by))
