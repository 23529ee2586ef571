"""What the catalogue says of one frozen network: role, origin, licence, loader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["image", "text", "autoencoder", "generator", "captioner", "metric"]
Library = Literal["open_clip", "diffusers", "transformers", "torchvision", "lpips", "percept"]
UNPINNED = "main"  # resolved to a commit by the first fetch, recorded, and compared from then on


@dataclass(frozen=True)
class Hub:
    """Files of a repository of the Hugging Face hub at one commit.

    `files` are patterns of paths in the repository, of which an asterisk stays inside one folder; those after
    an exclamation mark are left out. Where weights exist
    both as .safetensors and as .bin, only the first are fetched; where only as .bin, they are converted.
    `folder` is the folder of the repository that becomes the root of the backbone.
    """

    repository: str
    revision: str
    files: tuple[str, ...]
    folder: str = ""


@dataclass(frozen=True)
class Url:
    """One file of PyTorch weights at an address, converted to `model.safetensors`.

    `sha256` is the digest of the file, or its first digits where only they are known; if empty, the first
    fetch records it. `prefix` is taken off the names of the tensors; those that then begin with one of `drop`
    are left out.
    """

    url: str
    sha256: str = ""
    prefix: str = ""
    drop: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shipped:
    """Trained by a rule of this repository and part of the checkout."""

    rule: str


@dataclass(frozen=True)
class Backbone:
    """One frozen network.

    Attributes
    ----------
    roles : what it can be opened as; `role`, the first, is what it is mainly for
    loader : the kind of folder, by which the modules of the roles know how to read it
    settings : what the loader needs beside the files
    components : parts that are read from the folder of another backbone, by the name of the part
    """

    name: str
    roles: tuple[Role, ...]
    family: Literal["tiny", "published"]
    library: Library
    loader: str
    source: Hub | Url | Shipped
    licence: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    components: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def role(self) -> Role:
        """What it is mainly for."""
        return self.roles[0]

    @property
    def repository(self) -> str:
        """Where it comes from, in one string."""
        if isinstance(self.source, Hub):
            return self.source.repository
        return self.source.url if isinstance(self.source, Url) else "percept"

    @property
    def revision(self) -> str:
        """The pinned commit, or digest of a single file; `main` where the first fetch pins it."""
        if isinstance(self.source, Hub):
            return self.source.revision
        return (self.source.sha256 or UNPINNED) if isinstance(self.source, Url) else self.source.rule

    @property
    def pinned(self) -> bool:
        """Whether the catalogue itself says which revision it is."""
        return self.revision != UNPINNED
