"""Trials, images, voxels and bytes, against what is published of NSD and what the twin really writes."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from percept import config
from percept.backbones import catalogue, image
from percept.datasets.twin import design
from percept.preflight import figures, shapes, sizes, world
from tests.unit.source import REPOSITORY

NSD = REPOSITORY / "config/nsd.yaml"
TINY = REPOSITORY / "config/experiments/tiny.yaml"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A working folder without results."""
    monkeypatch.chdir(tmp_path)


def nsd(**changes):
    return config.load(config.yaml.safe_load(NSD.read_text()) | changes)


def test_all_of_nsd_has_the_trials_and_images_that_were_published():
    subjects = world.subjects(nsd())
    assert sum(subject.trials for subject in subjects) == 213_000
    assert sizes.stimuli(nsd(), subjects) == 70_566
    assert [subject.test_images for subject in subjects] == [1000, 1000, 930, 907, 1000, 930, 1000, 907]


@pytest.mark.parametrize(("fraction", "expected"), [(0, (9000, 0)), (0.1, (8100, 900))])
def test_validation_images_come_off_the_training_images(fraction, expected):
    (subject,) = [one for one in world.subjects(nsd()) if one.name == "subj01"]
    assert subject.train_images(fraction) == expected


@pytest.mark.parametrize(("protocol", "n"), [("shared515", 515), ("random", 1000), ("algonauts23", 159)])
def test_the_protocol_decides_how_many_images_test(protocol, n):
    assert world.subjects(nsd(split={"protocol": protocol}))[0].test_images == n


def test_voxels_take_what_nsdgeneral_was_measured_to_take():
    alone = nsd(voxels={"extract": ["nsdgeneral"]}, decoders={"one": {"kind": "ridge", "target": "clip"}},
                reconstructions={}, interpretation={})  # fmt: skip
    subjects = world.subjects(alone)
    assert sizes.voxels(alone, subjects[:1]) == 30_000 * 15_724 * 2
    assert sizes.voxels(alone, subjects) == pytest.approx(6.2e9, rel=0.01)


def test_the_samples_of_mindeye_take_what_the_documentation_says():
    cfg, (subject, *_) = nsd(), world.subjects(nsd())
    shape = shapes.shape_of("clip_tokens", cfg)
    assert shape == (257, 768)
    without = cfg.decoders["mindeye"].model_copy(update={"losses": SimpleNamespace(prior=0)})
    whole, rest = (sizes.predictions(one, subject, shape, cfg) for one in (cfg.decoders["mindeye"], without))
    assert whole - rest == 1000 * 16 * 257 * 768 * 2  # 6.3 GB
    assert rest == (900 + 1000 + 3000) * 257 * 768 * 4


def test_the_download_is_the_tables_the_images_and_every_session():
    (found,) = sizes.downloads(nsd(), world.subjects(nsd()))
    assert found.passing == pytest.approx(129e9, rel=0.01)
    assert found.to_come - figures.STIMULI_BYTES == pytest.approx(0.4e9, rel=0.5)


def test_files_that_are_there_are_not_to_come():
    before = sizes.downloads(nsd(), [])[0]
    path = sizes.Path("resources/nsd/nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR")
    path.mkdir(parents=True)
    (path / "betas_session01.nii.gz").write_bytes(b"1234")
    after = sizes.downloads(nsd(), [])[0]
    assert after.present == 4 and before.passing - after.passing == 0.467e9


def test_raw_betas_that_are_kept_are_to_come_for_good():
    given = config.yaml.safe_load(NSD.read_text())
    given["dataset"]["download"] = {"keep_raw": True}
    (found,) = sizes.downloads(config.load(given), [])
    assert found.passing == 0 and found.to_come > 160e9


def test_a_twin_is_told_from_its_own_design():
    cfg = config.load(TINY)
    first, second = world.subjects(cfg)
    shown = design.shown(design.of(cfg.dataset), "subj01", 2)
    assert (first.trials, first.images) == (1500, len(np.unique(shown)))
    assert first.test_images == first.shared == 40 and second.trials == 750
    assert 200 < first.of("nsdgeneral") < 400


def test_extracted_voxels_are_counted(tmp_path):
    folder = tmp_path / "results/tiny/voxels/subj01"
    folder.mkdir(parents=True)
    shown = {
        "stimulus": [3, 3, 4, 5],
        "split": ["test", "test", "train", "train"],
        "shared": [True, True, False, False],
    }
    pd.DataFrame(shown).to_parquet(folder / "trials.parquet")
    pd.DataFrame({"i": [1, 2, 3], "nsdgeneral": ["nsdgeneral", None, "nsdgeneral"]}).to_parquet(
        folder / "voxels.parquet"
    )
    first = world.subjects(config.load(TINY))[0]
    assert (first.trials, first.images, first.test_trials, first.test_images, first.shared) == (4, 3, 2, 1, 1)
    assert (first.of("nsdgeneral"), first.of(world.UNION)) == (2, 3)


def test_a_target_that_was_encoded_has_the_shape_that_was_written(tmp_path):
    index = tmp_path / "results/nsd/targets/clip/index.json"
    index.parent.mkdir(parents=True)
    index.write_text(json.dumps({"shape": [5, 7]}))
    assert shapes.shape_of("clip", nsd()) == (5, 7)


@pytest.mark.parametrize("output", ["pooled", "tokens"])
def test_a_small_network_answers_in_the_shape_that_is_announced(output):
    target = config.plugin("targets", {"kind": "clip_image", "backbone": "tiny_clip", "output": output})
    answer = image.open_named("tiny_clip", output, "cpu").encode(np.zeros((1, 64, 64, 3), np.uint8))
    cfg = config.load(config.yaml.safe_load(TINY.read_text()))
    cfg.targets["clip"] = target
    assert shapes.shape_of("clip", cfg) == answer.shape[1:]


def test_every_published_network_has_a_size():
    published = {name for name, entry in catalogue.CATALOGUE.items() if entry.family == "published"}
    assert set(figures.PARAMETERS_M) == published


def test_images_of_votes_are_as_large_as_their_candidates():
    cfg = config.load(REPOSITORY / "config/config.yaml")
    assert sizes._side(cfg, "vote_random") == sizes._side(cfg, "captioned") == 64
    assert sizes._side(cfg, "linear") == 128 and sizes._side(cfg, "nearest") == sizes.IMAGE_SIDE
