"""Whose raw files a tree holds: fetched betas may be deleted again, those of a user's own copy may not."""

from pathlib import Path

from percept import files

MARKER = ".fetched-by-percept"
EXPLANATION = (
    "Percept started this tree: it held no betas before. The raw betas of a subject are deleted here once "
    "its voxels are extracted, unless dataset.download.keep_raw is true. Without this file none is deleted.\n"
)


def holds_betas(root: str | Path) -> bool:
    """Whether there are betas of any session, subject, space, version or format, whole or not."""
    return any(Path(root, "nsddata_betas").rglob("*betas_session*"))


def may_delete_betas(root: str | Path) -> bool:
    """Whether all betas of a tree come from this workflow: it is marked, or holds none yet."""
    return Path(root, MARKER).exists() or not holds_betas(root)


def claim(root: str | Path) -> bool:
    """Mark a tree without betas as this workflow's, before the first ones arrive; whether it is marked."""
    marker = Path(root, MARKER)
    if not marker.exists() and not holds_betas(root):
        files.write_text(EXPLANATION, marker)
    return marker.exists()
