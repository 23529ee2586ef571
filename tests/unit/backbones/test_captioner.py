import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    BertTokenizer,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    BlipTextConfig,
    BlipVisionConfig,
    logging,
)

from percept.backbones import captioner, store
from percept.files import PerceptError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "blurry", "red", "dog", "boat", "[DEC]"]
SIZE = 16


def write(root, processor=False):
    """A small captioner with random weights, in the published layout or as newer libraries save it."""
    logging.set_verbosity_error()
    folder = root / "tiny_blip"
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer.from_pretrained(folder)
    special = {"bos_token_id": 9, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = BlipTextConfig(
        vocab_size=len(WORDS), hidden_size=12, intermediate_size=15, num_hidden_layers=2,
        num_attention_heads=3, encoder_hidden_size=10, max_position_embeddings=40, **special,
    )  # fmt: skip
    vision = BlipVisionConfig(
        hidden_size=10, intermediate_size=17, num_hidden_layers=1, num_attention_heads=2,
        image_size=SIZE, patch_size=4,
    )  # fmt: skip
    torch.manual_seed(0)
    network = BlipForConditionalGeneration(
        BlipConfig(text_config=text.to_dict(), vision_config=vision.to_dict())
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    unsaid = torch.tensor([0, 1, 2, len(WORDS) - 1])  # it speaks in words, and may end
    network.text_decoder.cls.predictions.bias.data[unsaid] = -1e3
    network.save_pretrained(folder)
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE})
    if processor:
        BlipProcessor(images, tokenizer).save_pretrained(folder)
    else:
        images.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    store.write_manifest(folder, "tiny_blip")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def opened(folder, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(folder))
    return captioner.open_named("tiny_blip", device="cpu")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 20, 28, 3), dtype=np.uint8)


def test_a_caption_is_words_without_special_tokens(opened, images):
    captions = opened.caption(images)
    assert len(captions) == 5 and len(set(captions)) > 1  # it looks at the image
    assert {word for caption in captions for word in caption.split()} <= {*WORDS[4:9]}


def test_an_image_has_one_caption_whatever_its_batch(opened, images, monkeypatch):
    together = opened.caption(images)
    assert together == opened.caption(images) == [opened.caption(image[None])[0] for image in images]
    monkeypatch.setattr(captioner, "AT_ONCE", 2)
    assert opened.caption(images) == together


def test_captions_are_those_of_the_library(opened, folder, images):
    network = BlipForConditionalGeneration.from_pretrained(folder / "tiny_blip")
    peer = BlipImageProcessor.from_pretrained(folder / "tiny_blip")
    for image, caption in zip(images, opened.caption(images), strict=True):
        pixels = peer(images=Image.fromarray(image), return_tensors="pt").pixel_values
        assert pixels.shape == (1, 3, SIZE, SIZE)
        written = network.generate(pixel_values=pixels, max_length=30)[0]
        assert opened.tokenizer.decode(written, skip_special_tokens=True) == f"[DEC] {caption}"


def test_pixels_are_resized_as_the_network_was_trained(opened, images):
    """Bicubic, then CLIP's mean and deviation: as Pillow resizes, up to its rounding."""
    image = Image.fromarray(images[0]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    mean, deviation = (np.array(opened.processor.to_dict()[key]) for key in ("image_mean", "image_std"))
    expected = (np.asarray(image) / 255 - mean) / deviation
    prepared = opened.processor(images=list(images[:1]), return_tensors="pt").pixel_values[0]
    np.testing.assert_allclose(prepared.permute(1, 2, 0), expected, atol=2 / 255 / deviation.min())


def test_beams_find_one_caption_as_well(opened, images):
    wide = captioner.Captioner(opened.identity, opened.network, opened.processor, opened.tokenizer, beams=3)
    captions = wide.caption(images)
    assert captions == wide.caption(images)
    assert all(captions)


def test_a_caption_ends(opened, images):
    short = captioner.Captioner(
        opened.identity, opened.network, opened.processor, opened.tokenizer, longest=4
    )
    assert all(len(caption.split()) <= 3 for caption in short.caption(images))


def test_a_folder_saved_by_the_processor_is_read_alike(opened, images, tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(write(tmp_path, processor=True)))
    other = captioner.open_named("tiny_blip", device="cpu")
    assert other.caption(images) == opened.caption(images)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_captioner_is_computed_in_half_the_precision(folder, images, precision, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(folder))
    half = captioner.open_named("tiny_blip", device="cpu", precision=precision)
    assert str(half.network.dtype) == f"torch.{precision}"
    assert len(half.caption(images)) == 5


def test_words_are_taken_out_of_what_is_written(opened, images):
    plain = opened.caption(images)
    word = plain[0].split()[0]
    assert opened.caption(images, without=[word]) == [captioner.remove(caption, [word]) for caption in plain]
    assert all(word not in caption.split() for caption in opened.caption(images, without=[word]))


@pytest.mark.parametrize(
    ("caption", "without", "expected"),
    [
        ("a blurry photo of a dog", captioner.BLURRED, "a photo of a dog"),
        ("Blurry dog", captioner.BLURRED, "dog"),
        ("a dog, blurred", captioner.BLURRED, "a dog,"),
        ("a dog in a blurry, blurry park", captioner.BLURRED, "a dog in a , park"),
        ("blurriness of a dog", captioner.BLURRED, "blurriness of a dog"),
        ("a  blurry dog", (), "a  blurry dog"),
        ("blurry", captioner.BLURRED, ""),
        ("a c++ book", ["c+"], "a c++ book"),
    ],
)
def test_whole_words_are_removed_with_their_gap(caption, without, expected):
    assert captioner.remove(caption, without) == expected


@given(st.lists(st.sampled_from(["a", "blurry", "dog", "blurryish", "Blurry"]), max_size=12))
def test_the_other_words_stay_in_order(words):
    kept = [word for word in words if word.lower() != "blurry"]
    assert captioner.remove(" ".join(words), ["blurry"]).split() == kept


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 3)), np.zeros((8, 8, 3), np.uint8)]
)
def test_anything_but_colour_images_is_refused(opened, images):
    with pytest.raises(ValueError, match="images to caption are uint8"):
        opened.caption(images)


def test_a_backbone_of_another_role_is_refused():
    with pytest.raises(PerceptError, match="'tiny_vae' serves as autoencoder"):
        captioner.open_named("tiny_vae")


@pytest.mark.parametrize(
    ("vision", "text", "n_parameters"),
    [
        ({}, {"encoder_hidden_size": 768}, 247_414_076),
        (
            {
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
            },
            {"encoder_hidden_size": 1024},
            469_732_924,
        ),
    ],
    ids=["base", "large"],
)
def test_the_published_captioners_have_their_size(vision, text, n_parameters):
    config = BlipConfig(
        text_config={"vocab_size": 30524, "num_attention_heads": 12, **text},
        vision_config={"image_size": 384, **vision},
    )
    with torch.device("meta"):
        network = BlipForConditionalGeneration(config)
        seen = network.vision_model(torch.zeros(1, 3, 384, 384)).last_hidden_state
    assert seen.shape == (1, 577, config.vision_config.hidden_size)
    shared = 30524 * 768  # the last layer's weights are the word embeddings, which the papers count twice
    assert sum(p.numel() for p in network.parameters()) + shared == n_parameters
