"""Signals are noted, and passed on to the processes that were started."""

import multiprocessing
import signal
from types import SimpleNamespace

from percept.decoders.training import signals


def test_a_signal_reaches_the_processes_that_still_run(monkeypatch):
    """One may end between the moment it is listed and the moment it is sent the signal."""
    context = multiprocessing.get_context("fork")
    ended, running = context.Process(target=int), context.Process(target=signal.pause)
    ended.start()
    ended.join()
    running.start()
    listed = [SimpleNamespace(pid=ended.pid), running]
    monkeypatch.setattr(multiprocessing, "active_children", lambda: listed)
    with signals.noted() as arrived:
        signal.raise_signal(signal.SIGUSR1)
    running.join(10)
    assert arrived == [signal.SIGUSR1] and running.exitcode == -signal.SIGUSR1
