"""Text encoders against open_clip, transformers, and the pipelines of diffusers that read their tokens."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from percept.backbones import store, text, towers
from percept.backbones.catalogue import CATALOGUE
from percept.files import PerceptError
from tests.unit.backbones import folders

torch = pytest.importorskip("torch")
TEXTS = ["a red circle", "the blue square left of a red circle of the blue square", ""]


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """Small networks under the names of the real ones, and what they are in memory."""
    root = tmp_path_factory.mktemp("backbones")
    made = {
        name: folders.clip(root, name, words=name == "tiny_clip") for name in ("tiny_clip", "clip_vit_l14")
    }
    made |= {name: folders.diffusion(root, name) for name in ("sd15", "tiny_text", "stable_unclip")}
    made["versatile_diffusion"] = folders.diffusion(
        root, "versatile_diffusion", "CLIPTextModelWithProjection"
    )
    return SimpleNamespace(root=root, **made)


@pytest.fixture(autouse=True)
def elsewhere(networks, monkeypatch):
    monkeypatch.setenv(store.ELSEWHERE, str(networks.root))


@pytest.mark.parametrize("name", ["tiny_clip", "clip_vit_l14"])
def test_pooled_features_of_a_clip_equal_those_of_open_clip(networks, name):
    import open_clip

    tokens = open_clip.get_tokenizer(f"local-dir:{networks.root / name}")(TEXTS)
    with torch.no_grad():
        expected = getattr(networks, name).encode_text(tokens).numpy()
    features = text.open_named(name, "pooled", "cpu").encode(TEXTS)
    assert features.shape == (3, 24) and features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
    assert not np.allclose(np.linalg.norm(features, axis=1), 1, atol=0.05)  # not normalised


@pytest.mark.parametrize("name", ["tiny_clip", "clip_vit_l14"])
def test_the_token_that_ends_a_text_projected_is_the_pooled_feature(networks, name):
    import open_clip

    tokens = text.open_named(name, "tokens", "cpu").encode(TEXTS)
    assert tokens.shape == (3, 7, 16)
    ends = open_clip.get_tokenizer(f"local-dir:{networks.root / name}")(TEXTS).argmax(dim=1)
    projection = getattr(networks, name).text_projection.detach().numpy()
    pooled = tokens[np.arange(3), ends] @ projection
    np.testing.assert_allclose(
        pooled, text.open_named(name, "pooled", "cpu").encode(TEXTS), rtol=1e-4, atol=1e-5
    )


def test_causal_attention_survives_the_loading_without_random_weights(networks):
    """The mask is no weight: a later word must not change the token of an earlier one."""
    encoder = text.open_named("tiny_clip", "tokens", "cpu")
    one, other = encoder.encode(["a red circle", "a red square"])
    np.testing.assert_allclose(one[:3], other[:3], rtol=1e-5, atol=1e-6)
    assert np.abs(one[3] - other[3]).max() > 1e-2


@pytest.mark.parametrize("name", ["sd15", "tiny_text", "stable_unclip"])
def test_tokens_are_what_the_pipeline_of_stable_diffusion_makes_of_a_prompt(networks, name):
    from diffusers import StableDiffusionImg2ImgPipeline as Pipeline
    from transformers import BertTokenizer

    network = getattr(networks, name)
    parts = {
        "tokenizer": BertTokenizer.from_pretrained(networks.root / name / "tokenizer"),
        "text_encoder": network,
        "unet": None,
        "maybe_convert_prompt": lambda prompt, _: prompt,
    }
    with torch.no_grad():
        expected, _ = Pipeline.encode_prompt(SimpleNamespace(**parts), TEXTS, "cpu", 1, False)
    tokens = text.open_named(name, "tokens", "cpu").encode(TEXTS)
    assert tokens.shape == (3, 9, 16)
    np.testing.assert_allclose(tokens, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_tokens_of_versatile_diffusion_are_those_of_its_pipeline(networks):
    from diffusers import VersatileDiffusionDualGuidedPipeline as Pipeline
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(networks.root / "versatile_diffusion" / "tokenizer")
    stand_in = SimpleNamespace(tokenizer=tokenizer, text_encoder=networks.versatile_diffusion)
    short = [TEXTS[0], TEXTS[2], "blue"]  # the pipeline fails on long texts in a batch
    with torch.no_grad():
        expected = Pipeline._encode_text_prompt(stand_in, short, "cpu", 1, False).numpy()
    tokens = text.open_named("versatile_diffusion", "tokens", "cpu").encode(short)
    assert tokens.shape == (3, 9, 12)
    np.testing.assert_allclose(tokens, expected, rtol=1e-5, atol=1e-5)


def test_the_pooled_feature_of_versatile_diffusion_has_the_length_its_tokens_are_divided_by(networks):
    pooled = text.open_named("versatile_diffusion", "pooled", "cpu").encode(TEXTS[:1])
    tokens = text.open_named("versatile_diffusion", "tokens", "cpu").encode(TEXTS[:1])
    end = 4  # [CLS] a red circle [SEP]
    np.testing.assert_allclose(
        tokens[:, end] * np.linalg.norm(pooled, axis=1, keepdims=True), pooled, rtol=1e-4, atol=1e-5
    )
    assert np.linalg.norm(tokens[0, end]) == pytest.approx(1, abs=1e-5)


def test_what_is_longer_than_the_context_is_cut_off_and_batches_change_nothing(networks, monkeypatch):
    encoder = text.open_named("sd15", "tokens", "cpu")
    long = "a red circle " * 40
    np.testing.assert_array_equal(encoder.encode([long]), encoder.encode([long + "blue square"]))
    whole = encoder.encode(TEXTS)
    monkeypatch.setattr(text, "BATCH", 2)
    np.testing.assert_allclose(encoder.encode(TEXTS), whole, rtol=1e-4, atol=1e-5)
    assert encoder.encode([]).shape == (0, 9, 16)


@pytest.mark.parametrize("architecture", [("ViT-L-14", 768), ("ViT-H-14", 1024), ("ViT-bigG-14", 1280)])
def test_shapes_of_the_real_towers(architecture, tmp_path):
    import open_clip

    name, width = architecture
    folders.write_settings(tmp_path, open_clip.get_model_config(name), {})
    network = towers.empty(tmp_path, CATALOGUE["clip_vit_l14"])
    tokens = torch.zeros(2, 77, dtype=torch.long, device="meta")
    assert text.clip_pooled(network, tokens).shape == (2, width)
    assert text.clip_tokens(network, tokens).shape == (2, 77, width)


@pytest.mark.parametrize(("name", "width"), [("sd15", 768), ("versatile_diffusion", 768)])
def test_shapes_of_the_real_hidden_states(name, width):
    import transformers

    settings = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    config = transformers.CLIPTextConfig(projection_dim=width, **settings)
    kind = "CLIPTextModelWithProjection" if name == "versatile_diffusion" else "CLIPTextModel"
    with torch.device("meta"):
        network = getattr(transformers, kind)(config)
        tokens = SimpleNamespace(input_ids=torch.zeros(2, 77, dtype=torch.long), attention_mask=None)
    read = text.READERS[CATALOGUE[name].loader]["tokens"]
    assert read(network, tokens).shape == (2, 77, width)


@pytest.mark.parametrize(("name", "output"), [("tiny_clip", "pooled"), ("sd15", "tokens")])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_rounds_weights_and_answers(networks, name, output, precision):
    exact = text.open_named(name, output, "cpu").encode(TEXTS)
    encoder = text.open_named(name, output, "cpu", precision)
    assert {weights.dtype for weights in encoder.network.parameters()} == {getattr(torch, precision)}
    rounded = encoder.encode(TEXTS)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.1 * np.abs(exact).max()


def test_the_fingerprint_names_the_network_and_its_output(networks):
    one, other = (text.open_named("clip_vit_l14", o, "cpu").fingerprint() for o in ("pooled", "tokens"))
    assert json.loads(json.dumps(one)) == one and one["name"] == "clip_vit_l14"
    assert (one["output"], other["output"]) == ("pooled", "tokens") and one["probe"] != other["probe"]
    assert one["weights_sha256"] == other["weights_sha256"]
    assert text.open_named("sd15", "tokens", "cpu").fingerprint()["weights_sha256"] != one["weights_sha256"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sd15", "pooled"), "of sd15 has no output 'pooled', only tokens: .* clip_vit_l14"),
        (("clip_vit_l14", "words"), "has no output 'words', only pooled and tokens"),
        (("blip_base", "tokens"), "'blip_base' serves as captioner, not as text"),
        (("clip_vit_l14", "pooled", "cpu", "int8"), "precision 'int8'"),
    ],
)
def test_what_cannot_be_opened_is_refused(arguments, message):
    with pytest.raises(PerceptError, match=message):
        text.open_named(*arguments)


def test_a_folder_cannot_name_another_class_to_be_built(tmp_path, monkeypatch):
    monkeypatch.setenv(store.ELSEWHERE, str(tmp_path))
    folders.diffusion(tmp_path, "sd15")
    classes = {"text_encoder": ["evil", "Model"], "tokenizer": ["transformers", "BertTokenizer"]}
    (tmp_path / "sd15/model_index.json").write_text(json.dumps(classes))
    folders.finish(tmp_path, "sd15")
    with pytest.raises(PerceptError, match=r"names evil.Model as its text_encoder.* fetch it"):
        text.open_named("sd15", "tokens", "cpu")
