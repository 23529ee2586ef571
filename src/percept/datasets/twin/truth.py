"""What is known about a twin because it was simulated. For evaluation only: no decoder may read it."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from percept.datasets.twin import model
from percept.files import PerceptError, create_hdf5, open_hdf5, put

FOLDER = "truth"
FEATURES = f"{FOLDER}/features.h5"
SCENES = f"{FOLDER}/scenes.parquet"


def key(subject: str) -> str:
    """Path of a subject's truth relative to the root."""
    return f"{FOLDER}/{subject}.h5"


@dataclass(frozen=True)
class Truth:
    """The world behind one subject's responses, in percent signal change.

    Attributes
    ----------
    weights : (voxel, mode) response to a unit of each feature; 0 for voxels that see nothing
    voxel_index : (voxel,) flat C index into the (X, Y, Z) volume, ascending: the voxels of the brain mask
    mean : (voxel,) mean response over images
    private_sd : (voxel,) sd of the independent noise of one trial
    shared : (voxel, factor) loadings of the noise that voxels share
    limiting : (mode, mode) covariance Omega of the noise within the features
    visual : (voxel,) bool, the voxels that respond to images (nsdgeneral)
    offset : (session, voxel) shift of each session
    fisher : (mode, mode) information of one trial, from all voxels
    trials : (trial,) int32, 0-based nsd id of each trial of the released sessions
    features : (image, mode) of every image of the twin, mean 0
    stimulus : (image,) int32, ascending 0-based nsd ids
    """

    weights: NDArray[np.float32]
    voxel_index: NDArray[np.int64]
    mean: NDArray[np.float32]
    private_sd: NDArray[np.float32]
    shared: NDArray[np.float32]
    limiting: NDArray[np.float64]
    visual: NDArray[np.bool_]
    offset: NDArray[np.float32]
    fisher: NDArray[np.float64]
    trials: NDArray[np.int32]
    features: NDArray[np.float32]
    stimulus: NDArray[np.int32]

    def select(self, voxels: ArrayLike) -> "Truth":
        """The same world seen by some of its voxels only, with its information recomputed.

        Parameters
        ----------
        voxels : (voxel,) bool or indices into the voxels of this truth
        """
        voxels = np.asarray(voxels)
        per_voxel = ("weights", "voxel_index", "mean", "private_sd", "shared", "visual")
        chosen = {name: getattr(self, name)[voxels] for name in per_voxel}
        part = replace(self, **chosen, offset=self.offset[:, voxels])
        return replace(part, fisher=model.fisher(part.signal_weights, part.signal_noise))

    def at(self, voxel_index: ArrayLike) -> "Truth":
        """The same world seen by the voxels at these flat C indices of the volume, in this order.

        Raises
        ------
        ValueError : an index outside the brain mask
        """
        wanted = np.asarray(voxel_index)
        rows = np.searchsorted(self.voxel_index, wanted)
        found = self.voxel_index[np.minimum(rows, len(self.voxel_index) - 1)] == wanted
        if not found.all():
            raise ValueError(
                f"{(~found).sum()} voxels (first: {wanted[~found][0]}) lie outside the brain mask of this "
                "twin, where nothing was simulated: give flat C indices into its (X, Y, Z) volume"
            )
        return self.select(rows)

    @property
    def signal_weights(self) -> NDArray[np.float64]:
        """Weights of the visual voxels, (voxel, mode)."""
        return self.weights[self.visual].astype(np.float64)

    @property
    def signal_noise(self) -> model.Noise:
        """Noise of the visual voxels; the others share no noise with them and carry nothing."""
        here = self.visual
        return model.Noise(
            self.private_sd[here].astype(np.float64), self.shared[here].astype(np.float64), self.limiting
        )

    def rows(self, stimuli: ArrayLike) -> NDArray[np.float64]:
        """Features, (stimulus, mode), in the order asked.

        Raises
        ------
        ValueError : an image that the twin does not have
        """
        stimuli = np.asarray(stimuli)
        rows = np.searchsorted(self.stimulus, stimuli)
        found = self.stimulus[np.minimum(rows, len(self.stimulus) - 1)] == stimuli
        if not found.all():
            raise ValueError(
                f"this twin has no image {stimuli[~found][0]}: give ids of images that were shown"
            )
        return self.features[rows].astype(np.float64)

    def mean_responses(self, stimuli: ArrayLike) -> NDArray[np.float32]:
        """Noise-free responses mean + W x, (stimulus, voxel), PSC."""
        return (self.mean + self.rows(stimuli) @ self.weights.T).astype(np.float32)

    @property
    def population(self) -> NDArray[np.float64]:
        """Covariance of the features over the twin's images, (mode, mode)."""
        return model.covariance(self.features)

    def information(self, n_repeats: float = 1) -> float:
        """Bits about an image in the mean of some trials (`model.information`)."""
        return model.information(self.population, self.fisher, n_repeats)

    def signal_variance(self) -> NDArray[np.float64]:
        """Variance over the images that this subject was shown, (voxel,), each weighted by its trials."""
        return model.signal_variance(
            self.weights.astype(np.float64), model.covariance(self.rows(self.trials))
        )

    def noise_variance(self) -> NDArray[np.float64]:
        """Variance of one trial's noise, (voxel,), drift included."""
        noise = model.Noise(self.private_sd.astype(np.float64), self.shared.astype(np.float64), self.limiting)
        return model.total_noise_variance(self.weights.astype(np.float64), noise)

    def ncsnr(self) -> NDArray[np.float64]:
        """Signal sd over noise sd, (voxel,): what NSD's estimator converges to."""
        return np.sqrt(self.signal_variance() / self.noise_variance())

    def noise_ceiling(self, n_repeats: ArrayLike) -> NDArray[np.float64]:
        """Explainable share of the variance, (voxel,) in [0, 1], of means over repeats.

        Parameters
        ----------
        n_repeats : a number, or (image,) trials averaged for each image
        """
        noise = self.noise_variance() * np.mean(1 / np.asarray(n_repeats, dtype=np.float64))
        return self.signal_variance() / (self.signal_variance() + noise)


