"""Fill the folder of a target: keep what is there, make what is missing, go on where a job was killed.

A file of the folder is kept when it is undamaged (its digest is on record), was made by the same identity,
and what its rows were computed from has not changed. Rows are reused one by one, so that more stimuli in a
range cost only the new ones.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from percept.files import PerceptError, atomic, crc32_of, sha256, write_json, write_text
from percept.targets.growing import SUFFIX, Growing
from percept.targets.progress import Progress, require_disk
from percept.targets.shards import FOLDER, SHARD, STORED, Identity, Layout, Shard, name_of

log = logging.getLogger(__name__)
RECORD = "SHA256SUMS"  # beside the files; `sha256sum -c` reads it
Ids = NDArray[np.int32]
Blocks = Callable[[Sequence[Ids]], Iterator[NDArray]]  # batches of stimuli -> their features, batch by batch
Digests = Callable[[Ids], NDArray[np.uint64]]  # stimuli -> digests of what their features are computed from


@dataclass(frozen=True)
class Work:
    """What is to be cached, and how it is made.

    stimuli : (stimulus,) ascending and distinct
    """

    identity: Identity
    stimuli: Ids
    blocks: Blocks
    digests: Digests
    batch_size: int = 64


class Record:
    """Digests of the finished files of a folder.

    A file's new digest is written before the file takes its place, and the old one goes at the very end: at
    every moment a whole file is known as such.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RECORD
        lines = self.path.read_text(errors="replace").splitlines() if self.path.is_file() else []
        self.known = {tuple(line.split("  ", 1)) for line in lines if "  " in line}

    def vouched(self, file: Path) -> str | None:
        """Digest of a file that is as it was when it was finished; None for any other."""
        digest = sha256(file)
        return digest if (digest, file.name) in self.known else None

    def add(self, digest: str, name: str) -> None:
        """Note a file that is about to take its place."""
        self.known.add((digest, name))
        self._write()

    def settle(self, actual: dict[str, str]) -> None:
        """Forget everything but these digests by name."""
        self.known = {(digest, name) for name, digest in actual.items()}
        self._write()

    def _write(self) -> None:
        text = "".join(
            f"{digest}  {name}\n" for digest, name in sorted(self.known, key=lambda one: one[::-1])
        )
        if not self.path.is_file() or self.path.read_text(errors="replace") != text:
            write_text(text, self.path)


