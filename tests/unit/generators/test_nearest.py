import numpy as np
import pytest

from percept.evaluation import controls
from percept.files import PerceptError
from percept.generators.nearest import NearestConfig
from percept.generators.roles import Context, Roles, Training
from percept.targets import pool, store

STIMULI = np.arange(0, 60, 2, dtype=np.int32)  # cached; training images are some of them
TRAIN = STIMULI[[1, 4, 5, 9, 12, 20, 21, 28]]
RNG = np.random.default_rng(0)
FEATURES = (RNG.standard_normal((30, 3, 4)) + 4).astype(np.float32)  # a mean far from 0, as embeddings have
PICTURES = RNG.integers(0, 256, (60, 5, 6, 3), dtype=np.uint8)


def images(stimuli):
    return PICTURES[np.asarray(stimuli)]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "index.json"
    store.write(path, FEATURES, STIMULI, {"kind": "test"})
    return Context(Training(TRAIN, {"semantic": path, "lowlevel": path}, images))


def made(context, predicted, role="semantic", **settings):
    generator = NearestConfig(**settings).build(context)
    return generator.generate(Roles(np.arange(len(predicted)), **{role: predicted}), seed=0)


def known(stimuli=TRAIN):
    return FEATURES[np.searchsorted(STIMULI, stimuli)]


@pytest.mark.parametrize("role", ["semantic", "lowlevel"])
@pytest.mark.parametrize("metric", ["cosine", "correlation"])
@pytest.mark.parametrize("centre", [True, False])
def test_a_training_image_is_nearest_to_its_own_target(context, role, metric, centre):
    found = made(context, known(), role, metric=metric, centre=centre)
    np.testing.assert_array_equal(found.images, images(TRAIN))
    np.testing.assert_allclose([row["similarity"] for row in found.details], 1, rtol=1e-6)


def test_only_training_images_are_found(context):
    found = made(context, FEATURES)
    assert all(any(np.array_equal(image, one) for one in images(TRAIN)) for image in found.images)


def test_agrees_with_the_control_of_the_results_table(context):
    predicted = RNG.standard_normal((40, 3, 4)).astype(np.float32) + 4
    flat = known().reshape(len(TRAIN), -1)
    rows = controls.nearest_train(predicted.reshape(40, -1), flat, flat.mean(axis=0))
    np.testing.assert_array_equal(made(context, predicted).images, images(TRAIN[rows]))


@pytest.mark.parametrize("k", [2, 3, 8])
def test_the_mean_of_the_k_nearest_is_the_pixel_mean(context, k):
    predicted = known()[:3] + 0.3 * RNG.standard_normal((3, 3, 4)).astype(np.float32)
    centre = known().mean(axis=0)
    rows = pool.search(predicted - centre, pool.ArrayPool(known() - centre), k, "correlation").row
    expected = images(TRAIN[rows].ravel()).reshape(3, k, 5, 6, 3).mean(axis=1)
    np.testing.assert_allclose(made(context, predicted, k=k).images, expected, atol=0.5)


def test_without_centring_predictions_near_the_mean_find_the_same_image(context):
    """Why `centre` is on: shrinkage puts every prediction near the mean, and one image is nearest to that."""
    shrunken = known().mean(axis=0) + 0.02 * (known() - known().mean(axis=0))
    with_, without = (made(context, shrunken, centre=centre).images for centre in (True, False))
    np.testing.assert_array_equal(with_, images(TRAIN))
    assert len(np.unique(without, axis=0)) < len(TRAIN) / 2


def test_the_mean_over_the_pool_is_taken_a_block_at_a_time(context, monkeypatch):
    whole = made(context, FEATURES).images
    monkeypatch.setattr(pool, "BLOCK", 4 * 12 * 3)
    np.testing.assert_array_equal(made(context, FEATURES).images, whole)


def test_all_queries_share_one_pass_over_the_pool_and_every_batch_the_mean(context, monkeypatch):
    read, rows = store.Features.read, []

    def counted(self, stimuli, *columns):
        rows.extend(stimuli)
        return read(self, stimuli, *columns)

    monkeypatch.setattr(store.Features, "read", counted)
    generator = NearestConfig().build(context)
    queries = RNG.standard_normal((1000, 3, 4)).astype(np.float32)
    assert generator.batch_size >= len(queries)  # as many test images as NSD has
    for n_passes in (2, 3):  # the mean and the search; then the search alone
        generator.generate(Roles(np.arange(1000), semantic=queries), seed=0)
        assert len(rows) == n_passes * len(TRAIN)


def test_few_images_are_read_at_a_time(context):
    asked = []

    def counted(stimuli):
        asked.append(len(stimuli))
        return images(stimuli)

    generator = NearestConfig(k=3).build(Context(Training(TRAIN, context.train.features, counted)))
    generator.generate(Roles(np.arange(30), semantic=FEATURES), seed=0)
    assert sum(asked) == 90 and max(asked) <= 64


@pytest.mark.parametrize(("k", "stimuli"), [(9, TRAIN), (1, TRAIN[:0])])
def test_too_few_training_images_are_refused(context, k, stimuli):
    few = Context(Training(stimuli, context.train.features, images))
    with pytest.raises(PerceptError, match=rf"`k: {k}`.*split has {len(stimuli)}"):
        NearestConfig(k=k).build(few)


@pytest.mark.parametrize("roles", [{}, {"semantic": FEATURES, "lowlevel": FEATURES}])
def test_other_than_one_role_is_refused(context, roles):
    with pytest.raises(PerceptError, match=f"one decoder, not from {len(roles)}"):
        NearestConfig().build(context).generate(Roles(STIMULI, **roles), seed=0)


def test_targets_of_another_network_are_refused(context):
    with pytest.raises(PerceptError, match="queries of 5 dimensions"):
        made(context, np.zeros((2, 5), dtype=np.float32), centre=False)
