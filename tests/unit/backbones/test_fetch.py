"""Fetching from a real server: whole, resumed in mid-file, pinned, converted; or refused with a reason."""

import hashlib
import io
import json
import logging
import os
import re
import runpy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from percept import log
from percept.backbones import catalogue, convert, entry, fetch, store, transfer
from percept.files import PerceptError
from tests.unit.backbones import hub as fake

torch = pytest.importorskip("torch")
WEIGHTS = np.random.default_rng(0).bytes(3 << 20)  # three blocks
COMMIT, NEXT = "a" * 40, "b" * 40
LARGE = "diffusion_pytorch_model.safetensors"
PLAIN = {"config.json": b'{"x": 1}', LARGE: WEIGHTS, "README.md": b"?"}


def saved(tensors):
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(monkeypatch):
    hub = fake.Hub()
    server, address = fake.serve(hub)
    hub.address = address
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(transfer, "WAIT_S", 0.0)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(store.ELSEWHERE, raising=False)
    return tmp_path


def register(monkeypatch, name, source):
    """Give a name of the catalogue another source, and return where it will lie."""
    entries = dict(catalogue.CATALOGUE)
    entries[name] = replace(entries[name], source=source)
    monkeypatch.setattr(catalogue, "CATALOGUE", entries)
    return store.folder(name)


@pytest.fixture
def vae(hub, monkeypatch):
    """The folder of `sd_vae`, to be fetched from a repository at a pinned commit."""
    hub.add("who/vae", COMMIT, dict(PLAIN))
    return register(monkeypatch, "sd_vae", entry.Hub("who/vae", COMMIT, catalogue.VAE_FILES))


def test_a_repository_is_fetched_whole_with_a_manifest_of_its_commit(hub, vae):
    assert fetch.fetch("sd_vae") == vae
    manifest = json.loads((vae / "backbone.json").read_text())
    assert manifest["files"].keys() == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert manifest["revision"] == COMMIT and store.verify(vae) == []
    assert (vae / LARGE).read_bytes() == WEIGHTS
    assert not (vae / ".fetch").exists() and not list(vae.rglob("*.part"))


def test_what_is_whole_is_not_fetched_again_and_needs_no_network(hub, vae, monkeypatch):
    fetch.fetch("sd_vae")
    asked = len(hub.requests)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert fetch.fetch("sd_vae") == vae and len(hub.requests) == asked


def test_a_connection_that_breaks_is_resumed_where_it_broke(hub, vae, caplog):
    hub.cut[LARGE] = [1_000_000, 1_500_000]
    fetch.fetch("sd_vae")
    assert [asked for path, asked in hub.requests if path == LARGE] == [
        "",
        "bytes=1000000-",
        "bytes=2500000-",
    ]
    assert (vae / LARGE).read_bytes() == WEIGHTS and "trying again" in caplog.text


