"""What one scoring leaves is used by the next, unless anything that it depends on changed."""

import os

import pandas as pd
import pytest

from percept.evaluation.resume import Kept, identity
from percept.evaluation.run import Scored

SCORED = Scored(*(pd.DataFrame({name: [1.5, 2.5]}) for name in Scored._fields))


class Counted:
    """A scoring that counts how often it is asked."""

    def __init__(self):
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return SCORED


@pytest.fixture
def scoring():
    return Counted()


def test_what_was_scored_is_not_scored_again(tmp_path, scoring):
    for _ in range(2):
        found = Kept(tmp_path / "kept", "same").score(scoring)
        for one, expected in zip(found, SCORED, strict=True):
            pd.testing.assert_frame_equal(one, expected)
    assert scoring.asked == 1


def test_what_was_scored_of_something_else_is_void(tmp_path, scoring):
    Kept(tmp_path / "kept", "before").score(scoring)
    Kept(tmp_path / "kept", "now").score(scoring)
    assert scoring.asked == 2


@pytest.mark.parametrize("damage", ["{", ""])
def test_a_damaged_record_counts_as_none(tmp_path, scoring, damage):
    Kept(tmp_path / "kept", "same").score(scoring)
    (tmp_path / "kept/done.json").write_text(damage)
    Kept(tmp_path / "kept", "same").score(scoring)
    assert scoring.asked == 2


def test_a_scoring_that_failed_leaves_nothing_that_counts(tmp_path, scoring):
    def failing():
        raise RuntimeError("killed")

    Kept(tmp_path / "kept", "before").score(scoring)
    with pytest.raises(RuntimeError):
        Kept(tmp_path / "kept", "now").score(failing)
    assert not (tmp_path / "kept/done.json").exists()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PAR1")])
def test_what_cannot_be_read_is_scored_again_and_kept(tmp_path, scoring, damage):
    kept = Kept(tmp_path / "kept", "same")
    kept.score(scoring)
    damage(tmp_path / "kept/items.parquet")
    for _ in range(2):
        pd.testing.assert_frame_equal(kept.score(scoring).items, SCORED.items)
    assert scoring.asked == 2


def test_the_identity_names_settings_and_files(tmp_path):
    path = tmp_path / "predictions.h5"
    path.write_bytes(b"abc")
    first = identity({"pools": [50]}, [path])
    assert identity({"pools": [50]}, [str(path)]) == first != identity({"pools": [51]}, [path])
    os.utime(path, ns=(0, 1))
    touched = identity({"pools": [50]}, [path])
    path.write_bytes(b"abcd")
    os.utime(path, ns=(0, 1))
    assert len({first, touched, identity({"pools": [50]}, [path])}) == 3
