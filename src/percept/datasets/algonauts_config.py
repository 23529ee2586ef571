"""Settings of `dataset.kind: algonauts`: where the tree of the Algonauts 2023 challenge is.

Paths are relative to the folder in which the workflow is started (or absolute). Nothing heavy is imported
here, because planning reads every setting.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from percept.sections import Identifier, Section, SplitConfig

HEMISPHERES = ("lh", "rh")
CLASSES = ("prf-visualrois", "floc-bodies", "floc-faces", "floc-places", "floc-words", "streams")
TRAINING_IMAGES, TEST_IMAGES = "training_split/training_images", "test_split/test_images"
TRAINING_FMRI = "training_split/training_fmri/{}_training_fmri.npy"
TEST_FMRI = "test_split/test_fmri/{}_test_fmri.npy"
NOISE_CEILING = "test_split/noise_ceiling/{}_noise_ceiling.npy"
ALL_VERTICES = "roi_masks/{}.all-vertices_fsaverage_space.npy"
MAPPING = "roi_masks/mapping_{}"  # .npy as released, or .json or .csv
MASKS = {
    "official": "roi_masks/{}.{}_challenge_space.npy",
    "renamed": "roi_masks/{}.{}_space.npy",
}
PROTOCOLS = ("algonauts23", "random")


class ChallengeSimulation(Section):
    """A simulated challenge: the twin's scenes and encoding model, in the challenge's tree."""

    train_images: int = Field(300, ge=30, description="Training images of each subject.")
    test_images: int = Field(60, ge=2, description="Test images of each subject.")
    volume: tuple[PositiveInt, PositiveInt, PositiveInt] = Field(
        (16, 18, 14), description="Voxels along x, y, z of the brain whose visual voxels become vertices."
    )
    names: Literal["official", "renamed"] = Field("official", description="Which of the two naming schemes.")
    test_fmri: bool = Field(True, description="Write what the organisers keep: test fMRI, noise ceilings.")
    bits: Annotated[float, Field(gt=0)] = Field(
        9.0, description="Information, in bits, that the mean of three responses carries about its image."
    )
    seed: NonNegativeInt = Field(0, description="Seed of everything that is simulated.")


class AlgonautsDataset(Section):
    """The tree of the Algonauts 2023 challenge, or a simulation of it."""

    kind: Literal["algonauts"]
    name: Identifier = Field("algonauts", description="Folder of the results.")
    root: str = Field("resources/algonauts", description="Folder that holds a folder for each subject.")
    subjects: tuple[Identifier, ...] = Field(
        ("subj01",), min_length=1, description="Subjects, each a folder below `root`."
    )
    size: PositiveInt | None = Field(
        None, description="Pixels: images are cropped to their central square and resized; null: as they are."
    )
    fsaverage: str | None = Field(
        None,
        description="Folder of FreeSurfer's fsaverage (with surf/lh.inflated), or of what nilearn fetched as "
        "such (infl_left.gii.gz): maps are drawn on all of its vertices. null: on fsaverage5, which comes "
        "with nilearn.",
    )
    simulate: ChallengeSimulation | None = Field(
        None, description="Simulate the tree below `root`; null: it is there."
    )

    @field_validator("subjects")
    @classmethod
    def _no_subject_twice(cls, subjects: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted({subject for subject in subjects if subjects.count(subject) > 1})
        if twice:
            raise ValueError(f"subject {twice[0]!r} is named twice in `dataset.subjects`: name it once")
        return subjects

    def folder(self, subject: str) -> Path:
        """The folder of a subject; `~` is the home folder."""
        return Path(self.root, subject).expanduser()

    def require_fitting(self, split: SplitConfig) -> None:
        """Refuse settings of the split that ask for what these data do not have.

        Raises
        ------
        ValueError : a protocol of NSD, or single trials or runs, which were averaged away
        """
        if split.protocol not in PROTOCOLS:
            raise ValueError(
                f"`split.protocol` {split.protocol!r} looks at sessions, runs or shared images, which the "
                "Algonauts challenge does not release: use `algonauts23` (the organisers' test "
                "responses), or `random` (test images carved from the training images)"
            )
        if tuple(split.test_units) != ("average",) or split.train_repeats != "average":
            raise ValueError(
                "the Algonauts challenge releases one response per image, already averaged over its repeats: "
                "single trials and runs cannot be decoded. Set `split.test_units: [average]` and "
                "`split.train_repeats: average`"
            )

    def withholds_test(self, subject: str) -> bool:
        """Whether there are test images of a subject without their responses: what a submission predicts."""
        if self.simulate is not None:
            return not self.simulate.test_fmri
        folder = self.folder(subject)
        fmri = [folder / TEST_FMRI.format(side) for side in HEMISPHERES]
        return (folder / TEST_IMAGES).is_dir() and not any(path.is_file() for path in fmri)

    def has_surface(self, subject: str) -> bool:
        """Whether it is known which vertices of fsaverage the responses of a subject are from."""
        masks = [self.folder(subject) / ALL_VERTICES.format(side) for side in HEMISPHERES]
        return self.simulate is not None or all(path.is_file() for path in masks)

    def inputs(self, subject: str) -> list[str]:
        """Files and folders that `algonauts.read_subject` reads; of a tree that is there, those that are.

        What is missing is for the reader to name, so that other subjects go on.
        """
        folder = self.folder(subject)
        if self.simulate is not None:
            return [str(folder / part) for part in self.simulated()]
        images = [folder / part for part in (TRAINING_IMAGES, TEST_IMAGES) if (folder / part).is_dir()]
        files = [
            path
            for part in ("training_split/training_fmri", "test_split/test_fmri", "test_split/noise_ceiling")
            for path in sorted((folder / part).glob("*.npy"))
        ]
        masks = sorted((folder / "roi_masks").glob("*"))
        return [str(path) for path in (*files, *masks, *images)]

    def simulated(self) -> list[str]:
        """What a simulation writes for each subject, below its folder; the last are the folders of images."""
        if self.simulate is None:
            return []
        sides = [TRAINING_FMRI, ALL_VERTICES]
        sides += [TEST_FMRI, NOISE_CEILING] if self.simulate.test_fmri else []
        masks = [MASKS[self.simulate.names].format(side, name) for side in HEMISPHERES for name in CLASSES]
        mappings = [f"{MAPPING.format(name)}.npy" for name in CLASSES]
        files = [part.format(side) for part in sides for side in HEMISPHERES]
        return [*files, *masks, *mappings, TRAINING_IMAGES, TEST_IMAGES]

    def stimulus_inputs(self) -> list[str]:
        """Folders of images of all subjects."""
        folders = [self.folder(subject) for subject in self.subjects]
        found = [folder / part for folder in folders for part in (TRAINING_IMAGES, TEST_IMAGES)]
        return [str(path) for path in found if self.simulate is not None or path.is_dir()]

    def caption_inputs(self) -> list[str]:
        """The challenge says nothing about its images in words."""
        return []