class Range:
    """The file of one range of ids, in the making: what can be kept, and what is missing."""

    def __init__(self, folder: Path, record: Record, work: Work, stimuli: Ids) -> None:
        self.record, self.stimuli, self.identity = record, stimuli, work.identity
        self.path = folder / name_of(int(stimuli[0]) // SHARD * SHARD)
        self.digest = ""  # of the finished file
        self.old = self._reusable()
        self.kept = self._unchanged(work.digests)  # ids
        missing = np.setdiff1d(stimuli, self.kept, assume_unique=True)
        partial = self.path.with_suffix(SUFFIX)
        self.new = Growing(partial, work.identity, missing, work.batch_size)
        self.new.resume(work.digests(self.new.stored()))

    @property
    def untouched(self) -> bool:
        """Whether the file holds just what is asked for."""
        return len(self.kept) == len(self.stimuli) == len(self.old.stimuli if self.old else ())

    def finish(self) -> None:
        """Put the finished file in its place: the new rows, with those kept from before."""
        if len(self.kept):
            self._merge()
        else:
            self._announce(self.new.path)
            self.new.path.replace(self.path)
        self.new.path.unlink(missing_ok=True)

    def _reusable(self) -> Shard | None:
        if not self.path.is_file():
            return None
        try:
            found = Shard(self.path)
        except PerceptError as error:
            log.warning("%s It is made anew.", error)
            return None
        if not found.identity.same(self.identity):
            log.info("%s was made with other settings, images or code: it is made anew", self.path)
            return None
        self.digest = self.record.vouched(self.path) or ""
        if not self.digest:
            log.warning("%s is not what was written: it is damaged, and made anew", self.path)
            return None
        return found

    def _unchanged(self, digests: Digests) -> Ids:
        """Stimuli of the old file that are asked for, and whose images (or captions) are still the same."""
        if self.old is None:
            return self.stimuli[:0]
        common, rows, _ = np.intersect1d(self.old.stimuli, self.stimuli, True, return_indices=True)
        return common[self.old.inputs[rows] == digests(common)]

    def _merge(self) -> None:
        parts = [(self.old, self.kept)] + (
            [(Shard(self.new.path), self.new.stimuli)] if self.new.done else []
        )
        layout = Layout(self.identity, self.stimuli, self.old.layout.shape)
        with atomic(self.path) as temporary:
            _assemble(temporary, layout, parts)
            self._announce(temporary)

    def _announce(self, file: Path) -> None:
        self.digest = sha256(file)
        self.record.add(self.digest, self.path.name)


def _assemble(path: Path, layout: Layout, parts: Sequence[tuple[Shard, Ids]]) -> None:
    """Write one file from rows of others, by their stimuli."""
    inputs = np.zeros(len(layout.stimuli), "<u8")
    path.write_bytes(layout.header + inputs.tobytes() + layout.stimuli.astype("<i4").tobytes())
    with path.open("r+b") as file:
        for shard, ids in parts:
            there, here = np.searchsorted(shard.stimuli, ids), np.searchsorted(layout.stimuli, ids)
            inputs[here], values = shard.inputs[there], shard.values
            for row, place in zip(there, here, strict=True):
                file.seek(layout.start + int(place) * layout.row_bytes)
                file.write(values[row].tobytes())
        file.seek(len(layout.header))
        file.write(inputs.tobytes())


def fill(index: Path, work: Work) -> None:
    """Make the features of all stimuli, keep those that are there, and write the index last.

    Raises
    ------
    PerceptError : a feature is not finite, as computed or as stored; or the disk cannot hold the features
    """
    folder = index.parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    record = Record(folder)
    bounds = np.flatnonzero(np.diff(work.stimuli // SHARD)) + 1
    ranges = [Range(folder, record, work, ids) for ids in np.split(work.stimuli, bounds) if len(ids)]
    open_ones = [each for each in ranges if not each.untouched]
    if open_ones:
        index.unlink(missing_ok=True)  # it would describe files that are about to change
    n_made = sum(map(len, (batch for each in open_ones for batch in each.new.batches())))
    log.info("%d stimuli: %d are there, %d to be made", len(work.stimuli), len(work.stimuli) - n_made, n_made)
    _make(open_ones, work)
    actual = {each.path.name: each.digest for each in ranges}
    record.settle(actual)
    _remove_others(folder, actual)
    _write_index(index, work, ranges)


def _make(ranges: Sequence[Range], work: Work) -> None:
    """Compute what is missing, in one stream; rows are written while the next batch is computed."""
    for each in ranges:
        if each.new.complete:  # nothing but rows to drop
            each.finish()
    steps = [(each, batch) for each in ranges for batch in each.new.batches()]
    if not steps:
        return
    progress = Progress(sum(len(batch) for _, batch in steps))
    with ThreadPoolExecutor(1) as writer:
        waiting, blocks = None, work.blocks([batch for _, batch in steps])
        for (each, batch), block in zip(steps, blocks, strict=True):
            if len(block) != len(batch):
                raise ValueError(f"{len(block)} rows of features for a batch of {len(batch)} stimuli")
            if waiting is None:
                _require_disk(ranges, work.identity, progress.total, block)
            else:
                waiting.result()
            progress.add(len(batch))
            waiting = writer.submit(_write, each, block, work.digests(batch))
        if waiting is not None:
            waiting.result()


def _require_disk(ranges: Sequence[Range], identity: Identity, n_rows: int, block: NDArray) -> None:
    row_bytes = block[0].size * np.dtype(STORED[identity.precision][1]).itemsize
    merged = max((len(each.stimuli) for each in ranges if len(each.kept)), default=0)
    require_disk(ranges[0].path.parent, identity.target, n_rows, row_bytes, merged)


def _write(each: Range, block: NDArray, inputs: NDArray[np.uint64]) -> None:
    each.new.append(block, inputs)
    if each.new.complete:
        each.finish()


def _remove_others(folder: Path, names: Iterable[str]) -> None:
    """What is left of other settings or other stimuli."""
    kept = {*names, RECORD}
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_index(index: Path, work: Work, ranges: Sequence[Range]) -> None:
    shape = Shard(ranges[0].path).layout.shape
    identity = work.identity
    about = {
        "target": identity.target,
        "fingerprint": identity.fingerprint,
        "precision": identity.precision,
        "code": identity.code,
        "shape": list(shape),
        "n_stimuli": len(work.stimuli),
        "ids_per_shard": SHARD,
        "shards": [
            {
                "file": f"{FOLDER}/{each.path.name}",
                "first": int(each.path.name.split("-")[1]),
                "rows": len(each.stimuli),
                "sha256": each.digest,
                "crc32": f"{crc32_of(each.path):08x}",
            }
            for each in ranges
        ],
    }
    write_json(about, index)
