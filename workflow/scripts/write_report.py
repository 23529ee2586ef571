"""Write the report: one page that needs no network."""

from percept import config, files, log
from percept.datasets import arrays
from percept.report import assemble, page, spec

log.to_file(snakemake.log[0])
params, given = snakemake.params, snakemake.input
dataset = config.dataset(params.dataset)
lists = {name: list(given[name]) for name in ("voxels", "summaries", "histories", "answers")}
sources = assemble.Sources(
    params.subjects, params.runs, params.reconstructions, **lists, sheets=list(given.get("sheets", []))
)
results, manifest = files.read_parquet(given.results), files.read_json(given.manifest)
labelled = dataset.kind == "arrays" and dataset.stimuli == "labels"
labels = {number: name for name, number in arrays.catalogue(dataset).items()} if labelled else None
pictures = assemble.pictures(results, spec.words(manifest), sources, labels)
audit = assemble.read_audit(given.audit)
html = page.render(results, audit, manifest, pictures, assemble.sheets(sources), params.title)
files.write_text(html, snakemake.output[0])
