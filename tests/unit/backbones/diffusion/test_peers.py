"""Our samplers against the unmodified pipelines of diffusers, from the same noise.

Peers compute their conditions from prompts and images themselves, with the encoders that ours do without.
"""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableUnCLIPImg2ImgPipeline,
    UNet2DConditionModel,
    VersatileDiffusionImageVariationPipeline,
    VersatileDiffusionTextToImagePipeline,
)
from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel
from PIL import Image
from transformers import (
    AutoTokenizer,
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPVisionModelWithProjection,
)

from percept.backbones import autoencoder
from percept.backbones.diffusion import Conditions
from percept.backbones.diffusion.loading import frozen
from percept.backbones.diffusion.schedulers import named
from tests.unit.backbones.diffusion import networks

LATENT = (1, 4, networks.LATENT, networks.LATENT)
PROMPTS = ["a red dog", "blue boat"]
SEEDS = [11, 12]


def noise():
    """The noise of each seed and what is left of its generator."""
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    return torch.cat([torch.randn(LATENT, generator=each) for each in generators]), generators


def quiet(pipeline):
    """Frozen as ours are: which kernel of attention torch takes depends on whether weights want gradients."""
    pipeline.set_progress_bar_config(disable=True)
    return frozen(pipeline)


def photos(n=2):
    rng = np.random.default_rng(4)
    return [Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(n)]


def agree(images, latents, vae, atol=0):
    """Our images are those of a peer's latents."""
    np.testing.assert_allclose(images.astype(int), autoencoder.decode(vae, latents).astype(int), atol=atol)
    assert np.ptp(images) > 50


@pytest.fixture(scope="module")
def stable_diffusion(folders):
    return quiet(StableDiffusionPipeline.from_pretrained(folders / "sd15", local_files_only=True))


@pytest.mark.parametrize("scheduler", ["default", "ddim", "unipc", "dpm"])
@pytest.mark.parametrize("guidance", [1, 6])
def test_text_to_image_is_stable_diffusions(opened, stable_diffusion, scheduler, guidance):
    sampler, peer = opened("sd15", steps=4, scheduler=scheduler), stable_diffusion
    peer.scheduler = named(scheduler, sampler.scheduler)
    made = peer(
        PROMPTS,
        num_inference_steps=4,
        guidance_scale=guidance,
        generator=noise()[1],
        latents=noise()[0],
        output_type="latent",
    ).images
    images = sampler.sample(Conditions(prompts=PROMPTS), SEEDS, guidance=guidance)
    agree(images, made, peer.vae)


@pytest.mark.parametrize("scheduler", ["ddim", "unipc", "dpm"])
@pytest.mark.parametrize("strength", [0.2, 0.5, 0.85])
def test_a_start_from_an_image_is_that_of_img2img(opened, folders, conditions, scheduler, strength):
    sampler = opened("sd15", steps=10, scheduler=scheduler)
    given = conditions("sd15", 2, ("prompts", "init"))
    peer = quiet(StableDiffusionImg2ImgPipeline.from_pretrained(folders / "sd15", local_files_only=True))
    peer.scheduler = named(scheduler, peer.scheduler)
    start = autoencoder.encode(peer.vae, given.init, sampler.size)  # latents: they are not encoded again
    fresh = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    made = peer(
        given.prompts,
        image=start,
        strength=strength,
        num_inference_steps=10,
        guidance_scale=3,
        generator=fresh,
        output_type="latent",
    ).images
    agree(sampler.sample(given, SEEDS, strength=strength, guidance=3), made, peer.vae)


def test_prompts_and_their_embeddings_make_the_same_images(opened, stable_diffusion):
    with torch.no_grad():
        embedded = stable_diffusion.encode_prompt(PROMPTS, "cpu", 1, False)[0].numpy()
    both = Conditions(prompts=PROMPTS), Conditions(text=embedded)
    one, other = (opened("sd15").sample(given, SEEDS) for given in both)
    np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def stable_unclip(folders):
    return quiet(
        StableUnCLIPImg2ImgPipeline.from_pretrained(folders / "stable_unclip", local_files_only=True)
    )


@pytest.mark.parametrize("noise_level", [0, 400])
@pytest.mark.parametrize(("guidance", "prompts"), [(1, ["", ""]), (5, ["", ""]), (5, PROMPTS)])
def test_unclip_is_stable_unclip(opened, stable_unclip, conditions, noise_level, guidance, prompts):
    sampler, peer = opened("stable_unclip", noise_level=noise_level), stable_unclip
    image = conditions("stable_unclip", 2).image
    latents, generators = noise()
    made = peer(
        prompt=prompts,
        image_embeds=torch.from_numpy(image),
        noise_level=noise_level,
        latents=latents,
        generator=generators,
        num_inference_steps=3,
        guidance_scale=guidance,
        output_type="latent",
    ).images
    given = Conditions(image=image, prompts=None if prompts == ["", ""] else prompts)
    agree(sampler.sample(given, SEEDS, guidance=guidance), made, peer.vae)


