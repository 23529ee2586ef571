"""Folders of frozen networks: where they lie, whether they are whole, what the manifest says of them.

`backbone.json` is written last: where it is, the folder was whole. Paths are arithmetic, so that rules can
name them while the workflow is planned.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any

import percept
from percept.backbones.catalogue import named
from percept.backbones.entry import Backbone, Shipped
from percept.files import PerceptError, inside, read_json, sha256, write_json

MANIFEST = "backbone.json"
IDENTITY = ("name", "library", "repository", "revision")
ELSEWHERE = "PERCEPT_BACKBONES"  # environment variable: a folder of backbones that is looked at first
PUBLISHED = Path("resources", "backbones")  # of the working folder
SHIPPED = Path(percept.__file__).parents[2] / PUBLISHED  # of the checkout


def folder(name: str) -> Path:
    """Where the backbone `name` lies, or would lie.

    Raises
    ------
    PerceptError : no such backbone
    """
    entry = named(name)
    first = os.environ.get(ELSEWHERE)
    if first and Path(first, name, MANIFEST).is_file():
        return Path(first, name)
    return (SHIPPED if isinstance(entry.source, Shipped) else PUBLISHED) / name


def manifest_path(name: str) -> Path:
    """The manifest of the backbone `name`: what a rule that uses it has as input, or makes as output."""
    return folder(name) / MANIFEST


def require(name: str, *, contents: bool = True) -> Path:
    """The folder of a backbone that is there, whole, and of the catalogue's revision.

    Parameters
    ----------
    contents : compare the content of every file with the manifest, once per process, and not sizes alone;
        while a workflow is planned that would take too long

    Raises
    ------
    PerceptError : unknown, absent, incomplete, altered, or fetched at another revision
    """
    entry, place = named(name), folder(name)
    if not (place / MANIFEST).is_file():
        raise PerceptError(_absent(entry, place))
    manifest = _read_manifest(place)
    if entry.pinned and not _same_revision(entry, manifest):
        raise PerceptError(
            f"the backbone {name} in {place} is revision {manifest.get('revision')} of {entry.repository}, "
            f"but this version of Percept names {entry.revision}: features of two revisions must not be "
            f"mixed. Delete {place} and fetch it again with {_commands(name)}, or check out the version of "
            "Percept that fetched it."
        )
    said = {key: manifest[key] for key in ("name", "library", "repository")}
    if said != (known := {key: getattr(entry, key) for key in said}):
        raise PerceptError(
            f"{place / MANIFEST} says that it is of {said}, but the catalogue says {known} of {name}: it is "
            f"another backbone's, or damaged. {_mend(entry, place)}"
        )
    if damaged := _wrong_sizes(place, manifest):
        raise PerceptError(
            f"the backbone {name} in {place} is damaged: {_some(damaged)} absent or of another size than its "
            f"manifest says. {_mend(entry, place)}"
        )
    if contents and (altered := _wrong_contents(place, manifest)):
        raise PerceptError(
            f"the backbone {name} in {place} is damaged: {_some(altered)} of another content than its "
            f"manifest says, so that its features would be those of another network. {_mend(entry, place)}"
        )
    return place


def verify(place: Path) -> list[str]:
    """Names of the files of a backbone's folder whose content differs from its manifest; empty if none."""
    manifest = _read_manifest(place)
    wrong = set(_wrong_sizes(place, manifest))
    listed = manifest["files"].items()
    return sorted(wrong | {file for file, about in listed if file not in wrong
                           and sha256(place / file) != about["sha256"]})  # fmt: skip


def write_manifest(
    place: str | Path, name: str, revision: str | None = None, notes: dict[str, Any] | None = None
) -> Path:
    """Describe the files of a finished folder in its manifest, and return the manifest's path.

    Parameters
    ----------
    place : the folder; every file in it but hidden ones and the manifest is listed
    name : of the catalogue
    revision : what was fetched, or of which training it is; the catalogue's if absent
    notes : anything else to keep, such as digests of the files that were converted
    """
    place, entry = Path(place), named(name)
    files = {
        path.relative_to(place).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not _hidden(path.relative_to(place))
    }
    said = {
        key: getattr(entry, key) for key in ("name", "role", "family", "library", "repository", "licence")
    }
    about = {**said, "revision": revision or entry.revision, "files": files}
    write_json({**about, **(notes or {})}, place / MANIFEST)
    return place / MANIFEST


def identity(name: str) -> dict[str, str]:
    """What the manifest of a backbone says it is: the part of a fingerprint that needs no computation."""
    manifest = read_json(require(name) / MANIFEST)
    return {key: manifest[key] for key in IDENTITY}


def _read_manifest(place: Path) -> dict[str, Any]:
    """A manifest that says of every file of the folder how long it is and what it holds."""
    manifest, path = read_json(place / MANIFEST), place / MANIFEST
    try:
        for file, about in manifest["files"].items():
            inside(place, file, path)
            about["size"], about["sha256"]
        missing = [key for key in IDENTITY if key not in manifest]
        if missing:
            raise KeyError(*missing)
    except (LookupError, TypeError, AttributeError) as error:
        raise PerceptError(
            f"{path} is no manifest of a backbone ({type(error).__name__}: {error}), so it is not known what "
            f"the folder has to hold: delete it and fetch the backbone again."
        ) from error
    return manifest


def _hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts) or relative.suffix == ".part"


def _same_revision(entry: Backbone, manifest: dict[str, Any]) -> bool:
    """For single files the catalogue may know only the first digits of the digest."""
    if isinstance(entry.source, Shipped):
        return True  # retrained ones say by their weights what they are
    return str(manifest.get("revision", "")).startswith(entry.revision)


def _wrong_sizes(place: Path, manifest: dict[str, Any]) -> list[str]:
    return [
        file
        for file, about in manifest["files"].items()
        if not (place / file).is_file() or (place / file).stat().st_size != about["size"]
    ]


def _wrong_contents(place: Path, manifest: dict[str, Any]) -> list[str]:
    return [file for file, about in manifest["files"].items() if _digest(place / file) != about["sha256"]]


def _digest(file: Path) -> str:
    about = file.stat()
    return _digest_at(file.resolve(), about.st_size, about.st_mtime_ns)


@cache
def _digest_at(file: Path, size: int, modified_ns: int) -> str:
    """Digest of a file; size and time keep the cache honest within a long-lived process."""
    return sha256(file)


def _some(names: list[str], n: int = 3) -> str:
    shown = ", ".join(names[:n])
    more = f" and {len(names) - n} more" if len(names) > n else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"


def _commands(name: str) -> str:
    return (
        "`snakemake backbones --cores 1` (with the `--configfile` of your analysis, if it has its own) or "
        f"`python -m percept.backbones.fetch {name}`"
    )


def _absent(entry: Backbone, place: Path) -> str:
    if isinstance(entry.source, Shipped):
        return (
            f"the backbone {entry.name} is absent from {place}, although it is part of the checkout. "
            f"{_mend(entry, place)}"
        )
    return (
        f"the weights of the backbone {entry.name} ({entry.repository}) are absent: they would lie in "
        f"{place.absolute()}. Jobs never download weights, because compute nodes have no network; run "
        f"{_commands(entry.name)} once where there is one, in this working folder."
    )


def _mend(entry: Backbone, place: Path) -> str:
    if isinstance(entry.source, Shipped):
        return (
            f"Restore it with `git checkout -- resources/backbones/{entry.name}` in the checkout, or train "
            "it again with `snakemake tiny_backbones --cores 2`."
        )
    return f"Delete {place / MANIFEST} and run {_commands(entry.name)}: what is whole is not fetched again."
