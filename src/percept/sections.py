"""Sections of the configuration that no plug-in adds to: the data set, splits, voxels, evaluation, report."""

import difflib
from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, model_validator

Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
NonNegativeFraction = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "float16", "bfloat16"]  # of values stored, or of a network's arithmetic
NSD_SUBJECTS = tuple(f"subj{number:02d}" for number in range(1, 9))


def nearest(name: str, known: Iterable[str]) -> str:
    """What a message about an unknown name ends with, in brackets: the closest valid one, and all of them."""
    known = [str(option) for option in known]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    listed = ", ".join(known) or "none"
    return f" (did you mean {close[0]!r}? there are: {listed})" if close else f" (there are: {listed})"


class Section(BaseModel):
    """A part of the configuration: closed (unknown keys are errors) and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DownloadConfig(Section):
    """Where the bucket is and how it is read."""

    enabled: bool = Field(
        True, description="false: `root` is the user's own copy; nothing is fetched or deleted."
    )
    endpoint: str | None = Field(None, description="URL of a mirror or local S3 server; null is Amazon's.")
    bucket: str = Field("natural-scenes-dataset", description="Name of the bucket.")
    region: str = Field("us-east-2", description="Region of the bucket.")
    connections: PositiveInt = Field(8, description="Files fetched at the same time.")
    retries: NonNegativeInt = Field(5, description="Further tries of a file after a passing fault.")
    keep_raw: bool = Field(False, description="Keep the raw betas once their voxels are extracted.")


class NativeTree(Section):
    """A folder laid out as NSD's bucket."""

    name: Identifier
    root: str
    subjects: tuple[Identifier, ...] = Field(min_length=1, description="Subjects, as the bucket names them.")
    sessions: Literal["all"] | PositiveInt | dict[str, PositiveInt] = Field(
        "all", description="Sessions used: all released, the first n, or the first n of each subject."
    )
    betas: Literal["betas_assumehrf", "betas_fithrf", "betas_fithrf_GLMdenoise_RR"] = Field(
        "betas_fithrf_GLMdenoise_RR", description="Version of the betas (b1, b2, b3 of the data manual)."
    )
    space: Literal["func1pt8mm", "func1mm"] = Field("func1pt8mm", description="Volume space of the betas.")
    format: Literal["nii.gz", "hdf5", "hdf5-ranges"] = Field(
        "nii.gz", description="Files the betas are read from; hdf5-ranges fetches only the voxels needed."
    )


class NsdDataset(NativeTree):
    """The Natural Scenes Dataset (Allen et al. 2022)."""

    kind: Literal["nsd"]
    name: Identifier = Field("nsd", description="Folder of the results.")
    root: str = Field("resources/nsd", description="Folder of the raw files, in the tree of the bucket.")
    subjects: tuple[Identifier, ...] = Field(NSD_SUBJECTS, min_length=1, description="Subjects decoded.")
    terms_accepted: bool = Field(
        False,
        description="Whether you signed NSD's Data Access Agreement (https://forms.gle/xue2bCdM9LaFNMeb7).",
    )
    download: DownloadConfig = DownloadConfig()


Fault = Literal["leaked-test-image", "shuffled-trials", "statistics-from-test", "swapped-direction"]


class TwinDataset(NativeTree):
    """A small simulated NSD, with a known best possible score."""

    kind: Literal["twin"]
    name: Identifier = Field("twin", description="Folder of the results.")
    root: str = Field(
        "resources/twin", description="Folder of the simulated files, in the tree of the bucket."
    )
    subjects: tuple[Identifier, ...] = Field(
        ("subj01", "subj02"), min_length=1, description="Simulated subjects."
    )
    sessions: PositiveInt | dict[str, PositiveInt] = Field(3, description="Simulated sessions of 750 trials.")
    volumes: dict[str, tuple[PositiveInt, PositiveInt, PositiveInt]] = Field(
        {"subj01": (20, 24, 18), "subj02": (19, 25, 17)}, description="Voxels along x, y, z of each subject."
    )
    shared_images: PositiveInt = Field(150, le=1000, description="Shared images seen within the sessions.")
    bits: Annotated[float, Field(gt=0)] = Field(
        9.0, description="Information, in bits, that the mean of three responses carries about its image."
    )
    seed: NonNegativeInt = Field(0, description="Seed of everything that is simulated.")
    faults: tuple[Fault, ...] = Field((), description="Faults planted for the audit to find.")


