"""Write the report, and a page per system: they need no network."""

import os

from percept import config, files, log
from percept.datasets import arrays
from percept.evaluation import table
from percept.report import assemble, differences, page, published, spec, summary, system_page, systems, votes

log.to_file(snakemake.log[0])
params, given, made = snakemake.params, snakemake.input, snakemake.output
dataset = config.dataset(params.dataset)
lists = {name: list(given[name]) for name in ("voxels", "summaries", "histories", "answers")}
lists |= {name: list(given.get(name, [])) for name in ("latents", "maps")}
sources = assemble.Sources(
    params.subjects, params.runs, list(params.reconstructions), **lists, sheets=list(given.get("sheets", [])),
    latent_runs=params.get("latent_runs", []),
    analyses=list(given.get("leave_one_out", [])),
)  # fmt: skip
results, manifest = files.read_parquet(given.results), files.read_json(given.manifest)
nouns = spec.words(manifest)
compared = assemble.read_tables(given.comparisons)
labelled = dataset.kind == "arrays" and dataset.stimuli == "labels"
labels = {number: name for name, number in arrays.catalogue(dataset).items()} if labelled else None
items = table.concat([files.read_parquet(path) for path in given.per_item], table.ITEM_SCHEMA)
gallery, folder = given.get("gallery"), os.path.dirname(made.page)
members = systems.members(params.decoders, params.reconstructions)
extras = page.Extras(
    assemble.sheets(sources, folder),
    differences.to_controls(items, config.EvaluationConfig.model_validate(params.evaluation)),
    published.load(given.published),
    os.path.relpath(gallery, folder) if gallery else None,
    system_page.cards(members, summary.summarise(results)),
    assemble.tables(given.get("split_table", []), given.get("sweeps", []), params.grids, nouns),
)
pictures = assemble.pictures(results, nouns, sources, labels)
pictures += assemble.swept(params.grids, given.get("sweep_figures", []))
pictures.append(votes.figure(votes.counts(params.votes, given.get("votes", []))))
pictures += assemble.surfaces(params.surfaces, given.get("surfaces", []))
audit = assemble.read_tables(given.audit)
files.write_text(page.render(results, audit, manifest, pictures, params.title, extras), made.page)
curves = {name: assemble.curves(sources, own.decoders) for name, own in members.items()}
pages, run = dict(zip(members, made.systems, strict=True)), system_page.Run(results, compared, manifest)
system_page.write(pages, members, run, [*pictures, *extras.sheets], curves, params.title)
