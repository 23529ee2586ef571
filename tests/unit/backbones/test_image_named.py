"""Image towers of the catalogue against transformers: tokens of MindEye, IP-Adapter plus and MindEye2."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from percept.backbones import image, outputs, store, towers
from percept.backbones.catalogue import CATALOGUE
from percept.files import PerceptError
from tests.unit.backbones import folders

torch = pytest.importorskip("torch")
TOWERS = ["tiny_clip", "clip_vit_l14", "openclip_vit_h14", "openclip_vit_bigg14"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Small networks under the names of the real ones; all have the same weights."""
    root = tmp_path_factory.mktemp("backbones")
    for name in TOWERS:
        folders.clip(root, name, words=name == "tiny_clip")
    return root


@pytest.fixture(autouse=True)
def elsewhere(root, monkeypatch):
    monkeypatch.setenv(store.ELSEWHERE, str(root))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 41, 53, 3), dtype=np.uint8)


def in_transformers(state, activation):
    """The same image tower as a CLIPVisionModelWithProjection."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    vision = folders.VISION
    settings = CLIPVisionConfig(
        hidden_size=vision["width"], intermediate_size=4 * vision["width"], projection_dim=24,
        num_hidden_layers=vision["layers"], num_attention_heads=vision["width"] // vision["head_width"],
        image_size=vision["image_size"], patch_size=vision["patch_size"], hidden_act=activation,
    )  # fmt: skip
    model = CLIPVisionModelWithProjection(settings).eval()
    names = {
        "class_embedding": "embeddings.class_embedding",
        "positional_embedding": "embeddings.position_embedding.weight",
        "conv1.weight": "embeddings.patch_embedding.weight",
    }
    for part, other in {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}.items():
        names |= {f"{part}.{kind}": f"{other}.{kind}" for kind in ("weight", "bias")}
    theirs = {f"vision_model.{other}": state[own] for own, other in names.items()}
    theirs["visual_projection.weight"] = state["proj"].T
    for layer in range(vision["layers"]):
        own, other = f"transformer.resblocks.{layer}", f"vision_model.encoder.layers.{layer}"
        pairs = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
                 "attn.out_proj": "self_attn.out_proj"}  # fmt: skip
        for kind in ("weight", "bias"):
            joint = state[f"{own}.attn.in_proj_{kind}"].chunk(3)
            theirs |= {f"{other}.self_attn.{p}_proj.{kind}": t for p, t in zip("qkv", joint, strict=True)}
            theirs |= {
                f"{other}.{there}.{kind}": state[f"{own}.{here}.{kind}"] for here, there in pairs.items()
            }
    wanted = model.state_dict().keys()
    if not any(name.startswith("vision_model.encoder") for name in wanted):  # where the prefix is gone
        theirs = {name.removeprefix("vision_model."): value for name, value in theirs.items()}
    missing, unexpected = model.load_state_dict(theirs, strict=False)
    assert not unexpected and all("position_ids" in name for name in missing)
    return model


@pytest.fixture(scope="module", params=["clip_vit_l14", "openclip_vit_h14"])
def peer(request, root):
    """Ours and theirs: the OpenAI network has the quick GELU, the others the exact one."""
    from safetensors.torch import load_file

    state = load_file(root / request.param / "open_clip_model.safetensors")
    visual = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
    activation = "quick_gelu" if CATALOGUE[request.param].settings.get("quick_gelu") else "gelu"
    return request.param, in_transformers(visual, activation)


def prepared(encoder, images):
    """What the tower reads, by open_clip's own transform."""
    from open_clip.transform import image_transform
    from PIL import Image

    mean, sd = (tuple(folders.PREPROCESS[key]) for key in ("mean", "std"))
    transform = image_transform(folders.VISION["image_size"], is_train=False, mean=mean, std=sd)
    return torch.stack([transform(Image.fromarray(one)) for one in images])


def test_pooled_features_equal_those_of_transformers(peer, images):
    name, model = peer
    encoder = image.open_named(name, device="cpu")
    with torch.no_grad():
        expected = model(pixel_values=prepared(encoder, images)).image_embeds.numpy()
    assert encoder.encode(images).shape == (5, 24)
    np.testing.assert_allclose(encoder.encode(images), expected, rtol=1e-5, atol=1e-5)


