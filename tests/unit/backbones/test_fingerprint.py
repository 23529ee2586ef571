"""What must, and what must not, tell two backbones apart."""

import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.backbones import fingerprint


def test_the_fixed_image_has_no_symmetry_that_hides_a_swapped_axis():
    image = fingerprint.probe_image()[0].astype(int)
    assert image.shape == (96, 128, 3) and image.dtype == int
    for changed in (image[::-1], image[:, ::-1], image[..., ::-1], image[:96, :96].transpose(1, 0, 2)):
        rows, columns = changed.shape[:2]
        assert np.abs(changed - image[:rows, :columns]).mean() > 10


@given(scale=st.floats(1e-3, 1e3), size=st.integers(2, 700))
def test_the_summary_does_not_depend_on_the_scale_of_the_features(scale, size):
    features = np.random.default_rng(size).standard_normal(size)
    np.testing.assert_allclose(
        fingerprint.summarise(features), fingerprint.summarise(scale * features), atol=2e-4
    )


def test_other_features_have_another_summary():
    one, other = np.random.default_rng(0).standard_normal((2, 512))
    assert np.abs(np.subtract(fingerprint.summarise(one), fingerprint.summarise(other))).max() > 0.5


ARRAYS = {"a": np.arange(6.0).reshape(2, 3), "b": np.ones(4, np.float32)}


@pytest.mark.parametrize(
    "changed",
    [
        {**ARRAYS, "b": np.ones(4, np.float64)},
        {**ARRAYS, "b": np.nextafter(np.ones(4, np.float32), 2)},
        {**ARRAYS, "a": ARRAYS["a"].reshape(3, 2)},
        {"a": ARRAYS["a"], "c": ARRAYS["b"]},
    ],
    ids=["type", "last bit", "shape", "name"],
)
def test_the_digest_sees_every_change_of_the_weights(changed):
    assert fingerprint.digest(changed) != fingerprint.digest(ARRAYS)


def test_the_digest_does_not_depend_on_the_order_of_the_tensors():
    assert fingerprint.digest(dict(reversed(ARRAYS.items()))) == fingerprint.digest(ARRAYS)


def test_weights_have_the_digest_of_all_of_them_in_single_precision():
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5)).half()
    whole = {name: value.float().numpy() for name, value in network.state_dict().items()}
    assert fingerprint.of_weights(network) == fingerprint.digest(whole)


def test_one_tensor_is_copied_at_a_time():
    alive, most = weakref.WeakSet(), []

    class Copy(np.ndarray):
        """An array that can be counted."""

    class Weights:
        def float(self):
            return self

        def numpy(self, *, force):
            made = np.ones(3, np.float32).view(Copy)
            alive.add(Reference(made))
            most.append(len(alive))
            return made

    class Reference:
        def __init__(self, array):
            array.kept = self  # lives as long as the array

    network = SimpleNamespace(state_dict=lambda: {f"{k}": Weights() for k in range(6)})
    fingerprint.of_weights(network)
    assert most == [1] * 6


OURS = {"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.1, 0.2]}}


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (OURS, []),
        ({"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.105, 0.195]}}, []),
        ({"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.2, 0.2]}}, ["backbone.probe"]),
        ({"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.1]}}, ["backbone.probe"]),
        ({"kind": "open_clip", "backbone": {"weights": "openai"}}, ["backbone.probe"]),
        ({"kind": "open_clip", "backbone": {**OURS["backbone"], "weights": "x"}}, ["backbone.weights"]),
        ({"kind": "pixels"}, ["backbone", "kind"]),
    ],
)
def test_differences_are_named_and_the_answer_to_the_image_may_differ_by_rounding(theirs, expected):
    assert fingerprint.differences(OURS, theirs) == expected
    assert fingerprint.differences(theirs, OURS) == expected
