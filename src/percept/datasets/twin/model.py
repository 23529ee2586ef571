"""The twin's encoding model and its noise, with known mutual information.

A trial's response is, in percent signal change,

    y = mean + W (x + xi) + L f + e,   xi ~ N(0, Omega),  f ~ N(0, I),  e ~ N(0, diag(private_sd ** 2))

for the features x of its image: private noise e, low-rank noise L f shared by voxels, and noise xi in the
features themselves. The last one cannot be averaged away over voxels, which is what keeps the information
about the image finite however many voxels there are (Moreno-Bote et al. 2014, Nat. Neurosci. 17, 1410).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from percept.datasets.scenes import CATEGORIES, SETTINGS
from percept.datasets.twin.anatomy import FIELD_DEG, Anatomy
from percept.datasets.twin.features import CHANNELS, GRID, Space, attributes

MEAN, MEAN_SD = 2.2, 0.6  # PSC, over voxels
TOTAL_SD, TOTAL_SPREAD = 3.15, 0.15  # PSC, of one voxel over trials; spread of its logarithm
NCSNR, NCSNR_SPREAD = (
    0.385,
    0.4,
)  # median before the floor of the private noise takes its part; spread of the log
N_SHARED = 6
SHARED_PART = 0.15  # of the noise that is not information-limiting
FLOOR = 0.3  # least part of the noise that is not information-limiting
DRIFT = 0.05  # sd of a session's linear drift (at its ends), as a share of the noise sd
REPEATS = 3  # of the average whose information `bits` sets

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Noise of one trial: ``private_sd`` (voxel,), ``shared`` (voxel, factor), ``limiting`` Omega (mode,
    mode).
    """

    private_sd: Floats
    shared: Floats
    limiting: Floats


@dataclass(frozen=True)
class Voxels:
    """What the weights of a subject's signal voxels are drawn with: everything but the scale of Omega.

    ``weights`` (voxel, mode) PSC per unit of a feature; ``noise_variance`` (voxel,) wanted in all;
    ``loadings`` (voxel, factor) directions of the shared noise, rows of norm 1.
    """

    weights: Floats
    noise_variance: Floats
    loadings: Floats


def draw(anatomy: Anatomy, space: Space, rng: np.random.Generator) -> Voxels:
    """Weights and noise levels of the visual voxels."""
    weights = _tuning(anatomy, space, rng)
    n_voxels = len(weights)
    snr = NCSNR * np.exp(NCSNR_SPREAD * rng.standard_normal(n_voxels))
    total = (TOTAL_SD * np.exp(TOTAL_SPREAD * rng.standard_normal(n_voxels))) ** 2
    signal = total * snr**2 / (1 + snr**2)
    now = signal_variance(weights, covariance(space.features))
    weights = weights * np.sqrt(signal / now)[:, None]
    loadings = rng.standard_normal((n_voxels, N_SHARED))
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True)
    return Voxels(weights, total - signal, loadings)


def _tuning(anatomy: Anatomy, space: Space, rng: np.random.Generator) -> Floats:
    """Weights (visual voxel, mode), unscaled: local statistics in early areas, semantics in higher ones."""
    here = anatomy.visual
    early = _unit(
        _receptive_fields(anatomy, rng) @ space.early_axes, space.early_axes.shape[1], space, early=True
    )
    semantic = _unit(
        _preferences(anatomy, rng) @ space.semantic_axes, space.semantic_axes.shape[1], space, early=False
    )
    part = np.array(
        [{"V1": 0.0, "V2": 0.05, "V3": 0.1, "mid": 0.45, "high": 0.9}[name] for name in anatomy.area[here]]
    )
    return np.concatenate([np.sqrt(1 - part)[:, None] * early, np.sqrt(part)[:, None] * semantic], axis=1)


def _unit(weights: Floats, n_modes: int, space: Space, *, early: bool) -> Floats:
    """Weights scaled to a signal variance of 1 within their block."""
    block = space.features[:, :n_modes] if early else space.features[:, -n_modes:]
    return weights / np.sqrt(signal_variance(weights, covariance(block)))[:, None]


def _receptive_fields(anatomy: Anatomy, rng: np.random.Generator) -> Floats:
    """Weight of each cell and channel, (visual voxel, cell x cell x channel): a Gaussian at the voxel's
    place.
    """
    here = anatomy.visual
    centres = FIELD_DEG * ((2 * np.arange(GRID) + 1) / GRID - 1)
    x, y, size = (values[here][:, None] for values in (anatomy.x_deg, anatomy.y_deg, anatomy.size_deg))
    across = np.exp(-0.5 * ((centres - x) / size) ** 2)
    down = np.exp(-0.5 * ((-centres - y) / size) ** 2)  # rows run downwards
    channels = rng.standard_normal((here.sum(), len(CHANNELS))) + 0.3
    return np.einsum("vr,vc,vk->vrck", down, across, channels).reshape(here.sum(), -1)


