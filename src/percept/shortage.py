"""Memory that did not suffice, told apart from files that are damaged.

Libraries say it in many ways, some of which look like a damaged file; and a damaged file may say that it
holds any amount of numbers, so that memory for them is refused. What is called damaged is made anew, or moved
aside: with whole files that must not happen because a job was given too little.
"""

import errno
import mmap
import sys
from collections.abc import Iterator

SAID = (  # by Arrow, HDF5, torch, C++, Python and the loader of shared libraries
    "malloc of size", "Failed to launch worker thread", "memory allocation failed", "DefaultCPUAllocator",
    "bad_alloc", "can't start new thread", "Cannot allocate memory", "failed to map segment",
    "Unable to allocate",
)  # fmt: skip
SPARE = 2**30  # bytes; where as much as that can still be had, it is the file that asks for too much


def told(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that memory was refused."""
    return any(_says(one) for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says(error: BaseException) -> bool:
    refused = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return refused or any(words in str(error) for words in SAID)


def real(error: BaseException) -> bool:
    """Whether memory was refused because there is none, and not because a damaged file asks for too much."""
    return told(error) and not _is_there(SPARE)


def _is_there(n_bytes: int) -> bool:
    try:
        mmap.mmap(-1, n_bytes).close()  # not a page of it is touched
    except (OSError, MemoryError):
        return False
    return True


def damage(*errors: type[BaseException]) -> tuple[type[BaseException], ...]:
    """These errors, for `except`, which asks once one is there; none of them if it was memory that lacked."""
    error = sys.exception()
    return () if error is not None and real(error) else errors
