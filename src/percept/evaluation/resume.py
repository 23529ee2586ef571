"""Scores that one job leaves for the next: a subject's runs are scored one after the other by the same job.

So a job that was interrupted goes on where it was, and one more seed or decoder scores no other run anew.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from percept.evaluation.run import Scored
from percept.files import PerceptError, hash_text, read_json, read_parquet, write_json, write_parquet

log = logging.getLogger(__name__)
DONE = "done.json"


@dataclass(frozen=True)
class Kept:
    """The folder of one scored run; what lies there counts only for the same `identity`.

    The folder is no declared output, so Snakemake leaves it when it clears the outputs away before a job, or
    what a job left unfinished. It holds the tables a second time, under a megabyte for NSD's 1,000 images;
    whoever wants everything scored anew deletes it.
    """

    folder: Path
    identity: str

    def score(self, make: Callable[[], Scored]) -> Scored:
        """What an earlier job left, or what `make` returns, which is left here before it is returned."""
        done = self.folder / DONE
        if (found := self._found(done)) is not None:
            return found
        done.unlink(missing_ok=True)
        scored = make()
        for name, table in zip(Scored._fields, scored, strict=True):
            write_parquet(table, self.folder / f"{name}.parquet")
        write_json(self.identity, done)  # last: without it nothing here counts
        return scored

    def _found(self, done: Path) -> Scored | None:
        """What lies here, if it is of this identity and can be read."""
        try:
            if not done.exists() or read_json(done) != self.identity:
                return None
            return Scored(*(read_parquet(self.folder / f"{name}.parquet") for name in Scored._fields))
        except (PerceptError, FileNotFoundError) as error:
            log.warning("scored again: what was kept of it cannot be read (%s)", error)
            return None


def identity(settings: object, paths: Sequence[str | Path]) -> str:
    """Name of what scores depend on: settings and code as plain data, and size and time of the files."""
    seen = [(str(path), Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in paths]
    return hash_text(json.dumps([settings, seen], sort_keys=True, default=str), 40)