def _preferences(anatomy: Anatomy, rng: np.random.Generator) -> Floats:
    """Weight of each attribute, (visual voxel, attribute): idiosyncratic, with the preference of the area."""
    names = attributes()
    favoured = {
        "floc-faces": ("person", "cat", "dog", "animal"),
        "floc-bodies": ("person", "animal", "sheep", "elephant", "bird"),
        "floc-places": (*SETTINGS, "inside"),
        "floc-words": ("stop sign", "book", "clock", "outdoor"),
    }
    here = anatomy.visual
    weights = rng.standard_normal((here.sum(), len(names)))
    weights[:, [names.index(name) for name in (*CATEGORIES, *SETTINGS)]] *= 0.7
    for atlas, liked in favoured.items():
        voxels = np.flatnonzero(anatomy.atlases[atlas][here] > 0)
        columns = [names.index(name) for name in liked]
        signs = rng.choice((-1, 1), len(columns)) if atlas == "floc-places" else 1
        weights[np.ix_(voxels, columns)] += 1.5 * signs
    return weights


def covariance(features: NDArray) -> Floats:
    """Population covariance of the images' features, (mode, mode)."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    return centred.T @ centred / len(centred)


def signal_variance(weights: Floats, covariance: Floats) -> Floats:
    """Variance of W x over images, (voxel,): diag(W S W')."""
    return np.einsum("vi,ij,vj->v", weights, covariance, weights)


def noise(voxels: Voxels, scale: float) -> Noise:
    """The noise for Omega = `scale` times the identity: the remainder of each voxel's noise is shared or
    private.
    """
    limiting = scale * np.eye(voxels.weights.shape[1])
    from_features = scale * (voxels.weights**2).sum(axis=1)
    rest = np.maximum(voxels.noise_variance - from_features, FLOOR * voxels.noise_variance)
    shared = voxels.loadings * np.sqrt(SHARED_PART * rest)[:, None]
    return Noise(np.sqrt((1 - SHARED_PART) * rest), shared, limiting)


def fisher(weights: Floats, noise: Noise) -> Floats:
    """Information J of one trial about its features, (mode, mode): t = J x + N(0, J) is sufficient.

    J = (Omega + J0^-1)^-1 = J0 - J0 (J0 + Omega^-1)^-1 J0, where J0 = W' (diag + L L')^-1 W is what the
    private and the shared noise leave. Works for singular J0 (fewer voxels than modes).
    """
    bare = unlimited_fisher(weights, noise)
    limited = bare - bare @ np.linalg.solve(bare + np.linalg.inv(noise.limiting), bare)
    return (limited + limited.T) / 2


def unlimited_fisher(weights: Floats, noise: Noise) -> Floats:
    """J0 = W' (diag(private_sd ** 2) + L L')^-1 W, (mode, mode), by Woodbury's identity."""
    scaled = weights / noise.private_sd[:, None]
    factors = noise.shared / noise.private_sd[:, None]
    inner = np.eye(factors.shape[1]) + factors.T @ factors
    cross = factors.T @ scaled
    return scaled.T @ scaled - cross.T @ np.linalg.solve(inner, cross)


def information(covariance: Floats, fisher: Floats, n_repeats: float = 1) -> float:
    """Mutual information of features and the mean of `n_repeats` trials, bits: 1/2 log2 det(I + n S J).

    For Gaussian features with this covariance; natural images' features are not quite Gaussian.
    """
    _, log_determinant = np.linalg.slogdet(np.eye(len(fisher)) + n_repeats * covariance @ fisher)
    return float(log_determinant / 2 / np.log(2))


def solve_noise(voxels: Voxels, covariance: Floats, bits: float) -> Noise:
    """The noise that leaves `bits` of information about an image in the mean of three repeats.

    Raises
    ------
    ValueError : even without information-limiting noise the voxels carry less than `bits`
    """
    low, high = np.log(1e-7), np.log(1e3)

    def carried(log_scale: float) -> float:
        return information(covariance, fisher(voxels.weights, noise(voxels, np.exp(log_scale))), REPEATS)

    if carried(low) < bits:
        raise ValueError(
            f"the twin cannot carry {bits:g} bits: its {len(voxels.weights)} visual voxels carry "
            f"{carried(low):.2f} bits even without information-limiting noise; lower `dataset.bits` or "
            "enlarge `dataset.volumes`"
        )
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if carried(middle) > bits else (low, middle)
    return noise(voxels, np.exp((low + high) / 2))


def rescale(voxels: Voxels, noise: Noise, covariance: Floats) -> tuple[Floats, Noise]:
    """Weights and noise in units in which every voxel has the total variance that was drawn for it.

    The floor under the private noise makes some voxels noisier than wanted; a voxel's unit carries no
    information.
    """
    signal = signal_variance(voxels.weights, covariance)
    factor = np.sqrt((signal + voxels.noise_variance) / (signal + _still_variance(voxels.weights, noise)))[
        :, None
    ]
    scaled = Noise(noise.private_sd * factor[:, 0], noise.shared * factor, noise.limiting)
    return voxels.weights * factor, scaled


def _still_variance(weights: Floats, noise: Noise) -> Floats:
    """Noise variance of each voxel in one trial without the drift, (voxel,)."""
    return noise.private_sd**2 + (noise.shared**2).sum(axis=1) + signal_variance(weights, noise.limiting)


def total_noise_variance(weights: Floats, noise: Noise) -> Floats:
    """Noise variance of each voxel in one trial, (voxel,), the drift within sessions included."""
    return _still_variance(weights, noise) * (1 + DRIFT**2 / 3)  # a line from -1 to 1 has variance 1/3


def ncsnr(weights: Floats, noise: Noise, covariance: Floats) -> Floats:
    """Noise-ceiling signal-to-noise ratio of each voxel, analytic: signal sd over noise sd (Allen et al.
    2022).
    """
    return np.sqrt(signal_variance(weights, covariance) / total_noise_variance(weights, noise))
