"""Folders of backbones: found, whole, and of the right revision, or refused with the command that helps."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

import percept
from percept.backbones import store
from percept.backbones.catalogue import CATALOGUE
from percept.files import PerceptError, sha256


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The folder of sd_vae in a working folder of its own, with two files and no manifest yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(store.ELSEWHERE, raising=False)
    folder = tmp_path / "resources/backbones/sd_vae"
    (folder / "part").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "part/weights.safetensors").write_bytes(bytes(range(7)))
    return folder


def flipped(content):
    """With the last bit changed."""
    return content[:-1] + bytes([content[-1] ^ 1])


def test_shipped_ones_lie_in_the_checkout_and_fetched_ones_in_the_working_folder(monkeypatch):
    monkeypatch.delenv(store.ELSEWHERE, raising=False)
    checkout = Path(percept.__file__).parents[2]
    assert store.folder("tiny_clip") == checkout / "resources/backbones/tiny_clip"
    assert store.folder("sd15") == Path("resources/backbones/sd15")
    assert store.manifest_path("sd15") == Path("resources/backbones/sd15/backbone.json")


def test_another_folder_is_looked_at_first_but_only_for_what_it_holds(place, tmp_path, monkeypatch):
    monkeypatch.setenv(store.ELSEWHERE, str(tmp_path / "other"))
    assert store.folder("sd_vae") == Path("resources/backbones/sd_vae")
    (tmp_path / "other/sd_vae").mkdir(parents=True)
    (tmp_path / "other/sd_vae/backbone.json").write_text("{}")
    assert store.folder("sd_vae") == tmp_path / "other/sd_vae"
    assert store.folder("sd15") == Path("resources/backbones/sd15")


def test_the_manifest_lists_every_file_with_size_and_digest_and_no_hidden_one(place):
    (place / ".fetch").mkdir()
    (place / ".fetch/half.part").write_bytes(b"x")
    (place / "weights.part").write_bytes(b"x")
    manifest = json.loads(store.write_manifest(place, "sd_vae", notes={"steps": 3}).read_text())
    assert manifest["files"].keys() == {"config.json", "part/weights.safetensors"}
    assert manifest["files"]["config.json"] == {
        "size": 2, "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    }  # fmt: skip
    entry = CATALOGUE["sd_vae"]
    assert {key: manifest[key] for key in ("name", "role", "family", "library", "licence", "steps")} == {
        "name": "sd_vae", "role": "autoencoder", "family": "published", "library": "diffusers",
        "licence": "MIT", "steps": 3,
    }  # fmt: skip
    assert (manifest["repository"], manifest["revision"]) == (entry.repository, entry.revision)


def test_a_whole_folder_is_returned_and_identified(place):
    store.write_manifest(place, "sd_vae")
    assert store.require("sd_vae") == Path("resources/backbones/sd_vae") and store.verify(place) == []
    assert store.identity("sd_vae")["revision"] == CATALOGUE["sd_vae"].revision


@pytest.mark.parametrize(
    ("damage", "how"),
    [
        (lambda file: file.unlink(), "absent or of another size"),
        (lambda file: file.write_bytes(b"abcdef"), "absent or of another size"),
        (lambda file: file.write_bytes(flipped(file.read_bytes())), "of another content"),
    ],
    ids=["absent", "truncated", "altered"],
)
def test_damage_is_named_with_what_mends_it(place, damage, how):
    store.write_manifest(place, "sd_vae")
    damage(place / "part/weights.safetensors")
    assert store.verify(place) == ["part/weights.safetensors"]
    with pytest.raises(PerceptError, match=f"is damaged: part/weights.safetensors is {how}") as caught:
        store.require("sd_vae")
    assert "`python -m percept.backbones.fetch sd_vae`" in str(caught.value)


def test_planning_looks_at_sizes_alone(place):
    store.write_manifest(place, "sd_vae")
    file = place / "part/weights.safetensors"
    file.write_bytes(flipped(file.read_bytes()))
    assert store.require("sd_vae", contents=False) == Path("resources/backbones/sd_vae")


def test_contents_are_read_once_and_again_when_a_file_was_written(place, monkeypatch):
    store.write_manifest(place, "sd_vae")
    read = []
    monkeypatch.setattr(store, "sha256", lambda file: read.append(file.name) or sha256(file))
    for _ in range(3):
        store.require("sd_vae")
    assert sorted(read) == ["config.json", "weights.safetensors"]
    file = place / "part/weights.safetensors"
    file.write_bytes(flipped(file.read_bytes()))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))  # even on a coarse clock
    with pytest.raises(PerceptError, match="of another content"):
        store.require("sd_vae")


def test_a_flipped_bit_of_a_shipped_network_is_found_before_it_is_loaded(tmp_path, monkeypatch):
    from percept.backbones import autoencoder

    folder = tmp_path / "tiny_vae"
    shutil.copytree(store.SHIPPED / "tiny_vae", folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(flipped(file.read_bytes()))
    monkeypatch.setenv(store.ELSEWHERE, str(tmp_path))
    with pytest.raises(PerceptError, match=rf"{file.name} is of another content.*`git checkout -- "):
        autoencoder.open_named("tiny_vae", device="cpu")


def test_another_revision_than_the_catalogues_is_refused(place):
    store.write_manifest(place, "sd_vae", revision="0" * 40)
    with pytest.raises(PerceptError, match=f"is revision 0{{40}} of .* names {CATALOGUE['sd_vae'].revision}"):
        store.require("sd_vae")


def test_where_the_catalogue_pins_nothing_any_recorded_revision_serves(place):
    place.rename(place.with_name("swav"))
    store.write_manifest(place.with_name("swav"), "swav", revision="b" * 64)
    assert store.require("swav").name == "swav" and store.identity("swav")["revision"] == "b" * 64


def test_a_file_is_pinned_by_the_first_digits_of_its_digest(place):
    place = place.rename(place.with_name("alexnet"))
    store.write_manifest(place, "alexnet", revision="7be5be79" + "0" * 56)
    assert store.require("alexnet").name == "alexnet"
    store.write_manifest(place, "alexnet", revision="8" * 64)
    with pytest.raises(PerceptError, match="names 7be5be79"):
        store.require("alexnet")


def test_an_absent_published_one_names_the_commands_and_the_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PerceptError, match=r"`snakemake backbones --cores 1`.*`--configfile`") as caught:
        store.require("sd15")
    assert "`python -m percept.backbones.fetch sd15`" in str(caught.value)
    assert str(tmp_path / "resources/backbones/sd15") in str(caught.value)


def test_an_absent_shipped_one_is_a_damaged_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    monkeypatch.delenv(store.ELSEWHERE, raising=False)
    with pytest.raises(PerceptError, match=re.escape("`git checkout -- resources/backbones/tiny_vae`")):
        store.require("tiny_vae")
