"""Targets that frozen networks compute, against the networks themselves."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from percept.backbones import autoencoder, image, store, text
from percept.config import plugin
from percept.files import PerceptError
from percept.targets import encode
from percept.targets import store as features
from percept.targets.clip_text import mean_over_captions
from tests.unit.backbones import folders

pytest.importorskip("torch")
CAPTIONS = {
    3: ("a red circle", "the blue square"),
    8: ("a circle left of the square",),
    20: ("", "a red red square", "the circle", "a blue circle of a square"),
    1040: ("square", "square"),
}
IDS = list(CAPTIONS)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Small random networks under names of the catalogue."""
    from diffusers import AutoencoderKL

    root = tmp_path_factory.mktemp("backbones")
    folders.clip(root, "tiny_clip", words=True)
    folders.diffusion(root, "tiny_text")
    folders.diffusion(root, "versatile_diffusion", "CLIPTextModelWithProjection")
    blocks = {"block_out_channels": (4, 4, 8, 8), "norm_num_groups": 4, "sample_size": 32}
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    network = AutoencoderKL(down_block_types=down, up_block_types=up, layers_per_block=1, **blocks)
    folders.scatter(network).save_pretrained(root / "tiny_vae")
    folders.finish(root, "tiny_vae")
    return root


@pytest.fixture(autouse=True)
def _elsewhere(root, monkeypatch):
    monkeypatch.setenv(store.ELSEWHERE, str(root))


class Shown:
    pictures = np.random.default_rng(0).integers(0, 256, (1041, 20, 31, 3), dtype=np.uint8)
    said = CAPTIONS

    def images(self, stimuli):
        return self.pictures[np.asarray(stimuli)]

    def captions(self, stimuli):
        return [self.said[int(one)] for one in stimuli]


def target(kind, backbone, **settings):
    return plugin("targets", {"kind": kind, "backbone": backbone, "device": "cpu", **settings})


def expected(cfg):
    """Features of IDS from the network itself, one image or caption at a time."""
    pictures = Shown().images(IDS)
    if cfg.kind == "clip_image":
        encoder = image.open_named(cfg.backbone, cfg.output, "cpu", cfg.computation)
        return np.concatenate([encoder.encode(one[None], cfg.augmentation) for one in pictures])
    if cfg.kind == "vae_latent":
        encoder = autoencoder.open_named(cfg.backbone, cfg.size, "cpu", cfg.computation)
        return np.concatenate([encoder.encode(one[None]) for one in pictures])
    encoder = text.open_named(cfg.backbone, cfg.output, "cpu", cfg.computation)
    return np.stack([np.mean([encoder.encode([one])[0] for one in CAPTIONS[i]], axis=0) for i in IDS])


