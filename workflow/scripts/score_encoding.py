"""Score predicted responses: rows of the table per ROI set, and a value for every voxel or vertex."""

from pathlib import Path

from percept import config, files, log
from percept.evaluation import encoded, encoding
from percept.evaluation.table import Label
from percept.voxels import store

log.to_file(snakemake.log[0])
given, params, who = snakemake.input, snakemake.params, snakemake.wildcards
made = encoded.read(given.predictions)
voxels = store.read_voxels(Path(given.voxels).parent)
target, name = params.encoding["target"], params.dataset["name"]
label = Label(name, params.protocol, who.subject, "encoding", who.encoding, target)
settings = config.EvaluationConfig.model_validate(params.evaluation)
rows, vertices = encoding.score_subject(made, voxels, label, params.voxels, settings)
files.write_parquet(rows, snakemake.output.scores)
files.write_parquet(vertices, snakemake.output.vertices)
