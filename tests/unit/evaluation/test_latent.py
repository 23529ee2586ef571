"""What is said of the embeddings of one training: rows, controls, images, and what is refused."""

import h5py
import numpy as np
import pytest

from percept.config import EvaluationConfig, LatentsConfig
from percept.decoders.predictions import Predictions, write_predictions
from percept.evaluation import latent, objects, table
from percept.evaluation.clustering import unit
from percept.evaluation.latent import Latents
from percept.files import PerceptError
from percept.targets import store

SETTINGS = EvaluationConfig(
    latents=LatentsConfig(clusters=(3, 5, 500), clouds=20, restarts=2, map="pca"),
    bootstrap=50,
    permutations=99,
)


def made_up(noise=0.05, n_images=36, seed=0):
    """Images of three kinds, whose embeddings are around three directions."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n_images) % 3
    true = np.eye(7)[kind] + 0.1 * rng.normal(size=(n_images, 7))
    predicted = unit(true + noise * rng.normal(size=true.shape))
    return Latents(np.arange(n_images, dtype=np.int32), predicted, unit(true)), [
        f"kind {one}" for one in kind
    ]


@pytest.fixture(scope="module")
def analysed():
    latents, groups = made_up()
    label = table.Label("made up", "random", "subj01", "decoder", "voxelclip", "clip", unit="average")
    return latent.analyse(latents, groups, label, SETTINGS)


def test_every_measure_has_a_row_and_its_floor(analysed):
    own = analysed.rows[analysed.rows["control"].isna()]
    clusterings = [f"{method}_{n}" for method in ("kmeans", "agglomerative") for n in (3, 5)]
    measures = ("silhouette", "ami_images", "ami_categories")
    expected = {"rsa", *(f"{measure}_{name}" for measure in measures for name in clusterings)}
    assert set(own["metric"]) == expected and len(own) == len(expected)  # 500 clusters of 36 images: none
    floors = analysed.rows[analysed.rows["control"].notna()]
    assert set(floors["metric"]) == expected
    assert (floors["metric"].str.startswith("silhouette") == (floors["control"] == "cloud")).all()
    assert (own["n"] == 36).all() and own["p_value"].notna().all()


def test_what_is_there_stands_out_and_p_is_never_zero(analysed):
    own = analysed.rows[analysed.rows["control"].isna()].set_index("metric")
    for metric in ("rsa", "ami_images_kmeans_3", "ami_categories_kmeans_3", "ami_categories_agglomerative_3"):
        assert own.loc[metric, "value"] > 0.4 and own.loc[metric, "p_value"] == pytest.approx(0.01)
    assert own.loc["silhouette_kmeans_3", "p_value"] == pytest.approx(1 / 21)
    assert own.loc["rsa", "ci_low"] < own.loc["rsa", "value"] < own.loc["rsa", "ci_high"]


def test_predictions_of_noise_agree_with_nothing():
    latents, groups = made_up()
    few = SETTINGS.model_copy(update={"latents": LatentsConfig(clusters=(3,), clouds=19, map="pca")})
    found = []
    for seed in range(8):
        noise = unit(np.random.default_rng(seed).normal(size=latents.predicted.shape))
        rows = latent.analyse(latents._replace(predicted=noise), groups, table.Label(*"abcde"), few).rows
        found.append(rows[rows["control"].isna()].set_index("metric"))
    for metric in found[0].index:
        p_values = [one.loc[metric, "p_value"] for one in found]
        assert 0.2 < np.mean(p_values) < 0.8
        assert metric.startswith("silhouette") or abs(np.mean([o.loc[metric, "value"] for o in found])) < 0.1


def test_each_image_has_its_place_its_group_and_its_clusters(analysed):
    images = analysed.images
    assert {"stimulus", "x", "y", "group", "kept", "kmeans_3", "agglomerative_5"} <= set(images.columns)
    assert images["kmeans_3"].nunique() == 3 and images["group"].nunique() == 3
    assert images[["x", "y", "kept"]].stack().between(0, 1).all()


def test_without_categories_nothing_is_said_of_them():
    latents, _ = made_up()
    found = latent.analyse(latents, None, table.Label(*"abcde"), SETTINGS)
    assert not found.rows["metric"].str.startswith("ami_categories").any()
    assert found.images["group"].isna().all()


def written(folder, units, stimulus, n_dims=4):
    rng = np.random.default_rng(0)
    n = len(stimulus)
    ints = dict(stimulus=np.array(stimulus, np.int32), n_repeats=np.ones(n, np.int16))
    ints |= dict(run=np.full(n, -1, np.int16), fold=np.full(n, -1, np.int16))
    groups = {f"test/{one}": Predictions(rng.normal(size=(n, n_dims)), **ints) for one in units}
    write_predictions(folder / "predictions.h5", groups, {})
    shown = np.unique(stimulus)
    store.write(
        folder / "index.json", rng.normal(size=(len(shown), 2, 2)).astype(np.float32), shown, {"kind": "x"},
        "x", "float32",
    )  # fmt: skip
    return folder / "predictions.h5", folder / "index.json"


def test_repeats_are_averaged_where_only_single_trials_were_decoded(tmp_path):
    paths = written(tmp_path, ["single"], [5, 9, 5, 7, 8, 9, 5])
    found = latent.read(*paths, ("single",))
    with h5py.File(paths[0]) as file:
        rows = file["test/single/predicted"][:]
    np.testing.assert_array_equal(found.stimulus, [5, 7, 8, 9])
    np.testing.assert_allclose(found.predicted[0], unit(rows[[0, 2, 6]].mean(axis=0)[None])[0])
    assert found.true.shape == (4, 4)
    np.testing.assert_allclose(np.linalg.norm(found.true, axis=1), 1)


def test_averages_are_read_where_they_are(tmp_path):
    paths = written(tmp_path, ["single", "average"], [1, 2, 3, 4, 5])
    with h5py.File(paths[0]) as file:
        rows = file["test/average/predicted"][:]
    np.testing.assert_allclose(latent.read(*paths, ("single", "average")).predicted, unit(rows))


def test_too_few_images_are_refused(tmp_path):
    paths = written(tmp_path, ["average"], [1, 2, 3])
    with pytest.raises(PerceptError, match=r"predicts 3 test images.*needs 4 or more"):
        latent.read(*paths, ("average",))


class Own:
    """A lab's own images, some without objects."""

    def objects(self, stimuli):
        return [("scooter", "dog"), (), ("dog",)][: len(stimuli)]


def test_a_main_object_that_no_one_groups_stands_for_itself():
    assert objects.kinds(Own(), [1, 2, 3]) == ["scooter", objects.NOTHING, "dog"]
    assert objects.kinds(object(), [1]) is None