def write(truth: Truth, path: str | Path) -> None:
    """Write one subject's truth, without the features, which all subjects share.

    ``responses`` (image, visual voxel) are the noise-free responses to the images shown to the subject,
    ``shown``.
    """
    shown = np.unique(truth.trials)
    with create_hdf5(path) as file:
        for field in fields(Truth):
            if field.name not in ("features", "stimulus"):
                put(file, field.name, getattr(truth, field.name))
        put(file, "shown", shown)
        put(file, "responses", truth.select(truth.visual).mean_responses(shown))


def read(root: str | Path, subject: str) -> Truth:
    """The truth about one subject of the twin under `root`.

    Raises
    ------
    PerceptError : there is none, or it is damaged
    """
    paths = Path(root) / FEATURES, Path(root) / key(subject)
    for path in paths:
        if not path.is_file():
            raise PerceptError(
                f"{path} is missing: the Bayes limits of {subject} need the truth about the simulated world, "
                "which only a twin has. Write the twin again, or leave the limits out for measured data."
            )
    try:
        with open_hdf5(paths[0]) as common, open_hdf5(paths[1]) as own:
            content = {name: common[name][:] for name in ("features", "stimulus")}
            content |= {
                field.name: own[field.name][()] for field in fields(Truth) if field.name not in content
            }
    except (OSError, KeyError, PerceptError) as error:
        raise PerceptError(
            f"{paths[1]} or {paths[0]} is not readable ({error}): it is damaged or of an older version. "
            f"Delete the folder {Path(root) / FOLDER} and write the twin again."
        ) from error
    return Truth(**content)
