"""Memory that did not suffice, told apart from files that are damaged.

Libraries say it in many ways, some of which look like a damaged file; and a damaged file may say that it
holds any amount of numbers, so that memory for them is refused. What is called damaged is made anew, or moved
aside: with whole files that must not happen because a job was given too little.
"""

import errno
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

SAID = (  # by Arrow, HDF5, torch, C++, Python and the loader of shared libraries
    "malloc of size", "Failed to launch worker thread", "memory allocation failed", "DefaultCPUAllocator",
    "bad_alloc", "can't start new thread", "Cannot allocate memory", "failed to map segment",
    "Unable to allocate",
)  # fmt: skip
THREADS = ("can't start new thread", "Failed to launch worker thread")  # no file asks for those
MAYBE = ("filter returned failure",)  # by HDF5, of a block that is damaged, or for which there is no memory
SPARE = 2**30  # bytes; where as much as that can still be had, and
TIMES = 8  # as much as that many files take, it is the file that asks for too much


def told(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that memory was refused."""
    return any(_says(one, SAID) for one in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says(error: BaseException, said: tuple[str, ...]) -> bool:
    refused = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    return refused or any(words in str(error) for words in said)


def real(error: BaseException, n_bytes: float = 0) -> bool:
    """Whether memory was refused because there is none, and not because a damaged file asks for too much.

    Parameters
    ----------
    n_bytes : of the file that was read; inflated, or as other numbers, it takes several times as much
    """
    if any(words in str(one) for one in _chain(error) for words in THREADS):
        return True
    if told(error):
        return not _is_there(max(SPARE, int(TIMES * n_bytes)))
    may_be = any(_says(one, MAYBE) for one in _chain(error))
    return may_be and not _is_there(SPARE)


def _is_there(n_bytes: int) -> bool:
    try:
        mmap.mmap(-1, n_bytes).close()  # not a page of it is touched
    except (OSError, MemoryError, OverflowError):
        return False
    return True


def damage(path: str | Path, *errors: type[BaseException]) -> tuple[type[BaseException], ...]:
    """These errors, for `except`, which asks once one is there; none of them if it was memory that lacked.

    Parameters
    ----------
    path : the file that was read
    """
    error = sys.exception()
    return () if error is not None and lacked(error, path) else errors


def lacked(error: BaseException, path: str | Path) -> bool:
    """Whether reading a file failed because there is no memory for what it holds."""
    try:
        n_bytes = os.path.getsize(path)
    except OSError:
        n_bytes = 0
    return real(error, n_bytes)
