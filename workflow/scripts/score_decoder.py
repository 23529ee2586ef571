"""Score the test predictions of one decoder: both directions, every pool, under every scoring rule."""

from percept import config, files, log
from percept.evaluation import run, table

log.to_file(snakemake.log[0])
params, wildcards = snakemake.params, snakemake.wildcards
settings = config.EvaluationConfig.model_validate(params.evaluation)
found = run.read(snakemake.input.predictions, snakemake.input.features, params.units)
limits = files.read_parquet(snakemake.input.limits) if "limits" in snakemake.input.keys() else None
decoder = params.decoder
label = table.Label(
    params.dataset["name"], params.protocol, wildcards.subject, "decoder", wildcards.decoder,
    decoder["target"], decoder["roi"], int(wildcards.seed),
)  # fmt: skip
known = limits[limits["roi"] == decoder["roi"]].drop(columns="roi") if limits is not None else None
scored = run.score(found, label, settings, known, params.dataset.get("faults", ()))
files.write_parquet(scored.rows, snakemake.output.scores)
files.write_parquet(scored.items, snakemake.output.per_item)
files.write_parquet(scored.answers, snakemake.output.answers)
