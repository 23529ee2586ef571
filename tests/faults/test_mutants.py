"""A damaged file is refused by name, or read as if it were whole: never another number, never a traceback.

Every reader is given some forty mutants of a small whole file (`mutants`), the same ones in every run. Each
must end in a PerceptError (or ConfigError) that names the file, or give what the whole file gives, exactly.
Formats in which nothing tells a right byte from a wrong one are the table `readers.UNSEEN`: there, such bytes
may be taken, as many times as `unseen.py` says of the reader, and still without a traceback.
"""

import json
import logging
import os
import re
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from itertools import count
from pathlib import Path

import pytest

from percept.config import ConfigError
from percept.files import PerceptError
from tests.faults.mutants import mutants, plain
from tests.faults.readers import READERS, UNSEEN
from tests.faults.unseen import COUNTS, Counts

REPOSITORY = Path(__file__).parents[2]
CLOCK = count(1_700_000_000)  # every version of a file has a time of its own, which caches go by
seen: dict[str, Counts] = {}


@pytest.fixture(scope="module", autouse=True)
def _counted():
    yield
    if seen:
        told = "{mutants} mutants of {readers} readers: {refused} refused by name, {whole} read as if whole, "
        told += "{unseen} of formats without a checksum not told from others"
        print("\n" + told.format(**total(seen)))


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


def total(counts):
    """What the README says of all readers together."""
    n = {
        "readers": len(counts),
        "mutants": sum(one.mutants for one in counts.values()),
        "whole": sum(one.whole for one in counts.values()),
        "unseen": sum(sum(one.unseen.values()) for one in counts.values()),
    }
    return n | {"refused": n["mutants"] - n["whole"] - n["unseen"]}


def as_line(name, counts):
    """The line of `unseen.py` that says so."""
    unseen = "".join(f", {kind}={n}" for kind, n in counts.unseen.items())
    return f'"{name}": counts({counts.mutants}, {counts.whole}{unseen}),'


def differences(name, found, listed):
    """What to do about each number that is not the listed one; empty where all are."""
    said = []
    for kind in found.unseen.keys() | listed.unseen.keys():
        now, before = found.unseen.get(kind, 0), listed.unseen.get(kind, 0)
        if now > before:
            said.append(f"{now} {kind} mutants are read as another file, not {before}: a check is gone")
        if now < before:
            said.append(f"{now} {kind} mutants are read as another file, not {before}: lower the number")
    if found.mutants != listed.mutants:
        said.append(f"{found.mutants} mutants, not {listed.mutants}: the file or its damage is another")
    if found.whole != listed.whole:
        said.append(f"{found.whole} mutants are read exactly as the whole file, not {listed.whole}")
    return [*sorted(said), f"tests/faults/unseen.py would say: {as_line(name, found)}"] if said else []


@pytest.mark.parametrize("name", READERS)
def test_no_mutant_is_taken_for_the_file(name, tmp_path):
    reader = READERS[name]
    path = reader.make(tmp_path)
    whole = path.read_bytes()
    expected = plain(reader.read(path))
    tally, unseen, wrong = Counter(), Counter(), []
    for mutant in mutants(whole, name, path.suffix):
        put(path, mutant.data)
        what, said = outcome(reader, path, expected)
        if what == "accepted" and mutant.kind in UNSEEN[reader.format]:
            unseen[mutant.kind] += 1
        elif what not in ("refused", "whole"):
            wrong.append(f"{what}: {mutant} {said[:300]}")
        tally.update((what, "mutants"))
    put(path, whole)
    assert plain(reader.read(path)) == expected  # nothing of a mutant was kept
    seen[name] = Counts(tally["mutants"], tally["whole"], dict(unseen))
    told = wrong or differences(name, seen[name], COUNTS.get(name, Counts(0, 0, {})))
    assert told == [], "\n".join([f"{name}:", *told])


def test_every_number_belongs_to_a_reader():
    assert list(COUNTS) == list(READERS)


# The numbers mean something only where the damage is the same in every process.


def digests(root, names):
    """CRC-32 of all mutants of each file."""
    made = {}
    for at, name in enumerate(names):
        (root / str(at)).mkdir(parents=True)
        path = READERS[name].make(root / str(at))
        told = [repr(mutant).encode() for mutant in mutants(path.read_bytes(), name, path.suffix)]
        made[name] = zlib.crc32(b"".join(told))
    return made


def tell_digests(root):
    """What another process does: the files in the opposite order."""
    print(json.dumps(digests(Path(root), list(READERS)[::-1])))


def test_another_process_makes_the_same_mutants(tmp_path):
    here = digests(tmp_path / "here", READERS)  # seconds earlier: some formats keep the time
    code = f"from tests.faults import test_mutants as here; here.tell_digests({str(tmp_path / 'there')!r})"
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there = json.loads(done.stdout.splitlines()[-1])
    assert [name for name in READERS if there[name] != here[name]] == []


SAID = {
    "README.md": r"of (?P<mutants>[\d,]+) damaged copies of the files that (?P<readers>\d+) readers read, "
    r"(?P<refused>[\d,]+) are refused, (?P<whole>[\d,]+) read exactly as the whole file, and "
    r"(?P<unseen>[\d,]+) are of formats",
    "docs/faults.md": r"Over (?P<readers>\d+) files these are (?P<mutants>[\d,]+), the same ones",
}


@pytest.mark.parametrize("page", SAID)
def test_the_totals_that_are_printed_are_those_of_the_table(page):
    text = " ".join((REPOSITORY / page).read_text(encoding="utf-8").split())
    found = re.search(SAID[page], text)
    assert found, f"{page} says it in other words"
    said = {key: int(number.replace(",", "")) for key, number in found.groupdict().items()}
    assert said == {key: n for key, n in total(COUNTS).items() if key in said}