def test_unclip_reads_the_embedding_of_the_pipelines_own_encoder(opened, stable_unclip):
    peer = stable_unclip
    pixels = peer.feature_extractor(images=photos(), return_tensors="pt").pixel_values
    with torch.no_grad():
        embedded = peer.image_encoder(pixels).image_embeds
    latents, generators = noise()
    made = peer(
        image=pixels,
        prompt=["", ""],
        latents=latents,
        generator=generators,
        num_inference_steps=3,
        guidance_scale=4,
        output_type="latent",
    ).images
    images = opened("stable_unclip").sample(Conditions(image=embedded.numpy()), SEEDS, guidance=4)
    agree(images, made, peer.vae)


@pytest.fixture(scope="module")
def versatile_parts(folders):
    place = folders / "versatile_diffusion"
    return {
        "vae": AutoencoderKL.from_pretrained(place / "vae"),
        "image_unet": UNet2DConditionModel.from_pretrained(place / "image_unet"),
        "scheduler": PNDMScheduler.from_pretrained(place / "scheduler"),
    }


def test_the_image_branch_is_versatile_diffusions_image_variation(opened, folders, versatile_parts):
    place = folders / "versatile_diffusion"
    encoder = CLIPVisionModelWithProjection.from_pretrained(place / "image_encoder")
    processor = CLIPImageProcessor(size=32, crop_size=32)
    peer = quiet(VersatileDiffusionImageVariationPipeline(processor, encoder, **versatile_parts))
    with torch.no_grad():
        tokens = peer._encode_prompt(photos(), "cpu", 1, False, None)
    np.testing.assert_allclose(tokens[:, 0].norm(dim=-1), 1, rtol=1e-5)  # divided by their class token
    made = peer(
        photos(), guidance_scale=1, num_inference_steps=3, latents=noise()[0], output_type="latent"
    ).images
    for mixing in (0, None):
        images = opened("versatile_diffusion").sample(
            Conditions(image=tokens.numpy()), SEEDS, guidance=1, mixing=mixing
        )
        agree(images, made, peer.vae)


def test_the_text_branch_is_versatile_diffusions_text_to_image(opened, folders, versatile_parts):
    place = folders / "versatile_diffusion"
    peer = quiet(
        VersatileDiffusionTextToImagePipeline(
            tokenizer=AutoTokenizer.from_pretrained(place / "tokenizer"),
            text_encoder=CLIPTextModelWithProjection.from_pretrained(place / "text_encoder"),
            text_unet=UNetFlatConditionModel.from_pretrained(place / "text_unet"),
            **versatile_parts,
        )
    )
    with torch.no_grad():
        tokens = peer._encode_prompt(PROMPTS, "cpu", 1, False, None)
    made = peer(
        PROMPTS, guidance_scale=1, num_inference_steps=3, latents=noise()[0], output_type="latent"
    ).images
    for given in (Conditions(text=tokens.numpy()), Conditions(prompts=PROMPTS)):
        agree(opened("versatile_diffusion").sample(given, SEEDS, guidance=1), made, peer.vae)


@pytest.mark.parametrize("name", ["ip_adapter", "ip_adapter_plus"])
@pytest.mark.parametrize(("guidance", "prompt"), [(1, ""), (5, ""), (5, "a red dog")])
def test_an_adapter_is_that_of_stable_diffusion(opened, folders, name, guidance, prompt):
    """The peer encodes the image itself, one at a time, and what stands for no image too."""
    weights = {"ip_adapter": "ip-adapter_sd15", "ip_adapter_plus": "ip-adapter-plus_sd15"}[name]
    encoder = CLIPVisionModelWithProjection.from_pretrained(
        folders / "ip_adapter" / "models" / "image_encoder"
    )
    peer = quiet(
        StableDiffusionPipeline.from_pretrained(
            folders / "sd15", image_encoder=encoder, local_files_only=True
        )
    )
    peer.load_ip_adapter(str(folders / name), subfolder="models", weight_name=f"{weights}.safetensors")
    sampler, photo = opened(name), photos(1)[0]
    tokens, nothing = peer.encode_image(photo, "cpu", 1, output_hidden_states=name.endswith("plus"))
    torch.testing.assert_close(sampler.unconditional, nothing[0])
    made = peer(
        prompt,
        ip_adapter_image=photo,
        num_inference_steps=3,
        guidance_scale=guidance,
        latents=noise()[0][:1],
        output_type="latent",
    ).images
    given = Conditions(image=tokens.detach().numpy(), prompts=[prompt] if prompt else None)
    agree(sampler.sample(given, SEEDS[:1], guidance=guidance), made, peer.vae, atol=1)
