"""The image of an outside pool that is nearest to the prediction, on a pool whose answers are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from percept.config import plugin
from percept.files import PerceptError
from percept.generators import choose, make
from percept.generators import store as made_images
from percept.generators.roles import Context, Outside, Roles, Training
from percept.targets import encode, folder, store

RNG = np.random.default_rng(0)
N, DIM, SIZE = 20, 6, 40  # images of the pool, dimensions of their embeddings, pixels
STIMULI = np.array([31, 4, 90], dtype=np.int32)
TRUE = RNG.standard_normal((30, DIM)).astype(np.float32) + 2  # targets of the data set's own stimuli
TRAIN = np.arange(25, dtype=np.int32)
EMBEDDINGS = RNG.standard_normal((N, DIM)).astype(np.float32) + 2
PRINT = {"kind": "clip_image", "augmentation": "none", "backbone": {"name": "tiny_clip", "probe": [1.0]}}


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A folder of images in several folders, of several sizes, each of a colour of its own."""
    path = tmp_path_factory.mktemp("web")
    for number in range(N):
        (path / str(number % 3)).mkdir(exist_ok=True)
        noise = RNG.integers(0, 256, (12, 10 + number, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((60 + number, 50)).save(path / str(number % 3) / f"{number:02d}.png")
    folder.write_list(path, path / "files.parquet")
    return path


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "index.json"
    store.write(path, TRUE, np.arange(len(TRUE)), PRINT)
    return Training(TRAIN, {"semantic": path}, lambda stimuli: stimuli)


@pytest.fixture
def context(web, train, tmp_path):
    np.save(tmp_path / "web.npy", EMBEDDINGS)
    return Context(train, Outside(web, SIZE, web / "files.parquet", tmp_path / "web.npy"))


def pictures(web):
    files = folder.list_images(web)
    return files, folder.ImageFolder(web, tuple(files), SIZE)


def build(context, **settings):
    return plugin("generators", {"kind": "outside", "pool": "web", "device": "cpu", **settings}).build(
        context
    )


def ask(context, predicted, **settings):
    given = Roles(np.arange(len(predicted), dtype=np.int32), predicted)
    return build(context, **settings).generate(given, seed=0)


def test_the_embedding_of_an_image_finds_it_and_details_say_which_file_it_is(context, web):
    order = RNG.permutation(N)
    files, images = pictures(web)
    found = ask(context, EMBEDDINGS[order] * 7)  # a cosine does not see lengths
    np.testing.assert_array_equal(found.images, images.images(order))
    assert [row["file"] for row in found.details] == [files[row] for row in order]
    np.testing.assert_allclose([row["similarity"] for row in found.details], 1, rtol=1e-6)
    assert found.images.shape == (N, SIZE, SIZE, 3)


def cosines(one, other):
    lengths = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    return one.astype(np.float64) @ other.T.astype(np.float64) / lengths


@pytest.mark.parametrize("centre", [False, True])
def test_the_nearest_is_the_one_of_the_highest_cosine_about_the_training_mean_if_asked(context, web, centre):
    predicted = RNG.standard_normal((50, DIM)).astype(np.float32) + 2
    mean = TRUE[TRAIN].mean(axis=0) if centre else 0
    expected = cosines(predicted - mean, EMBEDDINGS - mean)
    files, _ = pictures(web)
    found = ask(context, predicted, centre=centre)
    assert [row["file"] for row in found.details] == [files[row] for row in expected.argmax(axis=1)]
    np.testing.assert_allclose(
        [row["similarity"] for row in found.details], expected.max(axis=1), rtol=1e-4, atol=1e-5
    )


def test_shrunken_predictions_find_different_images_only_about_the_training_mean(context):
    """Why ridge needs `centre`: shrinkage puts every prediction near the mean."""
    mean = TRUE[TRAIN].mean(axis=0)
    shrunken = mean + 0.05 * (EMBEDDINGS - mean)
    with_, without = (
        {row["file"] for row in ask(context, shrunken, centre=centre).details} for centre in (True, False)
    )
    assert len(with_) == N and len(without) < N / 2


def test_nothing_is_random_and_nothing_depends_on_the_batch(context):
    predicted = RNG.standard_normal((9, DIM)).astype(np.float32) + 2
    generator = build(context)
    whole = Roles(np.arange(9, dtype=np.int32), predicted)
    together, other = generator.generate(whole, seed=0), generator.generate(whole, seed=1)
    np.testing.assert_array_equal(together.images, other.images)
    for row in range(9):
        alone = generator.generate(whole.rows(slice(row, row + 1)), seed=0)
        np.testing.assert_array_equal(alone.images[0], together.images[row])
        assert alone.details[0]["file"] == together.details[row]["file"]


@pytest.fixture
def tokens(elsewhere):
    """Encodes images as the tokens by which candidates are compared."""
    from percept.backbones import image

    return image.open_named("tiny_clip", "tokens", device="cpu")


def test_among_the_candidates_the_tokens_choose(context, web, tokens):
    predicted = RNG.standard_normal((3, DIM)).astype(np.float32) + 2
    files, images = pictures(web)
    encoded = tokens.encode(images.images(range(N)))
    nearest = np.argsort(-cosines(predicted, EMBEDDINGS), axis=1)[:, :4]
    wanted = encoded[nearest[:, 3]] * np.float32(0.5)  # tokens of the last of the four candidates
    given = Roles(STIMULI, predicted, ranking=wanted)
    found = build(context, candidates=4, ranking_backbone="tiny_clip").generate(given, seed=0)
    assert [row["file"] for row in found.details] == [files[row] for row in nearest[:, 3]]
    assert [row["sample"] for row in found.details] == [3, 3, 3]
    np.testing.assert_allclose([row["similarity"] for row in found.details], 1, rtol=1e-4)


def test_the_choice_is_by_cosine_of_all_tokens_and_among_the_candidates_alone(context, web, tokens):
    predicted = RNG.standard_normal((3, DIM)).astype(np.float32) + 2
    _, images = pictures(web)
    encoded = tokens.encode(images.images(range(N)))
    wanted = RNG.standard_normal(encoded[:3].shape).astype(np.float32) + encoded[7:10]
    nearest = np.argsort(-cosines(predicted, EMBEDDINGS), axis=1)[:, :5]
    given = Roles(STIMULI, predicted, ranking=wanted)
    found = build(context, candidates=5, ranking_backbone="tiny_clip").generate(given, seed=0)
    scores = choose.similarity_to(np.swapaxes(encoded[nearest], 0, 1), wanted)
    best = nearest[np.arange(3), scores.argmax(axis=0)]
    np.testing.assert_array_equal(found.images, images.images(best))
    np.testing.assert_allclose([row["similarity"] for row in found.details], scores.max(axis=0), atol=1e-4)


def test_a_pool_that_is_encoded_by_the_target_is_found_by_true_targets(web, train, tmp_path, elsewhere):
    target = plugin("targets", {"kind": "clip_image", "backbone": "tiny_clip", "device": "cpu"})
    _, images = pictures(web)
    encode.encode_to(tmp_path / "index.json", "clip of the pool web", target, images, range(N))
    own = store.read(tmp_path / "index.json", np.arange(N))
    features = tmp_path / "own" / "index.json"
    fingerprint = json.loads((tmp_path / "index.json").read_text())["fingerprint"]
    store.write(features, own[:5], np.arange(5), fingerprint)
    pool = Outside(web, SIZE, web / "files.parquet", tmp_path / "index.json")
    context = Context(replace(train, stimuli=TRAIN[:5], features={"semantic": features}), pool)
    np.testing.assert_array_equal(ask(context, own).images, images.images(range(N)))


def test_a_pool_of_another_network_is_refused(context, tmp_path):
    other = PRINT | {"backbone": {"name": "clip_vit_l14", "probe": [1.0]}}
    store.write(tmp_path / "index.json", EMBEDDINGS, np.arange(N), other)
    foreign = replace(context.outside, embeddings=tmp_path / "index.json")
    with pytest.raises(
        PerceptError, match=r"foreign fingerprint \(backbone\.name: clip_vit_l14 there, tiny_"
    ):
        build(replace(context, outside=foreign))


@pytest.mark.parametrize("n_rows", [N - 1, N + 1])
def test_embeddings_of_another_number_of_images_are_refused(context, n_rows):
    np.save(context.outside.embeddings, np.resize(EMBEDDINGS, (n_rows, DIM)))
    with pytest.raises(PerceptError, match=rf"{n_rows} embeddings, and .* has {N} images: row i has to"):
        build(context)


def test_more_candidates_than_images_are_refused(context, elsewhere):
    with pytest.raises(PerceptError, match=rf"'web' has {N} images, fewer than the `candidates: 21`"):
        build(context, candidates=21, ranking_backbone="tiny_clip")
    assert build(context, candidates=21)  # which nothing chooses among


def test_embeddings_of_another_network_without_a_fingerprint_are_noticed_by_their_length(context):
    with pytest.raises(PerceptError, match=f"queries of 5 dimensions .* pool of {DIM}"):
        ask(context, np.zeros((2, 5), dtype=np.float32))


def test_one_candidate_leaves_no_choice():
    with pytest.raises(ValidationError, match="of one candidate nothing can be chosen"):
        plugin(
            "generators", {"kind": "outside", "pool": "a", "candidates": 1, "ranking_backbone": "tiny_clip"}
        )


def test_without_a_pool_or_training_images_it_says_what_is_missing(context):
    with pytest.raises(PerceptError, match="looks in the pool 'web', and was built without one"):
        build(Context())
    none = replace(context, train=replace(context.train, stimuli=TRAIN[:0]))
    with pytest.raises(PerceptError, match="and the split has none"):
        build(none, centre=True)
    assert build(none)


@pytest.mark.parametrize(("copies", "said"), [(0, False), (2, True)])
def test_images_that_were_seen_and_lie_in_the_pool_are_noticed(context, caplog, copies, said):
    predicted = RNG.standard_normal((5, DIM)).astype(np.float32)
    predicted[:copies] = EMBEDDINGS[:copies]
    ask(context, predicted)
    assert (f"{copies} of 5 embeddings that were looked for are in the pool 'web'" in caplog.text) == said


@pytest.mark.parametrize(
    ("settings", "needs", "backbones", "n_gpus"),
    [
        ({}, ("semantic",), (), 0),
        ({"ranking_backbone": "tiny_clip"}, ("semantic", "ranking"), ("tiny_clip",), 0),
        ({"ranking_backbone": "clip_vit_l14"}, ("semantic", "ranking"), ("clip_vit_l14",), 1),
        (
            {"ranking_backbone": "clip_vit_l14", "device": "cpu"},
            ("semantic", "ranking"),
            ("clip_vit_l14",),
            0,
        ),
    ],
)
def test_a_network_and_a_gpu_are_asked_for_where_candidates_are_encoded(settings, needs, backbones, n_gpus):
    cfg = plugin("generators", {"kind": "outside", "pool": "web", **settings})
    assert (cfg.needs, cfg.backbones, cfg.n_gpus, cfg.pools) == (needs, backbones, n_gpus, ("web",))


def test_the_table_of_details_names_the_files(context, web, tmp_path):
    import pandas as pd

    roles = Roles(STIMULI, EMBEDDINGS[[2, 0, 5]])
    outputs = {name: tmp_path / f"{name}.h5" for name in ("images", "recovery")}
    outputs["details"] = tmp_path / "details.parquet"
    make.run(
        build(context, batch_size=2), dict.fromkeys(("images", "recovery"), lambda: roles), make.Job(outputs)
    )
    table = pd.read_parquet(outputs["details"])
    files, images = pictures(web)
    assert table.loc[table["set"] == "images", "file"].tolist() == [files[row] for row in (2, 0, 5)]
    found = made_images.read_images(outputs["images"])
    np.testing.assert_array_equal(found.images, images.images([2, 0, 5]))
    np.testing.assert_array_equal(found.stimulus, STIMULI)
