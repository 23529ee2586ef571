"""How far the features of a target are: a line in the log every half minute, and room for them on disk."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from percept.backbones.transfer import require_space

log = logging.getLogger(__name__)
LOG_EVERY_S = 30.0
UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"))


class Progress:
    """Counts stimuli whose features were made.

    Parameters
    ----------
    total : stimuli to be made
    clock : seconds
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total, self.done, self._clock = total, 0, clock
        self._start = self._logged = clock()

    def add(self, n: int) -> None:
        """Count some more, and say now and then how far it is."""
        self.done += n
        now = self._clock()
        if now - self._logged >= LOG_EVERY_S and self.done < self.total:
            self._logged = now
            log.info("%s", self.line(now - self._start))

    def line(self, elapsed: float) -> str:
        """How many are made, how fast, and how long the rest will take."""
        rate = self.done / elapsed
        share = 100 * self.done // self.total
        left = readable((self.total - self.done) / rate)
        return f"{self.done} of {self.total} stimuli ({share} %), {rate:.1f} per second, {left} left"


def readable(seconds: float) -> str:
    """A duration in the largest unit of which there is one, with one decimal; seconds without."""
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def require_disk(folder: Path, target: str, n_rows: int, row_bytes: int, largest_merge: int) -> None:
    """Refuse to write what the disk cannot hold, before the first row is written.

    Parameters
    ----------
    n_rows, row_bytes : features still to be made, and bytes of each
    largest_merge : rows of the largest file that is put together from old and new rows: for a moment it is
        there twice

    Raises
    ------
    PerceptError : less space than that
    """
    require_space(folder, (n_rows + largest_merge) * row_bytes, f"the target {target!r}")
