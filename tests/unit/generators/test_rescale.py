"""Rescaled predictions have mean and spread of the targets, and no test image enters unless asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.decoders.predictions import Predictions, write_predictions
from percept.files import PerceptError, open_hdf5
from percept.generators import rescale
from percept.targets import store

N_TRAIN, N_TEST, DIMS = 40, 9, 7
RNG = np.random.default_rng(0)
TARGETS = (RNG.standard_normal((N_TRAIN + N_TEST, DIMS)) * np.arange(1, 8) + 5).astype(np.float32)
NOISE = RNG.standard_normal(TARGETS.shape).astype(np.float32)
SHRUNKEN = (0.2 * (TARGETS - 5) + 0.1 * NOISE + 2).astype(np.float32)  # what ridge does, and an offset


def predictions(rows, fold=-1):
    rows = np.asarray(rows)
    fold = np.broadcast_to(fold, rows.shape)
    return Predictions(
        SHRUNKEN[rows], rows.astype(np.int32), np.ones(len(rows)), np.full(len(rows), -1), fold
    )


@pytest.fixture
def decoder(tmp_path):
    """Files of a decoder: its predictions, and the index of its target."""
    test = predictions(range(N_TRAIN, N_TRAIN + N_TEST))
    write_predictions(
        tmp_path / "predictions.h5", {"train": predictions(range(N_TRAIN)), "test/average": test}, {}
    )
    store.write(tmp_path / "index.json", TARGETS, np.arange(len(TARGETS)), {"kind": "test"})
    return tmp_path / "predictions.h5", test, tmp_path / "index.json"


def apply(decoder, how):
    path, test, index = decoder
    with store.open_features(index) as features:
        return rescale.apply(path, test, features, how)


def by_hand(predicted, before, after):
    return (predicted - before.mean(axis=0)) / before.std(axis=0) * after.std(axis=0) + after.mean(axis=0)


def test_cross_validated_statistics_come_from_training_predictions_and_targets(decoder):
    expected = by_hand(SHRUNKEN[N_TRAIN:], SHRUNKEN[:N_TRAIN], TARGETS[:N_TRAIN])
    np.testing.assert_allclose(apply(decoder, "cross_validated"), expected, rtol=1e-5, atol=1e-5)


def test_the_transductive_variant_gives_the_test_set_exactly_the_statistics_of_training(decoder):
    found = apply(decoder, "transductive")
    np.testing.assert_allclose(found.mean(axis=0), TARGETS[:N_TRAIN].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found.std(axis=0), TARGETS[:N_TRAIN].std(axis=0), rtol=1e-5)


@pytest.mark.parametrize(("how", "same"), [("cross_validated", True), ("transductive", False)])
def test_an_image_depends_on_other_test_images_only_where_that_is_said(decoder, how, same):
    path, test, index = decoder
    alone = Predictions(
        test.predicted[:5], test.stimulus[:5], test.n_repeats[:5], test.run[:5], test.fold[:5]
    )
    assert np.allclose(apply((path, alone, index), how), apply(decoder, how)[:5]) is same


def test_nothing_is_changed_unless_asked_for(decoder):
    np.testing.assert_array_equal(apply(decoder, None), SHRUNKEN[N_TRAIN:])


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("how", ["cross_validated", "transductive"])
def test_blocks_of_rows_give_what_the_whole_gives(decoder, how, rows, monkeypatch):
    whole = apply(decoder, how)
    monkeypatch.setattr(rescale, "BLOCK", 8 * DIMS * rows)
    np.testing.assert_allclose(apply(decoder, how), whole, rtol=1e-6)


@given(cuts=st.lists(st.integers(0, N_TRAIN), max_size=4).map(sorted), offset=st.sampled_from([0, 1e3, -1e5]))
def test_mean_and_sd_of_pieces_are_those_of_the_whole(cuts, offset):
    values = TARGETS[:N_TRAIN].astype(np.float64) + offset
    found = rescale.spread(piece for piece in np.split(values, cuts) if len(piece))
    np.testing.assert_allclose(found.mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.sd, values.std(axis=0), rtol=1e-9)


def test_every_row_of_a_fold_is_read_once_and_whole(tmp_path, monkeypatch):
    fold = np.repeat([0, 1], [11, 9])
    write_predictions(tmp_path / "predictions.h5", {"train": predictions(range(20), fold)}, {})
    monkeypatch.setattr(rescale, "BLOCK", 8 * DIMS * 4)
    with open_hdf5(tmp_path / "predictions.h5") as file:
        data = Watched(file["train/predicted"])
        read = list(rescale._rows(data, fold == 1))
    np.testing.assert_array_equal(np.concatenate(read), SHRUNKEN[11:20])
    assert data.asked == [slice(8, 12), slice(12, 16), slice(16, 20)]


class Watched:
    """A dataset that notes what is read of it."""

    def __init__(self, data):
        self.data, self.shape, self.asked = data, data.shape, []

    def __getitem__(self, asked):
        self.asked.append(asked)
        return self.data[asked]


def test_where_runs_are_left_out_each_fold_is_rescaled_by_itself(tmp_path):
    first, second = np.arange(15), np.arange(20, 35)
    train = [predictions(first, 0), predictions(second, 1)]
    joined = Predictions(
        *(np.concatenate(parts) for parts in zip(*(vars(p).values() for p in train), strict=True))
    )
    test = predictions([40, 41, 42, 43], fold=np.array([1, 0, 0, 1]))
    write_predictions(tmp_path / "predictions.h5", {"train": joined, "test/average": test}, {})
    store.write(tmp_path / "index.json", TARGETS, np.arange(len(TARGETS)), {})
    found = apply((tmp_path / "predictions.h5", test, tmp_path / "index.json"), "cross_validated")
    for row, fitted in enumerate((second, first, first, second)):
        expected = by_hand(SHRUNKEN[40 + row], SHRUNKEN[fitted], TARGETS[fitted])
        np.testing.assert_allclose(found[row], expected, rtol=1e-5, atol=1e-5)


@given(value=st.floats(-1e4, 1e4, width=32), scale=st.floats(0.1, 10))
def test_a_dimension_that_is_always_predicted_alike_becomes_the_mean_of_the_targets(value, scale):
    constant = np.full((6, 1), value, dtype=np.float32)
    targets = scale * np.random.default_rng(0).standard_normal((20, 1))
    found = rescale.rescale(constant + 1, rescale.spread([constant]), rescale.spread([targets]))
    np.testing.assert_allclose(found, np.float32(targets.mean()), rtol=1e-5)


def test_rounding_is_not_spread():
    jitter = 1000 + 1e-4 * np.random.default_rng(0).standard_normal((50, 1))  # below float32's resolution
    assert rescale.spread([jitter]).sd == 0
    assert rescale.spread([jitter - 1000]).sd > 0


def test_a_constant_target_stays_constant():
    found = rescale.rescale(
        SHRUNKEN, *(rescale.spread([each]) for each in (SHRUNKEN, np.full((5, DIMS), 3.0)))
    )
    np.testing.assert_array_equal(found, 3)


@pytest.mark.parametrize("n_dims", [1, 197_376, 10**9])
def test_blocks_cover_all_rows_once(n_dims):
    covered = [row for part in rescale.blocks(900, n_dims) for row in range(part.start, part.stop)]
    assert covered == list(range(900))


def test_a_decoder_without_training_predictions_is_refused(tmp_path, decoder):
    _, test, index = decoder
    path = tmp_path / "other.h5"
    write_predictions(path, {"test/average": test}, {})
    with pytest.raises(PerceptError, match=r"no predictions of training images.*remove the role"):
        apply((path, test, index), "cross_validated")
