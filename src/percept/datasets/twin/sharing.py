"""Work that is shared among processes, any of which may be killed at any moment."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

from percept.files import PerceptError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def shared(function: Callable[[Item], Answer], items: Sequence[Item], processes: int) -> Iterator[Answer]:
    """`function` of every item, in their order, by processes side by side.

    Each answers through a pipe of its own, whose end is seen when the process is gone. A pool has one for all
    of them: where one is killed in the middle of an answer, as by a full memory, the rest of it is waited for
    without end. And where this process is killed, the others end, because nobody reads any more.

    Raises
    ------
    PerceptError : a process ended before it had answered
    Exception : what `function` raised
    """
    context = multiprocessing.get_context("fork")
    readers, workers = [], []
    try:
        for number in range(processes):
            reader, writer = context.Pipe(duplex=False)
            readers.append(reader)
            given = (function, items[number::processes], writer, tuple(readers))
            workers.append(context.Process(target=_work, args=given, daemon=True))
            workers[-1].start()
            writer.close()  # the only copy of it is now in the process
        for at in range(len(items)):
            yield _answer(readers[at % processes])
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
        for reader in readers:
            reader.close()


def _work(
    function: Callable[[Item], Answer],
    items: Sequence[Item],
    writer: Connection,
    readers: Sequence[Connection],
) -> None:
    for reader in readers:
        reader.close()
    for item in items:
        try:
            answer = function(item), None
        except Exception as error:  # noqa: BLE001 (raised again where it is read)
            answer = None, error
        try:
            writer.send(answer)
        except BrokenPipeError:
            return


def _answer(reader: Connection) -> Answer:
    try:
        value, error = reader.recv()
    except (EOFError, OSError) as ended:
        raise PerceptError(
            "one of the processes that share the work of this job was killed before it was done, most often "
            "because the memory of the machine did not suffice: see with `free -h` what holds it. Nothing "
            "half-written stays; run the same command again."
        ) from ended
    if error is not None:
        raise error
    return value
