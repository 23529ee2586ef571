"""Small worlds for the evaluation: unequal axes everywhere, so that a transposition fails."""

from types import SimpleNamespace

import numpy as np

from percept.evaluation.decoder import Candidates


class Cosine:
    """Cosine similarity of centred vectors, computed plainly."""

    def __init__(self, mean=0.0):
        self.mean = mean

    def image_from_brain(self, predicted, candidates):
        p, c = predicted - self.mean, candidates - self.mean
        return (p @ c.T) / np.linalg.norm(p, axis=1)[:, None] / np.linalg.norm(c, axis=1)[None, :]

    def brain_from_image(self, predicted, candidates):
        return self.image_from_brain(predicted, candidates).T


class Gaussian:
    """Exact log likelihood of x_hat = x + noise, and its ratio to the marginal for x ~ N(0, 1)."""

    def __init__(self, noise):
        self.noise = noise

    def image_from_brain(self, predicted, candidates):
        distance = ((predicted[:, None] - candidates[None]) ** 2).sum(axis=2)
        return -distance / (2 * self.noise**2)

    def brain_from_image(self, predicted, candidates):
        marginal = -(predicted**2).sum(axis=1) / (2 * (1 + self.noise**2))
        return (self.image_from_brain(predicted, candidates) - marginal[:, None]).T


def world(n_images=40, n_dims=7, noise=0.8, n_rows=1, seed=0):
    """Predictions x + noise of images seen n_rows times each, in another order than the candidates."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_images, n_dims))
    shown = np.sort(rng.choice(73000, n_images, replace=False)).astype(np.int32)
    row = rng.permutation(np.repeat(np.arange(n_images), n_rows))
    predicted = features[row] + noise * rng.normal(size=(len(row), n_dims))
    predictions = SimpleNamespace(
        predicted=predicted.astype(np.float32),
        stimulus=shown[row],
        n_repeats=np.full(len(row), 3, np.int16),
        run=np.full(len(row), -1, np.int16),
    )
    return predictions, Candidates(features.astype(np.float32), shown, np.zeros(n_dims, np.float32))
