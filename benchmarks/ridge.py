"""Ridge against himalaya and scikit-learn, and the scoring rules against the Bayes limit.

    python benchmarks/ridge.py speed            2,000 x 4,000, 768 targets, 11 penalties, 5 folds
    python benchmarks/ridge.py speed --full     9,000 x 15,724, 768 targets, 10 penalties, 5 folds
    python benchmarks/ridge.py scoring          a linear-Gaussian world of NSD's size (9,000 images, 1,600
    voxels) python benchmarks/ridge.py memory           200,000 targets through the files, peak memory

Every method runs in a process of its own, on the same data, with the same penalties and folds per choice.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

N_TEST = 500
REDUCED = (2000, 4000, 768, 11)  # rows, voxels, targets, penalties
FULL = (9000, 15724, 768, 10)
METHODS = ("percept", "himalaya KernelRidgeCV", "himalaya RidgeCV", "scikit-learn RidgeCV")


def world(n, p, t, seed=0):
    """Responses and targets that share 100 latent dimensions of falling variance; train and test."""
    rng = np.random.default_rng(seed)
    scale = (np.arange(1, 101) ** -0.5).astype(np.float32)
    latent = rng.standard_normal((n + N_TEST, 100), dtype=np.float32) * scale
    X = latent @ rng.standard_normal((100, p), dtype=np.float32)
    X += 3 * rng.standard_normal(X.shape, dtype=np.float32)
    Y = latent @ rng.standard_normal((100, t), dtype=np.float32)
    Y += 2 * rng.standard_normal(Y.shape, dtype=np.float32)
    mean, sd = X[:n].mean(axis=0), X[:n].std(axis=0)
    X = (X - mean) / sd
    return X[:n], Y[:n], X[n:], Y[n:]


def percept(X, Y, alphas, test):
    """Ours: 5 folds, exact."""
    from percept.decoders.ridge import RidgeConfig, fit

    return fit(RidgeConfig(target="any", alphas=tuple(alphas)), X, Y).predict(test)


def himalaya_kernel(X, Y, alphas, test):
    """What himalaya recommends for fewer rows than voxels: 5 folds, dual."""
    from himalaya.kernel_ridge import KernelRidgeCV

    model = KernelRidgeCV(alphas=alphas, kernel="linear", cv=5, warn=False)
    centre = Y.mean(axis=0)
    return model.fit(X, Y - centre).predict(test) + centre


def himalaya_primal(X, Y, alphas, test):
    """Himalaya's RidgeCV: 5 folds, primal."""
    from himalaya.ridge import RidgeCV

    model = RidgeCV(alphas=alphas, fit_intercept=True, cv=5, solver_params={"warn": False})
    return model.fit(X, Y).predict(test)


def sklearn_loo(X, Y, alphas, test):
    """Penalties by leave-one-out, its only way to one per target: rows cannot be grouped by image."""
    from sklearn.linear_model import RidgeCV

    return RidgeCV(alphas=alphas, alpha_per_target=True).fit(X, Y).predict(test)


CALLS = dict(zip(METHODS, (percept, himalaya_kernel, himalaya_primal, sklearn_loo), strict=True))


def one(method, sizes):
    """Time one method, in this process; prints a line of JSON."""
    n, p, t, n_alphas = sizes
    alphas = np.logspace(1, 6, n_alphas)
    tiny = world(20, 30, 3)
    CALLS[method](*tiny[:2], alphas, tiny[2])  # imports and first calls are not what is compared
    X, Y, X_test, Y_test = world(n, p, t)
    start, cpu = time.perf_counter(), time.process_time()
    predicted = CALLS[method](X, Y, alphas, X_test)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    r2 = 1 - ((Y_test - predicted) ** 2).sum(0) / ((Y_test - Y_test.mean(0)) ** 2).sum(0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        json.dumps(
            {"method": method, "seconds": seconds, "cpu_s": cpu, "r2": float(r2.mean()), "peak_gb": peak}
        )
    )