def test_projected_tokens_are_what_versatile_diffusion_makes_of_an_image(peer, images):
    """The pipeline's own method; MindEye and Brain-Diffuser predict its result."""
    from diffusers import VersatileDiffusionDualGuidedPipeline as Pipeline

    name, model = peer
    encoder = image.open_named(name, "tokens", device="cpu")
    pixels = prepared(encoder, images)
    stand_in = SimpleNamespace(
        image_encoder=model, image_feature_extractor=lambda **_: SimpleNamespace(pixel_values=pixels)
    )
    with torch.no_grad():
        expected = Pipeline._encode_image_prompt(stand_in, [None] * 5, "cpu", 1, False).numpy()
    tokens = outputs.projected(encoder.tower, pixels).numpy()
    assert tokens.shape == (5, 17, 24)
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(tokens[:, 0], axis=-1), 1, rtol=1e-5)
    if CATALOGUE[name].settings["tokens"] == "projected":
        np.testing.assert_allclose(encoder.encode(images), tokens, rtol=1e-5, atol=1e-6)


def test_penultimate_tokens_are_those_that_ip_adapter_plus_reads(peer, images):
    name, model = peer
    encoder = image.open_named(name, "tokens", device="cpu")
    pixels = prepared(encoder, images)
    with torch.no_grad():
        expected = model(pixel_values=pixels, output_hidden_states=True).hidden_states[-2].numpy()
    tokens = outputs.penultimate(encoder.tower, pixels).numpy()
    assert tokens.shape == (5, 17, 32)
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-5)


def test_patch_tokens_come_after_the_final_norm_and_leave_the_cls_token_out(images):
    """The order that changed between versions of open_clip (2.22 and 2.23), and with it MindEye2's target."""
    encoder = image.open_named("openclip_vit_bigg14", "tokens", device="cpu")
    tower, pixels = encoder.tower, prepared(encoder, images)
    tower.output_tokens = True
    with torch.no_grad():
        _, expected = tower(pixels)
    tower.output_tokens = False
    tokens = encoder.encode(images)
    assert tokens.shape == (5, 16, 32)
    np.testing.assert_allclose(tokens, expected.numpy(), rtol=1e-4, atol=1e-5)
    plain = (tokens - tower.ln_post.bias.numpy()) / tower.ln_post.weight.numpy()
    np.testing.assert_allclose(plain.mean(axis=-1), 0, atol=1e-4)  # a norm's output, gain and offset undone


SIZES = {
    "clip_vit_l14": ("ViT-L-14", 768, (257, 768)),
    "openclip_vit_h14": ("ViT-H-14", 1024, (257, 1280)),
    "openclip_vit_bigg14": ("ViT-bigG-14", 1280, (256, 1664)),
}


@pytest.mark.parametrize("name", SIZES)
def test_shapes_of_the_real_networks_are_those_of_the_papers(name, tmp_path):
    import open_clip

    architecture, n_features, tokens = SIZES[name]
    folders.write_settings(tmp_path, open_clip.get_model_config(architecture), {})
    tower = towers.empty(tmp_path, CATALOGUE[name]).visual.eval()
    pixels = torch.zeros(2, 3, 224, 224, device="meta")
    assert outputs.pooled(tower, pixels).shape == (2, n_features)
    assert outputs.TOKENS[CATALOGUE[name].settings["tokens"]](tower, pixels).shape == (2, *tokens)
    assert all(weights.is_meta for weights in tower.parameters())


@pytest.mark.parametrize("output", ["pooled", "tokens"])
@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_rounds_weights_and_answers_and_says_so(images, output, precision, tolerance):
    exact = image.open_named("tiny_clip", output, device="cpu").encode(images)
    encoder = image.open_named("tiny_clip", output, "cpu", precision)
    assert {weights.dtype for weights in encoder.tower.parameters()} == {getattr(torch, precision)}
    rounded = encoder.encode(images)
    assert rounded.dtype == np.float32 and rounded.shape == exact.shape
    assert 0 < np.abs(rounded - exact).max() < tolerance * np.abs(exact).max()
    assert encoder.fingerprint()["precision"] == precision


def test_weights_stored_in_half_precision_are_computed_in_single_precision(root):
    from safetensors.torch import load_file

    stored = load_file(root / "tiny_clip/open_clip_model.safetensors")
    used = image.open_named("tiny_clip", device="cpu").tower.state_dict()
    assert {weights.dtype for weights in stored.values()} == {torch.float16}
    assert {weights.dtype for weights in used.values()} == {torch.float32}
    assert all(weights.equal(stored[f"visual.{name}"].float()) for name, weights in used.items())


