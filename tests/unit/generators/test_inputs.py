"""From files to roles: shapes of the targets, rows that belong together, keys that notice every change."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest

from percept.decoders.predictions import Predictions, write_predictions
from percept.files import PerceptError
from percept.generators import inputs, store
from percept.targets import store as targets

TRAIN, TEST = np.arange(20, dtype=np.int32), np.arange(30, 37, dtype=np.int32)
RNG = np.random.default_rng(0)
SHAPES = {"semantic": (3, 4), "lowlevel": (5, 5, 3)}
TRUE = {role: RNG.random((40, *shape), dtype=np.float32) for role, shape in SHAPES.items()}
SCRIPT = Path(__file__).parents[3] / "workflow" / "scripts" / "reconstruct_images.py"


def predictions(values, stimuli, run=-1):
    n = len(stimuli)
    return Predictions(values.reshape(n, -1), stimuli, np.ones(n), np.broadcast_to(run, n), np.full(n, -1))


@pytest.fixture
def given(tmp_path):
    """Inputs of the rule, for a reconstruction with two roles."""
    for role, values in TRUE.items():
        groups = {
            "train": predictions(values[TRAIN] / 2, TRAIN),
            inputs.UNIT: predictions(values[TEST] / 3, TEST),
        }
        write_predictions(tmp_path / f"{role}.h5", groups, {})
        targets.write(tmp_path / role / "index.json", values, np.arange(40), {"kind": role})
    return {role: tmp_path / f"{role}.h5" for role in TRUE} | {
        f"{role}_features": tmp_path / role / "index.json" for role in TRUE
    }


def settings(**more):
    return {"semantic": "ridge_clip", "text": None, "lowlevel": "ridge_pixels", "rescale": {}, **more}


def test_predictions_come_in_the_shape_of_their_targets(given):
    roles = inputs.sets(inputs.decoded(given, settings()))["images"]()
    np.testing.assert_array_equal(roles.stimulus, TEST)
    for role, values in TRUE.items():
        np.testing.assert_array_equal(getattr(roles, role), values[TEST] / 3)
    assert roles.text is None


def test_recovery_has_the_true_targets_of_the_same_images(given):
    roles = inputs.sets(inputs.decoded(given, settings(rescale={"semantic": "transductive"})))["recovery"]()
    np.testing.assert_array_equal(roles.stimulus, TEST)
    for role, values in TRUE.items():
        np.testing.assert_array_equal(getattr(roles, role), values[TEST])


@pytest.mark.parametrize("how", ["cross_validated", "transductive"])
def test_only_the_roles_named_are_rescaled(given, how):
    roles = inputs.predicted(inputs.decoded(given, settings(rescale={"lowlevel": how})))
    np.testing.assert_array_equal(roles.semantic, TRUE["semantic"][TEST] / 3)
    spread = TRUE["lowlevel"][TRAIN].std() if how == "transductive" else 2 / 3 * TRUE["lowlevel"][TEST].std()
    assert roles.lowlevel.std() == pytest.approx(spread, rel=0.02)


SAMPLES = RNG.random((len(TEST), 2, 12), dtype=np.float32).astype(np.float16)


@pytest.fixture
def sampled(given):
    """The same inputs, of a decoder that makes two samples of each semantic target."""
    with h5py.File(given["semantic"], "a") as file:
        file[inputs.UNIT]["samples"] = SAMPLES
    return given


def test_samples_come_a_batch_at_a_time_in_the_shape_of_the_target(sampled, monkeypatch):
    roles = inputs.sets(inputs.decoded(sampled, settings()), sampled=True)["images"]()
    np.testing.assert_array_equal(roles.semantic, TRUE["semantic"][TEST] / 3)
    batch = roles.rows(slice(2, 5))
    np.testing.assert_array_equal(batch.samples, SAMPLES[2:5].reshape(3, 2, 3, 4))
    assert batch.samples.dtype == np.float16 and not isinstance(roles.samples, np.ndarray)
    assert list(batch.given) == list(roles.given) == ["semantic", "lowlevel"]  # samples are no role


def test_samples_are_given_to_the_kinds_that_use_them_and_never_for_recovery(sampled):
    files = inputs.decoded(sampled, settings())
    assert inputs.sets(files)["images"]().samples is None
    assert inputs.sets(files, sampled=True)["recovery"]().samples is None


def test_a_decoder_without_samples_gives_none(given):
    assert inputs.predicted(inputs.decoded(given, settings()), sampled=True).samples is None


def test_samples_of_a_role_that_is_rescaled_are_refused(sampled):
    files = inputs.decoded(sampled, settings(rescale={"semantic": "transductive"}))
    assert inputs.predicted(files).samples is None  # where nothing uses them, there is nothing to refuse
    with pytest.raises(PerceptError, match=r"semantic\.h5 holds samples .* rescales that \(transductive\)"):
        inputs.predicted(files, sampled=True)
    low = inputs.decoded(sampled, settings(rescale={"lowlevel": "transductive"}))
    assert inputs.predicted(low, sampled=True).samples is not None


def test_the_role_that_ranks_is_read_like_the_others(given):
    own = {"ranking": given["semantic"], "ranking_features": given["semantic_features"]}
    files = inputs.decoded({**given, **own}, settings(ranking="mindeye"))
    assert list(files) == ["semantic", "lowlevel", "ranking"]
    np.testing.assert_array_equal(inputs.predicted(files).ranking, TRUE["semantic"][TEST] / 3)
    np.testing.assert_array_equal(inputs.true(files).ranking, TRUE["semantic"][TEST])


def test_the_pool_of_a_reconstruction_is_where_the_config_and_the_rule_say(tmp_path):
    given = {"pool_files": "files.parquet", "pool_embeddings": "web.npy"}
    found = inputs.outside(given, {"images": str(tmp_path), "size": 32, "embeddings": "web.npy"})
    assert (found.folder, found.size) == (tmp_path, 32)
    assert (found.files, found.embeddings) == (Path("files.parquet"), Path("web.npy"))
    assert inputs.outside({}, {}) is None


def test_the_identity_of_unfinished_work_notices_another_pool(tmp_path, given):
    train = inputs.training(pd.DataFrame({"stimulus": [5], "split": "train"}), {}, Source())
    files, embeddings = tmp_path / "files.parquet", tmp_path / "web.npy"
    pool = inputs.Outside(tmp_path, 32, files, embeddings)
    seen = [inputs.identity(train, [], "a")]
    for one, other in [(b"1", b"1"), (b"2", b"1"), (b"2", b"2")]:
        files.write_bytes(one)
        embeddings.write_bytes(other)
        seen.append(inputs.identity(train, [], "a", pool))
    assert len({str(one) for one in seen}) == 4


def test_roles_that_are_not_named_are_not_read(given):
    decoded = inputs.decoded({"lowlevel": "a", "lowlevel_features": "b"}, settings(semantic=None))
    assert list(decoded) == ["lowlevel"]


@pytest.mark.parametrize("stimuli", [TEST[::-1], TEST[:-1], TEST + 1])
def test_decoders_of_other_test_images_are_refused(given, stimuli):
    values = TRUE["lowlevel"][stimuli]
    write_predictions(given["lowlevel"], {inputs.UNIT: predictions(values, stimuli)}, {})
    with pytest.raises(PerceptError, match="'semantic' and 'lowlevel' predict different test images"):
        inputs.predicted(inputs.decoded(given, settings()))


def test_predictions_without_repeat_averages_are_refused(given):
    write_predictions(given["semantic"], {"test/single": predictions(TRUE["semantic"][TEST], TEST)}, {})
    with pytest.raises(PerceptError, match=r"add `average` to `split\.test_units`"):
        inputs.true(inputs.decoded(given, settings()))


FINGERPRINTS = {
    "same": {"kind": "semantic", "probe": [1.0, 2.0]},
    "another device": {"kind": "semantic", "probe": [1.004, 2.0]},
    "other backbone": {"kind": "semantic", "probe": [1.5, 2.0]},
    "other kind": {"kind": "pooled", "probe": [1.0, 2.0]},
}


@pytest.mark.parametrize(
    ("trained_on", "differs"),
    [("same", None), ("another device", None), ("other backbone", "probe"), ("other kind", "kind")],
)
@pytest.mark.parametrize("read", [inputs.predicted, inputs.true])
def test_predictions_of_other_features_than_the_targets_are_refused(given, trained_on, differs, read):
    targets.write(given["semantic_features"], TRUE["semantic"], np.arange(40), FINGERPRINTS["same"], "clip")
    with h5py.File(given["semantic"], "a") as file:
        file.attrs["fingerprint"] = json.dumps(FINGERPRINTS[trained_on])
    files = inputs.decoded(given, settings())
    if differs is None:
        np.testing.assert_array_equal(read(files).stimulus, TEST)
        return
    message = (
        rf"semantic\.h5 .* other features of the target 'clip' .* differ in {differs}\. .*Delete the pred"
    )
    with pytest.raises(PerceptError, match=message):
        read(files)


class Source:
    """A data set of 40 images."""

    images = staticmethod(lambda stimuli: np.zeros((len(stimuli), 9, 8, 3), dtype=np.uint8) + len(stimuli))


def test_training_images_are_those_of_the_split_each_once_and_read_when_asked_for(given):
    trials = pd.DataFrame(
        {"stimulus": [5, 3, 5, 8, 2], "split": ["train", "train", "train", "test", "validation"]}
    )
    train = inputs.training(trials, inputs.decoded(given, settings()), Source())
    np.testing.assert_array_equal(train.stimuli, [3, 5])
    assert train.images([3, 5]).shape == (2, 9, 8, 3)
    unseen = inputs.training(trials, {}, object())
    with pytest.raises(PerceptError, match="reads the images of the stimuli"):
        unseen.images([3])


def test_the_identity_of_unfinished_work_notices_weights_targets_training_images_and_code(tmp_path, given):
    trials = pd.DataFrame({"stimulus": [5, 3], "split": "train"})
    decoded = inputs.decoded(given, settings())
    weights = tmp_path / "tiny_vae" / "backbone.json"
    weights.parent.mkdir()
    weights.write_text("{}")
    train = inputs.training(trials, decoded, Source())
    fewer = inputs.training(trials[:1], decoded, Source())
    seen = [inputs.identity(train, [str(weights)], "a"), inputs.identity(train, [str(weights)], "b")]
    seen.append(inputs.identity(fewer, [str(weights)], "a"))
    weights.write_text("{ }")
    seen.append(inputs.identity(train, [str(weights)], "a"))
    targets.write(given["lowlevel_features"], TRUE["lowlevel"] + 1, np.arange(40), {"kind": "other"})
    seen.append(inputs.identity(train, [str(weights)], "a"))
    assert len({str(one) for one in seen}) == 5
    assert "weights tiny_vae" in seen[0]


@pytest.fixture
def dataset(tmp_path):
    """A small NSD: 40 images, and the trials of a subject."""
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = RNG.integers(0, 256, (40, 11, 11, 3), dtype=np.uint8)
    split = ["train"] * len(TRAIN) + ["test"] * len(TEST)
    pd.DataFrame({"stimulus": [*TRAIN, *TEST], "split": split}).to_parquet(tmp_path / "trials.parquet")
    return {"kind": "nsd", "name": "small", "root": str(tmp_path)}


class Inputs(dict):
    """Named inputs, as a rule gives them."""

    __getattr__ = dict.__getitem__


def run_script(tmp_path, given, dataset, reconstruction):
    outputs = {name: str(tmp_path / "made" / f"{name}.h5") for name in ("images", "recovery", "details")}
    stand_in = SimpleNamespace(
        input=Inputs(given, trials=str(tmp_path / "trials.parquet")),
        output=Inputs(outputs),
        params=Inputs(reconstruction=reconstruction, dataset=dataset, code="0"),
        log=[str(tmp_path / "log.txt")],
        threads=1,
    )
    runpy.run_path(str(SCRIPT), init_globals={"snakemake": stand_in})
    return outputs


def test_the_script_makes_images_recovery_and_details(tmp_path, given, dataset):
    reconstruction = {
        **settings(semantic=None, rescale={"lowlevel": "cross_validated"}),
        "seed": 3,
        "generator": {"kind": "pixels", "out": 10},
    }
    outputs = run_script(tmp_path, given, dataset, reconstruction)
    made, recovered = (store.read_images(outputs[name]).images for name in ("images", "recovery"))
    assert made.shape == recovered.shape == (len(TEST), 10, 10, 3) and not np.array_equal(made, recovered)
    assert store.read_attributes(outputs["images"])["settings"] == reconstruction
    table = pd.read_parquet(outputs["details"])
    assert list(table["rescaled"].unique()) == ["lowlevel:cross_validated", ""]
    assert not (tmp_path / "made" / "work").exists()


def test_a_target_of_the_wrong_shape_stops_the_script_and_leaves_no_image(tmp_path, given, dataset):
    swapped = {"lowlevel": given["semantic"], "lowlevel_features": given["semantic_features"]}
    reconstruction = {**settings(semantic=None), "seed": 0, "generator": {"kind": "pixels"}}
    with pytest.raises(PerceptError, match=r"size x size x 3 values each; this target has shape \(3, 4\)"):
        run_script(tmp_path, swapped, dataset, reconstruction)
    assert not (tmp_path / "made" / "images.h5").exists()
