"""One log per job: everything goes to its file and to stderr, uncaught exceptions too."""

import logging
import sys
from pathlib import Path
from types import TracebackType

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def to_file(path: str | Path) -> None:
    """Send the log of this process to `path` (replaced) and to stderr.

    Called first in each script of the workflow. An exception that nobody catches is written to the same
    file, so that the log which Snakemake names is enough to understand a failure. Errors whose message was
    written for the user (`percept.files.PerceptError`) appear as that message, followed by the traceback.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handlers = [logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("percept").critical("%s", error, exc_info=(kind, error, trace))
