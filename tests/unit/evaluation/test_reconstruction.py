"""Rows of reconstructions and of their controls."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from percept.backbones import store
from percept.config import EvaluationConfig
from percept.evaluation import controls, images, table
from percept.evaluation.compare import compare
from percept.evaluation.field import FIELD_METRICS
from percept.evaluation.reconstruction import Made, absent, note, score_files, score_reconstructions
from percept.files import PerceptError
from percept.generators.store import write_images

from .test_images import scenes

STIMULI = np.arange(100, 112)


@pytest.fixture(scope="module")
def pictures():
    """Noisy reconstructions and true images."""
    true = scenes(12)
    noise = np.random.default_rng(5).normal(0, 40, true.shape)
    return np.clip(true + noise, 0, 255).astype(np.uint8), true


@pytest.fixture(scope="module")
def reconstruction(label):
    return replace(label, what="reconstruction", name="noisy", scoring=None, seed=None)


@pytest.fixture(scope="module")
def others(pictures):
    _, true = pictures
    return {
        "recovery": true,
        "mean_image": controls.repeated(controls.mean_image(true), 12),
        "random_image": scenes(12, seed=9),
    }


def score(made, true, label, settings, others=None):
    return score_reconstructions([Made(label, made, others or {})], true, STIMULI[: len(true)], settings)[0]


@pytest.fixture(scope="module")
def scored(pictures, others, reconstruction, settings):
    return score(*pictures, reconstruction, settings, others)


def value(scores, metric, control=None):
    rows = scores.rows[scores.rows["metric"] == metric]
    rows = (
        rows[rows["control"].isna()] if control is None else rows[(rows["control"] == control).fillna(False)]
    )
    assert len(rows) == 1, f"{len(rows)} rows of {metric} {control}"
    return rows.iloc[0]


def test_the_rows_are_the_means_of_the_metrics(pictures, scored):
    made, true = pictures
    assert value(scored, "pixcorr")["value"] == pytest.approx(
        np.diag(images.pixel_correlations(made, true)).mean()
    )
    assert value(scored, "ssim")["value"] == pytest.approx(images.ssim(made, true).mean())
    assert value(scored, "pixel_two_way")["value"] == 1
    assert value(scored, "pixel_two_way", "chance")["value"] == 0.5
    assert value(scored, "pixcorr")["n"] == 12


@pytest.mark.parametrize("metric", ["pixcorr", "ssim", "pixel_two_way"])
def test_the_floors_are_shuffled_pairings(scored, metric):
    assert value(scored, metric, "shuffled")["value"] < value(scored, metric)["value"]


def test_shuffled_pairings_know_nothing(scored):
    assert value(scored, "pixel_two_way", "shuffled")["value"] == pytest.approx(0.5, abs=0.03)
    assert value(scored, "pixcorr")["p_value"] == pytest.approx(1 / 201)
    assert value(scored, "ssim", "shuffled")["note"] == "one shuffled pairing"


def test_the_shuffled_value_of_an_image_is_its_mean_over_other_partners(pictures, scored):
    correlations = images.pixel_correlations(*pictures)
    others = (correlations.sum(axis=1) - np.diag(correlations)) / 11
    items = scored.items[
        (scored.items["metric"] == "pixcorr") & (scored.items["control"] == "shuffled").fillna(False)
    ]
    assert_allclose(items["value"], others)
    assert items["stimulus"].tolist() == STIMULI.tolist()


def test_the_shuffled_ssim_is_of_one_pairing_in_which_nobody_keeps_the_own_image(pictures, scored):
    made, true = (
        [images.moments(grey) for grey in images.field_grey(images.common(each))] for each in pictures
    )
    every = np.array([[images.structural_similarity(a, b) for b in true] for a in made])  # (made, true)
    items = scored.items[
        (scored.items["metric"] == "ssim") & (scored.items["control"] == "shuffled").fillna(False)
    ]
    partner = np.abs(every - items["value"].to_numpy()[:, None]).argmin(axis=1)
    assert_allclose(every[np.arange(12), partner], items["value"])
    assert sorted(partner) == list(range(12))
    assert not np.any(partner == np.arange(12))


def test_controls_are_scored_in_the_same_way(scored):
    assert value(scored, "ssim", "recovery")["value"] == pytest.approx(1)
    assert value(scored, "pixcorr", "recovery")["value"] == pytest.approx(1)
    assert value(scored, "pixel_two_way", "mean_image")["value"] == pytest.approx(0.5, abs=1e-12)
    assert value(scored, "pixcorr", "random_image")["value"] < value(scored, "pixcorr")["value"]
    assert set(scored.items["control"].dropna()) == {"recovery", "mean_image", "random_image", "shuffled"}


def test_every_floor_is_beaten_in_a_paired_comparison(scored, settings):
    compared = compare(scored.items, settings)
    rows = compared[compared["metric"] == "pixel_two_way"].set_index("control_second")
    assert set(rows.index) == {"shuffled", "mean_image", "random_image"}
    assert (rows["ci_low"] > 0).all() and (rows["n"] == 12).all()


def test_every_image_keeps_its_values(pictures, scored):
    own = scored.items[scored.items["control"].isna() & (scored.items["metric"] == "ssim")]
    assert own["stimulus"].tolist() == STIMULI.tolist()
    assert_allclose(own["value"], images.ssim(*pictures))
    assert scored.items.dtypes.astype(str).to_dict() == table.ITEM_SCHEMA


def test_two_reconstructions_are_scored_as_each_alone(pictures, others, reconstruction, settings, scored):
    made, true = pictures
    second = replace(reconstruction, name="blank")
    jobs = [Made(reconstruction, made, others), Made(second, np.full_like(true, 90), {"recovery": true})]
    both = score_reconstructions(jobs, true, STIMULI, settings)
    assert both[0].rows.equals(scored.rows) and both[0].items.equals(scored.items)
    assert set(both[1].rows["name"]) == {"blank"}
    assert value(both[1], "pixel_two_way")["value"] == 0.5
    assert value(both[1], "ssim", "recovery")["value"] == pytest.approx(1)


def test_a_single_image_has_no_pairing(reconstruction, settings):
    scores = score(scenes(1), scenes(1), reconstruction, settings)
    assert value(scores, "ssim")["value"] == pytest.approx(1)
    assert "pixel_two_way" not in set(scores.rows["metric"])
    assert scores.rows["control"].isna().all()


@pytest.mark.parametrize("control", [None, "mean_image"])
def test_missing_images_are_named(pictures, reconstruction, settings, control):
    made, true = pictures
    given = {control: made[:11]} if control else {}
    with pytest.raises(ValueError, match=f"subj01 noisy: 11 images for 12 stimuli .control: {control}"):
        score(made if control else made[:11], true, reconstruction, settings, given)


def test_reconstructions_of_another_size_are_compared_at_the_common_one(pictures, reconstruction, settings):
    made, true = pictures
    larger = made.repeat(2, axis=1).repeat(2, axis=2)
    assert value(score(larger, true, reconstruction, settings), "pixcorr")["value"] > 0.3


# Metrics that cannot be computed.


def test_metrics_without_a_network_are_rows_without_a_value(scored):
    rows = scored.rows[scored.rows["note"].fillna("").str.startswith("not available")]
    assert set(rows["metric"]) == set(FIELD_METRICS) - {"pixcorr", "ssim"}
    assert rows["value"].isna().all() and rows["control"].isna().all()
    assert rows["note"].str.contains("is not among `evaluation.images.networks`").all()
    assert not set(rows["metric"]) & set(scored.items["metric"])


def test_rows_without_a_value_reach_the_table_without_one(scored, settings):
    both = ((part, part.assign(subject="subj02")) for part in (scored.rows, scored.items))
    schemas = (table.SCHEMA, table.ITEM_SCHEMA)
    long, items = (table.concat(parts, schema) for parts, schema in zip(both, schemas, strict=True))
    means = table.over_subjects(long, items, settings)
    for wanted in (means, table.wide(table.concat([long, means])).rename(columns={"mean": "value"})):
        row = wanted[wanted["metric"] == "swav"]
        assert len(row) == 1 and row["value"].isna().all()
        assert row["note"].str.startswith("not available").all()
    assert means[means["metric"] == "pixcorr"]["value"].notna().all()


def test_weights_that_were_not_fetched_are_named_with_the_command(
    pictures, reconstruction, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    settings = EvaluationConfig(images={"networks": ("alexnet", "lpips_alex")}, bootstrap=20, permutations=20)
    scores = score(*pictures, reconstruction, settings)
    for metric, name in (("alexnet2", "alexnet"), ("alexnet5", "alexnet"), ("lpips", "lpips_alex")):
        row = value(scores, metric)
        assert np.isnan(row["value"])
        assert f"weights of {name} are absent" in row["note"]
        assert f"percept.backbones.fetch {name}" in row["note"]


@pytest.mark.parametrize(
    ("name", "metric", "command"),
    [
        ("swav", "swav", "python -m percept.backbones.fetch swav"),
        ("tiny_judge", "object", "snakemake tiny_backbones"),
    ],
)
def test_absent_weights_come_with_the_command_that_brings_them(monkeypatch, tmp_path, name, metric, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    how = EvaluationConfig(images={"networks": (name,)}).images
    assert f"`{command}`" in absent(how, None)[metric]


def test_a_name_that_is_no_metric_network_is_refused(pictures, reconstruction):
    settings = EvaluationConfig(images={"networks": ("alexnat",)}, bootstrap=20, permutations=20)
    with pytest.raises(PerceptError, match="the nearest is alexnet"):
        score(*pictures, reconstruction, settings)


@pytest.mark.parametrize("alternatives", [("antialias",), ("by_image", "ssim_columns"), ()])
def test_alternatives_are_further_rows_under_names_of_their_own(reconstruction, alternatives):
    true = scenes(4, 300, 290)
    settings = EvaluationConfig(images={"alternatives": alternatives}, bootstrap=20, permutations=20)
    made = np.random.default_rng(0).integers(0, 256, true.shape, dtype=np.uint8)
    scores = score(made // 2 + true // 2, true, reconstruction, settings)
    extra = {"antialias": {"pixcorr_antialias", "ssim_antialias", "pixel_two_way_antialias"},
             "by_image": {"pixel_two_way_by_image"}, "ssim_columns": {"ssim_columns"}}  # fmt: skip
    wanted = {"pixcorr", "ssim", "pixel_two_way"}.union(*(extra[name] for name in alternatives))
    assert set(scores.rows.loc[scores.rows["value"].notna(), "metric"]) == wanted
    if "antialias" in alternatives:
        assert value(scores, "pixcorr")["value"] != value(scores, "pixcorr_antialias")["value"]
        assert value(scores, "ssim")["value"] < value(scores, "ssim_antialias")["value"]  # noise is smoothed


# Files.


class Source:
    """Stimuli that are told apart by their number."""

    def images(self, stimuli):
        return np.concatenate([scenes(1, seed=int(stimulus)) for stimulus in stimuli])


@pytest.fixture
def files(tmp_path):
    """Predictions that are the true targets of training image 100 + row, and images of all test stimuli."""
    from percept.decoders.predictions import Predictions, write_predictions
    from percept.targets import store

    test, train = np.arange(6), np.arange(100, 140)
    features = np.random.default_rng(0).normal(size=(140, 5)).astype(np.float32) + 3
    store.write(tmp_path / "features.h5", features, np.arange(140), {"kind": "x"})
    whole = np.full(6, 3, np.int16)
    predicted = Predictions(features[100:106] * 2, test.astype(np.int32), whole, whole * 0 - 1, whole * 0 - 1)
    write_predictions(tmp_path / "predictions.h5", {"test/average": predicted}, {"decoder": "ridge"})
    for name in ("images", "recovery"):
        write_images(tmp_path / f"{name}.h5", Source().images(test), test)
    paths = tuple(
        str(tmp_path / name) for name in ("images.h5", "recovery.h5", "predictions.h5", "features.h5")
    )
    return paths, test, train


def test_files_are_scored_with_every_control(files, reconstruction, settings):
    paths, test, train = files
    (scores,) = score_files([reconstruction], [paths], Source(), train, settings)
    assert value(scores, "pixcorr")["value"] == pytest.approx(1)
    assert {"recovery", "mean_image", "random_image", "nearest_train", "shuffled"} <= set(
        scores.rows["control"]
    )
    nearest = images.pixel_correlations(Source().images(train[:6]), Source().images(test))
    assert value(scores, "pixcorr", "nearest_train")["value"] == pytest.approx(np.diag(nearest).mean())


def test_files_of_other_stimuli_are_refused(files, reconstruction, settings, tmp_path):
    paths, test, train = files
    write_images(tmp_path / "recovery.h5", Source().images(test), test[::-1])
    with pytest.raises(PerceptError, match="reconstructions of different stimuli"):
        score_files([reconstruction], [paths], Source(), train, settings)


def test_predictions_of_other_images_are_refused(files, reconstruction, settings, tmp_path):
    paths, test, train = files
    for name in ("images", "recovery"):
        write_images(tmp_path / f"{name}.h5", Source().images(test[:5]), test[:5])
    with pytest.raises(PerceptError, match=r"predicts 6 images, but others were reconstructed \(5\)"):
        score_files([reconstruction], [paths], Source(), train, settings)


def test_the_known_metrics_are_complete():
    lost = absent(EvaluationConfig().images, None)
    assert lost.keys() | {"pixcorr", "ssim"} == set(FIELD_METRICS)


# What the table has to say.


@pytest.mark.parametrize(
    ("rescaled", "decoders", "said"),
    [
        ({"semantic": "transductive"}, {}, "rescaled on the test set: semantic"),
        (
            {"semantic": "transductive", "text": "transductive"}, {"semantic": None, "text": None},
            "rescaled on the test set: semantic, text",
        ),
        ({"semantic": "cross_validated", "text": "transductive"}, {}, "rescaled on the test set: text"),
        ({"semantic": "cross_validated"}, {"semantic": None}, None),
        ({}, {}, None),
        ({}, {"semantic": None, "lowlevel": "teacher: clip_tokens"}, "lowlevel (teacher: clip_tokens)"),
        (
            {"text": "transductive"}, {"semantic": "compat: x", "text": None, "lowlevel": "no teacher"},
            "rescaled on the test set: text; semantic (compat: x); lowlevel (no teacher)",
        ),
    ],
)  # fmt: skip
def test_what_the_test_set_knew_and_what_the_decoders_say_is_said(rescaled, decoders, said):
    assert note(rescaled, decoders) == said


@pytest.mark.parametrize(
    ("decoders", "said"),
    [
        ({}, "upper bound, no method"),
        ({"lowlevel": "no teacher"}, "lowlevel (no teacher); upper bound, no method"),
    ],
)
def test_what_the_generator_says_of_itself_comes_last(decoders, said):
    assert note({}, decoders, "upper bound, no method") == said


@pytest.mark.parametrize(
    ("about", "said"),
    [
        (({"semantic": "transductive"}, {}), "rescaled on the test set: semantic"),
        (({}, {"lowlevel": "teacher: clip_tokens"}), "lowlevel (teacher: clip_tokens)"),
    ],
)
def test_what_is_said_of_a_reconstruction_is_in_every_row_of_its_own(
    files, reconstruction, settings, about, said
):
    paths, _, train = files
    labels = [reconstruction, replace(reconstruction, name="honest")]  # of the same images
    notes = [note(*about), note({"semantic": "cross_validated"}, {"semantic": None})]
    told, honest = (
        scores.rows[scores.rows["value"].notna()]
        for scores in score_files(labels, [paths] * 2, Source(), train, settings, notes)
    )
    own = told["control"].isna()
    assert own.any() and (told[own]["note"] == said).all()
    assert not told[~own]["note"].fillna("").str.contains(said, regex=False).any()
    assert not honest["note"].fillna("").str.contains(said, regex=False).any()


class Silent(Source):
    """Own data without a column of objects."""

    def objects(self, stimuli):
        raise PerceptError("the column `objects` says nothing")


@pytest.mark.parametrize("networks", [(), ("tiny_judge",)])
def test_data_that_say_nothing_about_objects_are_scored_all_the_same(
    files, reconstruction, settings, networks
):
    paths, _, train = files
    asked = settings.model_copy(update={"images": settings.images.model_copy(update={"networks": networks})})
    (scores,) = score_files([reconstruction], [paths], Silent(), train, asked)
    assert value(scores, "pixcorr")["value"] == pytest.approx(1)
    if networks:
        for name in ("object", "category"):
            assert np.isnan(value(scores, name)["value"])
            assert value(scores, name)["note"] == "not available: the column `objects` says nothing"


class Untouched:
    """Stimuli that nobody may read yet."""

    def images(self, stimuli):
        raise AssertionError("read before the networks were opened")


def test_damaged_weights_are_found_before_anything_is_read(files, reconstruction, tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources" / "backbones" / "lpips_alex").mkdir(parents=True)
    place = store.folder("lpips_alex")
    save_file({"features.0.weight": np.zeros((2, 2), np.float32)}, place / "model.safetensors")
    store.write_manifest(place, "lpips_alex")
    settings = EvaluationConfig(images={"networks": ("tiny_clip", "lpips_alex")}, bootstrap=20)
    paths, _, train = files
    with pytest.raises(PerceptError, match="does not hold the weights of torchvision's alexnet"):
        score_files([reconstruction], [paths], Untouched(), train, settings)
