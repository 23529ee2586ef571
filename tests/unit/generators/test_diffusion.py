"""Every generator by diffusion, on small random networks: the conditions it gives, and what it keeps."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from percept.backbones import autoencoder, captioner, diffusion, image, text
from percept.backbones.diffusion import Conditions
from percept.config import plugin
from percept.files import PerceptError
from percept.generators import choose, pixels
from percept.generators.image_diffusion import conditioning
from percept.generators.roles import Context, Roles, noise_seeds
from tests.unit.backbones.diffusion.networks import IMAGE, SIZE, TEXT, TOKENS, VERSATILE

OPENED = {module: cache(module.open_named) for module in (autoencoder, captioner, diffusion, image)}
N = 3
RNG = np.random.default_rng(0)
STIMULI = np.array([40, 7, 19], dtype=np.int32)
SEMANTIC = RNG.standard_normal((N, IMAGE)).astype(np.float32)
WORDS = RNG.standard_normal((N, TOKENS, TEXT)).astype(np.float32)
LATENTS = RNG.standard_normal((N, 4, 4, 4)).astype(np.float32)
ROLES = Roles(STIMULI, SEMANTIC, WORDS, LATENTS)
FEW = {"device": "cpu", "steps": 2, "batch_size": 2, "lowlevel_backbone": "tiny_vae"}
TINY = {
    "image_diffusion": {**FEW, "backbone": "tiny_unclip", "samples": 3},
    "dual_diffusion": {**FEW, "backbone": "tiny_unclip"},
    "text_diffusion": {**FEW, "backbone": "tiny_text", "encoder": "tiny_clip", "samples": 3},
    "caption_diffusion": {**FEW, "backbone": "tiny_text", "captioner": "tiny_blip"},
}
READS = {
    "image_diffusion": ("semantic", "lowlevel"),
    "dual_diffusion": ("semantic", "text", "lowlevel"),
    "text_diffusion": ("text", "lowlevel"),
    "caption_diffusion": ("lowlevel",),
}


@pytest.fixture(autouse=True)
def _read_once(elsewhere, monkeypatch):
    """Every network is read once for all tests: reading them takes longer than what they do here."""
    for module, opened in OPENED.items():
        monkeypatch.setattr(module, "open_named", opened)


def section(kind, **settings):
    return plugin("generators", {"kind": kind, **TINY[kind], **settings})


def build(kind, **settings):
    return section(kind, **settings).build(Context())


def roles(kind, **changed):
    """The roles that a kind reads, and no others."""
    return Roles(STIMULI, **({role: getattr(ROLES, role) for role in READS[kind]} | changed))


@cache
def low():
    """The low-level images of the predicted latents."""
    return autoencoder.open_named("tiny_vae", device="cpu").decode(LATENTS)


def sampler(name, **settings):
    return diffusion.open_named(name, "cpu", steps=2, **settings)


def test_every_kind_by_diffusion_is_tried_here():
    from percept import config

    kinds = config.kinds(*config.PLUGINS["generators"])
    assert {kind for kind in kinds if kind.endswith("diffusion")} == TINY.keys() == READS.keys()


@pytest.mark.parametrize("kind", TINY)
def test_images_are_the_samplers_with_what_they_started_from_beside_them(kind):
    made = build(kind).generate(roles(kind), seed=0)
    assert made.images.shape == (N, SIZE, SIZE, 3) and made.images.dtype == np.uint8
    np.testing.assert_array_equal(made.lowlevel, low())
    assert len(made.details) == N and all(0 <= row["sample"] < 3 for row in made.details)


@pytest.mark.parametrize("kind", TINY)
def test_the_same_seed_gives_the_same_images_one_by_one_and_another_gives_others(kind):
    generator = build(kind)
    together = generator.generate(roles(kind), seed=5)
    for row in range(N):
        alone = generator.generate(roles(kind).rows(slice(row, row + 1)), seed=5)
        np.testing.assert_allclose(
            alone.images[0].astype(float), together.images[row], atol=1
        )  # one grey level
        assert alone.details[0]["sample"] == together.details[row]["sample"]
    assert not np.array_equal(generator.generate(roles(kind), seed=6).images, together.images)


@pytest.mark.parametrize("kind", ["image_diffusion", "caption_diffusion"])
def test_half_precision_gives_nearly_the_same_images(kind):
    """Of the same samples: a choice between two that are alike may fall otherwise."""
    settings = {"samples": 1} if kind == "image_diffusion" else {}
    single, half = (
        build(kind, precision=precision, **settings).generate(roles(kind), seed=0)
        for precision in ("float32", "bfloat16")
    )
    assert 0 < np.abs(single.images.astype(float) - half.images).mean() < 4  # of 255; 8 bits of precision
    assert np.abs(single.lowlevel.astype(float) - half.lowlevel).mean() < 4


@pytest.mark.parametrize("kind", [kind for kind in TINY if "lowlevel" in section(kind).takes])
def test_without_a_low_level_role_images_start_from_noise(kind):
    generator = build(kind, strength=0.5)
    alone = generator.generate(roles(kind, lowlevel=None), seed=0)
    assert alone.lowlevel is None
    full = build(kind, strength=1.0).generate(roles(kind), seed=0)
    np.testing.assert_array_equal(alone.images, full.images)  # strength 1 leaves nothing of the image


@pytest.mark.parametrize("kind", TINY)
def test_strength_0_is_the_low_level_image_as_the_generators_autoencoder_gives_it_back(kind):
    made = build(kind, strength=0.0).generate(roles(kind), seed=0)
    network = autoencoder.open_named("tiny_vae", size=SIZE, device="cpu")
    np.testing.assert_array_equal(made.images, network.decode(network.encode(low())))


def expected(kind, number, seed=0, semantic=SEMANTIC):
    """Sample `number` of each image, asked of the sampler directly."""
    start, seeds = low(), noise_seeds(seed, STIMULI, number)
    given, settings = {
        "image_diffusion": (Conditions(image=semantic, init=start), {"strength": 0.85, "guidance": 3.5}),
        "dual_diffusion": (
            Conditions(image=semantic, text=WORDS, init=start),
            {"strength": 0.75, "guidance": 7.5, "mixing": 0.4},
        ),
        "text_diffusion": (Conditions(text=WORDS, init=start), {"strength": 0.8, "guidance": 5.0}),
    }[kind]
    scheduler = "unipc" if kind == "image_diffusion" else "ddim"
    return sampler(TINY[kind]["backbone"], scheduler=scheduler).sample(given, seeds, **settings)


@pytest.mark.parametrize("kind", ["image_diffusion", "dual_diffusion", "text_diffusion"])
def test_the_sampler_is_given_the_decoded_targets_and_the_papers_constants(kind):
    made = build(kind, samples=1).generate(roles(kind), seed=0)
    np.testing.assert_array_equal(made.images, expected(kind, 0))


def test_second_order_choice_keeps_the_sample_nearest_to_the_decoded_embedding():
    kind = "image_diffusion"
    samples = np.stack([expected(kind, number) for number in range(3)])
    encoder = image.open_named("tiny_clip", device="cpu")
    cosines = choose.similarity_to(np.stack([encoder.encode(each) for each in samples]), SEMANTIC)
    made = build(kind).generate(roles(kind), seed=0)
    assert len(set(cosines.argmax(axis=0))) > 1, "the samples of this test do not differ enough"
    for row, best in enumerate(cosines.argmax(axis=0)):
        np.testing.assert_array_equal(made.images[row], samples[best, row])
        assert made.details[row] == {
            "sample": best,
            "similarity": pytest.approx(cosines[best, row], abs=1e-5),
        }


DECODED = RNG.standard_normal((N, 2, IMAGE)).astype(np.float16)  # two samples of each embedding


def nearest(samples, wanted):
    """Number of the sample, per image, whose own embedding is nearest to the one wanted."""
    encoder = image.open_named("tiny_clip", device="cpu")
    return choose.similarity_to(np.stack([encoder.encode(each) for each in samples]), wanted).argmax(axis=0)


@pytest.mark.parametrize("kind", ["image_diffusion", "dual_diffusion"])
@pytest.mark.parametrize("ranked", [False, True])
def test_decoded_samples_condition_one_image_each_in_turn_and_ranking_chooses(kind, ranked):
    wanted = -SEMANTIC if ranked else None  # what is nearest to this is farthest from the prediction
    images = [expected(kind, n, semantic=DECODED[:, n % 2].astype(np.float32)) for n in range(3)]
    made = build(kind, samples=3).generate(roles(kind, samples=DECODED, ranking=wanted), seed=0)
    numbers = nearest(images, SEMANTIC if wanted is None else wanted)
    for row, best in enumerate(numbers):
        assert made.details[row]["sample"] == best
        np.testing.assert_array_equal(made.images[row], images[best][row])


@pytest.mark.parametrize("kind", ["image_diffusion", "dual_diffusion"])
def test_one_image_is_made_of_the_first_sample(kind):
    made = build(kind, samples=1).generate(roles(kind, samples=DECODED), seed=0)
    first = expected(kind, 0, semantic=DECODED[:, 0].astype(np.float32))
    np.testing.assert_array_equal(made.images, first)


@pytest.mark.parametrize("kind", ["image_diffusion", "dual_diffusion"])
@pytest.mark.parametrize("n_samples", [1, 2])
def test_samples_that_are_the_prediction_itself_change_nothing(kind, n_samples):
    half = SEMANTIC.astype(np.float16)
    given = roles(kind, semantic=half.astype(np.float32))
    generator = build(kind, samples=3)
    plain = generator.generate(given, seed=0)
    sampled = generator.generate(replace(given, samples=np.stack([half] * n_samples, axis=1)), seed=0)
    np.testing.assert_array_equal(sampled.images, plain.images)
    assert sampled.details == plain.details


def test_samples_of_tokens_are_scaled_by_their_own_class_token():
    samples = RNG.standard_normal((2, 3, 257, VERSATILE)).astype(np.float16)
    given = Roles(STIMULI[:2], samples[:, 0].astype(np.float32), samples=samples)
    generator = build("image_diffusion", backbone="versatile_diffusion", lowlevel_backbone=None, samples=2)
    made = generator.generate(given, seed=0)
    larger = generator.generate(replace(given, samples=samples * np.float16(8)), seed=0)
    np.testing.assert_array_equal(made.images, larger.images)


@pytest.mark.parametrize("kind", ["image_diffusion", "dual_diffusion"])
def test_a_decoder_that_ranks_is_of_use_only_where_there_is_a_choice(kind):
    assert "ranking" in section(kind, samples=2).takes
    assert "ranking" not in section(kind, samples=1).takes


def test_kinds_say_whether_samples_condition_them():
    kinds = {kind: section(kind).from_samples for kind in TINY}
    assert {kind for kind, given in kinds.items() if given} == {"image_diffusion", "dual_diffusion"}
    assert not plugin("generators", {"kind": "nearest"}).from_samples


def test_the_medoid_of_takagis_samples_is_kept():
    kind = "text_diffusion"
    samples = np.stack([expected(kind, number) for number in range(3)])
    encoder = image.open_named("tiny_clip", device="cpu")
    likeness = choose.likeness(np.stack([encoder.encode(each) for each in samples]))
    made = build(kind).generate(roles(kind), seed=0)
    for row, best in enumerate(likeness.argmax(axis=0)):
        np.testing.assert_array_equal(made.images[row], samples[best, row])


def test_the_caption_of_the_low_level_image_is_the_prompt():
    kind = "caption_diffusion"
    captions = captioner.open_named("tiny_blip", "cpu").caption(low(), without=("blurry", "blurred"))
    made = build(kind).generate(roles(kind), seed=0)
    assert [row["caption"] for row in made.details] == captions
    prompted = sampler("tiny_text").sample(
        Conditions(prompts=captions, init=low()), noise_seeds(0, STIMULI), strength=0.75, guidance=6.0
    )
    np.testing.assert_array_equal(made.images, prompted)


def test_mixing_weighs_the_text_against_the_image():
    only_image, only_text, both = (
        build("dual_diffusion", mixing=mixing).generate(roles("dual_diffusion"), seed=0).images
        for mixing in (0, 1, 0.4)
    )
    other = roles("dual_diffusion", text=WORDS[::-1].copy())
    unmoved = build("dual_diffusion", mixing=0).generate(other, seed=0).images
    np.testing.assert_array_equal(only_image, unmoved)
    assert not np.array_equal(both, only_image) and not np.array_equal(both, only_text)


@pytest.mark.parametrize("kind", ["image_diffusion", "dual_diffusion"])
def test_versatile_diffusion_takes_tokens_scaled_by_their_own_class_token(kind):
    tokens = RNG.standard_normal((2, 257, VERSATILE)).astype(np.float32)
    words = RNG.standard_normal((2, 77, VERSATILE)).astype(np.float32)
    given = Roles(STIMULI[:2], tokens, words if kind == "dual_diffusion" else None)
    generator = build(kind, backbone="versatile_diffusion", lowlevel_backbone=None, samples=2)
    made = generator.generate(given, seed=0)
    assert made.images.shape == (2, SIZE, SIZE, 3)
    larger = generator.generate(replace(given, semantic=tokens * np.float32(8)), seed=0)
    np.testing.assert_array_equal(made.images, larger.images)


def test_only_tokens_of_the_projected_space_are_scaled():
    tokens = RNG.standard_normal((4, 257, 6)).astype(np.float32)
    scaled = conditioning("versatile_diffusion", tokens)
    np.testing.assert_allclose(np.linalg.norm(scaled[:, 0], axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(
        scaled * np.linalg.norm(tokens[:, :1], axis=-1, keepdims=True), tokens, rtol=1e-5
    )
    for other in ("stable_unclip", "tiny_unclip", "ip_adapter", "ip_adapter_plus"):
        np.testing.assert_array_equal(conditioning(other, tokens), tokens)
    assert np.isfinite(conditioning("versatile_diffusion", np.zeros((1, 257, 6), dtype=np.float32))).all()


@pytest.mark.parametrize("kind", TINY)
def test_predicted_pixels_can_be_what_images_start_from(kind):
    low_pixels = RNG.random((N, 6, 6, 3)).astype(np.float32)
    generator = build(kind, lowlevel_backbone=None)
    made = generator.generate(roles(kind, lowlevel=low_pixels), seed=0)
    np.testing.assert_array_equal(made.lowlevel, pixels.enlarge(low_pixels, 128))


@pytest.mark.parametrize(
    ("kind", "settings", "changed", "message"),
    [
        ("image_diffusion", {}, {"semantic": SEMANTIC[:, :9]}, r"`image` embeddings of shape \(20\)"),
        ("image_diffusion", {}, {"semantic": np.stack([SEMANTIC] * 4, axis=1)}, r"those given are \(4, 20\)"),
        ("image_diffusion", {}, {"semantic": SEMANTIC * np.nan}, "not finite"),
        ("dual_diffusion", {}, {"text": WORDS[:, 0]}, r"`text` embeddings of shape \(any, 12\)"),
        ("text_diffusion", {}, {"text": WORDS[..., :5]}, r"those given are \(11, 5\)"),
        ("text_diffusion", {}, {"lowlevel": LATENTS[:, :3]}, "latents of shape .* `vae_latent`"),
        (
            "caption_diffusion",
            {},
            {"lowlevel": LATENTS.reshape(N, -1)},
            "latents of shape .* cannot be decoded",
        ),
        ("caption_diffusion", {"lowlevel_backbone": None}, {}, "set `lowlevel_backbone` of the generator"),
        ("image_diffusion", {"noise_level": 5000}, {}, "set `noise_level` from 0 to 999"),
        (
            "image_diffusion",
            {"backbone": "versatile_diffusion", "noise_level": 5},
            {},
            "all but the unCLIP networks|setting of the unCLIP networks",
        ),
    ],
)
def test_targets_of_the_wrong_kind_are_refused_by_what_would_be_right(kind, settings, changed, message):
    with pytest.raises(PerceptError, match=message):
        build(kind, **settings).generate(roles(kind, **changed), seed=0)


@pytest.mark.parametrize("kind", TINY)
def test_absent_weights_are_named_with_the_command_that_fetches_them(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    published = {"image_diffusion": "stable_unclip", "dual_diffusion": "ip_adapter", "text_diffusion": "sd14"}
    with pytest.raises(PerceptError, match="snakemake backbones --cores 1"):
        build(kind, backbone=published.get(kind, "sd15"))


@pytest.mark.parametrize(
    ("kind", "settings", "names"),
    [
        ("image_diffusion", {}, {"tiny_unclip", "tiny_clip", "tiny_vae"}),
        ("image_diffusion", {"samples": 1, "lowlevel_backbone": None}, {"tiny_unclip"}),
        ("image_diffusion", {"backbone": "ip_adapter"}, {"ip_adapter", "openclip_vit_h14", "tiny_vae"}),
        ("dual_diffusion", {}, {"tiny_unclip", "tiny_vae"}),
        ("dual_diffusion", {"samples": 4}, {"tiny_unclip", "tiny_clip", "tiny_vae"}),
        ("text_diffusion", {}, {"tiny_text", "tiny_clip", "tiny_vae"}),
        ("text_diffusion", {"samples": 1}, {"tiny_text", "tiny_vae"}),
        ("caption_diffusion", {}, {"tiny_text", "tiny_blip", "tiny_vae"}),
    ],
)
def test_the_networks_that_a_configuration_needs_are_listed(kind, settings, names):
    assert set(section(kind, **settings).backbones) == names


def test_two_samples_have_no_medoid():
    with pytest.raises(ValueError, match=r"of two samples each is as like the other.*set 1, or 3"):
        section("text_diffusion", samples=2)


@pytest.mark.parametrize(
    ("device", "backbone", "n_gpus"),
    [("auto", "tiny_text", 0), ("cpu", "sd14", 0), ("auto", "sd14", 1), ("cuda:1", "tiny_text", 1)],
)
def test_a_cluster_is_asked_for_a_gpu_only_where_one_is_of_use(device, backbone, n_gpus):
    assert section("text_diffusion", device=device, backbone=backbone).n_gpus == n_gpus


def test_the_true_targets_of_an_image_are_what_the_networks_here_encode():
    """What recovery gives a generator has the shape that it reads: encoders and sampler share one space."""
    seen = RNG.integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    semantic = image.open_named("tiny_clip", device="cpu").encode(seen)
    words = text.open_named("tiny_text", "tokens", "cpu").encode(["a red dog", "a boat"])
    latents = autoencoder.open_named("tiny_vae", size=SIZE, device="cpu").encode(seen)
    made = build("dual_diffusion").generate(Roles(STIMULI[:2], semantic, words, latents), seed=0)
    assert made.images.shape == (2, SIZE, SIZE, 3)
