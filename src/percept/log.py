"""One log per job: everything goes to its file and to stderr, uncaught exceptions too."""

import faulthandler
import logging
import sys
from pathlib import Path
from types import TracebackType

from percept import shortage

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
SHORT = "did not suffice"  # of memory


def to_file(path: str | Path) -> None:
    """Send the log of this process to `path` (replaced) and to stderr.

    Called first in each script of the workflow. An exception that nobody catches is written to the same
    file, so that the log which Snakemake names is enough to understand a failure. Errors whose message was
    written for the user (`percept.files.PerceptError`) appear as that message, followed by the traceback; so
    does memory that did not suffice, with what to do. A library that ends the process itself, as C++ does
    where it gets no memory, leaves the place in the code there.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    handlers = [logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr)]
    logging.basicConfig(level=logging.INFO, format=FORMAT, handlers=handlers, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    faulthandler.enable(handlers[0].stream)


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
    # What was raised from another error is a reader's word for it, and may be right.
    short = shortage.told(error) if error.__cause__ is None else shortage.real(error)
    return ("machine", "free -h", reason) if short else None


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    said = str(error)
    full = None if SHORT in said else full_memory(error)  # said already, with what the job itself can do
    if full is not None:
        where, tool, reason = full
        more = (
            " Where a limit is set for each job, as on a cluster, `--set-resources RULE:mem_mb=...` with "
            "more than it has now raises it for one rule."
        )
        said = (
            f"the memory of the {where} {SHORT} ({reason}): see with `{tool}` what else holds it, "
            f"or run fewer jobs at once (`--cores`).{more if where == 'machine' else ''} What is finished "
            "stays; run the same command again."
        )
    logging.getLogger("percept").critical("%s", said, exc_info=(kind, error, trace))
