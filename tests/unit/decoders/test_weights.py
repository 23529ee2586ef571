"""What is streamed is what safetensors' own reader and writer know."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from percept.decoders import weights


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_blocks_are_read_back_by_safetensors(tmp_path, dtype):
    values = np.random.default_rng(0).standard_normal((7, 5)).astype(dtype)
    path = tmp_path / "weights.safetensors"
    with weights.create(
        path, {"weights": ((7, 5), dtype), "empty": ((0,), dtype)}, {"subject": "subj01"}
    ) as made:
        made["weights"][:3], made["weights"][3:] = values[:3], values[3:]
    read = load_file(path)
    np.testing.assert_array_equal(read["weights"], values)
    assert read["weights"].dtype == dtype and read["empty"].shape == (0,)
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
        assert len(metadata.pop("crc32")) == 8 and metadata == {"subject": "subj01"}
        np.testing.assert_array_equal(file.get_slice("weights")[2:4], values[2:4])


def test_the_same_tensors_written_by_safetensors_are_equal(tmp_path):
    values = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.ones(3, dtype=np.float32)}
    save_file(values, tmp_path / "peer.safetensors")
    shapes = {name: (value.shape, str(value.dtype)) for name, value in values.items()}
    with weights.create(tmp_path / "ours.safetensors", shapes, {}) as made:
        for name, value in values.items():
            made[name][:] = value
    ours, peer = load_file(tmp_path / "ours.safetensors"), load_file(tmp_path / "peer.safetensors")
    assert ours.keys() == peer.keys()
    for name in peer:
        np.testing.assert_array_equal(ours[name], peer[name])


def test_a_failed_training_leaves_no_weights(tmp_path):
    with (
        pytest.raises(RuntimeError, match="killed"),
        weights.create(tmp_path / "weights.safetensors", {"a": ((3,), "float32")}, {}),
    ):
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []
