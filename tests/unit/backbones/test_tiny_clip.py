import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from percept.backbones import store
from percept.backbones.tiny import clip, data, quality, tokenizer
from percept.datasets.scenes import CATEGORIES
from percept.files import write_json
from tests.unit.backbones.tiny_scenes import held_out

TEXTS = ("A red dog in a park.", "Two cars and a bus, on a city street, in bright light.", "A kite.", "")
N_QUICK = 300


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """The folder of a network that was not trained, and the network."""
    folder = tmp_path_factory.mktemp("clip")
    tokens = tokenizer.vocabulary(text for texts in held_out(60).captions for text in texts)
    tokenizer.write(tokens, folder)
    model = clip.build(len(tokens), seed=3).eval()
    with torch.no_grad():  # biases start at zero, where a swap of two would not be seen
        for name, weight in model.named_parameters():
            if name.endswith("bias") or "ln" in name:
                weight.add_(
                    0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name)))
                )
    model.half().float()
    write_json(clip.model_config(len(tokens)), folder / "open_clip_config.json")
    clip.save_half(model.state_dict(), folder / "open_clip_model.safetensors")
    return folder, model


# Words.


def test_the_end_token_is_the_largest_number_of_each_text(untrained):
    words = tokenizer.read(untrained[0])
    numbers = tokenizer.encode(words, TEXTS)
    end = (numbers == words.sep_token_id).argmax(axis=1)
    np.testing.assert_array_equal(numbers.argmax(axis=1), end)
    np.testing.assert_array_equal(end, [len(tokenizer.words(text)) + 1 for text in TEXTS])
    assert words.sep_token_id == len(words) - 1


def test_open_clip_reads_the_same_words(untrained):
    import open_clip

    theirs = open_clip.get_tokenizer(f"local-dir:{untrained[0]}")(list(TEXTS))
    np.testing.assert_array_equal(theirs, tokenizer.encode(tokenizer.read(untrained[0]), TEXTS))


def test_a_text_comes_back_from_its_numbers(untrained):
    words = tokenizer.read(untrained[0])
    assert words.decode(tokenizer.encode(words, [TEXTS[1]])[0], skip_special_tokens=True) == TEXTS[1].lower()


def test_what_no_caption_says_is_unknown(untrained):
    words = tokenizer.read(untrained[0])
    assert words.unk_token_id in tokenizer.encode(words, ["A zeppelin."])


@given(texts=st.lists(st.text("abc ,.", max_size=9), max_size=5))
@settings(max_examples=30, deadline=None)
def test_every_word_is_in_the_vocabulary_once(texts):
    tokens = tokenizer.vocabulary(texts)
    assert len(set(tokens)) == len(tokens)
    assert {word for text in texts for word in tokenizer.words(text)} == set(tokens[4:-1])
    assert tokens[-1] == tokenizer.END


# The loss.


@pytest.mark.parametrize(("n", "scale"), [(3, 1.0), (5, 20.0)])
def test_with_one_match_each_it_is_the_loss_of_clip(n, scale):
    from open_clip.loss import ClipLoss

    seen, said = (torch.nn.functional.normalize(torch.randn(n, 7), dim=-1) for _ in range(2))
    ours = clip.soft_contrastive(scale * seen @ said.T, torch.eye(n).bool())
    np.testing.assert_allclose(ours, ClipLoss()(seen, said, torch.tensor(scale)), rtol=1e-5)


def test_equal_captions_are_no_mistake():
    matches = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    best = clip.soft_contrastive(60.0 * matches, matches)
    np.testing.assert_allclose(best, 2 / 3 * math.log(2), rtol=1e-5)  # the entropy of the labels
    punished = clip.soft_contrastive(60.0 * torch.eye(3), matches)
    assert punished > best + 5


def test_every_true_caption_of_a_batch_is_a_match():
    scenes = held_out(60)
    batch = data.batch(scenes, 0, 40, 0)
    said = clip.captions_of(batch, scenes, (0, 0))
    assert said.matches.diagonal().all()
    for row, matches in zip(batch.rows, said.matches, strict=True):
        true = {*scenes.captions[row], *(data.prompt(name) for name in scenes.objects[row])}
        assert [text in true for text in said.texts] == list(matches)
    bare = {data.prompt(name) for name in CATEGORIES}
    assert 1 <= sum(text in bare for text in said.texts) <= 20


def test_a_perfect_network_matches_everything():
    class Perfect:
        logit_scale = torch.tensor(5.0)

        def encode_image(self, images, normalize):
            return torch.eye(3)

    perfect = Perfect()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip, "encode_tokens", lambda model, tokens: torch.eye(3))
        found = clip.contrast(perfect, torch.zeros(3), np.zeros((3, 4), dtype=int), np.eye(3, dtype=bool))
    assert found["matched"] == 1
    assert found["loss"] < 1e-6


# The towers.


