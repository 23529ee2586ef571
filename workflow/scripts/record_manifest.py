"""Record what the results rest on: configuration, versions, commit, machine, and hashes of the inputs."""

from pathlib import Path

from percept import files, log, provenance

log.to_file(snakemake.log[0])
record = provenance.manifest(
    dict(snakemake.params.config), list(snakemake.input), Path(snakemake.params.repository)
)
files.write_json(record, snakemake.output[0])
