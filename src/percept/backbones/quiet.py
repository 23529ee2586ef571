"""Libraries that fill log files with progress bars and false alarms, told not to."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_false_alarms() -> Iterator[None]:
    """Keep warnings of a library out of the log, where they are known to be wrong.

    Building a network before its weights are read makes open_clip warn of a network without weights.
    """
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def no_progress_bars() -> None:
    """Loading and sampling with diffusers and transformers draw nothing from now on, in this process."""
    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