def test_shortened_texts_are_read_as_open_clip_reads_them(untrained):
    model = untrained[1]
    tokens = torch.from_numpy(tokenizer.encode(tokenizer.read(untrained[0]), TEXTS))
    with torch.inference_mode():
        ours, theirs = clip.encode_tokens(model, tokens), model.encode_text(tokens, normalize=True)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_a_written_network_is_read_back(untrained):
    folder, model = untrained
    read, _ = clip.load(folder)
    images = held_out(12).images
    np.testing.assert_allclose(clip.embed_images(read, images), clip.embed_images(model, images), atol=5e-3)
    np.testing.assert_allclose(np.linalg.norm(clip.embed_images(read, images), axis=1), 1, rtol=1e-5)


def test_preparation_is_that_of_the_folder(untrained):
    import open_clip
    from PIL import Image

    _, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{untrained[0]}")
    image = held_out(12).images[5]
    theirs = prepare(Image.fromarray(image))
    np.testing.assert_allclose(clip.normalised(image[None])[0], theirs, atol=1e-5)


def test_transformers_text_tower_has_the_hidden_states_of_open_clip(untrained):
    folder, _ = untrained
    model, words = clip.load(folder)
    text = clip.text_model(folder)
    tokens = torch.from_numpy(tokenizer.encode(words, TEXTS))
    with torch.inference_mode():
        inside = model.token_embedding(tokens) + model.positional_embedding
        hidden = model.ln_final(model.transformer(inside, attn_mask=model.attn_mask))
        found = text(input_ids=tokens)
        pooled = model.encode_text(tokens)
    np.testing.assert_allclose(found.last_hidden_state, hidden, atol=2e-5)
    np.testing.assert_allclose(found.pooler_output @ model.text_projection, pooled, atol=2e-5)


# Measures.


def test_the_best_category_counts_when_it_is_in_the_picture():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.1, 0.7], [0.0, 1.0, 0.2]])
    present = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1]], dtype=bool)
    assert quality.top1_present(scores, present) == pytest.approx(2 / 3)
    assert quality.chance_present(present) == pytest.approx(5 / 9)
    assert quality.constant_present(present) == pytest.approx(2 / 3)
    assert quality.top1_main(scores, ("a", "b", "c"), ("a", "a", "b")) == pytest.approx(2 / 3)


def test_chance_is_what_a_random_category_scores():
    rng = np.random.default_rng(0)
    present = rng.random((4000, 6)) < [0.1, 0.2, 0.3, 0.4, 0.1, 0.5]
    found = quality.top1_present(rng.random(present.shape), present)
    np.testing.assert_allclose(found, quality.chance_present(present), atol=0.03)


def test_retrieval_ranks_rows_and_columns_within_their_pool():
    similarity = np.eye(6) + np.diag(np.full(3, 2.0), k=3)  # other pools are no rivals
    assert quality.retrieval_top1(similarity, pool=3) == (1, 1)
    similarity[1, 0] = 5  # image 1 finds caption 0; caption 0 finds image 1
    assert quality.retrieval_top1(similarity, pool=3) == (pytest.approx(5 / 6), pytest.approx(5 / 6))
    similarity[2, 0] = 4  # image 2 as well, but caption 0 was lost already
    assert quality.retrieval_top1(similarity, pool=3) == (pytest.approx(4 / 6), pytest.approx(5 / 6))


@pytest.mark.parametrize("pool", [2, 5, 10])
def test_a_network_that_knows_nothing_retrieves_one_in_a_pool(pool):
    assert quality.retrieval_top1(np.zeros((30, 30)), pool) == (pytest.approx(1 / pool),) * 2


def test_a_pool_larger_than_the_images_is_refused():
    with pytest.raises(ValueError, match="pools of 100 needs as many images, there are 7"):
        quality.retrieval_top1(np.eye(7))


@pytest.mark.parametrize(
    ("caption", "category", "named"),
    [
        ("Two dogs on a beach.", "dog", True),
        ("A hotdog on a beach.", "dog", False),
        ("Three people in a park.", "person", True),
        ("Two buses on a street.", "bus", True),
        ("A busy street.", "bus", False),
        ("two traffic lights", "traffic light", True),
        ("a picture in bright light", "traffic light", False),
        ("Two sheep.", "sheep", True),
    ],
)
def test_a_category_is_named_in_singular_and_plural(caption, category, named):
    assert quality.names_it(caption, category) is named


def test_every_full_caption_names_its_largest_object():
    scenes = held_out(60)
    assert quality.named_main([captions[0] for captions in scenes.captions], scenes.main) == 1


# What is shipped.


def test_the_shipped_network_recognises_held_out_scenes():
    measured = clip.measure(store.require("tiny_clip"), held_out(N_QUICK))
    assert measured["zero-shot: the first category is in the picture"] >= 0.87  # 0.9, within 300 scenes
    assert measured["the same for a random category (chance)"] <= 0.1


@pytest.mark.slow
def test_the_shipped_network_keeps_what_its_card_says():
    measured = clip.measure(store.require("tiny_clip"), held_out(2000))
    from percept.files import read_json

    said = read_json(store.require("tiny_clip") / "quality.json")
    assert measured == pytest.approx(said, abs=0.005)
    assert measured["zero-shot: the first category is in the picture"] >= 0.9
    assert measured["the same for a random category (chance)"] <= 0.1
