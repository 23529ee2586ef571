"""Choose one of the images that several reconstructions made of each test image, by the rule of each vote."""

from percept import config, files, log
from percept.backbones import device
from percept.generators import ballots, inputs, make, vote
from percept.targets import encode

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
given, params, made = snakemake.input, snakemake.params, snakemake.output
source = encode.source(config.dataset(params.dataset))
trials = files.read_parquet(given.trials)
encoders = vote.Encoders()

for at, (name, settings) in enumerate(params.votes.items()):
    section = config.plugin("generators", settings["generator"])
    own = ballots.named(given, name, settings)
    train = inputs.training(trials, inputs.decoded(own, settings), source)
    job = make.Job(
        {output: made[output][at] for output in ("images", "recovery", "details")},
        settings["seed"],
        settings,
        inputs.identity(train, given.get("weights", []), params.get("code", "")),
    )
    seen = source if section.uses_truth else None
    make.run(vote.Vote(section, encoders.of(section)), ballots.sets(own, settings, seen), job)
