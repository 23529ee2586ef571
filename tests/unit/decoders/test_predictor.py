"""A decoder of any registered kind, made again from its file, predicts what its training predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from percept import config
from percept.config import DecoderConfig
from percept.decoders import predictor
from percept.decoders.predict import read_predictions
from percept.decoders.ridge import RidgeConfig
from percept.decoders.units import units
from percept.files import PerceptError
from percept.targets import store
from tests.unit.decoders.made_up import N_VOXELS, by_image, by_run, features, places, subject, trained

EXPERIMENTS = Path(__file__).parents[3] / "config/experiments"
SHAPES = {"clip_image": (64,), "tokens": (5, 64), "vae_latent": (4, 8, 8), "pixels": (8, 8, 3), "truth": (6,)}
LOADED = [config.load(EXPERIMENTS / f"{name}.yaml") for name in ("tiny", "systems-tiny")]
KINDS = {decoder.kind: decoder for one in LOADED for decoder in one.decoders.values()}
TARGETS = {name: target for one in LOADED for name, target in one.targets.items()}


def shape(target):
    """A small shape for a target of the tiny runs, by its kind."""
    section = TARGETS[target]
    return SHAPES["tokens" if getattr(section, "output", "") == "tokens" else section.kind]


def loaded(cfg, folder, shape, n_voxels=N_VOXELS, **given):
    sizes = predictor.Sizes(n_voxels, shape, places(n_voxels))
    return predictor.load(cfg, folder / "weights.safetensors", sizes, **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Kind -> settings, features and folder of a training of it, each done when it is first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            folder, cfg = tmp_path_factory.mktemp(kind), KINDS[kind]
            path = features(folder, "own", shape(cfg.target), 60)
            extra = {name: features(folder, name, shape(name), 60, seed=1) for name in cfg.further}
            made[kind] = cfg, path, trained(cfg, folder / "run", path, extra=extra, voxels=places())
        return made[kind]

    return of


def test_the_tiny_runs_have_a_decoder_of_every_registered_kind():
    registered = set(config.kinds("percept.decoders", DecoderConfig))
    assert {"ridge", "mindeye", "lowlevel", "mapper", "voxelclip", "dino"} <= registered
    assert set(KINDS) == registered


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_reloaded_predictions_are_those_of_the_run(run, kind):
    cfg, path, folder = run(kind)
    X, trials = subject(path)
    again = loaded(cfg, folder, store.Features(path).shape)
    for part, group in ((1, "validation"), (2, "test/average"), (2, "test/single")):
        unit = "single" if group.endswith("single") else "average"
        responses, _ = units(X, trials, by_image(trials)[0][part], unit)
        stored = read_predictions(folder / "predictions.h5", group).predicted
        np.testing.assert_allclose(again.predict(responses), stored, rtol=1e-3, atol=1e-4)
        assert np.ptp(stored, axis=0).max() > 0
        predictor.require_alike(again.predict(responses), stored, "x")


def test_a_linear_decoder_says_its_weights(run):
    cfg, path, folder = run("ridge")
    own = loaded(cfg, folder, store.Features(path).shape)
    X = np.random.default_rng(0).normal(size=(6, N_VOXELS)).astype(np.float32)
    step = own.predict(X + 1) - own.predict(X)
    np.testing.assert_allclose(step, np.broadcast_to(own.weights.sum(axis=0), step.shape), atol=1e-4)


@pytest.mark.parametrize("fold", [0, 1])
def test_each_fold_has_a_decoder_of_its_own(tmp_path, fold):
    cfg = RidgeConfig(target="made_up", alphas=(1, 10))
    path = features(tmp_path, "own", (5,), 60)
    folder = trained(cfg, tmp_path / "run", path, folds=lambda trials: by_run(trials, 2))
    X, _ = subject(path)
    found = read_predictions(folder / "predictions.h5", "test/single")
    own = loaded(cfg, folder, (5,), fold=fold)
    rows = found.fold == fold
    np.testing.assert_allclose(
        own.predict(X[24 * fold : 24 * fold + 24]), found.predicted[rows], rtol=1e-3, atol=1e-4
    )


def test_a_decoder_of_several_parts_puts_itself_together(tmp_path):
    class Parts:
        kind = "parts"

        def rebuilt(self, saved, n_voxels):
            assert n_voxels == N_VOXELS
            return lambda X: X[:, :2] * saved["first"] + saved["second"]

    save_file({"first": np.full(2, 3.0), "second": np.ones(2)}, tmp_path / "weights.safetensors")
    found = loaded(Parts(), tmp_path, (2,)).predict(np.ones((4, N_VOXELS)))
    assert found.tolist() == [[4, 4]] * 4


def test_a_network_on_volumes_is_told_where_its_voxels_are(run):
    cfg, path, folder = run("mapper")
    table = pd.DataFrame({"i": range(N_VOXELS)})

    class Located:
        kind, located, training = "located", True, cfg.training
        predict = staticmethod(cfg.predict)

        def build(self, n_voxels, shape, voxels):
            assert voxels is table
            return cfg.build(n_voxels, shape)

    sizes = predictor.Sizes(N_VOXELS, store.Features(path).shape, table)
    own = predictor.load(Located(), folder / "weights.safetensors", sizes)
    assert own.predict(np.zeros((3, N_VOXELS), np.float32)).shape == (3, 64)


# Refusals.


def test_weights_of_another_run_are_noticed():
    rng = np.random.default_rng(0)
    stored = rng.normal(size=(50, 4))
    predictor.require_alike(stored + 0.01 * rng.normal(size=(50, 4)), stored, "ridge of subj01")
    with pytest.raises(PerceptError, match="ridge of subj01: the saved weights do not give the predictions"):
        predictor.require_alike(stored + 0.1 * rng.normal(size=(50, 4)), stored, "ridge of subj01")


def test_a_decoder_that_saved_no_weights_is_refused(tmp_path):
    cfg = RidgeConfig(target="made_up", alphas=(1,), weights="none")
    folder = trained(cfg, tmp_path / "run", features(tmp_path, "own", (5,), 60))
    with pytest.raises(PerceptError, match="this ridge decoder saved no weights"):
        loaded(cfg, folder, (5,))


@pytest.mark.parametrize(("kind", "n_voxels"), [("mapper", 90), ("mindeye", 3)])
def test_weights_of_other_settings_are_refused(run, kind, n_voxels):
    cfg, path, folder = run(kind)
    with pytest.raises(PerceptError, match="does not hold the weights of this decoder"):
        loaded(cfg, folder, store.Features(path).shape, n_voxels)


@pytest.mark.parametrize("content", [None, b"not safetensors at all"])
@pytest.mark.parametrize("kind", ["ridge", "mapper"])
def test_a_missing_or_damaged_file_is_named(tmp_path, kind, content):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PerceptError, match=r"weights\.safetensors .*(missing or damaged|does not hold)"):
        loaded(KINDS[kind], tmp_path, (64,))


def test_a_kind_that_cannot_be_made_again_is_refused(tmp_path):
    class Unknown:
        kind = "mystery"

    with pytest.raises(PerceptError, match="kind 'mystery' cannot be made again"):
        loaded(Unknown(), tmp_path, (2,))
