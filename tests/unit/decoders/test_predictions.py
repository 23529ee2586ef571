"""Predictions come back as written; what is absent is named."""

import numpy as np
import pytest

from percept.decoders.predict import Predictions, read_predictions, write_predictions
from percept.files import PerceptError

FOUND = Predictions(
    predicted=np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32),
    stimulus=np.array([5, 5, 8, 9], np.int32),
    n_repeats=np.array([1, 1, 2, 3], np.int16),
    run=np.array([3, 4, -1, -1], np.int16),
    fold=np.array([-1, -1, -1, -1], np.int16),
)


@pytest.fixture
def path(tmp_path):
    write_predictions(
        tmp_path / "predictions.h5", {"train": FOUND, "test/single": FOUND}, {"decoder": "ridge"}
    )
    return tmp_path / "predictions.h5"


@pytest.mark.parametrize("group", ["train", "test/single"])
def test_a_group_is_read_as_it_was_written(path, group):
    read = read_predictions(path, group)
    for name in ("predicted", "stimulus", "n_repeats", "run", "fold"):
        value = getattr(read, name)
        np.testing.assert_array_equal(value, getattr(FOUND, name))
        assert value.dtype == getattr(FOUND, name).dtype


@pytest.mark.parametrize("group", ["validation", "test/average", "test"])
def test_a_group_that_was_not_made_is_named_with_those_that_were(path, group):
    with pytest.raises(PerceptError, match=rf"no predictions of '{group}'; it has train, test/single"):
        read_predictions(path, group)
    assert read_predictions(path, group, missing_ok=True) is None


def test_a_damaged_file_is_named(path):
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PerceptError, match="truncated or damaged"):
        read_predictions(path, "train")


def test_an_absent_file_is_not_called_damaged(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_predictions(tmp_path / "predictions.h5", "train")
