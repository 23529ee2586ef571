"""Faults in every Python process whose PYTHONPATH has a copy of this: at renames, and of memory.

FAULT is `killed` (the process dies between writing and renaming) or `late` (the new name is seen some seconds
after the writer has ended, as on a network file system whose attributes are cached); FAULT_FILE is the end of
the path. Or it is `memory`: a job that has imported what it needs may have FAULT_MB more; FAULT_FILE is the
end of its log. FAULT_LEFT is a file with as many characters as times are left.
"""

import logging
import os
import resource
import signal
import subprocess
from pathlib import Path

_replace = Path.replace
LATE_S = 4


def _left() -> bool:
    counter = Path(os.environ["FAULT_LEFT"])
    left = counter.read_text()
    counter.write_text(left[1:])
    return bool(left)


def _faulty(self: Path, target: Path) -> Path:
    if not str(target).endswith(os.environ["FAULT_FILE"]) or not _left():
        return _replace(self, target)
    if os.environ["FAULT"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    aside = Path(f"{target}.aside")
    _replace(self, aside)
    command = ["sh", "-c", 'sleep "$0"; mv "$1" "$2"', str(LATE_S), str(aside), str(target)]
    subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target


class _Limited(logging.FileHandler):
    """The log of a job, which is opened when its modules are imported and nothing is read yet."""

    def __init__(self, filename: str, mode: str = "a") -> None:
        super().__init__(filename, mode)
        if str(filename).endswith(os.environ["FAULT_FILE"]) and _left():
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + int(float(os.environ["FAULT_MB"]) * 2**20)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if os.environ.get("FAULT") == "memory":
    logging.FileHandler = _Limited
elif "FAULT_FILE" in os.environ:
    Path.replace = _faulty
