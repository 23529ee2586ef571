"""What identifies the features of a frozen network: its settings, its weights, its answer to one fixed
image.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

N_PROBES = 8  # numbers kept of the answer; the weights' digest already tells networks apart
DIGITS = 4
TOLERANCE = 0.02  # between devices: TF32 and bf16 move a unit-variance projection by some thousandths


def probe_image() -> NDArray[np.uint8]:
    """The fixed image, (1, 96, 128, 3) uint8: two ramps and a checkerboard, so that every axis matters."""
    row, column = np.mgrid[0:96, 0:128]
    board = 255 * ((row // 12 + column // 16) % 2)
    return np.stack([row * 2, column * 2 - column % 3, board], axis=-1).astype(np.uint8)[None]


def summarise(output: NDArray) -> list[float]:
    """Eight projections of a feature vector (any shape), scaled to unit variance over random vectors.

    They are compared with a tolerance, because a hash of rounded numbers flips wherever a value lies at the
    edge of its rounding interval: a GPU and a CPU would then disagree on the same network.
    """
    flat = np.asarray(output, dtype=np.float64).ravel()
    directions = np.random.default_rng(0).standard_normal((N_PROBES, flat.size))
    return np.round(directions @ flat / max(np.linalg.norm(flat), 1e-12), DIGITS).tolist()


def digest(tensors: Mapping[str, Any], n: int = 12) -> str:
    """First `n` hex digits of the SHA-256 over names, types, shapes and bytes of arrays, in order of name."""
    return _digest(((name, tensors[name]) for name in sorted(tensors)), n)


def of_weights(network: Any, n: int = 12) -> str:  # noqa: ANN401 (torch.nn.Module)
    """The digest of a network's weights in single precision, which are copied one tensor at a time."""
    state = network.state_dict()
    return _digest(((name, state[name].float().numpy(force=True)) for name in sorted(state)), n)


def _digest(tensors: Iterable[tuple[str, Any]], n: int) -> str:
    running = hashlib.sha256()
    for name, tensor in tensors:
        array = np.ascontiguousarray(tensor)
        running.update(f"{name} {array.dtype} {array.shape}".encode())
        running.update(array.reshape(-1).view(np.uint8))
        del array, tensor  # before the next one is copied
    return running.hexdigest()[:n]


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of the entries in which two fingerprints differ; empty when they stand for the same features."""
    found = []
    for key in sorted(ours.keys() | theirs.keys()):
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, f"{prefix}{key}.")
        elif not (_close(one, other) if key == "probe" else one == other):
            found.append(f"{prefix}{key}")
    return found


def _close(one: list[float] | None, other: list[float] | None) -> bool:
    if one is None or other is None or len(one) != len(other):
        return False
    return bool(np.allclose(one, other, rtol=0, atol=TOLERANCE))
