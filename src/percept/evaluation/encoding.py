"""How well responses are predicted from images: the metric of the Algonauts 2023 challenge.

Per vertex the correlation r of predicted and measured responses over test images, negative ones set to 0;
r^2 as a share of the noise ceiling, in per cent, at most 100. The challenge averages over the vertices of
both hemispheres and all subjects; mean and median are given, since a mean of capped ratios moves with how
many ceilings are near 0. Without ceilings r itself is all that can be said.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from percept.config import EvaluationConfig
from percept.evaluation import table
from percept.evaluation.encoded import Encoded
from percept.evaluation.table import Label
from percept.statistics import percentile_interval, permutation_p, resamples, shuffled_items
from percept.voxels import reliability, roi

FLOOR = 1e-14  # of a noise ceiling, as in the challenge: a vertex without one counts in full if r > 0
VERTICES_AT_ONCE = 4096
OF_CHALLENGE = "algonauts23"  # the protocol under which the organisers' noise ceilings hold
HEMISPHERES = {"lh": "left hemisphere", "rh": "right hemisphere"}
WITHHELD = "not available: the noise ceiling of these test images is not released, so r alone is given"
CARVED = "test images drawn from those with responses: not the challenge's test set, nor its leaderboard"


def correlations(
    predicted: NDArray, measured: NDArray, weights: NDArray | None = None
) -> NDArray[np.float32]:
    """Pearson's r of each vertex over images, (vertex,), or (resample, vertex) under weights.

    Parameters
    ----------
    predicted, measured : (image, vertex)
    weights : (resample, image) how often each image counts

    Returns
    -------
    r in [-1, 1]; 0 where the prediction does not vary (it tells nothing), NaN where the response does not
    """
    w = np.ones((1, len(predicted))) if weights is None else np.asarray(weights, np.float64)
    w = w / w.sum(axis=1, keepdims=True)
    found = np.empty((len(w), predicted.shape[1]), np.float32)
    for start in range(0, predicted.shape[1], VERTICES_AT_ONCE):
        columns = slice(start, start + VERTICES_AT_ONCE)
        found[:, columns] = _weighted(predicted[:, columns], measured[:, columns], w)
    return found[0] if weights is None else found


def _weighted(predicted: NDArray, measured: NDArray, w: NDArray) -> NDArray[np.float64]:
    """Pearson's r (resample, vertex) under weights (resample, image) that sum to 1."""
    p, m = (_centred(values) for values in (predicted, measured))  # little is lost in the differences below
    mean_p, mean_m = w @ p, w @ m
    var_p, var_m = w @ p**2 - mean_p**2, w @ m**2 - mean_m**2
    varies = [var > 1e-9 * (values**2).mean(axis=0) for var, values in ((var_p, p), (var_m, m))]
    product = np.sqrt(np.where(varies[0] & varies[1], var_p * var_m, 1))
    r = np.clip((w @ (p * m) - mean_p * mean_m) / product, -1, 1)
    return np.where(varies[1], np.where(varies[0], r, 0), np.nan)


def _centred(values: NDArray) -> NDArray[np.float64]:
    values = np.asarray(values, np.float64)
    centred = values - values.mean(axis=0)
    return np.where((values == values[0]).all(axis=0), 0, centred)  # rounding must not look like variance


def null(predicted: NDArray, measured: NDArray, shuffles: NDArray) -> NDArray[np.float32]:
    """Pearson's r of each vertex when the images swap their responses, (permutation, vertex).

    `shuffles` : (permutation, image), as of `statistics.shuffled_items`
    """
    found = np.empty((len(shuffles), predicted.shape[1]), np.float32)
    for start in range(0, predicted.shape[1], VERTICES_AT_ONCE):
        columns = slice(start, start + VERTICES_AT_ONCE)
        p, m = (_unit(values[:, columns]) for values in (predicted, measured))
        for at, shuffle in enumerate(shuffles):
            found[at, columns] = np.einsum("iv,iv->v", p[shuffle], m)
    return found