def speed(sizes, limit_s):
    """Print seconds, held-out R2, peak memory and ratio to ours of every method."""
    rows = []
    for method in METHODS:
        command = [sys.executable, __file__, "one", "--method", method, "--sizes", *map(str, sizes)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
        except subprocess.TimeoutExpired:
            rows.append({"method": method, "seconds": np.inf})
        except subprocess.CalledProcessError as error:
            rows.append({"method": f"{method}: {error.stderr.splitlines()[-1:]}"})
    table = pd.DataFrame(rows)
    table["times ours"] = table.cpu_s / table.cpu_s[0]  # robust where the machine is shared
    n, p, t, n_alphas = sizes
    print(f"{n} x {p}, {t} targets, {n_alphas} penalties; stopped after {limit_s} s is inf")
    print(table.round(4).to_string(index=False))


@dataclass(frozen=True)
class LinearWorld:
    """Features x ~ N(0, S), responses W (x + limiting noise) + shared and private noise, means of 3
    repeats.
    """

    S: np.ndarray  # (mode,) variances
    limiting: np.ndarray  # (mode,) variances of the noise that looks like another stimulus
    W: np.ndarray  # (voxel, mode)
    shared: np.ndarray  # (voxel, factor)
    private: float  # variance
    repeats: int = 3

    @classmethod
    def of(cls, n_voxels, bits, seed, n_modes=64, eigen_snr=3.3):
        """A world whose three-repeat mean carries `bits`; the private noise is solved for."""
        rng = np.random.default_rng(seed)
        mode = np.arange(1, n_modes + 1)
        S = 1 / mode
        W = rng.standard_normal((n_voxels, n_modes)) / np.sqrt(n_modes)
        shared = 0.3 * rng.standard_normal((n_voxels, 5))
        low, high = 1e-3, 1e3
        for _ in range(40):
            middle = np.sqrt(low * high)
            made = cls(S, S / (eigen_snr * mode**-1.5), W, shared, middle)
            low, high = (middle, high) if made.bits() > bits else (low, middle)
        return made

    def noise(self):
        """Covariance of the noise of one trial (voxel, voxel)."""
        limiting = (self.W * self.limiting) @ self.W.T
        return self.private * np.eye(len(self.W)) + self.shared @ self.shared.T + limiting

    def fisher(self):
        """Fisher information (mode, mode) of the mean over the repeats."""
        without = self.private * np.eye(len(self.W)) + self.shared @ self.shared.T
        J = self.W.T @ np.linalg.solve(without, self.W)
        return self.repeats * np.linalg.inv(np.linalg.inv(J) + np.diag(self.limiting))

    def bits(self):
        """Mutual information of features and the mean response."""
        root = np.sqrt(self.S)
        return 0.5 * np.log2(1 + np.linalg.eigvalsh(root[:, None] * self.fisher() * root)).sum()

    def sample(self, n, rng):
        """Features (n, mode) and mean responses (n, voxel)."""
        x = rng.standard_normal((n, len(self.S))) * np.sqrt(self.S)
        limiting = rng.standard_normal(x.shape) * np.sqrt(self.limiting)
        shared = rng.standard_normal((n, self.shared.shape[1])) @ self.shared.T
        private = rng.standard_normal((n, len(self.W))) * np.sqrt(self.private)
        noise = limiting @ self.W.T + shared + private
        return x.astype(np.float32), (x @ self.W.T + noise / np.sqrt(self.repeats)).astype(np.float32)

    def oracle(self, x, y):
        """Bayes scores (brain, image) and (image, brain) with everything known."""
        J = self.fisher()
        t = self.repeats * np.linalg.solve(self.noise(), y.T.astype(float)).T @ self.W
        given = t @ x.T - 0.5 * np.einsum("id,de,ie->i", x, J, x)
        marginal = 0.5 * np.einsum("id,de,ie->i", t, np.linalg.inv(J + np.diag(1 / self.S)), t)
        return given, (given - marginal[:, None]).T


def top1(scores, pool=300):
    """Expected top-1 in random pools; the truth is on the diagonal."""
    from percept.evaluation import retrieval

    ranks = retrieval.rank(scores, np.arange(len(scores)))
    return retrieval.top_k(ranks, min(pool, len(scores)), 1).mean()


def scoring(n_voxels, n_images, bits, seed=0):
    """Print top-1 of 300 in both directions: Bayes oracle, then ridge under each rule."""
    from percept.decoders.ridge import RidgeConfig, fit
    from percept.evaluation import scoring as rules

    rng = np.random.default_rng(seed)
    world = LinearWorld.of(n_voxels, bits, seed)
    (x, y), (x_val, y_val), (x_test, y_test) = (world.sample(n, rng) for n in (n_images, 900, 2000))
    oracle = [top1(scores) for scores in world.oracle(x_test, y_test)]
    start = time.perf_counter()
    ridge = fit(RidgeConfig(target="truth"), y, x)
    seconds = {"ridge": time.perf_counter() - start}
    calibration = rules.Calibration(ridge.out_of_fold, x)
    predicted, ids = ridge.predict(y_test), np.arange(len(y_val))
    start = time.perf_counter()
    chosen = rules.choose(calibration, rules.Validation(ridge.predict(y_val), ids, x_val, ids))
    seconds["choose"] = time.perf_counter() - start
    named = {rule: rules.fit(calibration, rule, chosen.ranks[rules.DIRECTIONS[0]]) for rule in rules.RULES}
    rows = [("Bayes oracle", *oracle, 1.0, 1.0)]
    for name, scorer in (named | {f"chosen {chosen.rules}": chosen}).items():
        both = [top1(getattr(scorer, direction)(predicted, x_test)) for direction in rules.DIRECTIONS]
        rows.append((name, *both, both[0] / oracle[0], both[1] / oracle[1]))
    print(f"\n{n_voxels} voxels, {n_images} images, {world.bits():.1f} bits, seed {seed}; "
          + ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()))  # fmt: skip
    columns = ["rule", *rules.DIRECTIONS, "share", "share "]
    print(pd.DataFrame(rows, columns=columns).round(3).to_string(index=False))


