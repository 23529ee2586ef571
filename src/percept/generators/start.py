"""What a job that makes images starts with, from the files and parameters of its rule."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from percept import config, files
from percept.backbones import device
from percept.config import GeneratorConfig
from percept.generators import inputs, make
from percept.generators.inputs import Decoded
from percept.generators.make import Job
from percept.generators.roles import Context, Generator
from percept.targets import encode


@dataclass(frozen=True)
class Begun:
    """A generator that is ready.

    section : its settings; decoded : files of each role; job : where its images go and what they depend on
    """

    section: GeneratorConfig
    generator: Generator
    decoded: dict[str, Decoded]
    job: Job


def begin(given: Mapping[str, Any], params: Mapping[str, Any], outputs: Mapping[str, Path]) -> Begun:
    """Read the weights of a generator and name what its images depend on.

    Parameters
    ----------
    given, params : the inputs and parameters of the rule
    outputs : set of images -> its file, and `details`

    Raises
    ------
    PerceptError : an input is absent, damaged or of other settings, or the memory does not suffice
    """
    settings = params["reconstruction"]
    decoded = inputs.decoded(given, settings)
    source = encode.source(config.dataset(params["dataset"]))
    train = inputs.training(files.read_parquet(given["trials"]), decoded, source)
    outside, gan = inputs.outside(given, params.get("pool", {})), inputs.gan(given)
    section = config.plugin("generators", settings["generator"])
    with device.memory_for("reading the weights of the generator", make.LESS_MEMORY):
        generator = section.build(Context(train, outside, gan))
    weights = [*given.get("weights", []), *filter(None, [given.get("gan")])]
    identity = inputs.identity(train, weights, params.get("code", ""), outside)
    return Begun(section, generator, decoded, Job(outputs, settings["seed"], settings, identity))