def _unit(values: NDArray) -> NDArray[np.float32]:
    """Columns of mean 0 and norm 1; 0 where constant."""
    centred = _centred(values)
    norm = np.linalg.norm(centred, axis=0)
    return (centred / np.where(norm > 0, norm, 1)).astype(np.float32)


def challenge_score(r: ArrayLike, ceiling: ArrayLike) -> NDArray[np.float64]:
    """Explained variance as a share of the noise ceiling, per cent in [0, 100], of the shape of `r`.

    100 * min(1, max(r, 0)^2 / max(ceiling, 1e-14)), as the challenge's scoring does.

    Parameters
    ----------
    r : (..., vertex) correlations
    ceiling : (vertex,) share of variance in [0, 1]
    """
    explained = np.maximum(np.asarray(r, np.float64), 0) ** 2
    return 100 * np.minimum(explained / np.maximum(np.asarray(ceiling, np.float64), FLOOR), 1)


def ceiling_of(voxels: pd.DataFrame, n_repeats: NDArray, protocol: str) -> NDArray[np.float64] | None:
    """Noise ceiling of each voxel for these test images, (voxel,) in [0, 1]; None where nobody knows it.

    The organisers' own values hold for their test images alone; else it is NSD's formula for images shown
    `n_repeats` (image,) times.
    """
    if "noise_ceiling" in voxels and protocol == OF_CHALLENGE:
        released = voxels["noise_ceiling"].to_numpy(np.float64)
        return released if np.isfinite(released).any() else None
    snr = voxels["ncsnr"].to_numpy(np.float64)
    return reliability.noise_ceiling(snr, n_repeats) if np.isfinite(snr).any() else None


def sets_of(voxels: pd.DataFrame, custom: roi.Custom = roi.NONE) -> dict[str, NDArray[np.bool_]]:
    """Named sets that have voxels: all, each hemisphere where known, and every ROI set of the table."""
    named = [name for name, n_voxels in roi.count(voxels, custom).items() if n_voxels]
    sets = {name: roi.select(voxels, name, custom) for name in named}
    sides = voxels.get("hemisphere", pd.Series(dtype=object))
    return sets | {
        name: (sides == side).to_numpy() for side, name in HEMISPHERES.items() if (sides == side).any()
    }


def empty_regions(voxels: pd.DataFrame) -> list[str]:
    """Regions that the atlases have and no voxel carries, as `atlas:region`."""
    known = voxels.attrs.get("labels", {})
    return [
        f"{atlas}:{name}"
        for atlas, names in known.items()
        for name in names
        if not (voxels[atlas] == name).any()
    ]