def test_a_process_that_was_killed_is_resumed_by_the_next(hub, vae):
    hub.cut[LARGE] = [1_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(
        PerceptError, match=r"was interrupted \(the connection ended after 1000000 of 3145728"
    ):
        fetch.fetch("sd_vae")
    assert not (vae / "backbone.json").exists() and (vae / f"{LARGE}.part").stat().st_size == 1_000_000
    hub.requests.clear()
    fetch.fetch("sd_vae")
    assert hub.requests == [(LARGE, "bytes=1000000-")]  # config.json was there
    assert store.verify(vae) == []


def test_a_server_that_cannot_resume_is_read_from_the_beginning(hub, vae):
    hub.resumable = False
    hub.cut[LARGE] = [1_000_000]
    fetch.fetch("sd_vae")
    assert store.verify(vae) == []


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_passing_failure_of_the_server_is_tried_again(hub, vae, code):
    hub.fail["config.json"] = [code, code]
    fetch.fetch("sd_vae")
    assert store.verify(vae) == []


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_refusal_is_not_tried_again_and_explained(hub, vae, code):
    hub.fail["config.json"] = [code]
    with pytest.raises(PerceptError, match=rf"the server refuses .*config.json \({code} .*licence"):
        fetch.fetch("sd_vae")
    assert [path for path, _ in hub.requests].count("config.json") == 1


@pytest.mark.parametrize(
    ("path", "claim", "message"),
    [
        ("config.json", {"size": 9}, "it has 8 bytes instead of 9"),
        ("config.json", {"blobId": "0" * 40}, "git would name it .* instead of 0000"),
        (LARGE, {"lfs": {"sha256": "0" * 64, "size": 3 << 20}}, "its SHA-256 is"),
        (LARGE, {"lfs": {"sha256": "0" * 64, "size": 5}}, "it has 3145728 bytes instead of 5"),
    ],
)
def test_content_other_than_listed_is_fetched_twice_then_refused_and_deleted(hub, vae, path, claim, message):
    hub.lies[path] = claim
    with pytest.raises(PerceptError, match=f"fetched twice, and both times {message}"):
        fetch.fetch("sd_vae")
    assert [asked for asked, _ in hub.requests].count(path) == 2
    assert not (vae / path).exists() and not (vae / f"{path}.part").exists()
    assert not (vae / "backbone.json").exists()


def test_a_damaged_part_of_an_earlier_fetch_does_no_harm(hub, vae, caplog):
    vae.mkdir(parents=True)
    part = vae / f"{LARGE}.part"
    part.write_bytes(b"\0" * (1 << 20))
    fetch.fetch("sd_vae")
    assert store.verify(vae) == [] and "fetched again from its beginning" in caplog.text


def test_only_what_is_damaged_is_fetched_again(hub, vae):
    fetch.fetch("sd_vae")
    (vae / "config.json").write_bytes(b"")
    hub.requests.clear()
    fetch.fetch("sd_vae")
    assert hub.requests == [("config.json", "")] and store.verify(vae) == []


def test_a_folder_of_another_revision_is_brought_to_the_pinned_one(hub, vae, monkeypatch):
    fetch.fetch("sd_vae")
    hub.add("who/vae", NEXT, PLAIN | {"config.json": b'{"x": 2}'})
    register(monkeypatch, "sd_vae", entry.Hub("who/vae", NEXT, catalogue.VAE_FILES))
    hub.requests.clear()
    fetch.fetch("sd_vae")
    assert hub.requests == [("config.json", "")]
    assert (vae / "config.json").read_bytes() == b'{"x": 2}' and store.identity("sd_vae")["revision"] == NEXT


def test_a_mirror_that_answers_with_another_commit_is_refused(hub, vae):
    hub.wrong_commit = NEXT
    with pytest.raises(PerceptError, match=f"answers with revision {NEXT}.*no faithful mirror"):
        fetch.fetch("sd_vae")


def test_a_commit_that_the_hub_does_not_have_is_named(hub, vae):
    hub.files.clear()
    with pytest.raises(PerceptError, match=f"no revision {COMMIT} of who/vae .*404.*withdrawn"):
        fetch.fetch("sd_vae")


@pytest.fixture
def moving(hub, monkeypatch):
    """The folder of `stable_unclip`, whose repository the catalogue does not pin."""
    files = ("config.json", "*.safetensors")
    hub.add("who/vae", COMMIT, dict(PLAIN))
    return register(monkeypatch, "stable_unclip", entry.Hub("who/vae", entry.UNPINNED, files))


def test_an_unpinned_repository_is_pinned_by_the_first_fetch(hub, moving, caplog):
    fetch.fetch("stable_unclip")
    assert store.identity("stable_unclip")["revision"] == COMMIT and "is not pinned" in caplog.text
    hub.add("who/vae", NEXT, PLAIN | {"config.json": b"new"})
    (moving / "config.json").unlink()
    fetch.fetch("stable_unclip")
    assert (moving / "config.json").read_bytes() == b'{"x": 1}'
    (moving / "backbone.json").unlink()  # as a workflow does before it runs the rule again
    fetch.fetch("stable_unclip")
    assert store.identity("stable_unclip")["revision"] == COMMIT


def test_an_unpinned_repository_that_moves_during_an_interruption_stays_at_its_commit(hub, moving):
    hub.cut[LARGE] = [1_000_000, 0, 0, 0, 0, 0]
    with pytest.raises(PerceptError, match="interrupted"):
        fetch.fetch("stable_unclip")
    hub.add("who/vae", NEXT, PLAIN | {LARGE: b"other"})
    fetch.fetch("stable_unclip")
    assert (moving / LARGE).read_bytes() == WEIGHTS
    assert store.identity("stable_unclip")["revision"] == COMMIT


def test_weights_in_pytorchs_format_are_converted_and_the_original_is_not_kept(hub, monkeypatch):
    from safetensors.torch import load_file

    shared = torch.arange(6.0).reshape(2, 3)
    raw = saved({"a": shared, "b": shared.T, "n": torch.tensor(3)})
    hub.add("who/blip", COMMIT, {"config.json": b"{}", "part/pytorch_model.bin": raw})
    source = entry.Hub("who/blip", COMMIT, ("config.json", "*/pytorch_model.bin"))
    place = register(monkeypatch, "blip_base", source)
    fetch.fetch("blip_base")
    made = load_file(place / "part/model.safetensors")
    assert made["a"].equal(shared) and made["b"].equal(shared.T) and made["n"] == 3
    files = json.loads((place / "backbone.json").read_text())["files"]
    assert files.keys() == {"config.json", "part/model.safetensors"}
    (place / "config.json").unlink()
    hub.requests.clear()
    fetch.fetch("blip_base")
    assert hub.requests == [("config.json", "")]  # what was converted is known by its origin


def test_the_server_of_these_tests_is_one_that_the_hubs_own_client_understands(hub, vae):
    from huggingface_hub import HfApi, hf_hub_url

    listing = HfApi(endpoint=hub.address).model_info("who/vae", revision=COMMIT, files_metadata=True)
    theirs = {file.rfilename: file for file in listing.siblings}
    ours = {remote.path: remote for remote in fetch._remotes(
        catalogue.named("sd_vae"), fetch._listing(catalogue.named("sd_vae"), vae, COMMIT))}  # fmt: skip
    assert listing.sha == COMMIT and ours.keys() == {"config.json", LARGE} < theirs.keys()
    for path, remote in ours.items():
        assert remote.size == theirs[path].size
        assert remote.url == hf_hub_url("who/vae", path, revision=COMMIT, endpoint=hub.address)
    assert ours[LARGE].sha256 == theirs[LARGE].lfs.sha256 and not ours[LARGE].blob
    assert ours["config.json"].blob == theirs["config.json"].blob_id and not ours["config.json"].sha256


class Malicious:
    """An object that would run a command while it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    "content", [saved({"a": Malicious()}), b"no weights at all"], ids=["code", "damaged"]
)
def test_weights_that_hold_code_or_are_damaged_are_refused(hub, monkeypatch, workplace, content):
    hub.add("who/blip", COMMIT, {"pytorch_model.bin": content})
    register(monkeypatch, "blip_base", entry.Hub("who/blip", COMMIT, ("pytorch_model.bin",)))
    with pytest.raises(PerceptError, match="is no plain file of weights"):
        fetch.fetch("blip_base")
    assert not (workplace / "executed").exists()


def test_a_folder_of_a_repository_becomes_the_root(hub, monkeypatch):
    hub.add(
        "who/variations", COMMIT, {f"vae/{path}": content for path, content in PLAIN.items()} | {"x": b""}
    )
    files = tuple(f"vae/{file}" for file in catalogue.VAE_FILES)
    place = register(monkeypatch, "sd_vae", entry.Hub("who/variations", COMMIT, files, folder="vae"))
    fetch.fetch("sd_vae")
    assert (place / "config.json").read_bytes() == PLAIN["config.json"]


def swav(hub, content):
    hub.add("who/deepcluster", COMMIT, {"swav.pth.tar": content})
    url = f"{hub.address}/who/deepcluster/resolve/{COMMIT}/swav.pth.tar"
    return entry.Url(url, prefix="module.", drop=("prototypes.", "projection_head."))


STATE = {"module.conv1.weight": torch.ones(2, 3), "module.prototypes.weight": torch.zeros(1),
         "module.projection_head.0.bias": torch.zeros(1)}  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_single_file_is_converted_without_its_heads_and_pinned_by_its_digest(hub, monkeypatch, wrapped):
    from safetensors.torch import load_file

    content = saved({"state_dict": STATE, "epoch": 3} if wrapped else STATE)
    place = register(monkeypatch, "swav", swav(hub, content))
    fetch.fetch("swav")
    assert load_file(place / "model.safetensors").keys() == {"conv1.weight"}
    assert store.identity("swav")["revision"] == hashlib.sha256(content).hexdigest()
    hub.files["who/deepcluster", COMMIT]["swav.pth.tar"] = saved({"module.conv1.weight": torch.zeros(2, 3)})
    (place / "backbone.json").unlink()
    (place / "model.safetensors").unlink()
    with pytest.raises(PerceptError, match="fetched twice, and both times its SHA-256 is"):
        fetch.fetch("swav")


@pytest.mark.parametrize("right", [True, False])
def test_a_single_file_with_a_digest_in_its_name_is_checked(hub, monkeypatch, right):
    content = saved({"features.0.weight": torch.ones(2)})
    digest = hashlib.sha256(content).hexdigest()[:8] if right else "0" * 8
    source = replace(swav(hub, content), sha256=digest, prefix="", drop=())
    place = register(monkeypatch, "alexnet", source)
    if right:
        fetch.fetch("alexnet")
        assert store.verify(place) == []
    else:
        with pytest.raises(PerceptError, match="instead of 00000000"):
            fetch.fetch("alexnet")


@pytest.mark.parametrize("how", ["no server", "HF_HUB_OFFLINE"])
def test_without_a_network_the_command_and_the_place_are_named(hub, vae, monkeypatch, workplace, how):
    if how == "no server":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    else:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(PerceptError, match=r"out of reach .*`snakemake backbones --cores 1`") as caught:
        fetch.fetch("sd_vae")
    assert "`python -m percept.backbones.fetch sd_vae`" in str(caught.value)
    assert str(workplace / "resources/backbones/sd_vae") in str(caught.value)


def test_a_disk_without_room_is_refused_before_anything_is_fetched(hub, vae, monkeypatch):
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(PerceptError, match=r"sd_vae needs 3.1 MB in .*, but only 1.0 MB are free there"):
        fetch.fetch("sd_vae")
    assert hub.requests == []


def test_progress_is_logged_with_share_and_rate(hub, vae, monkeypatch, caplog):
    monkeypatch.setattr(transfer, "REPORT_S", 0.0)
    with caplog.at_level(logging.INFO):
        fetch.fetch("sd_vae")
    assert "file 2 of 2, diffusion_pytorch_model.safetensors, 3.1 MB" in caplog.text
    assert re.search(r"2\.1 MB of 3\.1 MB \(66 %\), [0-9.]+ [kMG]B/s", caplog.text)  # loopback may be fast


def test_a_path_that_leaves_its_folder_is_refused(hub, monkeypatch):
    hub.add("who/vae", COMMIT, {"../model.safetensors": b"x"})
    register(monkeypatch, "sd_vae", entry.Hub("who/vae", COMMIT, ("*/*",)))
    with pytest.raises(PerceptError, match="lies outside its repository"):
        fetch.fetch("sd_vae")


def test_a_repository_without_the_weights_is_refused(hub, monkeypatch):
    hub.add("who/vae", COMMIT, {"config.json": b"{}", "flax_model.msgpack": b"x"})
    register(monkeypatch, "sd_vae", entry.Hub("who/vae", COMMIT, catalogue.VAE_FILES))
    with pytest.raises(PerceptError, match=r"has no weights among .* holds config.json, flax_model.msgpack"):
        fetch.fetch("sd_vae")


def test_a_shipped_one_is_never_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    with pytest.raises(PerceptError, match="part of the checkout"):
        fetch.fetch("tiny_clip")


SD15 = [
    "model_index.json", "README.md", "v1-5-pruned.safetensors", "scheduler/scheduler_config.json",
    "safety_checker/config.json", "safety_checker/model.safetensors", "text_encoder/config.json",
    "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt", "tokenizer/vocab.json", "unet/config.json", "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/deeper/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin",
]  # fmt: skip


def test_each_part_of_a_pipeline_is_taken_once_without_variants_or_the_safety_checker():
    assert fetch.select(SD15, catalogue.PIPELINE_FILES) == [
        "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
        "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("a/pytorch_model.bin", "a/model.safetensors"),
        ("open_clip_pytorch_model.bin", "open_clip_model.safetensors"),
        ("model.safetensors", ""),
        ("a/training_args.bin", ""),
    ],
)
def test_the_twin_of_a_file_of_weights_is_what_the_libraries_look_for(path, other):
    assert convert.twin(path) == other


def test_the_command_fetches_components_too_and_reports_failure(hub, vae, monkeypatch, caplog):
    entries = dict(catalogue.CATALOGUE)
    entries["ip_adapter_plus"] = replace(
        entries["ip_adapter_plus"], source=entries["sd_vae"].source, components={"base": "sd_vae"}
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", entries)
    monkeypatch.setattr(fetch, "CATALOGUE", entries)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    assert fetch.main(["ip_adapter_plus"]) == 0
    assert store.require("sd_vae") and store.require("ip_adapter_plus")
    assert fetch.main(["sd_vea"]) == 1 and "the nearest is sd_vae" in caplog.text


def test_the_script_of_the_rule_fetches_what_its_output_names(hub, vae, monkeypatch, workplace):
    from pathlib import Path

    import percept

    script = Path(percept.__file__).parents[2] / "workflow/scripts/fetch_backbone.py"
    monkeypatch.setattr(log, "to_file", lambda path: None)
    stand_in = SimpleNamespace(log=["fetch.log"], output=["resources/backbones/sd_vae/backbone.json"])
    runpy.run_path(str(script), {"snakemake": stand_in})
    assert store.verify(workplace / "resources/backbones/sd_vae") == []
