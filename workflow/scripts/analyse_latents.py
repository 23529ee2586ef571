"""Cluster the test images of a subject by what was decoded of them, and draw a map of them."""

from percept import config, files, log
from percept.evaluation import latent, objects, table
from percept.report import latent_map
from percept.targets import sources

log.to_file(snakemake.log[0])
given, params, made = snakemake.input, snakemake.params, snakemake.output
settings = config.EvaluationConfig.model_validate(params.evaluation)
source = sources.source(config.dataset(params.dataset))
runs = zip(params.runs, given.predictions, given.features, strict=True)
for at, ((named, _), predictions, features) in enumerate(runs):
    latents = latent.read(predictions, features, params.units)
    groups = objects.kinds(source, latents.stimulus)
    who = (params.dataset["name"], params.protocol, snakemake.wildcards.subject)
    label = table.Label(*who, "decoder", **named, unit="average")
    found = latent.analyse(latents, groups, label, settings)
    files.write_parquet(found.rows, made.scores[at])
    files.write_parquet(found.images, made.images[at])
    latent_map.write(found.images, source, made.maps[at])
