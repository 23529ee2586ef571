"""COCO's annotations are fetched from a server that answers as it likes, and are whole or absent."""

import hashlib
import io
import zipfile
from types import SimpleNamespace

import pytest

from percept.backbones import transfer
from percept.backbones.transfer import Remote
from percept.datasets import annotations, coco
from percept.files import PerceptError
from tests.unit.backbones.hub import Hub, serve

NAME = "annotations.zip"
CONTENT = {key: f"{key} ".encode() * 3000 for key in coco.KEYS}
CUT = 500  # bytes after which the connection ends


def archive(content=CONTENT, compression=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return packed.getvalue()


def damaged(place):
    """An archive with other bytes at a place: of a member's content, or of the list at the end."""
    content = bytearray(archive())
    content[place : place + 20] = b"\xff" * 20
    return bytes(content)


@pytest.fixture
def hub():
    hub = Hub()
    server, hub.address = serve(hub)
    yield hub
    server.shutdown()
    server.server_close()


def offered(hub, content, **known):
    """What the server has, as a file to fetch; its digest is known unless said otherwise."""
    hub.add("coco", "c1", {NAME: content})
    known = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} | known
    return Remote(NAME, f"{hub.address}/coco/resolve/c1/{NAME}", **known)


def files(root):
    """All files under a folder, hidden ones too."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(transfer, "WAIT_S", 0.0)
    monkeypatch.setattr(annotations, "UNPACKED", 1 << 20)


@pytest.mark.parametrize("known", [{}, {"size": None}, {"sha256": ""}])
def test_captions_and_instances_of_both_splits_are_there_and_nothing_else(tmp_path, hub, known):
    more = CONTENT | {"annotations/person_keypoints_val2017.json": b"not needed"}
    annotations.fetch(tmp_path, offered(hub, archive(more), **known))
    assert files(tmp_path) == CONTENT
    assert [path for path, _ in hub.requests] == [NAME]


def test_a_connection_that_ends_is_resumed(tmp_path, hub):
    hub.cut[NAME] = [CUT]
    annotations.fetch(tmp_path, offered(hub, archive()))
    assert files(tmp_path) == CONTENT
    assert [asked for _, asked in hub.requests] == ["", f"bytes={CUT}-"]


def test_what_an_earlier_job_fetched_in_part_is_continued(tmp_path, hub):
    content = archive()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / f"{NAME}.part").write_bytes(content[:CUT])
    annotations.fetch(tmp_path, offered(hub, content))
    assert files(tmp_path) == CONTENT and hub.requests == [(NAME, f"bytes={CUT}-")]


def test_an_archive_that_is_there_is_not_fetched_again(tmp_path, hub):
    content = archive()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / NAME).write_bytes(content)
    annotations.fetch(tmp_path, offered(hub, content))
    assert files(tmp_path) == CONTENT and hub.requests == []


def test_a_damaged_archive_that_is_there_is_fetched_again(tmp_path, hub):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / NAME).write_bytes(damaged(200))
    annotations.fetch(tmp_path, offered(hub, archive()))
    assert files(tmp_path) == CONTENT


def test_another_file_than_listed_is_refused_and_not_kept(tmp_path, hub):
    with pytest.raises(PerceptError, match=r"fetched twice.*SHA-256 is"):
        annotations.fetch(tmp_path, offered(hub, archive(), sha256="0" * 64))
    assert files(tmp_path) == {}


def test_a_server_that_refuses_is_named(tmp_path, hub):
    hub.fail[NAME] = [403]
    with pytest.raises(PerceptError, match=rf"refuses {hub.address}/coco.*403"):
        annotations.fetch(tmp_path, offered(hub, archive()))
    assert files(tmp_path) == {}


@pytest.mark.parametrize("missing", coco.KEYS)
def test_an_archive_that_lacks_a_file_is_named_with_what_it_should_hold(tmp_path, hub, missing):
    content = {key: data for key, data in CONTENT.items() if key != missing}
    with pytest.raises(PerceptError, match=rf"{NAME} does not hold .*{missing}.*Delete it and run"):
        annotations.fetch(tmp_path, offered(hub, archive(content)))
    left = files(tmp_path)
    assert missing not in left and left.pop(f"annotations/{NAME}")
    assert left.items() <= CONTENT.items()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>moved</html>", archive()[:-30], archive()[:CUT], damaged(120), damaged(-15)],
    ids=["empty", "page", "end", "half", "member", "list"],
)
def test_a_damaged_archive_is_named_and_leaves_nothing_half_written(tmp_path, hub, content):
    with pytest.raises(PerceptError, match=rf"{NAME} does not hold COCO's annotations \("):
        annotations.fetch(tmp_path, offered(hub, content))
    assert files(tmp_path) == {f"annotations/{NAME}": content}
    assert not [path for path in tmp_path.rglob(".*")]


def test_a_stored_member_with_other_bytes_is_damage(tmp_path, hub):
    content = archive(compression=zipfile.ZIP_STORED).replace(
        b"captions_val2017.json ", b"captions_val2018.json ", 1
    )
    with pytest.raises(PerceptError, match=r"does not hold .*CRC"):
        annotations.fetch(tmp_path, offered(hub, content))
    assert coco.key("captions", "val2017") not in files(tmp_path)


@pytest.mark.parametrize("there", [False, True])
def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(tmp_path, hub, monkeypatch, there):
    content = archive()
    needed = annotations.UNPACKED + (0 if there else len(content))
    if there:
        (tmp_path / "annotations").mkdir()
        (tmp_path / "annotations" / NAME).write_bytes(content)
    free = needed + transfer.SPARE - 1
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(PerceptError, match=r"COCO's annotations needs .* MB in"):
        annotations.fetch(tmp_path, offered(hub, content))
    assert hub.requests == [] and len(files(tmp_path)) == there
