"""Faults in every Python process whose PYTHONPATH has a copy of this: renames cut off, or seen late.

FAULT is `killed` (the process dies between writing and renaming) or `late` (the new name is seen some seconds
after the writer has ended, as on a network file system whose attributes are cached); FAULT_FILE is the end of
the path, FAULT_LEFT a file with as many characters as times are left.
"""

import os
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


if "FAULT_FILE" in os.environ:
    Path.replace = _faulty