def test_the_fingerprint_tells_output_network_and_weights_apart(root):
    pooled, tokens = (image.open_named("clip_vit_l14", o, "cpu").fingerprint() for o in ("pooled", "tokens"))
    assert json.loads(json.dumps(tokens)) == tokens
    assert tokens["name"] == "clip_vit_l14" and tokens["revision"] == CATALOGUE["clip_vit_l14"].revision
    assert (pooled["output"], tokens["output"]) == ("pooled", "tokens") and pooled["probe"] != tokens["probe"]
    assert pooled["weights_sha256"] == tokens["weights_sha256"]
    assert image.open_named("tiny_clip", device="cpu").fingerprint()["name"] == "tiny_clip"


@pytest.mark.parametrize("augmentation", ["flip", "crops"])
@pytest.mark.parametrize("output", ["pooled", "tokens"])
def test_augmented_features_are_the_mean_over_the_views(images, augmentation, output):
    from percept.backbones.views import augmented

    encoder = image.open_named("tiny_clip", output, "cpu")
    batches = [images[:3], images[3:]]
    streamed = np.concatenate(list(encoder.stream(batches, augmentation)))
    expected = np.mean([encoder.encode(view) for view in augmented(images, augmentation)], axis=0)
    np.testing.assert_allclose(streamed, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(images, augmentation), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - encoder.encode(images)).max() > 1e-3


def test_a_flipped_image_has_the_features_of_the_image_under_flip(images):
    encoder = image.open_named("tiny_clip", "pooled", "cpu")
    np.testing.assert_allclose(
        encoder.encode(images, "flip"), encoder.encode(images[:, :, ::-1], "flip"), rtol=1e-4, atol=1e-5
    )


def test_the_next_batch_is_computed_while_the_caller_has_an_answer(images):
    computed = [threading.Event() for _ in range(3)]
    encoder = image.open_named("tiny_clip", device="cpu")

    def read(tower, prepared):
        next(event for event in computed if not event.is_set()).set()
        return outputs.pooled(tower, prepared)

    answers = replace(encoder, output=read).stream(images[k : k + 1] for k in range(3))
    next(answers)
    assert computed[1].wait(timeout=60)  # although nobody has asked for it
    assert len(list(answers)) == 2


@pytest.mark.parametrize("wrong", [np.zeros((2, 5, 7, 3)), np.zeros((5, 7, 3), np.uint8)])
def test_what_fails_in_a_worker_reaches_the_caller(wrong):
    with pytest.raises(ValueError, match="are uint8 RGB"):
        image.open_named("tiny_clip", device="cpu").encode(wrong)


def test_an_empty_stream_yields_nothing():
    assert list(image.open_named("tiny_clip", device="cpu").stream([], "crops")) == []


def test_opening_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    image.open_named("tiny_clip", device="cpu")
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tiny_vae",), "'tiny_vae' serves as autoencoder, not as image"),
        (("tiny_clip", "hidden"), "no output 'hidden': set `output` to pooled"),
        (("tiny_clip", "pooled", "cpu", "int8"), "precision 'int8'"),
    ],
)
def test_what_cannot_be_opened_is_refused(arguments, message):
    with pytest.raises(PerceptError, match=message):
        image.open_named(*arguments)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda folder: folders.write_settings(folder, folders.CLIP | {"embed_dim": 20}),
            "do not fit the netw",
        ),
        (lambda folder: (folder / "open_clip_model.safetensors").write_bytes(b"12345"), "are not readable"),
        (lambda folder: (folder / "open_clip_config.json").unlink(), "has no open_clip_config.json"),
    ],
    ids=["other network", "damaged", "no settings"],
)
def test_a_folder_that_is_no_network_is_refused(tmp_path, monkeypatch, damage, message):
    monkeypatch.setenv(store.ELSEWHERE, str(tmp_path))
    folders.clip(tmp_path, "clip_vit_l14")
    damage(tmp_path / "clip_vit_l14")
    folders.finish(tmp_path, "clip_vit_l14")
    with pytest.raises(PerceptError, match=message):
        image.open_named("clip_vit_l14", device="cpu")


def test_an_unknown_augmentation_is_refused(images):
    with pytest.raises(
        PerceptError, match="no test-time augmentation 'rotate': set `augmentation` to one of none"
    ):
        image.open_named("tiny_clip", device="cpu").encode(images, "rotate")
