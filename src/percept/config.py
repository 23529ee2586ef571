"""Every setting, typed: the one truth behind the schema, the documented defaults and the checks.

Kinds of targets, decoders and generators are plug-ins: a subclass of `TargetConfig`, `DecoderConfig` or
`GeneratorConfig` with a `kind` in a module of the package of the same name is all that a new one needs.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache, reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, create_model, model_validator

from percept import references
from percept.gan_settings import GanSection
from percept.sections import (
    DownloadConfig,
    EncodingConfig,
    EvaluationConfig,
    Identifier,
    ImagesConfig,
    InterpretationConfig,
    LatentsConfig,
    LeaveOneOutConfig,
    NativeTree,
    NsdDataset,
    PoolConfig,
    ReportConfig,
    RetrievalConfig,
    Section,
    SplitConfig,
    TwinDataset,
    VoxelsConfig,
    nearest,
)
from percept.sweeps import SweepConfig, expanded

__all__ = [  # the sections are part of what this module offers
    "DownloadConfig",
    "EncodingConfig",
    "EvaluationConfig",
    "Identifier",
    "ImagesConfig",
    "InterpretationConfig",
    "LatentsConfig",
    "LeaveOneOutConfig",
    "NativeTree",
    "NsdDataset",
    "PoolConfig",
    "ReportConfig",
    "RetrievalConfig",
    "Section",
    "SplitConfig",
    "TwinDataset",
    "VoxelsConfig",
    "nearest",
]


class ConfigError(ValueError):
    """The configuration cannot be used; the message names the key and what would be right."""


class TargetConfig(Section):
    """What a decoder predicts from voxels: features of the stimuli."""

    n_gpus: ClassVar[int] = 0  # that encoding asks a cluster for
    backbones: ClassVar[tuple[str, ...]] = ()  # frozen networks of the catalogue that encoding loads
    reads: ClassVar[tuple[str, ...]] = ("images",)  # what of the stimuli: images, captions, labels, truth

    kind: str


class DecoderConfig(Section):
    """How voxels are mapped to a target."""

    n_gpus: ClassVar[int] = 0  # that training asks a cluster for
    unit: ClassVar[Literal["average", "single"] | None] = (
        None  # of training rows; None: `split.train_repeats`
    )
    cross_validates: ClassVar[bool] = True  # whether training images are predicted by models without them
    located: ClassVar[bool] = False  # whether `tensors` needs the table of voxels, to know where they are
    samples: ClassVar[int] = 0  # further predictions kept of each test image, such as samples of a prior
    pretrains: ClassVar[bool] = False  # whether it saves an encoder that other decoders may begin with
    starts_from: ClassVar[str | None] = None  # entry of `decoders` whose encoder it begins with
    further: ClassVar[tuple[str, ...]] = ()  # entries of `targets` that it reads besides its own
    note: ClassVar[str | None] = None  # what the table has to say of it
    further_fields: ClassVar[tuple[str, ...]] = ()  # settings that may name such entries
    # Setting that names a target -> the targets that make sense there, each as the settings that make it one.
    demands: ClassVar[Mapping[str, tuple[Mapping[str, str], ...]]] = {}
    # Section -> those of its settings that change nothing about what comes of a training.
    harmless: ClassVar[Mapping[str, frozenset[str]]] = {}

    kind: str
    target: Identifier = Field(description="Name of an entry of `targets`.")
    roi: Identifier = Field("nsdgeneral", description="ROI set whose voxels are used.")
    mask: Identifier | None = Field(
        None,
        description="ROI set outside of which the voxels of `roi` are set to 0 after normalisation, in "
        "training as in every prediction: models of different masks take the same input. null keeps all.",
    )
    seeds: tuple[NonNegativeInt, ...] = Field((0,), min_length=1, description="One training run per seed.")

    fitted: bool = Field(
        False,
        description="Whether training images are predicted too, by the model that was trained on them, for "
        "the table of scores by split: what it fits stands beside what it generalises to.",
    )

    @property
    def sets(self) -> tuple[str, ...]:
        """ROI sets that its input needs."""
        return (self.roi,) if self.mask is None else (self.roi, self.mask)

    @property
    def remark(self) -> str | None:
        """What the table says of it: the mask of its input, and its `note`."""
        masked = f"input outside {self.mask} set to 0" if self.mask is not None else None
        return "; ".join(filter(None, (masked, self.note))) or None


class GeneratorConfig(Section):
    """How predicted targets become images."""

    n_gpus: ClassVar[int] = 0  # that generating asks a cluster for
    backbones: ClassVar[tuple[str, ...]] = ()  # frozen networks of the catalogue that generating loads
    needs: ClassVar[tuple[str, ...]] = ()  # roles of `reconstructions` without which it cannot work
    takes: ClassVar[tuple[str, ...]] = ()  # further roles that it uses where they are given
    pools: ClassVar[tuple[str, ...]] = ()  # entries of `pools` that it looks in
    gans: ClassVar[tuple[str, ...]] = ()  # entries of `gans` that it shows embeddings by
    from_samples: ClassVar[bool] = False  # whether a decoder's samples condition it, where there are any
    chooses_from: ClassVar[tuple[str, ...]] = ()  # entries of `reconstructions` among whose images it chooses
    uses_truth: ClassVar[bool] = (
        False  # whether it looks at what was seen, so that it is no method but a bound
    )
    note: ClassVar[str | None] = None  # what the table has to say of its images

    kind: str

    @property
    def demands(self) -> Mapping[str, tuple[Mapping[str, str], ...]]:
        """Role -> the targets it can work from, each as the settings that make it one; a role that is not
        named takes any.

        Shapes do not tell targets apart: tokens of three text encoders are all 77 x 768.
        """
        return {}


ROLES = ("semantic", "text", "lowlevel", "ranking")


class SplitImages(Section):
    """Images of training and validation stimuli, for the table of scores by split."""

    images: PositiveInt = Field(100, description="How many of each split, the first by their ids.")
    network: Literal["tiny_clip", "clip_vit_l14", "openclip_vit_h14"] = Field(
        "clip_vit_l14", description="Image encoder by whose pooled embeddings made and seen are compared."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ... of that encoder.")


class ReconstructionConfig(Section):
    """Images made from the predictions of one or more decoders, each in its role."""

    semantic: Identifier | None = Field(
        None, description="Decoder that says what is seen: an image embedding."
    )
    text: Identifier | None = Field(
        None, description="Decoder of an embedding of captions, or of the second condition of a GAN."
    )
    lowlevel: Identifier | None = Field(
        None, description="Decoder that says where which light is: pixels, or latents of an autoencoder."
    )
    ranking: Identifier | None = Field(
        None,
        description="Decoder of an image embedding by which one of several candidate images is chosen; null: "
        "what the semantic decoder predicts chooses.",
    )
    rescale: dict[Literal["semantic", "text", "lowlevel"], Literal["cross_validated", "transductive"]] = (
        Field(
            {},
            description="Roles whose predictions get back the spread that ridge takes from them: measured on "
            "cross-validated training predictions, or on the test set itself (transductive, as "
            "Brain-Diffuser did; not honest, and said so in the table).",
        )
    )
    seed: NonNegativeInt = Field(0, description="Seed of the noise that generators start from.")
    training_seed: NonNegativeInt | None = Field(
        None, description="Which training of its decoders is shown; null is the first of their `seeds`."
    )
    splits: SplitImages | None = Field(
        None,
        description="Also make images of training and validation stimuli, and score them by split; the "
        "decoders have to be `fitted`. null makes images of test stimuli alone.",
    )
    generator: GeneratorConfig

    @property
    def roles(self) -> dict[str, str]:
        """Role -> decoder, of those that are given, in the order of `ROLES`."""
        return {role: name for role in ROLES if (name := getattr(self, role)) is not None}

    @model_validator(mode="after")
    def _roles_fit(self) -> "ReconstructionConfig":
        wanted = self.generator
        given = set(self.roles)
        free = not wanted.needs and not wanted.chooses_from  # such as `nearest`: any one role
        missing = set(wanted.needs) - given
        unused = given - {*wanted.needs, *wanted.takes}
        if missing or unused or (free and not given):
            problem = (
                f"lacks {references.listed(missing)}"
                if missing
                else f"does not use {references.listed(unused)}"
                if unused
                else "is given no decoder at all"
            )
            uses = references.listed([*wanted.needs, *(f"{role} (if given)" for role in wanted.takes)])
            raise ValueError(
                f"a generator of kind `{wanted.kind}` reads {'one of ' if free else ''}{uses}, and this "
                f"reconstruction {problem}: name a decoder for each role it reads, and for no other"
            )
        if free and len(given) > 1:
            raise ValueError(
                f"a generator of kind `{wanted.kind}` works from one decoder, and this reconstruction names "
                f"{references.listed(given)}: keep one of them"
            )
        if foreign := set(self.rescale) - given:
            raise ValueError(f"`rescale` names {references.listed(foreign)}, for which no decoder is given")
        return self


class BaseConfig(Section):
    """The whole configuration, before the kinds of the plug-ins are known."""

    split: SplitConfig = SplitConfig()
    voxels: VoxelsConfig = VoxelsConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    interpretation: InterpretationConfig = InterpretationConfig()
    report: ReportConfig = ReportConfig()
    pools: dict[Identifier, PoolConfig] = Field(
        {}, description="Images from outside the data set, for generators that look for one."
    )
    gans: dict[Identifier, GanSection] = Field(
        {}, description="Conditional GANs that are trained on the images of a pool."
    )
    encodings: dict[Identifier, EncodingConfig] = Field(
        {}, description="Encoding models: responses of every voxel or vertex, predicted from a target."
    )
    container: str | None = Field(
        None,
        description="Image that holds the environments of all rules, such as docker://registry/percept:0.1; "
        "used with `--software-deployment-method conda apptainer` (docs/environments.md).",
    )

    @model_validator(mode="after")
    def _split_fits_dataset(self) -> "BaseConfig":
        if require := getattr(self.dataset, "require_fitting", None):
            require(self.split)
        return self

    @property
    def swept(self) -> dict[str, DecoderConfig]:
        """Decoders that sweeps train, by their names."""
        return {name: member for sweep in self.sweeps.values() for name, member in sweep.members.items()}

    @property
    def every_decoder(self) -> dict[str, DecoderConfig]:
        """Decoders of the config and of its sweeps, by name."""
        return {**self.decoders, **self.swept}

    @model_validator(mode="before")
    @classmethod
    def _swept(cls, given: Any) -> Any:  # noqa: ANN401 (whatever a config file holds)
        return expanded(given, kinds(*PLUGINS["decoders"]))

    @model_validator(mode="after")
    def _names_exist(self) -> "BaseConfig":
        references.require_all(self)
        return self


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


def dataset(settings: dict[str, Any]) -> Any:  # noqa: ANN401 (one of four sections)
    """The section of the data set, from checked plain data."""
    return _datasets()[settings["kind"]].model_validate(settings)


def _datasets() -> dict[str, type[Section]]:
    arrays = importlib.import_module("percept.datasets.arrays_config").ArraysDataset
    algonauts = importlib.import_module("percept.datasets.algonauts_config").AlgonautsDataset
    return {"nsd": NsdDataset, "twin": TwinDataset, "arrays": arrays, "algonauts": algonauts}


MEMBERS = "Made from the rest, not to be given: the decoder of each combination, by its name."


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
    decoder = _one_of(decoders)
    sweep = create_model(
        "SweepConfig",
        __base__=SweepConfig,
        __doc__=SweepConfig.__doc__,
        members=(dict[Identifier, decoder], Field({}, description=MEMBERS)),
    )
    return create_model(
        "Config",
        __base__=BaseConfig,
        __doc__="The whole configuration of a run.",
        dataset=(_one_of(_datasets()), ...),
        targets=(dict[Identifier, _one_of(targets)], Field(min_length=1, description="Features to predict.")),
        decoders=(dict[Identifier, decoder], Field(min_length=1, description="Decoders to train.")),
        sweeps=(
            dict[Identifier, sweep],
            Field({}, description="Decoders to train with every combination of some settings."),
        ),
        reconstructions=(dict[Identifier, reconstruction], Field({}, description="Images to make.")),
    )


def load(source: str | Path | dict[str, Any]) -> BaseConfig:
    """Check a configuration, given as a YAML file or as what such a file holds.

    Raises
    ------
    ConfigError : a key is unknown (the nearest valid one is named), a value is wrong, or a name refers to
        nothing; the message lists every such place
    """
    where = ""
    if not isinstance(source, dict):
        where, source = f"{source}: ", _read_yaml(Path(source))
    try:
        return model().model_validate(source)
    except ValidationError as error:
        places = "\n".join(f"  - {_explain(problem)}" for problem in error.errors())
        raise ConfigError(f"{where}the configuration cannot be used:\n{places}") from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(found or {}, dict):
        raise ConfigError(f"{path} holds a {type(found).__name__}, and no settings by name")
    return found or {}


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


def plain(config: Section) -> dict[str, Any]:
    """The configuration as what YAML or JSON can hold, defaults filled in."""
    return config.model_dump(mode="json")
