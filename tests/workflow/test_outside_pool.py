"""A pool of images outside the data set: planned in a dry-run, and searched in a small real run."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from percept.generators import store
from percept.targets import folder

from .conftest import Checkout

IMAGES = "resources/web"
SIZE = 48
SETTINGS = {
    "dataset": {"name": "pooled", "sessions": 1, "shared_images": 30, "subjects": ["subj01"]},
    "targets": {"pixels": None, "truth": None, "latents": None},
    "decoders": {
        "ridge_pixels": None, "ridge_truth": None, "ridge_latents": None,
        "mindeye": None, "mindeye_lowlevel": None,
        "ridge_tokens": {"kind": "ridge", "target": "tokens", "alphas": [100, 10000]},
    },
    "pools": {"web": {"images": IMAGES, "size": SIZE}},
    "reconstructions": {
        "linear": None, "unclip": None, "mindeye": None,
        "outside": {
            "semantic": "ridge_clip", "ranking": "ridge_tokens",
            "generator": {
                "kind": "outside", "pool": "web", "candidates": 5, "ranking_backbone": "tiny_clip",
                "centre": True,
            },
        },
    },
}  # fmt: skip
MADE = "results/pooled"
FOUND = f"{MADE}/generators/subj01/outside"
SCORED = f"{MADE}/evaluation/subj01/reconstructions/outside/scores.parquet"


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    """A checkout with a folder of images, and a configuration that looks in it."""
    copy = Checkout(tmp_path_factory.mktemp("pooled"))
    rng = np.random.default_rng(0)
    for number in range(40):
        path = copy.folder / IMAGES / str(number % 3) / f"{number:02d}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((50 + number, 60), Image.Resampling.BICUBIC).save(path)
    return copy, copy.configure("pooled", SETTINGS)


def test_a_pool_is_encoded_once_by_the_target_that_searches_it(pooled):
    copy, config = pooled
    plan = copy.planned(FOUND + "/images.h5", config=config)
    assert plan["encode_pool"] == plan["reconstruct_images"] == 1 and "list_pool" not in plan
    assert plan["encode_target"] == plan["train_decoder"] == 2
    whole = copy.planned("all", config=config)
    assert whole["encode_pool"] == whole["record_manifest"] == 1


def test_where_embeddings_are_given_the_images_are_only_listed(pooled):
    copy, _ = pooled
    given = "resources/web.npy"
    np.save(copy.folder / given, np.zeros((40, 512), dtype=np.float16))
    own = copy.configure("given", {**SETTINGS, "pools": {"web": {"images": IMAGES, "embeddings": given}}})
    plan = copy.planned(FOUND + "/images.h5", config=own)
    assert plan["list_pool"] == 1 and "encode_pool" not in plan


def test_without_a_pool_there_is_nothing_to_list(pooled):
    plan = pooled[0].planned("all")
    assert not {"list_pool", "encode_pool"} & set(plan)


def test_a_folder_that_is_not_there_is_named(pooled):
    copy, _ = pooled
    wrong = copy.configure("wrong", {**SETTINGS, "pools": {"web": {"images": "resources/wep"}}})
    done = copy.snakemake(FOUND + "/images.h5", "-n", config=wrong, check=False)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "resources/wep" in said and "encode_pool" in said


@pytest.mark.slow
def test_images_of_the_pool_are_found_scored_and_shown_and_a_bad_file_is_named(pooled):
    copy, config = pooled
    bad = copy.folder / IMAGES / "0" / "bad.jpg"
    bad.write_bytes(b"no image")
    stopped = copy.snakemake(f"{MADE}/pools/web/clip/index.json", config=config, check=False)
    assert stopped.returncode != 0 and re.search(r"1 of the 41 files in .*: 0/bad\.jpg", stopped.stderr)
    bad.unlink()
    wanted = [f"{FOUND}/images.h5", f"{FOUND}/sheet.png", SCORED]
    copy.snakemake(*wanted, config=config)

    table = pd.read_parquet(copy.folder / FOUND / "details.parquet")
    files = folder.list_images(copy.folder / IMAGES)
    images = folder.ImageFolder(copy.folder / IMAGES, tuple(files), SIZE)
    for name in ("images", "recovery"):
        found = store.read_images(copy.folder / FOUND / f"{name}.h5")
        own = table[table["set"] == name]
        np.testing.assert_array_equal(found.images, images.images([files.index(one) for one in own["file"]]))
        assert own["stimulus"].tolist() == found.stimulus.tolist() and own["sample"].between(0, 4).all()
    assert table["file"].nunique() > 2
    scores = pd.read_parquet(copy.folder / SCORED)
    assert {"ssim", "tiny_clip", "object"} <= set(scores["metric"])
    assert {"nearest_train", "random_image", "mean_image", "recovery"} <= set(scores["control"].dropna())
    assert copy.planned(*wanted, config=config) == {}

    Image.new("RGB", (60, 60), "red").save(copy.folder / IMAGES / "red.png")
    again = copy.planned(FOUND + "/images.h5", config=config)
    assert again == {"encode_pool": 1, "reconstruct_images": 1}
