"""One log per job: everything goes to its file and to stderr, uncaught exceptions too."""

import errno
import logging
import sys
from pathlib import Path
from types import TracebackType

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def to_file(path: str | Path) -> None:
    """Send the log of this process to `path` (replaced) and to stderr.

    Called first in each script of the workflow. An exception that nobody catches is written to the same
    file, so that the log which Snakemake names is enough to understand a failure. Errors whose message was
    written for the user (`percept.files.PerceptError`) appear as that message, followed by the traceback; so
    does memory that did not suffice, with what to do.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handlers = [logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught


def full_memory(error: BaseException) -> tuple[str, str, str] | None:
    """What an error says of memory that did not suffice; None for other errors.

    Returns
    -------
    whose memory ("GPU" or "machine"), what shows how it is used, and the reason as far as the error gives one
    """
    torch = sys.modules.get("torch")  # not imported for this: much that fails needs no torch
    reason = str(error).rpartition("DefaultCPUAllocator: ")[2].partition(". ")[0] or "nothing more is known"
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "GPU", "nvidia-smi", reason
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error) or _was_refused(error):
        return "machine", "free -h", reason
    return None


def _was_refused(error: BaseException) -> bool:
    """Whether the system refused memory, or threads for want of it, to a library that has its own errors."""
    refused = isinstance(error, OSError) and error.errno == errno.ENOMEM
    return refused or (isinstance(error, RuntimeError) and str(error) == "can't start new thread")


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    said = str(error)
    if full := full_memory(error):
        where, tool, reason = full
        said = (
            f"the memory of the {where} did not suffice ({reason}): see with `{tool}` what else holds it, "
            "or run fewer jobs at once (`--cores`). Where a limit is set for each job, as on a cluster, "
            "`--set-resources RULE:mem_mb=16000` raises it for one rule. What is finished stays; run the "
            "same command again."
        )
    logging.getLogger("percept").critical("%s", said, exc_info=(kind, error, trace))
