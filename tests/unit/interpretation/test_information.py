"""Solo, unique and zeroed: the demonstration of redundancy, from three known regions."""

import numpy as np
import pytest

from percept.decoders.ridge import RidgeConfig
from percept.files import PerceptError
from percept.interpretation import information
from percept.interpretation.groups import Group
from percept.interpretation.information import Samples, triples
from percept.interpretation.replacement import ConditionalMean

REGIONS = [
    Group("roi", name, np.arange(4 * at, 4 * at + 4)) for at, name in enumerate(("one", "two", "noise"))
]


@pytest.fixture(scope="module")
def samples():
    """Two regions with the same signal, each with noise of its own, and one region of noise."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=(900, 2))
    parts = [signal @ rng.normal(size=(2, 4)) + 0.6 * rng.normal(size=(900, 4)) for _ in range(2)]
    X = np.concatenate([*parts, rng.normal(size=(900, 4))], axis=1).astype(np.float32)
    Y = signal.astype(np.float32)
    return Samples(X[:600], X[600:], Y[:600], Y[600:], np.arange(600))


@pytest.fixture(scope="module")
def found(samples):
    cfg = RidgeConfig(target="truth", alphas=(1, 10, 100))
    return {effect.group.name: effect.whole for effect in triples(cfg, samples, REGIONS, 0)}


def test_the_same_signal_twice_is_much_alone_little_uniquely_and_more_by_zeroing(found):
    for name in ("one", "two"):
        solo, unique, zeroed = found[name]
        assert solo > 0.8 and 0 < unique < 0.15 and zeroed > 2 * unique


def test_noise_is_nothing_by_any_measure(found):
    np.testing.assert_allclose(found["noise"], 0, atol=0.01)


def test_replacing_by_the_conditional_mean_is_unique_variance_without_training_again(samples, found):
    """Reference E.3: for a linear decoder the two agree."""
    cfg = RidgeConfig(target="truth", alphas=(1, 10, 100))
    full = information._fitted(cfg, samples, np.arange(12), 0)
    stand_in = ConditionalMean.of(samples.test, samples.train)
    for region in REGIONS:
        changed = samples.test.copy()
        changed[:, region.voxels] = stand_in.values(region.voxels, 0)
        lost = [information._shares(samples, full.predict(X)).mean() for X in (samples.test, changed)]
        assert lost[0] - lost[1] == pytest.approx(found[region.name][1], abs=0.01)


def test_the_mean_of_the_values_is_r2(samples):
    predicted = samples.true * 0.5
    gaps, about = samples.true - predicted, samples.true - samples.target.mean(axis=0)
    expected = 1 - np.square(gaps).sum() / np.square(about).sum()
    assert information._shares(samples, predicted).mean() == pytest.approx(expected, rel=1e-6)


def test_a_target_of_too_many_columns_is_refused(samples, monkeypatch):
    monkeypatch.setattr(information, "MOST_DIMS", 1)
    with pytest.raises(
        PerceptError, match=r"the target has 2 columns.*leave it out for targets of more than 1"
    ):
        list(triples(RidgeConfig(target="truth"), samples, REGIONS, 0))
