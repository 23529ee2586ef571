"""A damaged file is refused by name, or read as if it were whole: never another number, never a traceback.

Every reader is given some forty mutants of a small whole file (`mutants`), the same ones in every run. Each
must end in a PerceptError (or ConfigError) that names the file, or give what the whole file gives, exactly.
Formats in which nothing tells a right byte from a wrong one are the table `readers.UNSEEN`: there, such bytes
may be taken, and still without a traceback.
"""

import logging
import os
import warnings
from itertools import count

import pytest

from percept.config import ConfigError
from percept.files import PerceptError
from tests.faults.mutants import mutants, plain
from tests.faults.readers import READERS, UNSEEN

AT_LEAST = 500
CLOCK = count(1_700_000_000)  # every version of a file has a time of its own, which caches go by
seen: dict[str, dict[str, int]] = {}


@pytest.fixture(scope="module", autouse=True)
def _counted():
    yield
    n = {key: sum(one[key] for one in seen.values()) for key in ("mutants", "refused", "whole", "unseen")}
    print(f"\n{n['mutants']} mutants of {len(seen)} readers: {n['refused']} refused by name, {n['whole']} "
          f"read as if whole, {n['unseen']} of formats without a checksum not told from others")  # fmt: skip
    if len(seen) == len(READERS):
        assert n["mutants"] >= AT_LEAST


@pytest.fixture(autouse=True)
def _quiet(tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(tmp_path))
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what numpy, nibabel and pandas think of such files
        yield
    logging.disable(logging.NOTSET)


def put(path, data):
    """Another file under the name: what was mapped from the old one stays."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    now = next(CLOCK)
    os.utime(path, (now, now))


def outcome(reader, path, expected):
    """(what became of it, in words for the report); anything but the errors for users goes through."""
    try:
        found = plain(reader.read(path))
    except (PerceptError, ConfigError) as error:
        named = (reader.named or path.name) in str(error)
        return ("refused", "") if named else ("nameless", str(error))
    except BaseException as error:  # noqa: BLE001 (to go on with the other mutants, and tell of all)
        return "bare", f"{type(error).__name__}: {error}"
    return ("whole", "") if found == expected else ("accepted", "")


@pytest.mark.parametrize("name", READERS)
def test_no_mutant_is_taken_for_the_file(name, tmp_path):
    reader = READERS[name]
    path = reader.make(tmp_path)
    whole = path.read_bytes()
    expected = plain(reader.read(path))
    tally = seen.setdefault(name, dict.fromkeys(("mutants", "refused", "whole", "unseen"), 0))
    wrong = []
    for mutant in mutants(whole, name, path.suffix):
        put(path, mutant.data)
        what, said = outcome(reader, path, expected)
        if what == "accepted" and mutant.kind in UNSEEN[reader.format]:
            what = "unseen"
        tally["mutants"] += 1
        if what in tally:
            tally[what] += 1
        else:
            wrong.append(f"{what}: {mutant} {said[:300]}")
    put(path, whole)
    assert plain(reader.read(path)) == expected  # nothing of a mutant was kept
    assert wrong == [], "\n".join(wrong)
