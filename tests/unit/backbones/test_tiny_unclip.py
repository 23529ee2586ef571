import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from percept.backbones import diffusion, store
from percept.backbones.diffusion import Conditions
from percept.backbones.diffusion.unclip import pipeline_class
from percept.backbones.tiny import clip, denoising, latents, text, unclip, vae
from percept.backbones.tiny.denoising import Condition
from percept.files import read_json
from tests.unit.backbones import tiny_parts


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Folders of all four networks, two steps after their beginning."""
    root = tiny_parts.write(tmp_path_factory.mktemp("parts"))
    for module in (unclip, text):
        module.train(tiny_parts.job(root, module.NAME, clip.NAME, vae.NAME), tiny_parts.short(module.RECIPE))
    return root


@pytest.fixture(scope="module")
def job(root):
    return tiny_parts.job(root, unclip.NAME, clip.NAME, vae.NAME)


def open_pipeline(root, name, kind, precision=torch.float32, **parts):
    """A pipeline as its users open it: what it shares lies in the folders of others."""
    from diffusers import AutoencoderKL
    from transformers import AutoTokenizer, CLIPTextModel

    opened = kind.from_pretrained(
        root / name,
        vae=AutoencoderKL.from_pretrained(root / vae.NAME, dtype=precision),
        text_encoder=CLIPTextModel.from_pretrained(root / text.NAME / "text_encoder", dtype=precision),
        tokenizer=AutoTokenizer.from_pretrained(root / text.NAME / "tokenizer", local_files_only=True),
        dtype=precision,
        local_files_only=True,
        **parts,
    )
    opened.set_progress_bar_config(disable=True)
    return opened


@pytest.fixture(scope="module")
def pipeline(root):
    """The library's StableUnCLIPImg2ImgPipeline, as the samplers make it do without an image encoder."""
    kind = pipeline_class()
    return open_pipeline(root, unclip.NAME, kind, feature_extractor=None, image_encoder=None)


# Conditions.


@pytest.mark.parametrize("level", [0, 7, 350, 999])
def test_embeddings_are_noised_as_the_pipeline_noises_them(pipeline, level):
    rng = torch.Generator().manual_seed(1)
    embeddings, noise = torch.randn(2, 5, 64, generator=rng)
    noiser = unclip.Noiser(pipeline.image_normalizer, pipeline.image_noising_scheduler)
    ours = noiser.condition(embeddings, torch.full((5,), level), noise)
    theirs = pipeline.noise_image_embeddings(embeddings, level, noise)
    torch.testing.assert_close(ours, theirs)


def test_the_stored_normaliser_has_mean_and_spread_of_the_embeddings(pipeline, job):
    seen = latents.embeddings(job)
    np.testing.assert_allclose(pipeline.image_normalizer.mean[0].detach(), seen.mean(axis=0), atol=2e-3)
    np.testing.assert_allclose(pipeline.image_normalizer.std[0].detach(), seen.std(axis=0), rtol=2e-3)


