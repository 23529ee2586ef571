"""Make images from the predicted targets of the test images, and from the true ones as the ceiling."""

from percept import config, files, log
from percept.backbones import device
from percept.generators import inputs, make
from percept.generators.roles import Context
from percept.targets import encode

log.to_file(snakemake.log[0])
device.use_threads(snakemake.threads)
given, params = snakemake.input, snakemake.params
settings = params.reconstruction
decoded = inputs.decoded(given, settings)
source = encode.source(config.dataset(params.dataset))
train = inputs.training(files.read_parquet(given.trials), decoded, source)
outside = inputs.outside(given, params.get("pool", {}))
section = config.plugin("generators", settings["generator"])
with device.memory_for("reading the weights of the generator", make.LESS_MEMORY):
    generator = section.build(Context(train, outside, inputs.gan(given)))
job = make.Job(
    {name: snakemake.output[name] for name in ("images", "recovery", "details")},
    settings["seed"],
    settings,
    inputs.identity(
        train, [*given.get("weights", []), *filter(None, [given.get("gan")])], params.get("code", ""), outside
    ),
)
make.run(generator, inputs.sets(decoded, section.from_samples), job)
