"""The image tower against open_clip's own path, and every refusal."""

import json

import numpy as np
import pytest

from percept.backbones import image, released
from percept.backbones.device import choose
from percept.files import PerceptError

torch = pytest.importorskip("torch")
TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 7, "vocab_size": 11, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    settings = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.2, 0.4, 0.6], "std": [0.5, 0.4, 0.3]}}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return f"local-dir:{folder}"


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 41, 53, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoder(tiny):
    return image.load(tiny, "random:3", device="cpu")


def test_features_equal_those_of_open_clip_itself(tiny, images, encoder):
    import open_clip
    from PIL import Image

    torch.manual_seed(3)
    model, _, transform = open_clip.create_model_and_transforms(tiny, load_weights=False)
    prepared = torch.stack([transform(Image.fromarray(one)) for one in images])
    with torch.no_grad():
        peer = model.eval().encode_image(prepared).numpy()
    assert encoder.encode(images).shape == (5, 24) and encoder.encode(images).dtype == np.float32
    np.testing.assert_allclose(encoder.encode(images), peer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_give_the_features_of_the_whole_in_order(images, encoder, size):
    parts = encoder.stream(images[start : start + size] for start in range(0, 5, size))
    np.testing.assert_allclose(np.concatenate(list(parts)), encoder.encode(images), rtol=1e-4, atol=1e-5)


def test_untrained_weights_follow_their_seed_and_leave_the_global_generator_alone(
    tiny, images, encoder, caplog
):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    again, other = image.load(tiny, "random:3", "cpu"), image.load(tiny, "random:4", "cpu")
    assert torch.equal(torch.rand(3), expected)
    np.testing.assert_array_equal(again.encode(images), encoder.encode(images))
    assert np.abs(other.encode(images) - encoder.encode(images)).max() > 0.01
    assert "never trained" in caplog.text and encoder.identity["trained"] == "no"


def test_the_fingerprint_names_the_network_and_follows_the_weights(tiny, encoder):
    ours, other = encoder.fingerprint(), image.load(tiny, "random:4", "cpu").fingerprint()
    assert json.loads(json.dumps(ours)) == ours
    assert ours["library"] == "open_clip" and ours["weights"] == "random:3"
    assert "/" not in ours["architecture"]  # no folder of one machine
    assert ours["weights_sha256"] != other["weights_sha256"] and ours["probe"] != other["probe"]


@pytest.mark.parametrize("prefix", ["visual.", ""])
def test_a_local_safetensors_file_of_the_model_or_of_its_tower_is_read(
    tiny, images, encoder, tmp_path, prefix
):
    from safetensors.torch import save_file

    path = tmp_path / "own.safetensors"
    state = {prefix + name: value.contiguous() for name, value in encoder.tower.state_dict().items()}
    save_file(state | ({"logit_scale": torch.ones(1)} if prefix else {}), path)
    loaded = image.load(tiny, str(path), "cpu")
    np.testing.assert_array_equal(loaded.encode(images), encoder.encode(images))
    assert loaded.identity["weights"] == "own.safetensors" and len(loaded.identity["revision"]) == 12


@pytest.mark.parametrize("prefix", ["visual.", ""])
@pytest.mark.parametrize("change", ["lacks one", "has one too many"])
def test_every_tensor_of_the_tower_has_to_be_there_and_no_other(tiny, encoder, tmp_path, prefix, change):
    """A file that fits in part would leave the rest untrained, unsaid."""
    from safetensors.torch import save_file

    path = tmp_path / "own.safetensors"
    state = {prefix + name: value.contiguous() for name, value in encoder.tower.state_dict().items()}
    name = next(iter(state))
    if change == "lacks one":
        del state[name]
    else:
        state[f"{name}_again"] = torch.zeros(1)
    save_file(state, path)
    with pytest.raises(PerceptError, match=r"do not fit the image tower"):
        image.load(tiny, str(path), "cpu")


def write_other(path):
    from safetensors.torch import save_file

    save_file({"visual.conv1.weight": torch.zeros(2, 3)}, path)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("weights.pt", lambda path: path.touch(), "not a .safetensors file: other formats can run code"),
        ("absent.safetensors", lambda path: None, "do not exist: check the path"),
        ("other.safetensors", write_other, "do not fit the image tower"),
        ("broken.safetensors", lambda path: path.write_bytes(b"12345"), "do not fit the image tower"),
    ],
)
def test_a_local_file_that_cannot_be_used_is_refused(tiny, tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(PerceptError, match=message):
        image.load(tiny, str(tmp_path / name), "cpu")


@pytest.mark.parametrize(
    ("architecture", "weights", "message"),
    [
        ("ViT-L-41", "openai", "no architecture 'ViT-L-41'; the nearest are .*ViT-L-14"),
        ("ViT-L-14", "opneai", "no weights 'opneai' for ViT-L-14; it has openai"),
        ("ViT-L-14", "random:x", "written `random:<seed>`"),
        ("local-dir:/nowhere", "random:0", "no folder with an open_clip_config.json"),
    ],
)
def test_what_open_clip_does_not_have_is_named_with_what_it_has(architecture, weights, message):
    with pytest.raises(PerceptError, match=message):
        image.load(architecture, weights, "cpu")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, whatever lies on this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path), raising=False)
    return tmp_path


def test_absent_weights_say_which_command_fetches_them_and_where(cache):
    command = r"run `python -m percept.backbones.image ViT-B-32 laion2b_s34b_b79k`"
    with pytest.raises(PerceptError, match=command) as caught:
        released.read_weights(
            None, "ViT-B-32", "laion2b_s34b_b79k", released.released("ViT-B-32", "laion2b_s34b_b79k")
        )
    assert str(cache) in str(caught.value)


def test_weights_in_the_cache_are_found_without_the_network(cache):
    known = released.released("ViT-B-32", "laion2b_s34b_b79k")
    repository = cache / ("models--" + known["hf_hub"].rstrip("/").replace("/", "--"))
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123456789abcdef")
    snapshot = repository / "snapshots" / "0123456789abcdef"
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_model.safetensors").touch()
    assert released.cached(known) == snapshot / "open_clip_model.safetensors"
    assert released.revision(known, released.cached(known)) == "0123456789ab"
    assert released.fetch("ViT-B-32", "laion2b_s34b_b79k") == snapshot / "open_clip_model.safetensors"


def test_untrained_weights_cannot_be_fetched():
    with pytest.raises(PerceptError, match="nothing to fetch"):
        released.fetch("ViT-B-32", "random:0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused_and_auto_takes_the_cpu():
    assert choose("auto") == "cpu" and choose("cpu") == "cpu"
    with pytest.raises(PerceptError, match="sees no GPU here"):
        choose("cuda:1")
