"""Fetch published networks into their folders: `python -m percept.backbones.fetch NAME...`.

Where the network is; compute nodes have none. A folder is whole once its manifest is there; until then, a
second call continues where the first was interrupted, in mid-file. `HF_ENDPOINT` names a mirror of the hub.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from percept.backbones import convert, store, transfer
from percept.backbones.catalogue import CATALOGUE, closure, named
from percept.backbones.entry import Backbone, Hub, Shipped, Url
from percept.backbones.transfer import Remote
from percept.files import PerceptError, read_json, sha256, write_text

log = logging.getLogger(__name__)
HUB = "https://huggingface.co"
WORK = ".fetch"  # folder of what is not finished, inside that of the backbone
PIN = ".revision"  # file: what an unpinned name was resolved to; it outlives the manifest
SINGLE = "model.safetensors"  # what a single file of weights becomes


def fetch(name: str) -> Path:
    """The folder of a backbone, fetched or completed if need be.

    Raises
    ------
    PerceptError : unknown name, no connection, refused by the server, another revision or content than
        pinned, or no space on the disk
    """
    entry = named(name)
    if isinstance(entry.source, Shipped) or _is_whole(name):
        return store.require(name)
    place = store.folder(name)
    log.info("fetching %s from %s into %s", name, entry.repository, place)
    try:
        revision = _fetch_hub(entry, place) if isinstance(entry.source, Hub) else _fetch_url(entry, place)
    except OSError as error:
        raise PerceptError(_interrupted(entry, place, error)) from error
    write_text(revision, place / PIN)
    store.write_manifest(place, name, revision)
    shutil.rmtree(place / WORK, ignore_errors=True)
    log.info("%s is whole: revision %s", name, revision)
    return store.require(name)


def select(paths: list[str], patterns: tuple[str, ...]) -> list[str]:
    """The files of a repository that are wanted: those that match, each kind of weights once.

    An asterisk stays inside one folder; patterns after an exclamation mark take files away again.
    """
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    found = {path for path in paths if _matches(path, wanted) and not _matches(path, unwanted)}
    return sorted(path for path in found if convert.twin(path) not in found)


def _is_whole(name: str) -> bool:
    if not store.manifest_path(name).is_file():
        return False
    try:
        store.require(name)
    except PerceptError as error:
        log.warning("%s", error)
        return False
    return True


def _fetch_hub(entry: Backbone, place: Path) -> str:
    """Fetch the files of a repository and return the commit they are of."""
    listing = _listing(entry, place, _known_revision(entry, place))
    _begin(place, listing["sha"])
    missing = [remote for remote in _remotes(entry, listing) if not _is_done(remote, place)]
    needed = sum((remote.size or 0) * (2 if convert.twin(remote.path) else 1) for remote in missing)
    transfer.require_space(place, needed, f"the backbone {entry.name}")
    for number, remote in enumerate(missing, start=1):
        size = transfer.readable(remote.size or 0)
        log.info("%s: file %d of %d, %s, %s", entry.name, number, len(missing), remote.path, size)
        _fetch_one(remote, place)
    return listing["sha"]


def _fetch_one(remote: Remote, place: Path) -> None:
    if not (other := convert.twin(remote.path)):
        return transfer.download(remote, place / remote.path)
    raw = place / WORK / remote.path
    if not transfer.is_there(remote, raw):
        transfer.download(remote, raw)
    convert.convert(raw, place / other, sha256(raw))
    raw.unlink()


def _is_done(remote: Remote, place: Path) -> bool:
    if other := convert.twin(remote.path):
        return bool(remote.sha256) and convert.origin(place / other) == remote.sha256
    return transfer.is_there(remote, place / remote.path)


def _fetch_url(entry: Backbone, place: Path) -> str:
    """Fetch and convert one file of weights, and return its SHA-256."""
    source = entry.source
    assert isinstance(source, Url)
    expected = source.sha256 or _known_revision(entry, place)
    if (made_from := convert.origin(place / SINGLE)) and made_from.startswith(expected):
        return made_from
    _begin(place, expected)
    raw = place / WORK / Path(source.url).name
    transfer.download(Remote(raw.name, source.url, sha256=expected), raw)
    digest = sha256(raw)
    convert.convert(raw, place / SINGLE, digest, source.prefix, source.drop)
    return digest


def _known_revision(entry: Backbone, place: Path) -> str:
    """The pinned revision, or the one that an earlier fetch was of; empty if there is none."""
    if entry.pinned:
        return entry.revision
    if (manifest := place / store.MANIFEST).is_file():
        return str(read_json(manifest)["revision"])
    pin = place / PIN
    return pin.read_text(encoding="utf-8") if pin.is_file() else ""


def _begin(place: Path, revision: str) -> None:
    """From here on the folder is not whole, but remembers what it is becoming."""
    write_text(revision, place / PIN)
    (place / store.MANIFEST).unlink(missing_ok=True)


def _listing(entry: Backbone, place: Path, revision: str) -> dict[str, Any]:
    """What the hub says of a repository at one revision: its commit and its files."""
    asked = revision or entry.revision
    url = f"{_endpoint()}/api/models/{entry.repository}/revision/{quote(asked, safe='')}?blobs=true"
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise PerceptError(_unreachable(entry, place, "HF_HUB_OFFLINE is set"))
    try:
        with urlopen(Request(url, headers={"User-Agent": "percept"}), timeout=transfer.TIMEOUT_S) as answer:
            listing = json.load(answer)
    except HTTPError as error:
        raise PerceptError(
            f"the hub has no revision {asked} of {entry.repository} for the backbone {entry.name} "
            f"({error.code} {error.reason}, {url}): the repository was withdrawn or renamed, or asks for an "
            f"account. If you have its files from elsewhere, put them into {place.absolute()}."
        ) from error
    except (OSError, ValueError) as error:
        raise PerceptError(_unreachable(entry, place, str(error))) from error
    if revision and listing["sha"] != revision:
        raise PerceptError(
            f"the hub answers with revision {listing['sha']} of {entry.repository}, where {revision} was "
            f"asked for: {_endpoint()} is no faithful mirror of the hub. Unset HF_ENDPOINT or name "
            "another one."
        )
    if not revision:
        log.warning("%s is not pinned in the catalogue: recording commit %s", entry.name, listing["sha"])
    return listing


def _remotes(entry: Backbone, listing: dict[str, Any]) -> list[Remote]:
    """The files that are wanted, with their places, sizes and digests."""
    source = entry.source
    assert isinstance(source, Hub)
    listed = {file["rfilename"]: file for file in listing["siblings"]}
    wanted = select(list(listed), source.files)
    if not any(path.endswith((".safetensors", ".bin")) for path in wanted):
        raise PerceptError(
            f"{source.repository} at {listing['sha']} has no weights among {', '.join(source.files)}: it "
            f"holds {', '.join(sorted(listed)[:20])}. The repository was changed; Percept's catalogue has to "
            "follow."
        )
    root = f"{_endpoint()}/{source.repository}/resolve/{listing['sha']}"
    return [_remote(listed[path], f"{root}/{quote(path)}", source.folder) for path in wanted]


def _remote(file: dict[str, Any], url: str, folder: str) -> Remote:
    path = file["rfilename"].removeprefix(f"{folder}/")
    if path.startswith("/") or ".." in path.split("/"):
        raise PerceptError(
            f"the hub lists a file {path!r} that lies outside its repository: nothing is fetched."
        )
    large = file.get("lfs") or {}
    blob = "" if large else file.get("blobId") or ""
    return Remote(path, url, large.get("size", file.get("size")), large.get("sha256", ""), blob)


def _matches(path: str, patterns: list[str]) -> bool:
    parts = path.split("/")
    return any(
        len(parts) == len(pattern.split("/"))
        and all(fnmatchcase(part, wanted) for part, wanted in zip(parts, pattern.split("/"), strict=True))
        for pattern in patterns
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", HUB).rstrip("/")


def _unreachable(entry: Backbone, place: Path, why: str) -> str:
    return (
        f"the weights of the backbone {entry.name} cannot be fetched, because {_endpoint()} is out of reach "
        f"({why}). Where there is a network, run `snakemake backbones --cores 1` (with the `--configfile` of "
        f"your analysis) or `python -m percept.backbones.fetch {entry.name}`: they lie in {place.absolute()} "
        "then, a folder that can also be copied from another machine."
    )


def _interrupted(entry: Backbone, place: Path, error: OSError) -> str:
    return (
        f"fetching the backbone {entry.name} from {entry.repository} was interrupted ({error}). What has "
        f"been fetched stays in {place.absolute()}: run `snakemake backbones --cores 1` (with the "
        f"`--configfile` of your analysis) or `python -m percept.backbones.fetch {entry.name}` again, "
        "where there is a network and room on the disk, to continue."
    )


def main(arguments: list[str] | None = None) -> int:
    """Fetch published networks, and what they are made of, into resources/backbones of this folder."""
    published = [name for name, entry in CATALOGUE.items() if entry.family == "published"]
    parser = argparse.ArgumentParser(prog="python -m percept.backbones.fetch", description=main.__doc__)
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"one of {', '.join(published)}")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        for name in closure(chosen.names):
            fetch(name)
    except PerceptError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