def memory(n_targets, n_rows=400, n_voxels=300):
    """Train on `n_targets` columns that lie in a file; print seconds, peak memory and the size of all of
    them.
    """
    from percept.datasets.splits import Fold
    from percept.decoders.predict import Job, train_and_predict
    from percept.decoders.ridge import RidgeConfig
    from percept.targets import store

    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_voxels), dtype=np.float32)
    trials = pd.DataFrame({"session": 1, "run": 1, "stimulus": np.arange(n_rows, dtype=np.int32)})
    fold = Fold(*np.split(np.arange(n_rows), [n_rows - 100, n_rows - 50]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "features.h5")
        mix = rng.standard_normal((n_voxels, n_targets), dtype=np.float32)
        store.write(path, (row[None] @ mix for row in X), trials.stimulus.to_numpy(), {"kind": "benchmark"})
        del mix
        job, start = Job(Path(folder, "out")), time.perf_counter()
        with store.open_features(path) as features, sampled_memory() as peaks:
            train_and_predict(RidgeConfig(target="any"), X, trials, [fold], features, job)
        seconds = time.perf_counter() - start
        written = sum(file.stat().st_size for file in Path(folder, "out").iterdir()) / 1e6
    print(
        f"{n_targets} targets of {n_rows} rows, {n_voxels} voxels: {seconds:.1f} s, peak {peaks[-1]:.0f} MB "
        f"(of which {peaks[1]:.0f} MB before); targets {n_targets * n_rows * 4e-6:.0f} MB, written "
        f"{written:.0f} MB"
    )


@contextmanager
def sampled_memory():
    """A list whose last entry, at the end, is the peak of anonymous memory in MB (Linux).

    Pages of mapped files are left out: the system drops them when memory is short.
    """
    status, peaks, done = Path("/proc/self/status"), [0.0], threading.Event()

    def sample():
        while not done.wait(0.02):
            anonymous = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon"))
            peaks.append(max(peaks[-1], int(anonymous.split()[1]) / 1e3))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peaks
    finally:
        done.set()
        sampler.join()


def main():
    """Run what the command line asks for."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout)
    parser.add_argument("what", choices=["speed", "scoring", "memory", "one"])
    parser.add_argument("--full", action="store_true", help="the size of an NSD subject")
    parser.add_argument("--limit", type=int, default=1800, help="seconds after which a method is stopped")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=int, nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.what == "one":
        one(chosen.method, chosen.sizes)
    elif chosen.what == "speed":
        speed(FULL if chosen.full else REDUCED, chosen.limit)
    elif chosen.what == "scoring":
        for n_voxels, n_images, bits in ((400, 2000, 6.6), (400, 9000, 6.6), (1600, 9000, 7.9)):
            scoring(n_voxels, n_images, bits)
    else:
        memory(200_000)


if __name__ == "__main__":
    main()
