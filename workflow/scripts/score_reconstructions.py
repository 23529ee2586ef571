"""Score the images of every reconstruction of a subject, and what any of them has to be compared with."""

from percept import config, files, log
from percept.backbones import device
from percept.evaluation import floors, reconstruction, table
from percept.targets import encode

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
given, params, made = snakemake.input, snakemake.params, snakemake.output
settings = config.EvaluationConfig.model_validate(params.evaluation)
source = encode.source(config.dataset(params.dataset))
train = floors.training(files.read_parquet(given.trials))
labels = [
    table.Label(
        params.dataset["name"], params.protocol, snakemake.wildcards.subject, "reconstruction",
        name, decoder["target"], decoder["roi"], unit="average",
    )
    for name, decoder in params.decoders.items()
]  # fmt: skip
paths = zip(given.images, given.recovery, given.predictions, given.features, strict=True)
notes = [reconstruction.note(**params.reconstructions[name]) for name in params.decoders]
scored = reconstruction.score_files(labels, list(paths), source, train, settings, notes)
for scores, rows, items in zip(scored, made.scores, made.per_item, strict=True):
    files.write_parquet(scores.rows, rows)
    files.write_parquet(scores.items, items)
