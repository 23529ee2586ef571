"""A GAN that is trained on a pool: planned in a dry-run; trained, shown and scored in a small real run."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from percept.files import read_json
from percept.generators import store

from .conftest import Checkout

IMAGES = "resources/photographs"
SETTINGS = {
    "dataset": {"name": "gans", "sessions": 1, "shared_images": 30, "subjects": ["subj01"]},
    "targets": {"pixels": None, "truth": None, "latents": None, "tokens": None},
    "decoders": {
        "ridge_pixels": None, "ridge_truth": None, "ridge_latents": None,
        "mindeye": None, "mindeye_lowlevel": None,
    },
    "pools": {"photographs": {"images": IMAGES, "size": 48}},
    "gans": {
        "own": {
            "pool": "photographs",
            "conditions": ["clip"],
            "noise": {"decoders": ["ridge_clip"]},
            "network": {
                "side": 16, "capacity": 128, "most_channels": 16, "latent": 8, "style": 16, "mapping": 2,
            },
            "training": {
                "steps": 4, "batch_size": 4, "warmup": 1, "looked_at": 2, "measured_every": 2,
                "measured_images": 8, "measured_by": "tiny_judge", "device": "cpu",
            },
        }
    },
    "reconstructions": {
        "linear": None, "unclip": None, "mindeye": None,
        "mind_reader": {
            "semantic": "ridge_clip", "generator": {"kind": "gan", "trained": "own", "device": "cpu"},
        },
    },
}  # fmt: skip
MADE = "results/gans"
SHOWN = f"{MADE}/generators/subj01/mind_reader"
SCORED = f"{MADE}/evaluation/subj01/reconstructions/mind_reader/scores.parquet"


@pytest.fixture(scope="module")
def checkout_with_photographs(tmp_path_factory):
    """A checkout with a folder of images, and a configuration that trains a GAN on it."""
    copy = Checkout(tmp_path_factory.mktemp("gans"))
    (copy.folder / IMAGES).mkdir(parents=True)
    for number, blocks in enumerate(np.random.default_rng(0).integers(0, 256, (30, 5, 5, 3), dtype=np.uint8)):
        image = Image.fromarray(blocks).resize((60, 50 + number), Image.Resampling.BICUBIC)
        image.save(copy.folder / IMAGES / f"{number:02d}.jpg")
    return copy, copy.configure("gans", SETTINGS)


def test_a_gan_is_trained_once_from_a_pool_and_the_errors_of_a_decoder(checkout_with_photographs):
    copy, config = checkout_with_photographs
    plan = copy.planned(f"{SHOWN}/images.h5", config=config)
    once = ("train_gan", "encode_pool", "encode_target", "train_decoder", "reconstruct_images")
    assert [plan[rule] for rule in once] == [1] * len(once)


def test_typed_noise_needs_no_decoder(checkout_with_photographs):
    copy, _ = checkout_with_photographs
    own = {**SETTINGS["gans"]["own"], "noise": {"strengths": [[0.4, 0.5, 0.6, 0.7, 0.9]]}}
    config = copy.configure("typed", {**SETTINGS, "gans": {"own": own}})
    plan = copy.planned(f"{MADE}/gans/own/model.safetensors", config=config)
    assert plan["train_gan"] == 1 and "train_decoder" not in plan


@pytest.mark.slow
def test_its_images_are_made_and_scored_and_its_settings_train_it_anew(checkout_with_photographs):
    copy, config = checkout_with_photographs
    wanted = [f"{SHOWN}/images.h5", SCORED]
    copy.snakemake(*wanted, config=config)
    images = store.read_images(copy.folder / SHOWN / "images.h5").images
    assert images.shape[1:] == (16, 16, 3) and images.std() > 0
    about = read_json(copy.folder / MADE / "gans/own/about.json")
    assert about["conditions"][0]["backbone"] == "tiny_clip" and about["images"]["used"] == 30
    assert 0 < about["strengths"][0][0] < about["strengths"][0][-1] <= 1
    assert {"ssim", "tiny_clip"} <= set(pd.read_parquet(copy.folder / SCORED)["metric"])
    assert not (copy.folder / MADE / "gans/own/work").exists()
    assert copy.planned(*wanted, config=config) == {}

    with copy.edited(config, "warmup: 1", "warmup: 2"):
        again = copy.planned(f"{SHOWN}/images.h5", config=config)
    assert again == {"train_gan": 1, "reconstruct_images": 1}
    with copy.edited(config, "steps: 4", "checkpoint_minutes: 3\n      steps: 4"):
        assert copy.planned(f"{SHOWN}/images.h5", config=config) == {}
