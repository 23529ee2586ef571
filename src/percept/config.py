"""Every setting, typed: the one truth behind the schema, the documented defaults and the checks.

Kinds of targets, decoders and generators are plug-ins: a subclass of `TargetConfig`, `DecoderConfig` or
`GeneratorConfig` with a `kind` in a module of the package of the same name is all that a new one needs.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    create_model,
    model_validator,
)

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
NonNegativeFraction = Annotated[float, Field(ge=0, lt=1)]
NSD_SUBJECTS = tuple(f"subj{number:02d}" for number in range(1, 9))


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key and what would be right."""


class Section(BaseModel):
    """A part of the configuration: closed (unknown keys are errors) and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TargetConfig(Section):
    """What a decoder predicts from voxels: features of the stimuli."""

    n_gpus: ClassVar[int] = 0  # that encoding asks a cluster for

    kind: str


class DecoderConfig(Section):
    """How voxels are mapped to a target."""

    n_gpus: ClassVar[int] = 0  # that training asks a cluster for

    kind: str
    target: Identifier = Field(description="Name of an entry of `targets`.")
    roi: Identifier = Field("nsdgeneral", description="ROI set whose voxels are used.")
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="One training run per seed.")


class GeneratorConfig(Section):
    """How predicted targets become images."""

    n_gpus: ClassVar[int] = 0  # that generating asks a cluster for

    kind: str


class ReconstructionConfig(Section):
    """Images made from the predictions of a decoder."""

    decoder: Identifier = Field(description="Name of an entry of `decoders`.")
    generator: GeneratorConfig


class DownloadConfig(Section):
    """Where the bucket is and how it is read."""

    enabled: bool = Field(
        True, description="false: `root` is the user's own copy; nothing is fetched or deleted."
    )
    endpoint: str | None = Field(None, description="URL of a mirror or local S3 server; null is Amazon's.")
    bucket: str = Field("natural-scenes-dataset", description="Name of the bucket.")
    region: str = Field("us-east-2", description="Region of the bucket.")
    connections: PositiveInt = Field(8, description="Files fetched at the same time.")
    retries: NonNegativeInt = Field(5, description="Further tries of a file after a passing fault.")
    keep_raw: bool = Field(False, description="Keep the raw betas once their voxels are extracted.")


class NativeTree(Section):
    """A folder laid out as NSD's bucket."""

    name: Identifier
    root: str
    subjects: tuple[Identifier, ...] = Field(min_length=1, description="Subjects, as the bucket names them.")
    sessions: Literal["all"] | PositiveInt | dict[str, PositiveInt] = Field(
        "all", description="Sessions used: all released, the first n, or the first n of each subject."
    )
    betas: Literal["betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR"] = Field(
        "betas_fithrf_GLMdenoise_RR", description="Version of the betas (b1, b2, b3 of the data manual)."
    )
    space: Literal["func1pt8mm", "func1mm"] = Field("func1pt8mm", description="Volume space of the betas.")
    format: Literal["nii.gz", "hdf5", "hdf5-ranges"] = Field(
        "nii.gz", description="Files the betas are read from; hdf5-ranges fetches only the voxels needed."
    )


class NsdDataset(NativeTree):
    """The Natural Scenes Dataset (Allen et al. 2022)."""

    kind: Literal["nsd"]
    name: Identifier = Field("nsd", description="Folder of the results.")
    root: str = Field("resources/nsd", description="Folder of the raw files, in the tree of the bucket.")
    subjects: tuple[Identifier, ...] = Field(NSD_SUBJECTS, min_length=1, description="Subjects decoded.")
    terms_accepted: bool = Field(
        False,
        description="Whether you signed NSD's Data Access Agreement (https://forms.gle/xue2bCdM9LaFNMeb7).",
    )
    download: DownloadConfig = DownloadConfig()


Fault = Literal["leaked-test-image", "shuffled-trials", "statistics-from-test", "swapped-direction"]


