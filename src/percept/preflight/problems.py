"""What cannot work, one paragraph for each thing; and what is missing but comes by itself."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from percept.backbones import catalogue
from percept.config import BaseConfig
from percept.datasets.terms import require_terms
from percept.files import PerceptError
from percept.preflight import asks, machine, memory
from percept.preflight.figures import GB
from percept.preflight.gans import Gan
from percept.preflight.machine import Machine
from percept.preflight.memory import Generation, Training
from percept.preflight.shapes import missing_networks
from percept.preflight.sizes import Stored, voxels
from percept.preflight.world import Subject, results

LISTED = 5  # names in one message


def _some(names: Iterable[object]) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def terms(cfg: BaseConfig) -> Iterator[str]:
    """The data set may not be fetched yet."""
    if cfg.dataset.kind == "nsd" and cfg.dataset.download.enabled:
        try:
            require_terms(cfg.dataset.terms_accepted)
        except PerceptError as error:
            yield str(error)


def inputs(cfg: BaseConfig) -> Iterator[str]:
    """Files of the user's own that nothing makes."""
    dataset = cfg.dataset
    if dataset.kind == "arrays":
        wanted = [path for name in dataset.subjects for path in dataset.inputs(name)]
        missing = [
            path for path in dict.fromkeys([*wanted, *dataset.stimulus_inputs()]) if not Path(path).exists()
        ]
    elif dataset.kind == "algonauts" and dataset.simulate is None:
        missing = [dataset.folder(name) for name in dataset.subjects if not dataset.folder(name).is_dir()]
    elif dataset.kind == "nsd" and not dataset.download.enabled:
        missing = [] if Path(dataset.root).is_dir() else [dataset.root]
    else:
        return
    if missing:
        yield (
            f"{len(missing)} of the data set's own files or folders are not there ({_some(missing)}): this "
            "workflow neither makes nor fetches them. Put them there, or correct the paths under `dataset` "
            "in the configuration."
        )


def networks(cfg: BaseConfig) -> Iterator[str]:
    """Weights that are absent and cannot be fetched."""
    absent = missing_networks(cfg)
    if shipped := [name for name in absent if catalogue.named(name).family == "tiny"]:
        yield (
            f"the small networks {_some(shipped)} are absent, which are part of the checkout: what uses them "
            "cannot start. `git checkout -- resources/backbones` brings them back."
        )
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    if offline and (published := [name for name in absent if name not in shipped]):
        yield (
            f"the weights of {_some(published)} are absent and HF_HUB_OFFLINE is set, so that nothing will "
            "fetch them. Unset it where there is a network, or copy resources/backbones from a machine on "
            "which `snakemake backbones --cores 1` (with your `--configfile`) was run."
        )


