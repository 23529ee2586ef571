"""Metric networks against torchvision, lpips and torchmetrics: random weights, real classes and sizes."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from percept.backbones import metric, store
from percept.backbones.metric import NETWORKS, Preparation
from percept.backbones.resize import resize, resized, to_tensor
from percept.files import PerceptError
from tests.unit.backbones import folders

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")
SHAPES = {  # of one image at the network's own size
    "alexnet2": (192, 31, 31),
    "alexnet5": (256, 15, 15),
    "inception": (2048, 1, 1),
    "effnet": (1280, 1, 1),
    "swav": (2048, 1, 1),
}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 41, 53, 3), dtype=np.uint8)


@cache
def whole(architecture):
    """A whole network of torchvision with random weights, in evaluation mode."""
    extra = {"init_weights": False, "transform_input": True} if architecture == "inception_v3" else {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.get_model(architecture, weights=None, **extra).eval()


def small(name):
    """A network of the field read as `open_named` does, for images of 96 pixels."""
    spec = NETWORKS[name]
    module = metric.build(spec.architecture, spec.arguments, spec.head)
    known = module.state_dict()
    module.load_state_dict(
        {key: value for key, value in whole(spec.architecture).state_dict().items() if key in known},
        assign=True,
    )
    return metric.frozen(module, spec.layers, Preparation(96, *metric.IMAGENET))


@pytest.fixture
def backbones(tmp_path, monkeypatch):
    monkeypatch.setenv(store.ELSEWHERE, str(tmp_path))
    return tmp_path


def save(root, name, tensors, **files):
    """A folder of the backbone `name` with these weights."""
    from safetensors.torch import save_file

    (root / name).mkdir()
    save_file({key: value.contiguous() for key, value in tensors.items()}, root / name / "model.safetensors")
    for file, content in files.items():
        (root / name / f"{file}.json").write_text(json.dumps(content))
    return folders.finish(root, name)


# Preparation.


@pytest.mark.parametrize(("size", "antialias"), [(342, False), (255, True), (224, False), (256, True)])
def test_images_are_prepared_as_by_torchvision_first_at_256_then_at_the_networks_size(
    images, size, antialias
):
    from torchvision import transforms

    large = images.repeat(8, axis=1).repeat(7, axis=2)
    steps = [transforms.Resize((side, side), antialias=antialias) for side in (256, size)]
    peer = transforms.Compose([*steps, transforms.Normalize(*metric.IMAGENET)])(
        torch.from_numpy(large).permute(0, 3, 1, 2).float() / 255
    )
    found = Preparation(size, *metric.IMAGENET)(large, "cpu", antialias)
    assert found.shape == (3, 3, size, size)
    assert_allclose(found, peer, atol=1e-5)


def test_images_are_not_smoothed_unless_that_is_asked_for(images):
    large = images.repeat(8, axis=1).repeat(8, axis=2)
    prepare = Preparation(224, *metric.IMAGENET)
    assert torch.equal(prepare(large, "cpu"), prepare(large, "cpu", antialias=False))
    assert not torch.allclose(prepare(large, "cpu"), prepare(large, "cpu", antialias=True), atol=0.05)


def test_enlarging_is_the_same_with_and_without_antialiasing(images):
    tensor = to_tensor(images)
    assert_allclose(resize(tensor, 80), resize(tensor, 80, antialias=True), atol=1e-5)


def test_scaling_before_or_after_resizing_is_the_same(images):
    assert_allclose(resized(images, 30), resize(to_tensor(images), 30), atol=1e-6)


def test_a_read_only_image_is_prepared_and_left_alone(images):
    one = np.broadcast_to(images[0], (2, *images.shape[1:]))
    assert torch.equal(to_tensor(one)[0], to_tensor(one)[1])
    assert not one.flags.writeable


@pytest.mark.parametrize("bad", [np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 8), np.uint8)])
def test_what_is_no_8_bit_colour_image_is_refused(bad):
    with pytest.raises(ValueError, match="images are uint8 of axes"):
        resized(bad, 16)


# Features.


@pytest.mark.parametrize("name", NETWORKS)
def test_at_its_real_size_every_layer_has_the_shape_of_the_field(name):
    spec = NETWORKS[name]
    network = metric.MetricNetwork(
        metric.build(spec.architecture, spec.arguments, spec.head).eval(),
        spec.layers,
        Preparation(1, (), ()),
        "meta",
    )
    found = network.outputs(torch.zeros(2, 3, spec.size, spec.size, device="meta"))
    assert {layer: tuple(rows.shape) for layer, rows in found.items()} == {
        layer: (2, *SHAPES[layer]) for layer in metric.layers(name)
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_the_whole_network_of_torchvision(images, name):
    from torchvision.models.feature_extraction import create_feature_extractor

    spec = NETWORKS[name]
    network = small(name)
    peer = create_feature_extractor(whole(spec.architecture), list(spec.layers.values()))
    with torch.inference_mode():
        expected = peer(network.preparation(images, "cpu"))
    found = network.features(images)
    assert list(found) == list(spec.layers)
    for layer, path in spec.layers.items():
        assert found[layer].dtype == np.float32
        assert_allclose(found[layer], expected[path].flatten(1), atol=1e-5)


def test_the_early_layers_of_alexnet_are_behind_their_relu(images):
    found = small("alexnet").features(images)
    assert all((rows >= 0).all() and (rows > 0).any() for rows in found.values())
    kinds = [
        type(whole("alexnet").get_submodule(path)).__name__ for path in NETWORKS["alexnet"].layers.values()
    ]
    convolutions = [module for module in whole("alexnet").features if isinstance(module, torch.nn.Conv2d)]
    assert kinds == ["ReLU", "ReLU"]
    assert [whole("alexnet").features[place - 1] for place in (4, 11)] == [convolutions[1], convolutions[4]]


def test_inception_rescales_its_input_as_its_released_weights_want(images):
    module = small("inception_v3").module
    assert module.transform_input and module.AuxLogits is None


def test_features_do_not_depend_on_the_batch_and_leave_no_hooks(images):
    network = small("alexnet")
    together = network.features(images)
    for row, image in enumerate(images):
        alone = network.features(image[None])
        assert_allclose(alone["alexnet5"][0], together["alexnet5"][row], atol=1e-5)
    assert not any(module._forward_hooks for module in network.module.modules())
    assert (
        not any(weight.requires_grad for weight in network.module.parameters())
        and not network.module.training
    )


def test_what_a_later_layer_overwrites_is_kept(images):
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.ReLU(inplace=True))
    network = metric.frozen(module, {"before": "0", "after": "1"}, Preparation(8, *metric.IMAGENET))
    found = network.features(images)
    assert (found["before"] < 0).any()
    assert_array_equal(np.maximum(found["before"], 0), found["after"])


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_half_precision_gives_nearly_the_same_features_as_float32(images, precision):
    single = small("alexnet").features(images)["alexnet5"]
    module, spec = small("alexnet").module, NETWORKS["alexnet"]
    half = metric.frozen(module, spec.layers, Preparation(96, *metric.IMAGENET), precision=precision)
    found = half.features(images)["alexnet5"]
    assert found.dtype == np.float32
    assert 0.99 < np.corrcoef(found.ravel(), single.ravel())[0, 1] < 1


# Folders.


def test_a_network_is_read_from_its_folder_without_what_lies_behind_the_layers(images, backbones):
    state = {
        name: value for name, value in whole("alexnet").state_dict().items() if name.startswith("features.")
    }
    save(backbones, "alexnet", state | {"classifier.6.bias": torch.zeros(1000)})
    network = metric.open_named("alexnet", device="cpu")
    assert network.preparation == Preparation(256, *metric.IMAGENET, common=256, antialias=False)
    found = network.features(images[:1])
    assert {layer: rows.shape for layer, rows in found.items()} == {
        "alexnet2": (1, 192 * 31 * 31), "alexnet5": (1, 256 * 15 * 15)
    }  # fmt: skip
    assert network.classes == () and not network.fixed


def test_swav_is_a_resnet_whose_last_layer_was_never_released(backbones):
    state = whole("resnet50").state_dict()
    save(backbones, "swav", {name: value for name, value in state.items() if not name.startswith("fc.")})
    network = metric.open_named("swav", device="cpu")
    assert network.preparation.size == 224 and network.layers == {"swav": "avgpool"}
    assert_array_equal(network.module.conv1.weight, state["conv1.weight"])


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("features.3.bias"),
        lambda state: state.update({"features.3.bias": torch.zeros(7)}),
    ],
)
def test_weights_of_another_network_are_refused(backbones, change):
    state = {
        name: value for name, value in whole("alexnet").state_dict().items() if name.startswith("features.")
    }
    change(state)
    save(backbones, "alexnet", state)
    with pytest.raises(
        PerceptError, match=r"does not hold the weights of torchvision's alexnet: features\.3\.bias"
    ):
        metric.open_named("alexnet", device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alexnat", "the nearest is alexnet"),
        ("openclip_vit_h14", "no metric network: `evaluation.images.networks` takes alexnet"),
        ("swav", "percept.backbones.fetch swav"),
    ],
)
def test_what_cannot_be_opened_is_explained(backbones, monkeypatch, tmp_path, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PerceptError, match=message):
        metric.open_named(name)


def test_an_unknown_precision_is_refused(backbones):
    state = {
        name: value for name, value in whole("alexnet").state_dict().items() if name.startswith("features.")
    }
    save(backbones, "alexnet", state)
    with pytest.raises(PerceptError, match="float8"):
        metric.open_named("alexnet", device="cpu", precision="float8")


def test_the_clip_metric_is_the_embedding_at_the_fields_sizes(images, backbones):
    model = folders.clip(backbones, "clip_vit_l14")
    network = metric.open_named("clip_vit_l14", device="cpu")
    mean, sd = folders.PREPROCESS.values()
    prepared = Preparation(32, tuple(mean), tuple(sd))(images, "cpu")
    with torch.inference_mode():
        assert_allclose(network.features(images)["clip"], model.encode_image(prepared), atol=1e-5)


def test_published_clip_sees_224_pixels_with_openais_normalisation():
    import open_clip

    assert open_clip.get_model_config("ViT-L-14")["vision_cfg"]["image_size"] == 224
    preprocess = open_clip.get_pretrained_cfg("ViT-L-14", "openai")
    assert tuple(preprocess["mean"]) == pytest.approx((0.48145466, 0.4578275, 0.40821073))


def test_the_tiny_clip_is_its_own_encoder(images, backbones):
    from percept.backbones import image

    folders.clip(backbones, "tiny_clip", words=True)
    network = metric.open_named("tiny_clip", device="cpu")
    assert network.fixed
    assert_allclose(
        network.features(images)["tiny_clip"],
        image.open_named("tiny_clip", device="cpu").encode(images),
        atol=1e-6,
    )


@pytest.fixture
def judge(backbones):
    """An untrained judge of five categories, in the folder that its training would write."""
    tiny = pytest.importorskip("percept.backbones.tiny.judge")
    network = tiny.build(5, seed=0)
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    save(backbones, "tiny_judge", state, config=tiny.config(tuple("abcde")))
    return metric.open_named("tiny_judge", device="cpu")


def test_the_judge_answers_and_is_compared_at_two_layers(images, judge):
    found = judge.features(images)
    assert tuple(found) == metric.layers("tiny_judge") == ("judge_early", "judge_late", metric.LOGITS)
    assert found[metric.LOGITS].shape == (3, 5) and judge.classes == tuple("abcde")
    assert found["judge_early"].shape[1] > found["judge_late"].shape[1] / 16 > 5
    assert judge.fixed and judge.module.fc.weight.dtype == torch.float32


def test_the_judge_sees_images_as_it_was_trained_to(judge):
    tiny = pytest.importorskip("percept.backbones.tiny.judge")
    scenes = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    assert_allclose(judge.preparation(scenes, "cpu"), tiny.prepared(scenes), atol=1e-5)
    assert_allclose(judge.features(scenes)[metric.LOGITS], tiny.logits(judge.module, scenes), atol=1e-4)


# LPIPS.


@cache
def packages():
    """LPIPS of two packages on the same random AlexNet, with the released heads, and ours."""
    lpips = pytest.importorskip("lpips")
    peer = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    features = whole("alexnet").features
    for number, part in enumerate(
        [peer.net.slice1, peer.net.slice2, peer.net.slice3, peer.net.slice4, peer.net.slice5]
    ):
        for name, module in part.named_children():
            module.load_state_dict(features[int(name)].state_dict())
        peer.lins[number].model[-1].weight.data = metric._released_heads()[number].reshape(1, -1, 1, 1)
    spec = NETWORKS["alexnet"]
    ours = metric.lpips(small("alexnet").module, metric._released_heads())
    assert spec.architecture == "alexnet"
    return peer.eval(), ours


def test_lpips_is_that_of_its_package(images):
    peer, ours = packages()
    pair = [to_tensor(np.roll(images, shift, axis=0)) * 2 - 1 for shift in (0, 1)]
    with torch.inference_mode():
        expected = peer(*(resize(each, 96) for each in pair)).flatten().numpy()
    mean, sd = (
        torch.tensor(values)[:, None, None]
        for values in (ours.network.preparation.mean, ours.network.preparation.sd)
    )
    prepared = [((resize(each, 96) + 1) / 2 - mean) / sd for each in pair]
    assert (expected > 1e-3).all()
    assert_allclose(ours.between(*map(ours.of_prepared, prepared)), expected, atol=1e-6)


def test_lpips_is_that_of_torchmetrics(images):
    functional = pytest.importorskip("torchmetrics.functional.image.lpips")
    peer = functional._LPIPS(pretrained=False, net="alex", pnet_rand=True)
    reference, ours = packages()
    peer.load_state_dict(reference.state_dict(), strict=False)
    pair = [resize(to_tensor(np.roll(images, shift, axis=0)), 96) for shift in (0, 1)]
    with torch.inference_mode():
        expected = peer(*pair, normalize=True).flatten().numpy()
        theirs = reference(*pair, normalize=True).flatten().numpy()
    assert_allclose(theirs, expected, atol=1e-6)
    mean, sd = (
        torch.tensor(values)[:, None, None]
        for values in (ours.network.preparation.mean, ours.network.preparation.sd)
    )
    assert_allclose(
        ours.between(*(ours.of_prepared((each - mean) / sd) for each in pair)), expected, atol=1e-6
    )


def test_lpips_compares_at_256_pixels_is_symmetric_and_zero_for_equal_images(images):
    _, ours = packages()
    assert ours.network.preparation.size == ours.network.preparation.common == 256
    other = np.roll(images, 1, axis=0)
    assert_allclose(ours.distance(images, images), 0, atol=1e-9)
    assert_allclose(ours.distance(images, other), ours.distance(other, images), rtol=1e-5)
    larger = images.repeat(3, axis=1).repeat(2, axis=2)
    assert (ours.distance(images, larger) < ours.distance(images, other)).all()


def test_the_heads_that_ship_are_those_of_the_package_lpips():
    lpips = pytest.importorskip("lpips")
    path = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
    stored = torch.load(path, map_location="cpu", weights_only=True)
    for tap, head in enumerate(metric._released_heads()):
        assert torch.equal(head, stored[f"lin{tap}.model.1.weight"].flatten())


def test_the_released_heads_have_a_weight_of_at_least_zero_for_every_channel():
    heads = metric._released_heads()
    assert [head.numel() for head in heads] == [64, 192, 384, 256, 256]
    assert all((head >= 0).all() for head in heads)


def test_lpips_is_read_from_a_folder_that_holds_alexnet_alone(images, backbones):
    state = {
        name: value for name, value in whole("alexnet").state_dict().items() if name.startswith("features.")
    }
    save(backbones, "lpips_alex", state)
    _, ours = packages()
    found = metric.open_named("lpips_alex", device="cpu")
    other = np.roll(images, 1, axis=0)
    assert isinstance(found, metric.Lpips)
    assert_allclose(found.distance(images, other), ours.distance(images, other), rtol=1e-6)