def score(
    predicted: NDArray,
    measured: NDArray,
    sets: Mapping[str, NDArray],
    ceiling: NDArray | None,
    label: Label,
    settings: EvaluationConfig,
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Rows of the long table for each set of vertices, and r of each vertex.

    Metrics: `vertex_r`, `vertex_r_median`, and with ceilings `challenge`, `challenge_median`, as shares. `n`
    is the number of test images, over which the bootstrap goes; vertices are not resampled, because
    neighbours are not independent. Resampling repeats images, which raises squares a little: intervals of
    `challenge` lie somewhat high. Vertices whose response does not vary have no r and are left out.

    Parameters
    ----------
    predicted, measured : (image, vertex)
    sets : name -> (vertex,) bool
    ceiling : (vertex,) noise ceiling in [0, 1], NaN where nobody knows it, or None
    label : the ROI set and the unit are filled in here
    """
    rng = np.random.default_rng(settings.seed)
    n_images = len(predicted)
    r = correlations(predicted, measured)
    drawn = [correlations(predicted, measured, w) for w in resamples(n_images, settings.bootstrap, rng)]
    shuffled = null(predicted, measured, shuffled_items(n_images, settings.permutations, rng))
    parts = []
    for name, inside in sets.items():
        rows = list(_rows(r, np.concatenate(drawn), shuffled, np.flatnonzero(inside), ceiling, settings))
        own = [row | {"n": n_images} for row, _ in rows]
        parts.append(table.rows(replace(label, roi=name, unit="average"), own))
        if name == roi.EVERYTHING:
            control = replace(label, roi=name, unit="average", control="shuffled")
            parts.append(table.rows(control, [level | {"n": n_images} for _, level in rows]))
    return table.concat(parts), r


def _rows(
    r: NDArray, drawn: NDArray, shuffled: NDArray, inside: NDArray, ceiling: NDArray | None,
    settings: EvaluationConfig,
) -> Iterator[tuple[dict[str, object], dict[str, object]]]:  # fmt: skip
    """Per metric the row of some vertices, and what the shuffled pairing scores."""
    for metric, vertices, of_vertex, over in _metrics(inside[np.isfinite(r[inside])], ceiling):
        value, draws, level = (over(of_vertex(each[..., vertices])) for each in (r, drawn, shuffled))
        low, high = percentile_interval(draws[np.isfinite(draws)], settings.confidence)
        row = {"metric": metric, "value": float(value), "ci_low": low, "ci_high": high}
        row |= {"p_value": permutation_p(float(value), level), "note": f"{vertices.size} vertices"}
        yield row, {"metric": metric, "value": float(level.mean())}


def _metrics(inside: NDArray, ceiling: NDArray | None) -> Iterator[tuple]:
    """Name, its vertices, what it makes of their r (..., vertex), and how they are summarised.

    The score is of vertices whose noise ceiling is known, and is left out where there are none.
    """
    known = inside[:0] if ceiling is None else inside[np.isfinite(ceiling[inside])]

    def plain(r: NDArray) -> NDArray:
        return r

    def share(r: NDArray) -> NDArray:
        return challenge_score(r, ceiling[known]) / 100

    for name, vertices, of_vertex in (("vertex_r", inside, plain), ("challenge", known, share)):
        if vertices.size:
            yield name, vertices, of_vertex, _mean
            yield f"{name}_median", vertices, of_vertex, _median


def _mean(values: NDArray) -> NDArray:
    return np.nanmean(values, axis=-1)


def _median(values: NDArray) -> NDArray:
    return np.nanmedian(values, axis=-1)


def per_vertex(voxels: pd.DataFrame, r: NDArray, ceiling: NDArray | None) -> pd.DataFrame:
    """A row per voxel: where it is, r, noise_ceiling and challenge score (NaN where nobody knows them)."""
    where = [name for name in ("hemisphere", "vertex", "i", "j", "k") if name in voxels]
    known = np.full(len(r), np.nan) if ceiling is None else ceiling
    share = np.full(len(r), np.nan) if ceiling is None else challenge_score(r, ceiling)
    return voxels[where].reset_index(drop=True).assign(r=r, noise_ceiling=known, challenge=share)


def score_subject(
    encoded: Encoded,
    anatomy: pd.DataFrame,
    label: Label,
    voxels: Mapping[str, Any],
    settings: EvaluationConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of the long table, and the value of every voxel, of one encoding model of one subject.

    Parameters
    ----------
    anatomy : the voxel table of the subject
    voxels : `normalisation` and own `rois` of the configuration
    """
    own = anatomy.iloc[encoded.columns].reset_index(drop=True)
    ceiling = ceiling_of(own, encoded.n_repeats, label.protocol)
    sets = sets_of(own, voxels["rois"])
    rows, r = score(encoded.predicted, encoded.measured, sets, ceiling, label, settings)
    said = notes(own, label.protocol, voxels["normalisation"], ceiling)
    return table.noted(rows, said), per_vertex(own, r, ceiling)


def notes(voxels: pd.DataFrame, protocol: str, normalisation: str, ceiling: NDArray | None) -> str:
    """What has to be said of every row of an encoding model."""
    said = [f"responses z-scored: {normalisation}"]
    said += [WITHHELD] if ceiling is None else []
    of_challenge = "file_column" in voxels
    said += [CARVED] if of_challenge and protocol != OF_CHALLENGE else []
    empty = empty_regions(voxels) if of_challenge else []  # whole-brain atlases have hundreds
    said += [f"no vertex lies in {', '.join(empty)}"] if empty else []
    return "; ".join(said)