class TwinDataset(NativeTree):
    """A small simulated NSD, with a known best possible score."""

    kind: Literal["twin"]
    name: Identifier = Field("twin", description="Folder of the results.")
    root: str = Field(
        "resources/twin", description="Folder of the simulated files, in the tree of the bucket."
    )
    subjects: tuple[Identifier, ...] = Field(
        ("subj01", "subj02"), min_length=1, description="Simulated subjects."
    )
    sessions: PositiveInt | dict[str, PositiveInt] = Field(3, description="Simulated sessions of 750 trials.")
    volumes: dict[str, tuple[PositiveInt, PositiveInt, PositiveInt]] = Field(
        {"subj01": (20, 24, 18), "subj02": (19, 25, 17)}, description="Voxels along x, y, z of each subject."
    )
    shared_images: PositiveInt = Field(150, le=1000, description="Shared images seen within the sessions.")
    bits: Annotated[float, Field(gt=0)] = Field(
        9.0, description="Information, in bits, that the mean of three responses carries about its image."
    )
    seed: NonNegativeInt = Field(0, description="Seed of everything that is simulated.")
    faults: tuple[Fault, ...] = Field((), description="Faults planted for the audit to find.")


class SplitConfig(Section):
    """Which images train, validate and test; always split by image, or by whole runs."""

    protocol: Literal[
        "shared1000", "shared982", "shared515", "algonauts23", "random", "given", "leave-one-run-out"
    ] = Field("shared1000", description="Named split; `given` reads the split column of own data.")
    validation_fraction: NonNegativeFraction = Field(
        0.1,
        description="Share of the training images carved out for model selection. Leaving runs out, anything "
        "above 0 keeps one more run from training.",
    )
    test_fraction: Fraction = Field(0.1, description="Share of the images that test (protocol random).")
    seed: NonNegativeInt = Field(0, description="Seed of the random choices.")
    train_repeats: Literal["average", "single"] = Field(
        "average", description="Train on the mean over the repeats of an image, or on single trials."
    )
    test_units: tuple[Literal["average", "single", "run"], ...] = Field(
        ("average", "single"),
        min_length=1,
        description="What is decoded: means over repeats, single trials, means within a run.",
    )


class VoxelsConfig(Section):
    """Which voxels are extracted and how they are normalised."""

    rois: dict[Identifier, tuple[str, ...]] = Field(
        {}, description="Own ROI sets: name -> labels, each `atlas` or `atlas:label`."
    )
    extract: tuple[Identifier, ...] = Field(
        ("nsdgeneral", "early", "higher"), min_length=1, description="ROI sets whose union is extracted."
    )
    invalid: Literal["drop", "zero", "error"] = Field(
        "drop", description="Voxels without valid betas in some session: left out, set to 0, or refused."
    )
    missing_sessions: Literal["error", "skip"] = Field(
        "error", description="What to do when a session's betas are not there."
    )
    normalisation: Literal["session", "session-train", "train", "none"] = Field(
        "session-train", description="Trials that give the mean and sd of the z-score."
    )


class RetrievalConfig(Section):
    """How a prediction is ranked among candidate images."""

    pools: tuple[PositiveInt, ...] = Field(
        (50, 300, 500), description="Images per pool, the true one included; the whole pool is always added."
    )


class EvaluationConfig(Section):
    """How predictions are scored."""

    retrieval: RetrievalConfig = RetrievalConfig()
    bootstrap: PositiveInt = Field(1000, description="Resamples of the items behind an interval.")
    permutations: PositiveInt = Field(1000, description="Shuffled pairings behind a p value.")
    confidence: Fraction = Field(0.95, description="Coverage of the intervals.")
    seed: NonNegativeInt = Field(0, description="Seed of the resampling.")


class ReportConfig(Section):
    """What the report says about itself."""

    title: str = Field("Percept", description="Title of the report.")


class BaseConfig(Section):
    """The whole configuration, before the kinds of the plug-ins are known."""

    split: SplitConfig = SplitConfig()
    voxels: VoxelsConfig = VoxelsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _names_exist(self) -> "BaseConfig":
        for name, decoder in self.decoders.items():
            _require(decoder.target, self.targets, f"decoders.{name}.target", "targets")
        for name, reconstruction in self.reconstructions.items():
            _require(reconstruction.decoder, self.decoders, f"reconstructions.{name}.decoder", "decoders")
        return self