def test_image_and_text_are_dropped_independently(job):
    shown = unclip.Shown.of(job)
    generator = torch.Generator().manual_seed(0)
    batches = [shown.batch(step, tiny_parts.short(unclip.RECIPE), generator)[1] for step in range(120)]
    blind = torch.cat([(given.image == 0).all(dim=1) for given in batches]).numpy()
    silent = torch.cat([(given.text == shown.reader.empty).all(dim=(1, 2)) for given in batches]).numpy()
    n = len(blind)
    for found, share in (
        (blind, unclip.NO_IMAGE),
        (silent, unclip.NO_TEXT),
        (blind & silent, unclip.NO_IMAGE * unclip.NO_TEXT),
        (~blind & ~silent, (1 - unclip.NO_IMAGE) * (1 - unclip.NO_TEXT)),
    ):
        assert abs(found.mean() - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_latents_and_embeddings_of_a_batch_are_of_the_same_scenes(job):
    shown = unclip.Shown.of(job)
    drawn, given = shown.batch(3, tiny_parts.short(unclip.RECIPE), torch.Generator().manual_seed(0))
    rows = [int((shown.latents == one).all(dim=(1, 2, 3)).nonzero()) for one in drawn]
    seen = (given.image != 0).any(dim=1)
    distance = torch.cdist(given.image[seen][:, :64], shown.embeddings)
    low = distance.min(dim=1).values < 0.2 * shown.embeddings.std() * 8  # little noise: the scene is known
    found = distance.argmin(dim=1)
    assert low.any()
    torch.testing.assert_close(found[low], torch.tensor(rows)[seen][low])


@pytest.mark.parametrize("n", [1, 7, 64])
def test_steps_are_spread_over_the_whole_range(n):
    steps = denoising.spread_steps(n, 1000, torch.Generator().manual_seed(n))
    edges = 1000 / n * torch.arange(n + 1)
    assert (edges[:-1].floor() <= steps).all() and (steps < edges[1:]).all()


# Sampling and its measure.


class Knowing(torch.nn.Module):
    """The best network possible: it knows the latents, which are the first features of its condition."""

    def forward(self, noisy, step, states, class_labels=None):
        from types import SimpleNamespace

        remains = denoising.scheduler().alphas_cumprod[step]
        true = class_labels[:, :256].reshape(-1, 4, 8, 8)
        error = (noisy - remains.sqrt() * true) / (1 - remains).sqrt()
        return SimpleNamespace(sample=remains.sqrt() * error - (1 - remains).sqrt() * true)


def test_sampling_finds_what_the_network_knows(monkeypatch):
    monkeypatch.setattr(denoising, "AT_ONCE", 2)  # a ragged last one
    monkeypatch.setattr(denoising, "GUIDANCE", 1.0)
    true = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    told, nothing = (
        Condition(torch.zeros(3, 5, 6), true),
        Condition(torch.zeros(1, 5, 6), torch.zeros(1, 256)),
    )
    found = denoising.sample(Knowing(), told, nothing)
    np.testing.assert_allclose(found.reshape(3, -1), true, atol=1e-3)


def test_who_is_right_has_a_loss_of_the_rounding_alone():
    class Exact(torch.nn.Module):
        def forward(self, noisy, steps, states, class_labels=None):
            return Knowing()(noisy, steps[:, None, None, None], states, class_labels)

    true = torch.randn(6, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = Condition(torch.zeros(6, 5, 6), true.flatten(1))
    found = denoising.loss(Exact(), denoising.scheduler(), true, condition, torch.Generator().manual_seed(1))
    assert float(found["loss"]) < 1e-3


def test_identification_of_the_images_themselves_is_perfect_and_of_one_image_is_chance():
    true = np.random.default_rng(0).standard_normal((9, 20))
    assert denoising.identified(3 * true + 1, true) == 1
    assert denoising.identified(np.tile(true[:1], (9, 1)), true) == pytest.approx(0.5)


def test_identification_by_hand():
    true = np.eye(3, 4)
    made = true[[1, 0, 2]]  # the first two exchanged
    assert denoising.identified(made, true) == pytest.approx((0 + 0 + 1) / 3)


# The pipelines.


def test_the_pipeline_shows_an_embedding_without_any_text(pipeline):
    embeddings = torch.randn(2, 64, generator=torch.Generator().manual_seed(2))
    made = [
        pipeline(
            image_embeds=embeddings,
            prompt=["", ""],
            num_inference_steps=3,
            guidance_scale=2.0,
            generator=[torch.Generator().manual_seed(seed) for seed in (5, 6)],
            output_type="np",
        ).images
        for _ in range(2)
    ]
    assert made[0].shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(made[0], made[1])


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"]
)
def test_text_makes_an_image_by_each_schedule(root, scheduler):
    import diffusers

    opened = open_pipeline(root, text.NAME, diffusers.StableDiffusionPipeline, safety_checker=None)
    opened.scheduler = getattr(diffusers, scheduler).from_config(opened.scheduler.config)
    made = opened("A dog in a park.", num_inference_steps=3, guidance_scale=2.0, output_type="np").images
    assert made.shape == (1, 64, 64, 3) and np.isfinite(made).all()


def test_an_image_to_start_from_leaves_its_trace(root):
    from diffusers import StableDiffusionImg2ImgPipeline

    opened = open_pipeline(root, text.NAME, StableDiffusionImg2ImgPipeline, safety_checker=None)
    made = [
        opened(
            "A dog.",
            image=torch.full((1, 3, 64, 64), level),
            strength=0.5,
            num_inference_steps=4,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images
        for level in (0.0, 1.0)
    ]
    assert np.abs(made[0] - made[1]).max() > 0


@pytest.mark.parametrize("name", [unclip.NAME, text.NAME])
def test_a_folder_is_whole_and_holds_nothing_of_the_others(root, name):
    assert store.verify(root / name) == []
    assert not (root / name / "vae").exists()
    assert (root / name / "text_encoder").exists() == (name == text.NAME)


def test_a_finished_training_is_not_repeated(root, job):
    before = (root / unclip.NAME / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    unclip.train(job, tiny_parts.short(unclip.RECIPE))
    assert (root / unclip.NAME / "unet" / "diffusion_pytorch_model.safetensors").read_bytes() == before


def test_latents_are_computed_again_for_another_autoencoder(root, job):
    kept = latents.latents(job)
    path = job.work / "latents.safetensors"
    path.unlink()
    np.testing.assert_array_equal(latents.latents(job), kept)
    written = path.stat().st_mtime_ns
    latents.latents(job)
    assert path.stat().st_mtime_ns == written
    other = job.work / "other" / vae.NAME
    shutil.copytree(root / vae.NAME, other)
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    store.write_manifest(other, vae.NAME)
    latents.latents(replace(job, parts=job.parts | {vae.NAME: other}))
    assert path.stat().st_mtime_ns > written


def test_latents_are_of_the_scenes_that_they_are_paired_with(job):
    turned = job.train.take(np.arange(len(job.train))[::-1])
    for compute in (latents.latents, latents.embeddings):
        before = compute(job)
        np.testing.assert_allclose(compute(replace(job, train=turned)), before[::-1], atol=1e-4)


# What is shipped.


def shipped_sampler(name, steps=12):
    return diffusion.open_named(name, device="cpu", steps=steps)


def test_the_shipped_network_is_small():
    folder = store.SHIPPED / unclip.NAME
    assert sum(path.stat().st_size for path in folder.rglob("*.safetensors")) <= 7_000_000


@pytest.mark.parametrize(("told", "least"), [("image", 0.95), ("prompts", 0.85), ("both", 0.95)])
def test_held_out_scenes_are_identified_from_what_the_network_is_told(told, least):
    scenes, true = tiny_parts.true_scenes(60)
    prompts = [captions[0] for captions in scenes.captions]
    given = {"image": {"image": true}, "prompts": {"prompts": prompts}}
    given["both"] = given["image"] | given["prompts"]
    made = shipped_sampler(unclip.NAME).sample(Conditions(**given[told]), range(60), guidance=3.0)
    again = latents.embed(store.SHIPPED / clip.NAME, made)
    assert denoising.identified(again, true) >= least


@pytest.mark.slow
def test_the_card_says_what_many_scenes_measure():
    written = read_json(store.SHIPPED / unclip.NAME / "quality.json")
    assert max(written.values()) >= 0.95
    _, true = tiny_parts.true_scenes(1000)
    made = shipped_sampler(unclip.NAME, steps=20).sample(Conditions(image=true), range(1000), guidance=3.0)
    measured = denoising.identified(latents.embed(store.SHIPPED / clip.NAME, made), true)
    key = next(name for name in written if "true embedding" in name)
    assert measured == pytest.approx(written[key], abs=0.01)
