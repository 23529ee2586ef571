"""A subject whose voxels are a noisy linear view of the features of what was shown."""

import itertools
import signal
from contextlib import contextmanager

import h5py
import numpy as np
import pandas as pd

from percept.datasets.splits import Fold
from percept.decoders.predict import Job, train_and_predict
from percept.files import read_parquet
from percept.targets import store

N_VOXELS = 19
FIRST = 100  # id of the first image


def features(folder, name, shape, n_images, seed=0):
    """Path of normal features (image, *shape) in float16, whose last axis has a length of about 1."""
    values = np.random.default_rng(seed).standard_normal((n_images, *shape)) / np.sqrt(shape[-1])
    path = folder / name / "index.json"
    path.parent.mkdir()
    store.write(
        path, values.astype(np.float32), np.arange(FIRST, FIRST + n_images), {"kind": name}, name, "float16"
    )
    return path


def subject(path, n_images=60, n_trials=144, noise=0.3, n_voxels=N_VOXELS):
    """(X, trials): two sessions of three runs; every image is shown once, some of them several times."""
    rng = np.random.default_rng(1)
    stimulus = rng.permutation(np.r_[np.arange(n_images), rng.integers(0, n_images, n_trials - n_images)])
    runs = np.repeat(np.arange(6), n_trials // 6)
    trials = pd.DataFrame({"session": 1 + runs // 3, "run": 1 + runs % 3, "stimulus": FIRST + stimulus})
    seen = store.read(path, trials.stimulus).reshape(n_trials, -1)
    signal = seen @ rng.standard_normal((seen.shape[1], n_voxels)) / seen.std() / np.sqrt(seen.shape[1])
    X = signal + noise * rng.standard_normal(signal.shape)
    return X.astype(np.float32), trials.astype(np.int32)


def by_image(trials, validation=8, test=12):
    """One fold: the last images test, those before them validate."""
    place = trials.stimulus.to_numpy() - trials.stimulus.max() + test - 1  # < 0: not a test image
    part = np.where(place >= 0, 2, np.where(place >= -validation, 1, 0))
    return [Fold(*(np.flatnonzero(part == number) for number in range(3)))]


def by_run(trials, n_folds):
    """Folds that leave a run out each, without validation rows."""
    run = trials.groupby(["session", "run"]).ngroup().to_numpy()
    none = np.array([], dtype=np.intp)
    return [Fold(np.flatnonzero(run != left), none, np.flatnonzero(run == left)) for left in range(n_folds)]


def places(n_voxels=N_VOXELS):
    """A table of voxels that fill no box, in two regions."""
    at = np.arange(n_voxels)
    regions = np.where(at % 2, "early", "ventral")
    return pd.DataFrame({"i": at % 4, "j": at // 4 % 5, "k": at // 20, "streams": regions})


def trained(cfg, folder, path, folds=by_image, extra=None, **job):
    """Folder with the files that a training of `cfg` on features at `path` leaves."""
    X, trials = subject(path)
    names = {"decoder": cfg.kind, "subject": "subj01", "target": "made_up"}
    further = {name: store.Features(one) for name, one in (extra or {}).items()}
    job = Job(folder, ("average", "single"), attributes=names, extra=further, **job)
    train_and_predict(cfg, X, trials, folds(trials), store.Features(path), job)
    return folder


def contents(folder):
    """What the files of a training hold, without what times and machines decide."""
    found = {"weights": (folder / "weights.safetensors").read_bytes()}
    found["history"] = read_parquet(folder / "history.parquet").drop(columns=["seconds"]).to_dict("list")
    with h5py.File(folder / "predictions.h5") as file:
        names = []
        file.visit(names.append)
        found |= {name: file[name][:].tobytes() for name in names if isinstance(file[name], h5py.Dataset)}
    return found


@contextmanager
def stopped_at(learner, n_draws):
    """Send the process a signal, as a cluster does, while the `n_draws`-th batch is drawn."""
    draw, count = learner.draw, itertools.count(1)

    def interrupted(self, *arguments):
        if next(count) == n_draws:
            signal.raise_signal(signal.SIGINT)
        return draw(self, *arguments)

    learner.draw = interrupted
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        yield
    finally:
        learner.draw = draw
        signal.signal(signal.SIGINT, before)
