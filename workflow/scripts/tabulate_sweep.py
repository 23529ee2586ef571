"""Put what a sweep scored into one table, and draw its figure."""

from percept import files, log
from percept.report import sweeps

log.to_file(snakemake.log[0])
given, params, made = snakemake.input, snakemake.params, snakemake.output
scores = zip(params.runs, given.scores, strict=True)
histories = {
    tuple(run): files.read_parquet(path) for run, path in zip(params.runs, given.histories, strict=True)
}
rows = sweeps.long(
    params.grid,
    {tuple(run): files.read_parquet(path) for run, path in scores},
    [files.read_parquet(path) for path in given.get("splits", [])],
    histories,
)
files.write_parquet(rows, made.parquet)
files.write_text(sweeps.wide(rows, params.grid).to_csv(index=False), made.csv)
curves = sweeps.curves(params.grid, histories)
sweeps.figure(snakemake.wildcards.sweep, params.grid, rows, curves).write(made.figure)
