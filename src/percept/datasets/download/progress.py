"""How far a download is: a bar on a terminal, a line in the log every half minute elsewhere."""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Self

log = logging.getLogger(__name__)

LOG_EVERY_S = 30.0


class Progress:
    """Bytes and files done, from any number of threads.

    Parameters
    ----------
    total : bytes to be on disk at the end
    already : bytes there from an earlier run; they count as done but not into the rate
    n_files : files to be finished
    """

    def __init__(self, total: int, already: int, n_files: int) -> None:
        from tqdm import tqdm

        self.total, self.done, self.already, self.n_files, self.finished = total, already, already, n_files, 0
        self._lock = threading.Lock()
        self._start = self._logged = time.monotonic()
        self._bar = tqdm(
            total=total,
            initial=already,
            unit="B",
            unit_scale=True,
            desc=f"{n_files} files",
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, n_bytes: int) -> None:
        """Count bytes that arrived, or (negative) bytes that were thrown away."""
        with self._lock:
            self.done += n_bytes
            self._bar.update(n_bytes)
            now = time.monotonic()
            if self._bar.disable and now - self._logged >= LOG_EVERY_S:
                self._logged = now
                log.info("%s", self.line(now - self._start))

    def file_done(self) -> None:
        """Count a file that is whole and in place."""
        with self._lock:
            self.finished += 1

    def line(self, elapsed_s: float) -> str:
        """Files, bytes, rate and time left after `elapsed_s` seconds, in one line."""
        rate = max(self.done - self.already, 0) / max(elapsed_s, 1e-9)  # bytes per second
        left = f"{duration((self.total - self.done) / rate)} left" if rate else "waiting for the server"
        share = self.done / max(self.total, 1)
        return (
            f"{self.finished} of {self.n_files} files, {readable(self.done)} of {readable(self.total)} "
            f"({share:.0%}), {readable(rate)}/s, {left}"
        )


def readable(n_bytes: float) -> str:
    """Bytes with a decimal unit, as in "1.2 GB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(n_bytes) < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as in "42 s", "3 min 5 s", "2 h 10 min"."""
    whole = round(max(seconds, 0))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
