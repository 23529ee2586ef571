"""Put all scores into one table: long parquet; wide CSV, HTML and LaTeX; comparisons and audit beside it."""

import pandas as pd

from percept import config, files, log
from percept.evaluation import table
from percept.report import latex, page, published, spec
from percept.report import table as wide

log.to_file(snakemake.log[0])
given, made = snakemake.input, snakemake.output
settings = config.EvaluationConfig.model_validate(snakemake.params.evaluation)
scores = wide.collect([*given.scores, *given.noise_ceiling, *given.get("latent_scores", [])])
items = table.concat([files.read_parquet(path) for path in given.per_item], table.ITEM_SCHEMA)
chosen = scores[scores["chosen"].fillna(True)]
results = table.concat([scores, table.over_subjects(chosen, items, settings)])
if snakemake.params.dataset["kind"] == "nsd":  # printed scores are about no other data
    results = table.concat([results, published.long(published.load(given.published))])
files.write_parquet(results, made.parquet)
wide.write_csv(results, made.csv)
about = {
    "config": {"dataset": {**snakemake.params.dataset, "subjects": list(scores["subject"].dropna().unique())}}
}
files.write_text(latex.table(results, spec.words(about)), made.tex)
files.write_text(page.render_table(results, about, snakemake.params.title), made.html)
for name in ("audit", "comparisons"):
    parts = [files.read_parquet(path) for path in given[name]]
    files.write_text(pd.concat(parts, ignore_index=True).to_csv(index=False), made[name])
