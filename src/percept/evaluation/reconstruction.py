"""Rows of the long table for the reconstructions of a subject: image metrics, with their floors and ceilings.

All reconstructions of a subject are scored together, because they share the true images and most controls;
sets of images that are equal are scored once.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.backbones import metric, store
from percept.backbones.catalogue import named
from percept.config import EvaluationConfig
from percept.evaluation import floors, objects, perceptual, recognition, table
from percept.evaluation.controls import derangement
from percept.evaluation.field import FIELD_METRICS
from percept.evaluation.imagesets import Distinct, ImageSet, Reconstructed, Source, Stimuli, distinct, held
from percept.evaluation.measure import Items, Measure, Scores, summarise
from percept.evaluation.perceptual import Found, Seen
from percept.evaluation.table import Label
from percept.files import PerceptError
from percept.sections import ImagesConfig

log = logging.getLogger(__name__)
NETWORK_OF = {layer: name for name in metric.LAYERS for layer in metric.layers(name)}
CEILING = "recovery"  # the control that shares the notes of the reconstruction


@dataclass(frozen=True)
class Made:
    """One reconstruction of the test images.

    label : who made it; its control is missing
    controls : name -> images that are scored in the same way, such as `mean_image`, `nearest_train`,
        `random_image` and `recovery`
    note : said in every row of its own, of the controls in none
    """

    label: Label
    images: ImageSet
    controls: Mapping[str, ImageSet] = field(default_factory=dict)
    note: str | None = None


@dataclass(frozen=True)
class Entry:
    """A set of images under one of its names; equal sets are one."""

    label: Label
    number: int


def score_files(
    labels: Sequence[Label],
    paths: Sequence[tuple[str, str, str, str]],
    source: Source,
    train: NDArray[np.integer],
    settings: EvaluationConfig,
    notes: Sequence[str | None] | None = None,
) -> list[Scores]:
    """Score the files of a subject's reconstructions, with every control that stands beside them.

    Parameters
    ----------
    paths : per label the files of the images and of their recovery, the predictions of the decoder that the
        nearest training image goes by, and the index of the target that it predicts
    source : the stimuli of the data set
    train : (stimulus,) training images
    notes : per label what the table has to say of it, see `note`

    Raises
    ------
    PerceptError : files that reconstruct different stimuli, or that are damaged; damaged weights or
        annotations
    """
    check(settings.images)
    stimulus = _common_stimulus([path for pair in paths for path in pair[:2]])
    shared = floors.shared(source, train, len(stimulus), settings.seed)
    nearest: dict[tuple[str, str], ImageSet] = {}
    made = []
    said = notes or [None] * len(labels)
    for label, (images, recovery, *decoder), note in zip(labels, paths, said, strict=True):
        if (key := (str(decoder[0]), str(decoder[1]))) not in nearest:
            nearest[key] = floors.nearest(source, *key, stimulus, train)
        controls = {**shared, "nearest_train": nearest[key], CEILING: Reconstructed(Path(recovery))}
        made.append(Made(label, Reconstructed(Path(images)), controls, note))
    asked = recognition.JUDGE in settings.images.networks
    found = objects.known(source, stimulus.tolist()) if asked else objects.Known(None)
    return score_reconstructions(made, Stimuli(source, stimulus), stimulus, settings, found)


def note(
    rescaled: Mapping[str, str], decoders: Mapping[str, str | None], generator: str | None = None
) -> str | None:
    """What the table says of a reconstruction: what only the test set knows, and what its parts say.

    Parameters
    ----------
    rescaled : role -> how its predictions were rescaled, if they were
    decoders : role -> note of its decoder, if that has one
    generator : note of its generator, if that has one
    """
    roles = [role for role, how in rescaled.items() if how == "transductive"]
    said = [f"rescaled on the test set: {', '.join(roles)}"] if roles else []
    said += [f"{role} ({words})" for role, words in decoders.items() if words]
    said += [generator] if generator else []
    return "; ".join(said) or None


def check(how: ImagesConfig) -> None:
    """Open every network once, before hours of scoring by those that come first.

    Raises
    ------
    PerceptError : no metric network of that name, or its weights are damaged or of another network
    """
    for name in how.networks:
        if _is_there(name):
            metric.open_named(name, how.device)


def _common_stimulus(paths: Sequence[str]) -> NDArray[np.int32]:
    """What the images of all files show, row by row (image,).

    Raises
    ------
    PerceptError : not the same stimuli, or not in the same order
    """
    first, *others = (Reconstructed(Path(path)).stimulus for path in paths)
    for path, stimulus in zip(paths[1:], others, strict=True):
        if not np.array_equal(stimulus, first):
            raise PerceptError(
                f"{paths[0]} and {path} hold reconstructions of different stimuli ({len(first)} and "
                f"{len(stimulus)}), so they cannot be compared: they were made on different splits. Delete "
                "both and run the same command again; the workflow makes them anew."
            )
    return first


def score_reconstructions(
    made: Sequence[Made],
    shown: ImageSet,
    stimulus: NDArray[np.integer],
    settings: EvaluationConfig,
    found: objects.Known = objects.Known(None),  # noqa: B008 (immutable)
) -> list[Scores]:
    """Score reconstructions against the images that were seen, and their controls beside them.

    Parameters
    ----------
    shown, stimulus : (image,), what was seen and its number, in the order of every set of images
    found : the objects in each image, where they are known

    Returns
    -------
    Per reconstruction its rows, and the values of its images.

    Raises
    ------
    ValueError : a set of images that is not one per stimulus
    PerceptError : weights of a metric network damaged
    """
    names = None if found.names is None else tuple(found.names)
    seen = Seen(distinct(held(shown)), names, found.reason or Seen.unknown)
    notes = {each.label: each.note for each in made}
    sets, entries = _register(made, stimulus)
    tables: list[list[Scores]] = [[] for _ in entries]
    every = np.arange(len(stimulus))
    items = Items(every, np.asarray(stimulus), np.full(len(stimulus), -1))
    own = {entry.number for entry in entries if entry.label.control is None}
    for number, measures in _found(seen, sets, settings, sorted(own)):
        for entry, scores in zip(entries, tables, strict=True):
            if entry.number == number:
                fitting = [_fitting(measure, entry.label, notes.get(entry.label)) for measure in measures]
                scores.append(summarise(fitting, items, every, entry.label, settings, keep_shuffled=True))
    return [_joined(each, entries, tables, absent(settings.images, seen)) for each in made]


def _register(made: Sequence[Made], stimulus: NDArray) -> tuple[list[Distinct], list[Entry]]:
    """The different sets of images, and every name that one has."""
    sets: dict[tuple[bytes, ...], tuple[int, Distinct]] = {}
    looked: dict[int, Distinct] = {}  # controls that reconstructions share are read once
    entries = []
    for each in made:
        for control, images in {None: each.images, **each.controls}.items():
            if len(images) != len(stimulus):
                raise ValueError(
                    f"{each.label.subject} {each.label.name}: {len(images)} images for {len(stimulus)} "
                    f"stimuli (control: {control}); give one of each"
                )
            if id(images) not in looked:
                looked[id(images)] = distinct(held(images))
            found = looked[id(images)]
            number, _ = sets.setdefault(found.digests, (len(sets), found))
            entries.append(Entry(replace(each.label, control=control), number))
    return [found for _, found in sets.values()], entries


def _fitting(measure: Measure, label: Label, note: str | None) -> Measure:
    """What a control needs of a measure: neither floors of its own nor, but for the ceiling, the notes."""
    if label.control is None:
        return measure._replace(note="; ".join(filter(None, (measure.note, note))) or None)
    note = measure.note if label.control == CEILING else None
    return measure._replace(if_true=None, shuffled=None, note=note)


def _joined(
    made: Made, entries: Sequence[Entry], tables: Sequence[Sequence[Scores]], missing: Mapping[str, str]
) -> Scores:
    """All scores of a reconstruction and its controls; a row without a value where a metric is missing."""
    own = [
        scores
        for entry, scores in zip(entries, tables, strict=True)
        if replace(entry.label, control=None) == made.label
    ]
    rows = [score.rows for scores in own for score in scores]
    lacking = [{"metric": name, "note": f"not available: {why}"} for name, why in missing.items()]
    rows.append(table.rows(made.label, lacking))
    items = [score.items for scores in own for score in scores]
    return Scores(table.concat(rows), table.concat(items, table.ITEM_SCHEMA))


def _found(seen: Seen, sets: list[Distinct], settings: EvaluationConfig, own: list[int]) -> Found:
    """The measures of every set, some at a time; shuffled pairings only of the sets `own`."""
    how, shuffle = settings.images, _shuffle(len(seen), settings.seed, own)
    pairs = []
    for antialias in _ways(how):
        yield from perceptual.pixels(seen, sets, how, antialias)
        pairs.append(perceptual.ssim(antialias))
    if "ssim_columns" in how.alternatives:
        pairs.append(perceptual.ssim(columns=True))
    for pair in pairs:
        yield from perceptual.pairwise(pair, seen, sets, shuffle)
    for name in how.networks:
        if _is_there(name):
            yield from _of_network(name, seen, sets, how, shuffle)


def _of_network(
    name: str, seen: Seen, sets: list[Distinct], how: ImagesConfig, shuffle: perceptual.Shuffle
) -> Found:
    """The measures of one network; its weights are in memory only while it is asked."""
    log.info("comparing %d sets of %d images with %s", len(sets), len(seen), name)
    given = metric.open_named(name, how.device)
    if isinstance(given, metric.Lpips):
        for antialias in _ways(how):
            pair = perceptual.lpips(given, antialias)
            yield from perceptual.pairwise(pair, seen, sets, shuffle, how.batch_size)
    elif given.fixed:
        yield from perceptual.network(given, seen, sets, how)
    else:
        for antialias in _ways(how):
            yield from perceptual.network(given, seen, sets, how, antialias)


def _ways(how: ImagesConfig) -> tuple[bool, ...]:
    """Whether to smooth when images shrink: not, as the field, and also so where that is asked for."""
    return (False, True) if "antialias" in how.alternatives else (False,)


def _shuffle(n_images: int, seed: int, own: list[int]) -> perceptual.Shuffle:
    """Another image for each, in a single random cycle, of the sets `own`; a single image has no other."""
    return perceptual.Shuffle(tuple(own) if n_images > 1 else (), derangement(n_images, seed))


def _is_there(name: str) -> bool:
    """Whether the weights of a metric network lie in its folder."""
    metric.layers(name)  # a name that is none is an error, weights that were not fetched are not
    return store.manifest_path(name).is_file()


def absent(how: ImagesConfig, seen: Seen) -> dict[str, str]:
    """Metric -> why it has no value: those of the field, and those of networks that were asked for."""
    wanted = [*FIELD_METRICS, *(layer for name in how.networks for layer in metric.layers(name))]
    why = {name: reason for name in dict.fromkeys(wanted) if (reason := _reason(name, how))}
    lost = why.pop(metric.LOGITS, None)
    if lost is None and recognition.JUDGE in how.networks and seen.objects is None:
        lost = seen.unknown
    return why | (dict.fromkeys(recognition.METRICS, lost) if lost else {})


def _reason(name: str, how: ImagesConfig) -> str | None:
    network = NETWORK_OF.get(name)
    if network is None:  # pixels need none
        return None
    if network not in how.networks:
        return f"{network} is not among `evaluation.images.networks`"
    if not _is_there(network):
        tiny = named(network).family == "tiny"
        command = "snakemake tiny_backbones" if tiny else f"python -m percept.backbones.fetch {network}"
        return f"the weights of {network} are absent; `{command}` {'trains' if tiny else 'fetches'} them"
    return None