class SplitConfig(Section):
    """Which images train, validate and test; always split by image, or by whole runs."""

    protocol: Literal[
        "shared1000", "shared982", "shared515", "algonauts23", "random", "given", "leave-one-run-out"
    ] = Field("shared1000", description="Named split; `given` reads the split column of own data.")
    validation_fraction: NonNegativeFraction = Field(
        0.1,
        description="Share of the training images carved out for model selection. Leaving runs out, anything "
        "above 0 keeps one more run from training.",
    )
    test_fraction: Fraction = Field(0.1, description="Share of the images that test (protocol random).")
    seed: NonNegativeInt = Field(0, description="Seed of the random choices.")
    train_repeats: Literal["average", "single"] = Field(
        "average", description="Train on the mean over the repeats of an image, or on single trials."
    )
    test_units: tuple[Literal["average", "single", "run"], ...] = Field(
        ("average", "single"),
        min_length=1,
        description="What is decoded: means over repeats, single trials, means within a run.",
    )


class VoxelsConfig(Section):
    """Which voxels are extracted and how they are normalised."""

    rois: dict[Identifier, tuple[str, ...]] = Field(
        {}, description="Own ROI sets: name -> labels, each `atlas` or `atlas:label`."
    )
    extract: tuple[Identifier, ...] = Field(
        ("nsdgeneral", "early", "higher"), min_length=1, description="ROI sets whose union is extracted."
    )
    invalid: Literal["drop", "zero", "error"] = Field(
        "drop", description="Voxels without valid betas in some session: left out, set to 0, or refused."
    )
    missing_sessions: Literal["error", "skip"] = Field(
        "error", description="What to do when a session's betas are not there."
    )
    normalisation: Literal["session", "session-train", "train", "none"] = Field(
        "session-train", description="Trials that give the mean and sd of the z-score."
    )


class PoolConfig(Section):
    """A folder of images outside the data set, among which a decoder's embedding finds the nearest."""

    images: str = Field(description="Folder of .jpg, .jpeg and .png files; folders below it count too.")
    embeddings: str | None = Field(
        None,
        description="Embeddings of these images, if they are at hand: a .npy or .safetensors file or the "
        "index.json of a target, with a row per image in the order of their sorted paths. null: they are "
        "computed by the network of the target that the semantic decoder predicts, and cached.",
    )
    size: PositiveInt = Field(
        425, description="Side in pixels to which the central square of each image is brought; 425 is NSD's."
    )


class RetrievalConfig(Section):
    """How a prediction is ranked among candidate images."""

    pools: tuple[PositiveInt, ...] = Field(
        (50, 300, 500), description="Images per pool, the true one included; the whole pool is always added."
    )


class ImagesConfig(Section):
    """How reconstructed images are compared with those that were seen."""

    networks: tuple[Identifier, ...] = Field(
        (),
        description="Metric networks, names of the catalogue: alexnet, inception_v3, clip_vit_l14, "
        "efficientnet_b1, swav, lpips_alex; tiny_clip and tiny_judge on the twin. Metrics of networks that "
        "are not listed are shown as not available.",
    )
    alternatives: tuple[Literal["antialias", "by_image", "ssim_columns"], ...] = Field(
        (), description="Other definitions in use, as further rows under names of their own."
    )
    batch_size: PositiveInt = Field(32, description="Images per forward pass of a metric network.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")

    @property
    def backbones(self) -> tuple[str, ...]:
        """Frozen networks of the catalogue that scoring loads."""
        return self.networks


class LatentsConfig(Section):
    """Whether images that are alike lie together among the predicted embeddings of a decoder."""

    decoders: tuple[Identifier, ...] = Field((), description="Decoders whose predictions are looked at.")
    clusters: tuple[Annotated[int, Field(ge=2)], ...] = Field(
        (8, 12, 20), min_length=1, description="Numbers of clusters that test images are put into."
    )
    restarts: PositiveInt = Field(4, description="Beginnings of k-means, of which the best counts.")
    clouds: PositiveInt = Field(
        100,
        description="Normal clouds of the same covariance, clustered alike, behind the p value of a "
        "silhouette.",
    )
    map: Literal["tsne", "pca"] = Field("tsne", description="How embeddings are laid out in two dimensions.")