CASES = {
    "pooled": (("clip_image", "tiny_clip", {}), (24,)),
    "tokens": (("clip_image", "tiny_clip", {"output": "tokens"}), (17, 24)),
    "mirrored": (("clip_image", "tiny_clip", {"augmentation": "flip"}), (24,)),
    "cropped tokens": (("clip_image", "tiny_clip", {"augmentation": "crops", "output": "tokens"}), (17, 24)),
    "text": (("clip_text", "tiny_clip", {}), (24,)),
    "text tokens": (("clip_text", "tiny_text", {"output": "tokens"}), (9, 16)),
    "brain-diffuser": (("clip_text", "versatile_diffusion", {"output": "tokens"}), (9, 12)),
    "latents": (("vae_latent", "tiny_vae", {"size": 32}), (4, 4, 4)),
    "smaller latents": (("vae_latent", "tiny_vae", {"size": 16}), (4, 2, 2)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_features_are_those_of_the_network_whatever_the_batch(case, batch_size):
    (kind, backbone, settings), shape = CASES[case]
    cfg = target(kind, backbone, batch_size=batch_size, **settings)
    found, fingerprint = encode.encode(cfg, Shown(), IDS)
    assert found.shape == (len(IDS), *shape) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected(cfg), rtol=1e-4, atol=1e-4 * np.abs(found).max())
    assert json.loads(json.dumps(fingerprint))["backbone"]["name"] == backbone


def test_a_network_of_the_same_name_in_another_folder_is_another_network(tmp_path, monkeypatch):
    cfg, ids = target("clip_image", "tiny_clip"), np.array(IDS, dtype=np.int32)
    before = cfg.fingerprint(Shown(), ids)
    folders.clip(tmp_path, "tiny_clip", words=True, features=20)
    monkeypatch.setenv(store.ELSEWHERE, str(tmp_path))
    assert cfg.fingerprint(Shown(), ids) != before
    assert encode.encode(cfg, Shown(), IDS)[0].shape == (len(IDS), 20)


@pytest.mark.parametrize("case", CASES)
def test_every_setting_that_changes_features_changes_the_fingerprint(case):
    (kind, backbone, settings), _ = CASES[case]
    other = {
        "clip_image": [{"output": "tokens"}, {"augmentation": "flip"}, {"computation": "bfloat16"}],
        "clip_text": [{"computation": "bfloat16"}],
        "vae_latent": [{"size": 24}, {"computation": "bfloat16"}],
    }[kind]
    ids = np.array(IDS, dtype=np.int32)
    prints = [
        target(kind, backbone, **{**settings, **more}).fingerprint(Shown(), ids)
        for more in [{}, *(more for more in other if more.items() - settings.items())]
    ]
    assert len({json.dumps(one, sort_keys=True) for one in prints}) == len(prints) >= 2
    same = target(kind, backbone, **settings, batch_size=2, precision="bfloat16")
    assert same.fingerprint(Shown(), ids) == prints[0]


@pytest.mark.parametrize(("precision", "error"), [("float32", 0), ("float16", 2**-11), ("bfloat16", 2**-8)])
def test_features_are_stored_in_the_precision_asked_for(tmp_path, precision, error):
    cfg = target("clip_image", "tiny_clip", output="tokens", precision=precision)
    encode.encode_to(tmp_path / "index.json", "tokens", cfg, Shown(), IDS)
    exact, _ = encode.encode(cfg, Shown(), IDS)
    found = features.read(tmp_path / "index.json", IDS)
    np.testing.assert_allclose(found, exact, rtol=error, atol=1e-7)
    assert json.loads((tmp_path / "index.json").read_text())["precision"] == precision


def test_captions_are_read_once_for_all_batches():
    class Counted(Shown):
        asked = 0

        def captions(self, stimuli):
            self.asked += 1
            return super().captions(stimuli)

    source = Counted()
    encode.encode(target("clip_text", "tiny_clip", batch_size=1), source, IDS)
    assert source.asked == 1


def test_changed_captions_are_encoded_again(tmp_path):
    cfg = target("clip_text", "tiny_clip", precision="float32")
    encode.encode_to(tmp_path / "index.json", "captions", cfg, Shown(), IDS)
    before = features.read(tmp_path / "index.json", IDS)
    source = Shown()
    source.said = {**CAPTIONS, 8: ("a blue square",)}
    encode.encode_to(tmp_path / "index.json", "captions", cfg, source, IDS)
    after = features.read(tmp_path / "index.json", IDS)
    assert np.any(before != after, axis=1).tolist() == [False, True, False, False]


class Lengths:
    """A text encoder whose features are known: length of the text, and how many came with it."""

    def encode(self, texts):
        return np.array([[len(one), len(texts)] for one in texts], dtype=np.float32)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_the_mean_counts_every_caption_of_an_image_the_same(batch_size):
    found = mean_over_captions(Lengths(), [("a", "bcd"), ("ef",), ("", "g", "hi", "jkl", "mnop")], batch_size)
    np.testing.assert_allclose(found[:, 0], [2, 2, 2])
    assert found[:, 1].max() == min(batch_size, 8)


def test_an_image_without_a_caption_is_named():
    source = Shown()
    source.said = {**CAPTIONS, 8: ()}
    with pytest.raises(PerceptError, match="1 stimuli have no caption, the first is 8"):
        encode.encode(target("clip_text", "tiny_clip"), source, IDS)


def test_a_network_is_read_once_for_fingerprint_and_features(tmp_path, monkeypatch):
    opened = []
    real = image.open_named
    monkeypatch.setattr(image, "open_named", lambda *a, **k: opened.append(a) or real(*a, **k))
    encode.encode_to(tmp_path / "index.json", "x", target("clip_image", "tiny_clip"), Shown(), IDS)
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("kind", "backbone", "message"),
    [
        ("clip_image", "clip_vit_l41", "clip_vit_l14"),
        ("clip_image", "tiny_vae", "tiny_vae"),
        ("vae_latent", "tiny_clip", "tiny_clip"),
        ("clip_text", "sd_vae", "sd_vae"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused_while_the_config_is_read(kind, backbone, message):
    with pytest.raises(ValidationError, match=message):
        target(kind, backbone)


@pytest.mark.parametrize(
    ("backbone", "device", "n_gpus"),
    [("clip_vit_l14", "auto", 1), ("clip_vit_l14", "cpu", 0), ("tiny_clip", "auto", 0)],
)
def test_published_networks_ask_for_a_gpu_and_tiny_ones_do_not(backbone, device, n_gpus):
    cfg = (
        target("clip_image", backbone)
        if device == "cpu"
        else plugin("targets", {"kind": "clip_image", "backbone": backbone, "device": device})
    )
    assert (cfg.n_gpus, cfg.backbones) == (n_gpus, (backbone,))


@pytest.mark.parametrize(("kind", "reads"), [("clip_image", "images"), ("clip_text", "captions")])
def test_a_target_says_what_it_reads(kind, reads):
    assert target(kind, "tiny_clip").reads == (reads,)