def folders(cfg: BaseConfig, stored: Sequence[Stored]) -> Iterator[str]:
    """Folders that cannot be written to."""
    wanted = {one.folder for one in stored if one.to_come or one.passing} | {results(cfg), Path("logs")}
    for folder in sorted(wanted):
        there = machine.existing(folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            what = "is no folder" if not there.is_dir() else "may not be written to by you"
            yield (
                f"{there} {what}, but {folder} is to be written below it: the first job would fail. Change "
                "its permissions, make it a link to a folder of yours, or work in another copy of the "
                "repository."
            )


def disks(stored: Sequence[Stored]) -> Iterator[str]:
    """Disks that are too small for what comes to them."""
    by_disk = defaultdict(list)
    for one in stored:
        by_disk[machine.disk(one.folder)].append(one)
    for parts in by_disk.values():
        needed, free = sum(one.to_come + one.passing for one in parts), machine.free(parts[0].folder)
        if needed > free:
            largest = sorted(parts, key=lambda one: -one.to_come - one.passing)[:3]
            told = ", ".join(f"{one.stage} {(one.to_come + one.passing) / GB:.0f} GB" for one in largest)
            yield (
                f"the disk of {machine.existing(parts[0].folder)} has {free / GB:.1f} GB free, and up to "
                f"{needed / GB:.1f} GB come to it (the largest: {told}): the run would stop half way. Free "
                "some space, make `results` or `dataset.root` links to a larger disk, or configure fewer "
                "subjects, sessions, decoders or reconstructions."
            )


def needs(
    cfg: BaseConfig, subjects: Sequence[Subject], trained: Sequence[Training], largest: float
) -> dict[str, float]:
    """MB of host memory that jobs ask for, by rule.

    Parameters
    ----------
    largest : bytes of the largest file of predictions
    """
    betas = max((voxels(cfg, [subject]) for subject in subjects), default=0)
    gpus = max((one.gpus for one in trained), default=0)
    of_voxels, of_predictions = memory.voxels_mb(betas), memory.predictions_mb(largest)
    found = {
        "train_decoder": memory.training_mb(betas, gpus, cfg.dataset.kind),
        "score_decoders": max(8000, of_predictions),
        "audit_subject": of_voxels + of_predictions,
        "encode_target": 8000,
    }
    if cfg.reconstructions:
        found["reconstruct_images"] = 8000
    if asks.pools(cfg):
        found["encode_pool"] = 8000
    if asks.gans(cfg):
        found["train_gan"] = 16_000
    if cfg.interpretation.leave_one_out:
        found["leave_voxels_out"] = 2 * of_voxels + of_predictions
    return found


def memories(asked: Mapping[str, float], where: Mapping[str, Machine]) -> Iterator[str]:
    """Jobs whose host memory no machine has."""
    by_place = defaultdict(dict)
    for rule, mb in asked.items():
        place = where.get(rule)
        if place is not None and place.ram is not None and mb * 1e6 > place.ram:
            by_place[place][rule] = mb
    for place, rules in by_place.items():
        told = ", ".join(f"{rule} {mb / 1000:.0f} GB" for rule, mb in rules.items())
        yield (
            f"{place.name} has {place.ram / GB:.1f} GB of memory on its largest node, and jobs ask for more "
            f"({told}): they would fail or never start. Use a larger machine or partition, extract fewer "
            "voxels (`voxels.extract`), or leave out the decoders of the largest targets."
        )


def gpus(trained: Sequence[Training], games: Sequence[Gan], where: Mapping[str, Machine]) -> Iterator[str]:
    """Trainings, of decoders and of GANs, that fit on no GPU, or into the memory of this machine."""
    for one in trained:
        room, has = _room(where["train_decoder"], one.gpus)
        if one.device and room is not None and one.device > room:
            yield (
                f"training {one.decoder} needs about {one.device / GB:.1f} GB (of {one.subject}, "
                f"{one.n_voxels:,} voxels), and {has}: it would be refused before its first step. Set "
                "`training.chunk`, lower `training.batch_size`, make the network narrower "
                "(`network.width`), or run where there is more."
            )
    for one in games:
        room, has = _room(where["train_gan"], one.gpus)
        if room is not None and one.device > room:
            yield (
                f"training the GAN {one.name} needs about {one.device / GB:.1f} GB, and {has}: it would stop "
                f"at its first step. Lower `gans.{one.name}.training.batch_size` or `network.capacity`, set "
                "`training.precision` to bfloat16, or run where there is more."
            )


def _room(place: Machine, asked: int) -> tuple[float | None, str]:
    """Bytes, None if not known, and what has them: a GPU if one is asked for and is there, or the host."""
    on_gpu = bool(asked and place.gpus)
    room = place.gpu_bytes if on_gpu else place.ram
    kind = f" ({place.gpu_name})" if on_gpu and place.gpu_name else ""
    return room, f"{place.name} has {(room or 0) / GB:.1f} GB of {'GPU' if on_gpu else 'memory'}{kind}"


def absent_gpus(cfg: BaseConfig, where: Mapping[str, Machine]) -> Iterator[str]:
    """Jobs that ask for a GPU where there is none, or for more than there are."""
    asking = {
        rule: asked
        for rule, names in asks.gpus(cfg).items()
        if rule in where and (asked := {name: n for name, n in names.items() if n})
    }
    for place in dict.fromkeys(where[rule] for rule in asking):
        here = {rule: names for rule, names in asking.items() if where[rule] == place}
        if place.cluster and not place.gpus:
            told = "; ".join(f"{rule}{_about(names)}" for rule, names in here.items())
            yield (
                f"jobs ask Slurm for a GPU ({told}), and {place.name} has none: they would never start. "
                "Name a partition with GPUs (`gpu_partition` in profiles/slurm/site.yaml), or set `device: "
                "cpu`."
            )
        # Of a partition that `sinfo` does not describe nothing is known; that is said elsewhere.
        elif place.gpus and (not place.cluster or place.ram is not None):
            yield from _too_many(here, place)
    place = where["train_decoder"]
    if not place.gpus and (named := sorted(_on_cuda(cfg))):
        yield (
            f"{_some(named)} ask for a GPU by `device: cuda`, and {place.name} has none: they would fail at "
            "their start. Set `device: auto`, or run where `nvidia-smi` lists a GPU."
        )


def _about(names: Mapping[str, int]) -> str:
    """Names of what jobs are about, after a colon; nothing where all jobs of a rule are alike."""
    return f": {_some(filter(None, names))}" if any(names) else ""


def _too_many(here: Mapping[str, Mapping[str, int]], place: Machine) -> Iterator[str]:
    """Jobs that ask for more GPUs than one machine, or one node of a partition, has."""
    large = [
        f"{rule} of {name} {n}" if name else f"{rule} {n}"
        for rule, names in here.items()
        for name, n in names.items()
        if n > place.gpus
    ]
    if large:
        what = f"a node of {place.name} has at most" if place.cluster else f"{place.name} has"
        then = "they would never start" if place.cluster else "they would fail at their start"
        yield (
            f"jobs ask for more GPUs ({_some(large)}), and {what} {place.gpus}: {then}. Lower "
            f"`training.devices` to {place.gpus}, or run where there are more"
            + (" (`gpu_partition` in profiles/slurm/site.yaml)." if place.cluster else ".")
        )


def images(made: Sequence[Generation], where: Mapping[str, Machine]) -> Iterator[str]:
    """Reconstructions whose networks and batch fit on no GPU."""
    place = where["reconstruct_images"]
    for one in made:
        room, has = _room(place, one.gpus)
        if place.gpus and one.gpus and room is not None and one.device > room:
            yield (
                f"making the images of {one.reconstruction} needs about {one.device / GB:.1f} GB, "
                f"{one.batch} at a time, and {has}: it would "
                f"stop at its first batch. Lower `batch_size` of its generator (reconstructions."
                f"{one.reconstruction}), or set its `precision` to float16 or bfloat16."
            )


def _on_cuda(cfg: BaseConfig) -> Iterator[str]:
    """Entries of the configuration that name a GPU."""
    sections: dict[str, Any] = {
        f"decoders.{name}": getattr(one, "training", one) for name, one in cfg.every_decoder.items()
    }
    sections |= {f"targets.{name}": one for name, one in cfg.targets.items()}
    sections |= {f"reconstructions.{name}": one.generator for name, one in cfg.reconstructions.items()}
    sections |= {
        f"reconstructions.{name}.splits": cfg.reconstructions[name].splits for name in asks.splits(cfg)
    }
    sections |= {f"gans.{name}": cfg.gans[name].training for name in asks.gans(cfg)}
    sections |= {"evaluation.images": cfg.evaluation.images} if cfg.reconstructions else {}
    for name, section in sections.items():
        if str(getattr(section, "device", "")).startswith("cuda"):
            yield name