class EvaluationConfig(Section):
    """How predictions are scored."""

    retrieval: RetrievalConfig = RetrievalConfig()
    images: ImagesConfig = ImagesConfig()
    latents: LatentsConfig = LatentsConfig()
    bootstrap: PositiveInt = Field(1000, description="Resamples of the items behind an interval.")
    permutations: PositiveInt = Field(1000, description="Shuffled pairings behind a p value.")
    confidence: Fraction = Field(0.95, description="Coverage of the intervals.")
    seed: NonNegativeInt = Field(0, description="Seed of the resampling.")


class LeaveOneOutImages(Section):
    """Images made with and without each region, with the generator's noise kept as it is."""

    reconstruction: Identifier = Field(
        description="Entry of `reconstructions` that works from the decoder's predictions."
    )
    network: Literal[
        "alexnet", "inception_v3", "clip_vit_l14", "efficientnet_b1", "swav", "tiny_clip", "tiny_judge"
    ] = Field(
        description="Metric network whose features are compared, such as clip_vit_l14; tiny_clip on the twin."
    )
    n: PositiveInt = Field(8, description="Test images, drawn at random.")
    draws: PositiveInt = Field(20, description="Random sets of voxels behind the null of each region.")


class LeaveOneOutConfig(Section):
    """Voxels of the test responses are replaced, and what the trained decoder loses is measured."""

    decoder: Identifier = Field(description="Entry of `decoders`.")
    training_seed: NonNegativeInt | None = Field(
        None, description="Which of its trainings; null is the first of its `seeds`."
    )
    groups: tuple[Literal["roi", "block", "voxel"], ...] = Field(
        ("roi",),
        min_length=1,
        description="What is replaced together: voxels of a label of an atlas, cubes, single voxels.",
    )
    replacement: Literal["conditional_mean", "zero", "permuted"] = Field(
        "conditional_mean",
        description="What stands in for them: what the other voxels predict (removes only what the group "
        "alone knows), the mean training response, or their responses to other images.",
    )
    block_side: int = Field(3, ge=2, le=9, description="Voxels along the side of a cube.")
    block_voxels: PositiveInt = Field(4, description="Smaller cubes are left out.")
    draws: PositiveInt = Field(
        500,
        description="Random sets of voxels behind the null of each group. No p value is below "
        "1 / (draws + 1): among many groups of which few are used, few draws find none.",
    )
    permutations: PositiveInt = Field(20, description="Orders that `permuted` averages over.")
    pool: int = Field(50, ge=2, description="Candidates of the retrieval score, the true image included.")
    information: bool = Field(
        False,
        description="Also train ridge decoders on each region alone and without it: solo and unique R2.",
    )
    images: LeaveOneOutImages | None = Field(None, description="Also look at the images that are made.")

    @model_validator(mode="after")
    def _regions_are_there(self) -> Self:
        named = [name for name in ("information", "images") if getattr(self, name)]
        if named and "roi" not in self.groups:
            raise ValueError(
                f"`{named[0]}` is measured for regions, and `groups` has no `roi`: add it, or leave "
                f"`{named[0]}` out"
            )
        return self


class InterpretationConfig(Section):
    """What trained decoders use."""

    leave_one_out: dict[Identifier, LeaveOneOutConfig] = Field(
        {}, description="Analyses by replacing voxels: about the decoder, not about the brain."
    )


class EncodingConfig(Section):
    """A linear encoding model: features of an image -> the response of each voxel or vertex."""

    target: Identifier = Field(description="Name of an entry of `targets`: the features.")
    roi: Identifier = Field("all", description="ROI set whose voxels are predicted.")
    components: PositiveInt | None = Field(
        100,
        description="Principal components of the standardised features, of the training images alone; null: "
        "the features themselves. The challenge's baseline has 100.",
    )
    method: Literal["least_squares", "ridge"] = Field(
        "least_squares",
        description="least_squares, as the challenge's baseline, or ridge (penalty by voxel).",
    )
    alphas: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0),
        min_length=1,
        description="Penalties that ridge tries, by cross-validation on training images.",
    )
    seed: NonNegativeInt = Field(0, description="Seed that deals the images into folds.")


class ReportConfig(Section):
    """What the report says about itself."""

    title: str = Field("Percept", description="Title of the report.")
