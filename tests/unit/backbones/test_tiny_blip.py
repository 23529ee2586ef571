import numpy as np
import pytest
import torch

from percept.backbones import store
from percept.backbones.tiny import blip, clip, quality, tokenizer
from percept.files import read_json
from tests.unit.backbones.tiny_scenes import held_out

N_QUICK = 100


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    spoken = (text for texts in held_out(60).captions for text in texts)
    tokenizer.write(tokenizer.vocabulary(spoken), folder)
    return tokenizer.read(folder)


@pytest.fixture(scope="module")
def network(words):
    return blip.build(words, seed=1).eval()


# The start from CLIP.


def seeing():
    """A CLIP image tower in which every part does something, and the patches' own spread."""
    tower = clip.build(20, seed=2).visual.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for name, weight in tower.named_parameters():
        if name.endswith("bias") or "ln" in name:
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    return tower


def test_blip_starts_by_seeing_what_clip_sees(words):
    """Equal but for CLIP's division of each token by its own spread; that is made equal here."""
    images = held_out(60).images
    tower = seeing()
    weights = blip.vision_start(tower, images)
    patches = tower.conv1(clip.normalised(images)).flatten(2).transpose(1, 2)
    spread = (patches + tower.positional_embedding[1:]).std(dim=-1).mean()

    class ByTheTypicalSpread(torch.nn.Module):
        def forward(self, x):
            return (x - x.mean(dim=-1, keepdim=True)) / spread * tower_norm.weight + tower_norm.bias

    tower_norm, tower.ln_pre = tower.ln_pre, ByTheTypicalSpread()
    vision = blip.build(words, seed=0).vision_model.eval()
    vision.load_state_dict(weights)
    expected, tokens = [], clip.normalised(images[:7])
    tower.ln_post.register_forward_hook(lambda module, given, output: expected.append(output))
    with torch.inference_mode():
        tower(tokens)
        found = vision(pixel_values=tokens).last_hidden_state
    pooled = found[:, 0] if expected[0].ndim == 2 else found
    np.testing.assert_allclose(pooled, expected[0], atol=1e-4)


# The loss.


def test_of_a_network_without_opinion_the_loss_is_that_of_a_die_over_the_words(network, words):
    images = clip.normalised(held_out(12).images[:2])
    tokens = torch.from_numpy(tokenizer.encode(words, ["A dog in a park.", "A kite."]))
    silent = blip.build(words, seed=1).eval()
    for parameter in silent.text_decoder.cls.parameters():
        torch.nn.init.zeros_(parameter)
    assert blip.next_word(silent, images, tokens)["loss"].item() == pytest.approx(
        np.log(len(words)), rel=1e-5
    )


def test_padding_is_neither_read_nor_scored(network, words):
    images = clip.normalised(held_out(12).images[:1])
    tokens = torch.from_numpy(tokenizer.encode(words, ["A dog in a park."]))
    short = tokens[:, : int((tokens != 0).sum())]
    both = torch.cat([tokens, torch.from_numpy(tokenizer.encode(words, ["Two cars and a bus on a beach."]))])
    alone = blip.next_word(network, images, short)["loss"]
    again = blip.next_word(network, images.repeat(2, 1, 1, 1), both)["loss"]
    other = blip.next_word(network, images, both[1:])["loss"]
    n, m = (int((row != 0).sum()) - 1 for row in both)
    np.testing.assert_allclose(again.item(), (n * alone.item() + m * other.item()) / (n + m), rtol=1e-5)


def test_a_written_captioner_is_read_by_its_library(network, words, tmp_path):
    from transformers import BlipProcessor

    blip.save(blip.build(words, seed=1), words, tmp_path)
    processor = BlipProcessor.from_pretrained(tmp_path)
    images = held_out(12).images
    prepared = processor(images=list(images), return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(prepared, clip.normalised(images), atol=1e-5)
    said = blip.captions(tmp_path, images[:3])
    assert len(said) == 3
    assert blip.captions(tmp_path, images[:3], size=1) == said


# What is shipped.


def test_the_shipped_captioner_names_the_largest_object_of_held_out_scenes():
    scenes = held_out(N_QUICK)
    said = blip.captions(store.require("tiny_blip"), scenes.images)
    assert quality.named_main(said, scenes.main) >= 0.8
    assert quality.named_main(said, scenes.main[1:] + scenes.main[:1]) < 0.4  # of another scene


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_shipped_captioner_keeps_what_its_card_says():
    folder = store.require("tiny_blip")
    measured, said = blip.measure(folder, held_out(2000)), read_json(folder / "quality.json")
    assert measured == pytest.approx(said, abs=0.005)
    assert measured["sharp: the caption names the largest object"] >= 0.8
