import numpy as np
import pytest
import torch

from percept.backbones import diffusion, store
from percept.backbones import text as text_encoders
from percept.backbones.diffusion import Conditions
from percept.backbones.tiny import clip, denoising, latents, text
from percept.backbones.tiny.denoising import Reader
from percept.files import read_json
from tests.unit.backbones import tiny_parts


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader(tiny_parts.write(tmp_path_factory.mktemp("parts")) / clip.NAME)


def test_states_are_those_that_open_clip_has_after_its_last_norm(reader):
    import open_clip

    folder = reader.tokenizer.name_or_path
    network = open_clip.create_model(f"local-dir:{folder}").eval()
    texts = ["A dog in a park.", "Two cars, on a city street, in dim light."]
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
    with torch.no_grad():
        theirs = text_encoders.clip_tokens(network, tokens)
    torch.testing.assert_close(reader.states(texts), theirs, atol=1e-5, rtol=1e-5)


def test_the_mean_of_captions_is_that_of_their_states(reader):
    captions = (("A dog.", "A cat."), ("A bus.", "A kite on a beach.", "Two dogs."))
    ours = reader.means(captions)
    for row, texts in enumerate(captions):
        torch.testing.assert_close(ours[row], reader.states(texts).mean(dim=0))


def test_scenes_are_told_of_by_one_caption_all_or_none(reader):
    scenes = tiny_parts.held_out(10)
    rows = np.repeat(np.arange(10), 30)
    found = text.spoken(scenes, rows, reader, np.random.default_rng(0))
    none = (found == reader.empty).all(dim=(1, 2)).numpy()
    means = reader.means(scenes.captions)[rows]
    every = torch.isclose(found, means, atol=1e-5).all(dim=(1, 2)).numpy()
    one = np.zeros(len(rows), bool)
    for which in range(5):
        states = reader.states([captions[which] for captions in scenes.captions])[rows]
        one |= torch.isclose(found, states, atol=1e-5).all(dim=(1, 2)).numpy()
    assert (none | every | one).all()
    for kind, share in ((none, text.NO_TEXT), (every, text.ALL_TEXTS)):
        assert abs(kind.mean() - share) < 4 * np.sqrt(share * (1 - share) / len(rows))


# What is shipped.


def test_the_shipped_network_is_small():
    folder = store.SHIPPED / text.NAME
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 6_000_000


def test_the_shipped_text_encoder_is_that_of_the_shipped_clip():
    encoder = text_encoders.open_named(text.NAME, "tokens", device="cpu")
    ours = Reader(store.SHIPPED / clip.NAME).states(["A red dog in a park.", ""])
    np.testing.assert_allclose(encoder.encode(["A red dog in a park.", ""]), ours, atol=1e-5)


@pytest.mark.parametrize("told", ["full caption", "mean of five captions"])
def test_held_out_scenes_are_identified_from_their_captions(told):
    scenes, true = tiny_parts.true_scenes(60)
    reader = Reader(store.SHIPPED / clip.NAME)
    first = [captions[0] for captions in scenes.captions]
    given = reader.states(first) if told == "full caption" else reader.means(scenes.captions)
    sampler = diffusion.open_named(text.NAME, device="cpu", steps=12)
    made = sampler.sample(Conditions(text=given.numpy()), range(60), guidance=3.0)
    assert denoising.identified(latents.embed(store.SHIPPED / clip.NAME, made), true) >= 0.9


@pytest.mark.slow
def test_the_card_says_what_many_scenes_measure():
    written = read_json(store.SHIPPED / text.NAME / "quality.json")
    assert min(written.values()) >= 0.9
    scenes, true = tiny_parts.true_scenes(1000)
    sampler = diffusion.open_named(text.NAME, device="cpu", steps=20)
    prompts = [captions[0] for captions in scenes.captions]
    made = sampler.sample(Conditions(prompts=prompts), range(1000), guidance=3.0)
    measured = denoising.identified(latents.embed(store.SHIPPED / clip.NAME, made), true)
    key = next(name for name in written if "full caption" in name)
    assert measured == pytest.approx(written[key], abs=0.01)
