"""Targets computed from a source, and sources that lack what a target needs."""

import json

import h5py
import numpy as np
import pytest

from percept.config import TargetConfig, TwinDataset, kinds
from percept.files import PerceptError
from percept.targets import encode, store
from percept.targets.labels import LabelsConfig, one_hot
from percept.targets.open_clip import OpenClipConfig
from percept.targets.pixels import PixelsConfig
from percept.targets.truth import TruthConfig


class Everything:
    """Twelve images, four categories, and the features that generated the responses."""

    pictures = np.random.default_rng(0).integers(0, 256, (200, 20, 31, 3), dtype=np.uint8)
    generating = np.random.default_rng(1).standard_normal((200, 6)).astype(np.float32)

    def __init__(self):
        self.asked = []

    def images(self, stimuli):
        self.asked.append(len(stimuli))
        return self.pictures[np.asarray(stimuli)]

    def labels(self, stimuli):
        return [("house", "cat", "shoe", "bottle")[one % 4] for one in stimuli]

    def truth(self, stimuli):
        return self.generating[np.asarray(stimuli)]


class LabelsOnly:
    def labels(self, stimuli):
        return ["only"] * len(stimuli)


def test_the_kinds_are_registered():
    direct = {"labels", "pixels", "truth"}
    networks = {"clip_image", "clip_text", "open_clip", "vae_latent"}
    assert kinds("percept.targets", TargetConfig).keys() == direct | networks


@pytest.mark.parametrize(
    "cfg", [PixelsConfig(size=3), LabelsConfig(), TruthConfig()], ids=lambda cfg: cfg.kind
)
def test_every_target_gives_a_row_per_stimulus_in_the_order_asked(cfg):
    stimuli = [7, 0, 3, 2, 150]
    features, fingerprint = encode.encode(cfg, Everything(), stimuli)
    assert len(features) == 5 and features.dtype == np.float32
    assert json.loads(json.dumps(fingerprint))["kind"] == cfg.kind
    back, _ = encode.encode(cfg, Everything(), stimuli[::-1])
    np.testing.assert_array_equal(back[::-1], features)


@pytest.mark.parametrize(
    "cfg", [PixelsConfig(size=3), LabelsConfig(), TruthConfig()], ids=lambda cfg: cfg.kind
)
def test_the_file_holds_what_the_target_computes_for_distinct_ascending_ids(cfg, tmp_path):
    path = tmp_path / "index.json"
    encode.encode_to(path, "named", cfg, Everything(), [7, 0, 3, 2, 7])
    expected, fingerprint = encode.encode(cfg, Everything(), [0, 2, 3, 7])
    np.testing.assert_array_equal(store.read(path, [0, 2, 3, 7], fingerprint), expected)


def test_images_are_read_a_batch_at_a_time():
    source = Everything()
    encode.encode(PixelsConfig(size=2), source, np.arange(150))
    assert source.asked == [64, 64, 22]


def test_labels_are_one_hot_in_alphabetical_order():
    features, fingerprint = encode.encode(LabelsConfig(), Everything(), [0, 1, 2, 3, 4])
    assert fingerprint["categories"] == ["bottle", "cat", "house", "shoe"]
    np.testing.assert_array_equal(features.argmax(axis=1), [2, 1, 3, 0, 2])
    np.testing.assert_array_equal(features.sum(axis=1), 1)


def test_a_label_that_is_no_category_is_a_row_of_zeros():
    np.testing.assert_array_equal(one_hot(["b", "z"], ["a", "b"]), [[0, 1], [0, 0]])


def test_a_single_category_is_refused():
    with pytest.raises(PerceptError, match=r"at least two categories, the stimuli have \['only'\]"):
        encode.encode(LabelsConfig(), LabelsOnly(), [1, 2])


@pytest.mark.parametrize(
    ("cfg", "method"),
    [(PixelsConfig(), "images"), (OpenClipConfig(weights="random:0", architecture="ViT-S-32"), "images"),
     (TruthConfig(), "truth")],
)  # fmt: skip
def test_a_source_that_lacks_what_a_target_reads_is_named(cfg, method):
    with pytest.raises(PerceptError, match=rf"`{cfg.kind}` reads the {method} .*\(it has: labels\)"):
        encode.encode(cfg, LabelsOnly(), [0, 1])


@pytest.fixture
def twin(tmp_path):
    (tmp_path / "truth").mkdir()
    with h5py.File(tmp_path / "truth" / "features.h5", "w") as file:
        file["features"], file["stimulus"] = Everything.generating[::2], np.arange(0, 200, 2)
    return tmp_path


def test_the_truth_of_a_twin_is_read_from_its_folder(twin):
    source = encode.source(TwinDataset(kind="twin", root=str(twin)))
    features, fingerprint = encode.encode(TruthConfig(), source, [6, 2])
    np.testing.assert_array_equal(features, Everything.generating[[6, 2]])
    assert fingerprint["kind"] == "truth" and len(fingerprint["features_sha256"]) == 12


@pytest.mark.parametrize("stimulus", [5, 200, -2])
def test_a_stimulus_of_another_simulation_has_no_truth(twin, stimulus):
    with pytest.raises(PerceptError, match=f"knows nothing about stimulus {stimulus}, "):
        encode.NativeSource(twin, simulated=True).truth([6, stimulus])


def test_measured_data_have_no_truth(twin):
    with pytest.raises(PerceptError, match="holds measured data"):
        encode.encode(TruthConfig(), encode.NativeSource(twin), [5])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_an_open_clip_target_is_its_image_tower_whatever_the_batch(tmp_path, batch_size):
    settings = {
        "model_cfg": {
            "embed_dim": 10,
            "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
            "text_cfg": {"context_length": 5, "vocab_size": 7, "width": 8, "heads": 1, "layers": 1},
        }
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    cfg = OpenClipConfig(
        architecture=f"local-dir:{tmp_path}", weights="random:0", batch_size=batch_size, device="cpu"
    )
    features, fingerprint = encode.encode(cfg, Everything(), [4, 9, 1, 0])
    from percept.backbones.image import load

    expected = load(cfg.architecture, cfg.weights, "cpu").encode(Everything.pictures[[4, 9, 1, 0]])
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)
    assert fingerprint["backbone"]["weights"] == "random:0"


def test_too_little_memory_on_a_gpu_is_told_with_the_settings_that_need_less(tmp_path):
    import torch

    class Large(PixelsConfig):
        kind: str = "too large for the registry"

        def blocks(self, source, stimuli, batches):
            yield from super().blocks(source, stimuli, batches[:1])
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    message = r"encoding the target 'clip' \(CUDA out of memory\).*`batch_size`.*`computation`.*`device`"
    with pytest.raises(PerceptError, match=message):
        encode.encode_to(tmp_path / "index.json", "clip", Large(), Everything(), np.arange(130))
    assert not (tmp_path / "index.json").exists()
