"""Settings of `dataset.kind: arrays`: where a lab's own scans, trial tables and stimuli are.

Paths are relative to the folder in which the workflow is started (or absolute); `{subject}` in a path stands
for the name of the subject. Nothing heavy is imported here, because planning reads every setting.
"""

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, field_validator

from percept.config import Identifier, Section

RESERVED = (
    "i", "j", "k", "vertex", "file_column", "ncsnr", "noise_ceiling", "n_valid_sessions", "n_sessions",
    "valid",
)  # fmt: skip
VOLUME_SUFFIXES = (".nii", ".nii.gz")


def _only_subject(template: str) -> str:
    try:
        foreign = {field for _, field, _, _ in Formatter().parse(template) if field is not None} - {"subject"}
    except ValueError as error:
        raise ValueError(
            f"{template!r} has unmatched braces ({error}); the only placeholder is {{subject}}"
        ) from None
    if foreign:
        raise ValueError(f"{template!r} has the placeholder {{{min(foreign)}}}; the only one is {{subject}}")
    return template


Template = Annotated[str, AfterValidator(_only_subject)]


def locate(template: str, subject: str = "") -> Path:
    """The path that a template of the config stands for; `~` is the home folder."""
    return Path(template.format(subject=subject)).expanduser()


def is_volume(path: str | Path) -> bool:
    """Whether a file holds volumes (NIfTI) and not a matrix, judged by its suffix."""
    return str(path).endswith(VOLUME_SUFFIXES)


class BetasSource(Section):
    """The responses of one subject: a matrix (trial, voxel), or volumes (x, y, z, trial)."""

    path: Template | tuple[Template, ...] = Field(
        description="npy, h5, parquet, mat: a matrix of trials by voxels; nii, nii.gz: a volume per trial. "
        "Several files are joined along the trials, in the order given."
    )
    variable: str | None = Field(
        None, description="Name of the array in an h5 or mat file; null where the file holds only one."
    )
    mask: Template = Field(
        "nonzero", description="Volumes only: a mask file (voxels > 0), or nonzero: voxels that vary."
    )
    detrend: Literal["none", "linear"] = Field(
        "none",
        description="linear: the least-squares line of each run is taken off, before trials are left out.",
    )
    scale: PositiveFloat = Field(
        1.0, description="Units of the file per percent signal change (NSD's own betas: 300)."
    )

    def paths(self, subject: str) -> list[Path]:
        """Files of a subject, in the order of their trials."""
        templates = (self.path,) if isinstance(self.path, str) else self.path
        return [locate(template, subject) for template in templates]


class TrialsSource(Section):
    """The trial table: a row per row of the matrix (or per volume), in the same order."""

    path: Template = Field(description="csv, tsv, parquet, or text with columns parted by blanks.")
    names: tuple[str, ...] = Field(
        (),
        description="Names of the columns of a file without a header line; empty: the first line has them.",
    )
    columns: dict[Literal["run", "stimulus", "session", "split", "repeat", "shared"], str] = Field(
        {},
        description="Where the table names a column otherwise: our name -> its name. `session: run` makes "
        "each run its own session, so that it is z-scored by itself.",
    )
    leave_out: tuple[str | int, ...] = Field((), description="Stimuli whose trials are not used, e.g. rest.")


class StimuliSource(Section):
    """The images shown: a folder of image files, or an array (image, row, column[, 3]) uint8."""

    path: Template = Field(
        description="Folder (stem of a file = id or label of its stimulus), or npy or h5 (position = id)."
    )
    variable: str | None = Field(None, description="Name of the array in an h5 file that holds several.")
    first_id: Literal[0, 1] = Field(0, description="Id, in the trial table, of the first image of an array.")
    size: PositiveInt | None = Field(
        None, description="Pixels: images are cropped to their central square and resized; null: as they are."
    )


class RoiSource(Section):
    """Labels of the voxels in one atlas: a vector (voxel,) or a volume (x, y, z) of whole numbers."""

    path: Template = Field(description="npy: a label per voxel; nii, nii.gz: a volume, read at i, j, k.")
    names: dict[PositiveInt, str] = Field(
        {},
        description="Label -> name of the area; a label that is not named here keeps its number as its name.",
    )


class ArraysDataset(Section):
    """A lab's own data."""

    kind: Literal["arrays"]
    name: Identifier = Field("arrays", description="Folder of the results.")
    subjects: tuple[Identifier, ...] = Field(min_length=1, description="Subjects; each fills in {subject}.")
    betas: BetasSource
    trials: TrialsSource
    stimuli: Literal["labels"] | StimuliSource = Field(
        "labels", description="The images; or labels: the distinct stimuli of the trial tables, sorted."
    )
    voxels: Template | None = Field(
        None,
        description="Table of the voxels (csv, tsv, parquet), a row per column of betas: i, j, k, ncsnr and "
        "atlases with the name of the area (empty: none), all optional; or an npy (voxel, 3) of i, j, k.",
    )
    rois: dict[Identifier, RoiSource] = Field({}, description="More atlases: name -> labels.")

    @field_validator("rois")
    @classmethod
    def _no_reserved_atlas(cls, rois: dict[str, RoiSource]) -> dict[str, RoiSource]:
        reserved = sorted(set(RESERVED) & set(rois))
        if reserved:
            raise ValueError(f"an atlas cannot be called {reserved[0]!r}, as a column of the voxel table is")
        return rois

    @field_validator("subjects")
    @classmethod
    def _no_subject_twice(cls, subjects: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
        if twice:
            raise ValueError(f"subject {twice[0]!r} is listed more than once")
        return subjects

    def inputs(self, subject: str) -> list[str]:
        """Every file that `arrays.read_subject` opens for a subject (without images: they are not read)."""
        templates = [source.path for source in self.rois.values()] + ([self.voxels] if self.voxels else [])
        if any(map(is_volume, self.betas.paths(subject))) and self.betas.mask != "nonzero":
            templates.append(self.betas.mask)
        found = [*self.betas.paths(subject), *(locate(template, subject) for template in templates)]
        # the ids of labels count the stimuli of all subjects
        found += [
            locate(self.trials.path, each)
            for each in (self.subjects if self.stimuli == "labels" else [subject])
        ]
        return [str(path) for path in dict.fromkeys(found)]

    def stimulus_inputs(self) -> list[str]:
        """Files or folder that `arrays.images`, or with `stimuli: labels` `arrays.labels`, reads."""
        return self.caption_inputs() if self.stimuli == "labels" else [str(locate(self.stimuli.path))]

    def caption_inputs(self) -> list[str]:
        """Trial tables of all subjects, whose columns may hold captions, objects and labels."""
        return list(dict.fromkeys(str(locate(self.trials.path, each)) for each in self.subjects))
