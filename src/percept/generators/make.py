"""Make the images of a reconstruction a batch at a time; a job that is killed resumes where it was.

Every batch is written beside the outputs as soon as it is made, `work/<set>/batch-00003.h5`, with a key
over all that it depends on. The folder is no declared output, so that Snakemake leaves it when the job dies;
it goes when the outputs are whole.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from percept.backbones.device import memory_for
from percept.backbones.fingerprint import digest
from percept.files import PerceptError, hash_text, write_parquet
from percept.generators import store
from percept.generators.roles import Generator, Made, Roles

log = logging.getLogger(__name__)
LESS_MEMORY = (
    "lower `batch_size` of the generator, set its `precision` to float16 or bfloat16, or its `device` to cpu"
)
DETAILS = {
    "stimulus": "int32", "set": "string", "sample": "Int16", "similarity": "Float32", "caption": "string",
    "file": "string", "member": "string", "rescaled": "string",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """Where images go and what they depend on.

    Attributes
    ----------
    outputs : set of images ("images", "recovery") -> its file; "details" -> the table about them
    seed : of the noise that generators start from
    settings : the reconstruction's section of the config, kept with the images and part of the key
    identity : hashes of weights, code and training images: kept with the images and part of the key
    """

    outputs: Mapping[str, Path]
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """Folder of the batches that are finished."""
        return Path(self.outputs["details"]).parent / "work"

    @property
    def rescaled(self) -> str:
        """Roles whose predictions were rescaled, and how, for the table: `semantic:transductive`."""
        return ", ".join(f"{role}:{how}" for role, how in sorted(self.settings.get("rescale", {}).items()))


def run(generator: Generator, sets: Mapping[str, Callable[[], Roles]], job: Job) -> None:
    """Make every set of images, then the table of details, then remove the unfinished work.

    Parameters
    ----------
    sets : name of an output -> what reads the roles of its images; one set lies in memory at a time

    Raises
    ------
    PerceptError : the generator made another number of images than it was asked for, or a GPU has too
        little memory for a batch
    """
    tables = []
    for name, read in sets.items():
        table = make_set(generator, read(), name, job)
        tables.append(table.assign(rescaled=job.rescaled if name == "images" else ""))
    write_parquet(pd.concat(tables)[list(DETAILS)].astype(DETAILS), job.outputs["details"])
    shutil.rmtree(job.work)


def make_set(generator: Generator, roles: Roles, name: str, job: Job) -> pd.DataFrame:
    """Make one set of images and write its file; returns what is known of each image, a row per image."""
    paths = list(_finish(generator, roles, name, job))
    attributes = {
        "settings": dict(job.settings), "seed": job.seed, "set": name, "identity": dict(job.identity),
    }  # fmt: skip
    store.write_pieces(job.outputs[name], (_piece(path) for path in paths), attributes)
    details = [row for path in paths for row in store.read_attributes(path)["details"]]
    blank = dict.fromkeys(DETAILS)
    return pd.DataFrame([blank | row for row in details]).assign(stimulus=roles.stimulus, set=name)


def _finish(generator: Generator, roles: Roles, name: str, job: Job) -> Iterator[Path]:
    """Make the batches that are not there yet; their paths, in order."""
    starts = range(0, len(roles), generator.batch_size)
    kept = 0
    for number, start in enumerate(starts):
        batch = roles.rows(slice(start, start + generator.batch_size))
        path = job.work / name / f"batch-{number:05d}.h5"
        key = batch_key(batch, job)
        if _is_finished(path, key):
            kept += 1
        else:
            with memory_for(f"making batch {number + 1} of {len(starts)} of the set {name!r}", LESS_MEMORY):
                made = generator.generate(batch, job.seed)
            _write(path, made, batch, key)
            log.info("%s: batch %d of %d", name, number + 1, len(starts))
        yield path
    if kept:
        log.info("%s: %d of %d batches were there already", name, kept, len(starts))


def batch_key(batch: Roles, job: Job) -> str:
    """Hash of all that a batch of images depends on: targets, seed, settings, weights, code."""
    samples = {} if batch.samples is None else {"samples": batch.samples}
    candidates = {} if batch.candidates is None else batch.candidates.arrays
    arrays = digest({"stimulus": batch.stimulus, **batch.given, **samples, **candidates}, n=64)
    settings = json.dumps([job.seed, dict(job.settings), dict(job.identity)], sort_keys=True)
    return hash_text(f"{arrays} {settings}", n=32)


def _is_finished(path: Path, key: str) -> bool:
    if not path.is_file():
        return False
    try:
        return store.read_attributes(path).get("key") == key
    except PerceptError:  # damaged: it is made anew
        return False


def _write(path: Path, made: Made, batch: Roles, key: str) -> None:
    details = [dict(row) for row in made.details] or [{} for _ in range(len(batch))]
    if not len(made.images) == len(batch) == len(details):
        raise PerceptError(
            f"the generator made {len(made.images)} images with {len(details)} records for the {len(batch)} "
            f"it was asked for, while writing {path}: images and stimuli would not belong together. Its "
            "`generate` has to return one of each per row."
        )
    attributes = {"key": key, "details": details}
    store.write_images(path, made.images, batch.stimulus, made.lowlevel, attributes)


def _piece(path: Path) -> store.Piece:
    images, stimulus = store.read_images(path)
    return store.Piece(images, stimulus, store.read_lowlevel(path))
