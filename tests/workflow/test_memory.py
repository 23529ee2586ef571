"""What jobs ask for that read large files: it grows with what they hold at a time, not with all they read."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from percept.preflight import memory

from .conftest import REPOSITORY

BETAS, SMALL, LARGE = 2_000_000_000, 1_000_000_000, 6_000_000_000  # bytes


@pytest.fixture
def given(tmp_path):
    """Inputs of a job: files that are long and hold nothing."""
    sizes = {"betas.h5": BETAS, "first.h5": SMALL, "second.h5": LARGE, "third.h5": SMALL}
    for name, size in sizes.items():
        (tmp_path / name).touch()
        os.truncate(tmp_path / name, size)
    betas, *predictions = (str(tmp_path / name) for name in sizes)
    return SimpleNamespace(betas=betas, predictions=predictions)


def asked(rule):
    """The function behind the memory of a rule, as the workflow defines it."""
    rules = (REPOSITORY / "rules/evaluation.smk").read_text()
    name = re.search(rf"^rule {rule}:.*?mem_mb=(\w+),", rules, re.DOTALL | re.MULTILINE)[1]
    common = (REPOSITORY / "rules/common.smk").read_text()
    found = re.findall(r"^def \w+_mb\(.*?(?=^\S)", common, re.DOTALL | re.MULTILINE)
    names = {"Path": Path, "memory": memory}
    exec("\n".join(found), names)
    return names[name]


@pytest.mark.parametrize(
    ("rule", "mb"),
    [
        ("score_decoders", 18_000),  # 3 bytes per byte of the largest file of predictions
        ("audit_subject", 16_000 + 18_000),  # and the voxels as float32 a few times over
        ("measure_noise_ceiling", 16_000),
    ],
)
def test_memory_is_that_of_one_run_at_a_time(given, rule, mb):
    assert asked(rule)(None, given, attempt=1) == mb
    assert asked(rule)(None, given, attempt=2) == 2 * mb
    given.predictions *= 10
    assert asked(rule)(None, given, attempt=1) == mb


def test_files_that_are_not_there_are_not_guessed(given):
    Path(given.betas).unlink()
    with pytest.raises(FileNotFoundError):  # for which Snakemake waits, and asks again
        asked("audit_subject")(None, given, attempt=1)
