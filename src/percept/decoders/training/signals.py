"""Signals that end a training: noted while it runs, obeyed once its state is saved."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

NOTED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@contextmanager
def noted() -> Iterator[list[int]]:
    """Signals that arrived so far; they have no other effect while the block runs.

    They are passed on to the processes that this one has started. Only the main thread may listen; in another
    one nothing is noted, and signals do what they always do.
    """
    arrived: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield arrived
        return

    def note(number: int, frame: FrameType | None) -> None:
        arrived.append(number)
        for process in multiprocessing.active_children():
            with suppress(ProcessLookupError):  # it has ended since
                os.kill(process.pid, number)

    before = {number: signal.signal(number, note) for number in NOTED}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def obey(arrived: list[int]) -> None:
    """Let the first signal do what it would have done; nothing where none arrived.

    Raises
    ------
    SystemExit : the signal left this process alive
    """
    if arrived:
        os.kill(os.getpid(), arrived[0])
        raise SystemExit(128 + arrived[0])
