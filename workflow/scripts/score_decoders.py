"""Score the test predictions of every run of a subject: both directions, every pool, every scoring rule."""

from functools import partial
from pathlib import Path

from percept import config, files, log
from percept.evaluation import resume, run, table

log.to_file(snakemake.log[0])
given, params, made = snakemake.input, snakemake.params, snakemake.output
settings = config.EvaluationConfig.model_validate(params.evaluation)
about = run.About(params.units, files.read_parquet(given.trials), settings, params.dataset.get("faults", ()))
limits = files.read_parquet(given.limits) if "limits" in given.keys() else None
shared = [params.dataset, params.protocol, params.units, params.evaluation, params.get("code", "")]

runs = zip(params.runs, given.predictions, given.features, made.scores, strict=True)
for at, ((named, note), *paths, scores) in enumerate(runs):
    label = table.Label(
        params.dataset["name"], params.protocol, snakemake.wildcards.subject, "decoder", **named
    )
    known = limits[limits["roi"] == named["roi"]].drop(columns="roi") if limits is not None else None
    score = partial(run.score_files, *paths, about, label, known)
    read = [*paths, given.trials, *([given.limits] if limits is not None else [])]
    scored = resume.Kept(Path(scores).parent / "kept", resume.identity([shared, named], read)).score(score)
    files.write_parquet(table.noted(scored.rows, note), scores)
    files.write_parquet(scored.items, made.per_item[at])
    files.write_parquet(scored.answers, made.answers[at])