def _require(name: str, known: dict[str, Any], path: str, section: str) -> None:
    if name not in known:
        raise ValueError(f"`{path}` names {name!r}, which is no entry of `{section}`{nearest(name, known)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """What a message about an unknown name ends with, in brackets: the closest valid one, and all of them."""
    known = [str(option) for option in known]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    listed = ", ".join(known) or "none"
    return f" (did you mean {close[0]!r}? there are: {listed})" if close else f" (there are: {listed})"


def kinds(package: str, base: type[Section]) -> dict[str, type[Section]]:
    """The registered kinds of a plug-in: kind -> its section, in the order of their names.

    Every module of `package` is imported, so these modules import heavy libraries only inside functions.
    """
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")
    found = {}
    waiting = list(base.__subclasses__())
    while waiting:
        section = waiting.pop()
        waiting += section.__subclasses__()
        if isinstance(section.model_fields["kind"].default, str):
            found[section.model_fields["kind"].default] = section
    return dict(sorted(found.items()))


PLUGINS = {
    "targets": ("percept.targets", TargetConfig),
    "decoders": ("percept.decoders", DecoderConfig),
    "generators": ("percept.generators", GeneratorConfig),
}


def plugin(stage: Literal["targets", "decoders", "generators"], settings: dict[str, Any]) -> Any:  # noqa: ANN401
    """The section of one target, decoder or generator, from checked plain data; its class has the methods."""
    return kinds(*PLUGINS[stage])[settings["kind"]].model_validate(settings)


def dataset(settings: dict[str, Any]) -> Any:  # noqa: ANN401 (one of three sections)
    """The section of the data set, from checked plain data."""
    return _datasets()[settings["kind"]].model_validate(settings)


def _datasets() -> dict[str, type[Section]]:
    arrays = importlib.import_module("percept.datasets.arrays_config").ArraysDataset
    return {"nsd": NsdDataset, "twin": TwinDataset, "arrays": arrays}


def _one_of(sections: dict[str, type[Section]]) -> Any:  # noqa: ANN401 (a typing construct)
    return Annotated[reduce(or_, sections.values()), Field(discriminator="kind")]


@cache
def model() -> type[BaseConfig]:
    """The model of the whole configuration, with every registered kind."""
    targets, decoders, generators = (kinds(*PLUGINS[stage]) for stage in PLUGINS)
    reconstruction = create_model(
        "ReconstructionConfig",
        __base__=ReconstructionConfig,
        __doc__=ReconstructionConfig.__doc__,
        generator=(_one_of(generators), ...),
    )
    return create_model(
        "Config",
        __base__=BaseConfig,
        __doc__="The whole configuration of a run.",
        dataset=(_one_of(_datasets()), ...),
        targets=(dict[Identifier, _one_of(targets)], Field(min_length=1, description="Features to predict.")),
        decoders=(dict[Identifier, _one_of(decoders)], Field(min_length=1, description="Decoders to train.")),
        reconstructions=(dict[Identifier, reconstruction], Field({}, description="Images to make.")),
    )


def load(source: str | Path | dict[str, Any]) -> BaseConfig:
    """Check a configuration, given as a YAML file or as what such a file holds.

    Raises
    ------
    ConfigError : a key is unknown (the nearest valid one is named), a value is wrong, or a name refers to
        nothing; the message lists every such place
    """
    if not isinstance(source, dict):
        source = yaml.safe_load(Path(source).read_text(encoding="utf-8")) or {}
    try:
        return model().model_validate(source)
    except ValidationError as error:
        places = "\n".join(f"  - {_explain(problem)}" for problem in error.errors())
        raise ConfigError(f"the configuration cannot be used:\n{places}") from None


def _explain(problem: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        *parents, key = problem["loc"]
        return f"`{path}` is no setting{nearest(str(key), _fields_at(parents))}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{f'`{path}`: ' if path else ''}{message} (given: {problem['input']!r})" if path else message


def _fields_at(path: list[str | int]) -> list[str]:
    """Names of the settings at a place of the configuration, for suggestions."""
    here: Any = schema()
    definitions = here["$defs"]
    for part in path:
        here = _resolve(here, definitions)
        options = [_resolve(option, definitions) for option in here.get("oneOf", here.get("anyOf", []))]
        by_kind = {option.get("properties", {}).get("kind", {}).get("const"): option for option in options}
        if part in by_kind:  # pydantic names the kind of a union as a step of the path
            here = by_kind[part]
        else:
            entries = list(here.get("patternProperties", {}).values())
            here = here.get("properties", {}).get(part) or next(iter(entries), {})
    return list(_resolve(here, definitions).get("properties", {}))


def _resolve(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    reference = node.get("$ref", "") if isinstance(node, dict) else ""
    return definitions[reference.rsplit("/", 1)[-1]] if reference else node


@cache
def schema() -> dict[str, Any]:
    """JSON schema of the configuration, for editors and for the documentation."""
    return model().model_json_schema()


def plain(config: BaseModel) -> dict[str, Any]:
    """The configuration as what YAML or JSON can hold, defaults filled in."""
    return config.model_dump(mode="json")
