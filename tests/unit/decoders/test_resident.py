"""Trials grouped by image, and features that keep the precision of their file."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from percept.decoders.task import Task
from percept.decoders.training import resident
from percept.targets import store

SHAPE = (3, 5)
IDS = np.arange(100, 111)


@pytest.fixture(scope="module", params=["float32", "float16", "bfloat16"])
def features(request, tmp_path_factory):
    """(stored features, what was written): 11 images of 3 tokens of 5 numbers."""
    values = np.random.default_rng(0).standard_normal((len(IDS), *SHAPE)).astype(np.float32)
    path = tmp_path_factory.mktemp("features") / "index.json"
    store.write(path, values, IDS, {"kind": "made up"}, "tokens", request.param)
    return store.Features(path), values


def task_of(features, stimulus, **more):
    X = np.random.default_rng(1).standard_normal((len(stimulus), 7)).astype(np.float32)
    return Task(X=X, stimulus=np.asarray(stimulus), groups=np.asarray(stimulus), targets=features, **more)


@given(stimulus=st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_the_table_holds_each_trial_once_with_its_image_in_order(stimulus):
    images, trials, n_trials = resident.by_image(np.array(stimulus))
    assert trials.shape == (len(set(stimulus)), max(map(stimulus.count, stimulus)))
    for image, rows, n in zip(images, trials, n_trials, strict=True):
        np.testing.assert_array_equal(rows[:n], np.flatnonzero(np.array(stimulus) == image))
        assert (rows[n:] == -1).all()
    np.testing.assert_array_equal(images, sorted(set(stimulus)))


def test_images_meet_their_own_responses_and_features(features):
    stored, values = features
    task = task_of(stored, [104, 100, 104, 107, 104, 100])
    data = resident.training(task)
    assert data.n_rows == 3
    assert data.tensors["trials"].tolist() == [[1, 5, -1], [0, 2, 4], [3, -1, -1]]
    assert data.tensors["n_trials"].tolist() == [2, 3, 1]
    np.testing.assert_array_equal(data.tensors["voxels"].numpy(), task.X)
    np.testing.assert_allclose(data.tensors["target"].float().numpy(), values[[0, 4, 7]], rtol=1e-2)


def test_responses_are_not_copied(features):
    task = task_of(features[0], [101, 102])
    assert np.shares_memory(resident.training(task).tensors["voxels"].numpy(), task.X)


def test_features_keep_their_precision_and_every_bit_of_it(features):
    stored, _ = features
    found = resident.resident(stored, IDS[[3, 1]])
    assert found.dtype == getattr(torch, stored.precision) and found.shape == (2, *SHAPE)
    np.testing.assert_array_equal(found.float().reshape(2, -1).numpy(), stored.read(IDS[[3, 1]]))


@pytest.mark.parametrize("at_once", [1, 15, 31, 10_000])
def test_reading_in_pieces_changes_nothing(features, at_once):
    whole = resident.resident(features[0], IDS)
    assert torch.equal(resident.resident(features[0], IDS, at_once), whole)


def test_no_more_is_read_at_once_than_asked():
    sizes = []

    def read(stimuli, columns):
        sizes.append(len(stimuli) * (columns.stop - columns.start))
        return np.zeros((len(stimuli), columns.stop), np.float32)

    targets = SimpleNamespace(shape=SHAPE, n_dims=15, read=read)  # a target without a stored precision
    assert resident.resident(targets, IDS, 47).dtype == torch.float32
    assert max(sizes) == 45 and sum(sizes) == 15 * len(IDS)


def test_further_targets_are_read_for_the_same_images(features):
    stored, values = features
    data = resident.training(task_of(stored, [109, 103, 109]), {"teacher": stored, "teacher_view": stored})
    assert {"voxels", "trials", "n_trials", "target", "teacher", "teacher_view"} == set(data.tensors)
    np.testing.assert_allclose(data.tensors["teacher_view"].float().numpy(), values[[3, 9]], rtol=1e-2)


def test_validation_images_have_one_averaged_response_each(features):
    stored, values = features
    held_out = np.random.default_rng(2).standard_normal((3, 7)).astype(np.float32)
    shown = np.array([108, 101, 105], np.int32)
    task = task_of(stored, [100], evaluate={"validation": held_out}, shown={"validation": shown})
    data = resident.validation(task)
    assert data.n_rows == 3 and data.tensors["n_trials"].tolist() == [1, 1, 1]
    np.testing.assert_array_equal(data.tensors["voxels"][data.tensors["trials"][:, 0]].numpy(), held_out)
    np.testing.assert_allclose(data.tensors["target"].float().numpy(), values[[8, 1, 5]], rtol=1e-2)


def test_without_validation_images_there_is_no_validation_data(features):
    assert (
        resident.validation(task_of(features[0], [100], evaluate={"test/average": np.zeros((1, 7))})) is None
    )
