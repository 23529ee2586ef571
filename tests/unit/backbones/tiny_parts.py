"""Folders of barely trained small networks, for the tests of those that build on them."""

import dataclasses
from functools import cache

import numpy as np

from percept.backbones import store
from percept.backbones.tiny import clip, judge, latents, tokenizer, vae
from percept.backbones.tiny.trainer import Job
from percept.files import write_json
from tests.unit.backbones.tiny_scenes import held_out

N_SCENES = 10


def short(recipe):
    """A recipe cut short."""
    return dataclasses.replace(recipe, steps=2, batch_size=6, warmup=1)


def job(root, name, *parts):
    """A training on a few scenes."""
    scenes = held_out(N_SCENES)
    return Job(
        scenes.take(np.arange(6)),
        scenes.take(np.arange(6, N_SCENES)),
        root / name,
        root / "work" / name,
        {part: root / part for part in parts},
        code="test",
    )


@cache
def write(root):
    """tiny_clip, of random weights, and tiny_vae and tiny_judge, after two steps."""
    tokens = tokenizer.vocabulary(text for texts in held_out(N_SCENES).captions for text in texts)
    folder = root / clip.NAME
    tokenizer.write(tokens, folder)
    write_json(clip.model_config(len(tokens)), folder / "open_clip_config.json")
    clip.save_half(clip.build(len(tokens), seed=3).state_dict(), folder / "open_clip_model.safetensors")
    store.write_manifest(folder, clip.NAME)
    vae.train(job(root, vae.NAME), short(vae.RECIPE), short(vae.FINE))
    judge.train(job(root, judge.NAME), short(judge.RECIPE))
    return root


def true_scenes(n):
    """Held-out scenes, and their embeddings by the shipped tiny_clip."""
    scenes = held_out(n)
    return scenes, latents.embed(store.folder(clip.NAME), scenes.images)
