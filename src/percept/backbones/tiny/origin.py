"""What the weights of a small network depend on beside the recipe: its data, the networks before, its code.

A checkpoint of another origin is not continued, and a finished one not taken for the result.
"""

from pathlib import Path

from percept import provenance
from percept.backbones.store import MANIFEST
from percept.backbones.tiny import cards
from percept.backbones.tiny.trainer import Job
from percept.files import hash_text, read_json

# What finds, describes and measures networks moves no weight.
NO_INFLUENCE = tuple(
    provenance.PACKAGE / path
    for path in (
        "files.py",
        "provenance.py",
        "backbones/store.py",
        "backbones/catalogue.py",
        "backbones/entry.py",
        "backbones/tiny/cards.py",
        "backbones/tiny/origin.py",
        "backbones/tiny/quality.py",
    )
)


def origin(job: Job, module: str) -> str:
    """What the weights that a module of this package trains depend on, the recipe left aside.

    Parameters
    ----------
    job : its training scenes and the folders of the networks before
    module : name of the module, whose code, architecture included, counts with all that it trains with
    """
    return " ".join([job.data, *(part(job.parts[name]) for name in sorted(job.parts)), code(module)])


def part(folder: str | Path) -> str:
    """Digest of a network's files by its manifest, but for those that only describe it."""
    files = read_json(Path(folder) / MANIFEST)["files"]
    return hash_text(" ".join(f"{name} {files[name]['sha256']}" for name in sorted({*files} - cards.FILES)))


def code(module: str) -> str:
    """Version of the code of a module that can move a weight."""
    return provenance.code_version(module, without=(*provenance.NOT_COUNTED, *NO_INFLUENCE))
