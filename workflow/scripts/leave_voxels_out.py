"""Replace voxels of the test responses, and measure what the trained decoders of one subject lose."""

from pathlib import Path

from percept import config, files, log
from percept.backbones import device
from percept.interpretation import read, run

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
given, params = snakemake.input, snakemake.params
evaluation = config.EvaluationConfig.model_validate(params.evaluation)
reader = read.Reader(params.dataset, params.protocol, params.voxels, files.read_parquet(given.trials))

parts = zip(params.analyses.items(), given.weights, given.features, snakemake.output, strict=True)
for (name, settings), weights, features, made in parts:
    analysis = config.LeaveOneOutConfig.model_validate(settings["analysis"])
    decoder = config.plugin("decoders", settings["decoder"])
    about = {
        "analysis": name, "subject": snakemake.wildcards.subject, "decoder": analysis.decoder,
        "seed": settings["seed"],
    }  # fmt: skip
    trained = run.Trained(decoder, Path(weights).parent, Path(features))
    responses = reader.responses(Path(given.betas).parent, decoder)
    roles = given.get(f"{name}_roles", []), given.get(f"{name}_features", [])
    shown = reader.shown(settings["reconstruction"], analysis.decoder, roles)
    files.write_parquet(run.analyse(analysis, trained, responses, evaluation, about, shown), made)
