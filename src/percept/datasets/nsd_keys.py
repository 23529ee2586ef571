"""Where each file of NSD lies: keys of the bucket, which are also paths relative to the root of a local tree.

Source: NSD data manual; Allen et al. 2022, Nature Neuroscience 25, 116-126.
"""

from collections.abc import Collection, Iterable
from pathlib import Path

from percept.config import NativeTree, nearest
from percept.files import PerceptError

TRIALS_PER_SESSION = 750
DESIGNED_SESSIONS = 40
N_SHARED = 1000  # the first 10k-IDs of every subject are the shared images
N_STIMULI = 73000
RELEASED_SESSIONS = {
    "subj01": 40,
    "subj02": 40,
    "subj03": 32,
    "subj04": 30,
    "subj05": 40,
    "subj06": 32,
    "subj07": 40,
    "subj08": 30,
}
VOLUMETRIC_ATLASES = ("MTL", "thalamus")  # drawn in the volume: 0 is "none" and there is no -1
ATLASES = (
    "HCP_MMP1",
    "Kastner2015",
    "corticalsulc",
    "floc-bodies",
    "floc-faces",
    "floc-places",
    "floc-words",
    "nsdgeneral",
    "prf-eccrois",
    "prf-visualrois",
    "streams",
    *VOLUMETRIC_ATLASES,
)
HEMISPHERES = ("lh", "rh")

EXPDESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
STIM_INFO = "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
STIMULI = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def existing(path: Path, what: str) -> Path:
    """`path` itself.

    Raises
    ------
    PerceptError : there is no such file; `what` says what cannot be done without it
    """
    if not path.is_file():
        raise PerceptError(
            f"{path} is missing: {what} cannot be read without it. Download it (`snakemake` does so where "
            "`dataset.download.enabled` is true), or correct `dataset.root` if your copy lies elsewhere."
        )
    return path


def damaged(path: Path, error: Exception) -> PerceptError:
    """What to raise when the content of a file cannot be read because of `error`."""
    return PerceptError(
        f"{path} is not readable ({type(error).__name__}: {error}): it is truncated, damaged or of another "
        "format, so nothing was taken from it. Delete it and download it again."
    )


def check_subject(subject: str) -> str:
    """`subject` itself.

    Raises
    ------
    PerceptError : NSD has no such subject
    """
    if subject not in RELEASED_SESSIONS:
        raise PerceptError(
            f"NSD has no subject {subject!r}, so none of its files can be located; correct "
            f"`dataset.subjects`{nearest(subject, RELEASED_SESSIONS)}."
        )
    return subject


def check_atlas(atlas: str) -> str:
    """`atlas` without its hemisphere prefix: "lh.floc-faces" is the left half of "floc-faces".

    Raises
    ------
    PerceptError : NSD has no such atlas
    """
    prefix, _, rest = atlas.partition(".")
    bare = rest if prefix in HEMISPHERES else atlas
    if bare not in ATLASES:
        raise PerceptError(
            f"NSD has no ROI file {atlas!r}, so its voxels cannot be selected; correct `voxels.rois` or "
            f"`voxels.extract`{nearest(bare, ATLASES)}. Each may carry the prefix `lh.` or `rh.`."
        )
    return bare


def key_betas_folder(subject: str, ds: NativeTree) -> str:
    """Folder of one subject's betas, in the space and version of `ds`."""
    return f"nsddata_betas/ppdata/{check_subject(subject)}/{ds.space}/{ds.betas}"


def key_betas(subject: str, session: int, ds: NativeTree) -> str:
    """Single-trial betas of one session: int16, percent signal change x 300.

    nii.gz holds axes (X, Y, Z, trial); hdf5 holds `/betas` with axes (trial, Z, Y, X) as h5py sees them.
    """
    suffix = "nii.gz" if ds.format == "nii.gz" else "hdf5"
    return f"{key_betas_folder(subject, ds)}/betas_session{session:02d}.{suffix}"


def key_ncsnr(subject: str, ds: NativeTree) -> str:
    """Released noise-ceiling signal-to-noise ratio, float32 (X, Y, Z), NaN allowed."""
    return f"{key_betas_folder(subject, ds)}/ncsnr.nii.gz"


def key_volume(subject: str, name: str, space: str) -> str:
    """Any volume (X, Y, Z) of the subject's preprocessed data."""
    return f"nsddata/ppdata/{check_subject(subject)}/{space}/{name}.nii.gz"


def key_brainmask(subject: str, space: str) -> str:
    """Liberal brain mask, 0 or 1; betas are 0 outside."""
    return key_volume(subject, "brainmask", space)


def key_mean(subject: str, space: str) -> str:
    """Mean functional volume, for figures."""
    return key_volume(subject, "mean", space)


def key_valid(subject: str, session: int, space: str) -> str:
    """Voxels that are valid, 1, in every run of a session; the betas of the others are all 0 in it."""
    return key_volume(subject, f"valid_session{session:02d}", space)


def key_roi(subject: str, atlas: str, space: str) -> str:
    """ROI volume: -1 outside the ribbon or hemisphere, 0 unlabelled, 1..N labels."""
    check_atlas(atlas)
    return key_volume(subject, f"roi/{atlas}", space)


def key_label_table(subject: str, atlas: str) -> str:
    """Table "id name" of an atlas; the same for both hemispheres."""
    bare = check_atlas(atlas)
    if bare in VOLUMETRIC_ATLASES:
        return f"nsddata/templates/{bare}.ctab"
    return f"nsddata/freesurfer/{check_subject(subject)}/label/{bare}.mgz.ctab"


def key_responses(subject: str) -> str:
    """Behaviour, one row per trial of the released sessions."""
    return f"nsddata/ppdata/{check_subject(subject)}/behav/responses.tsv"


def sessions_of(ds: NativeTree, subject: str) -> list[int]:
    """Session numbers, from 1, that the configuration uses of a subject.

    Raises
    ------
    PerceptError : the subject is unknown, has no entry in `sessions`, or has fewer sessions
    """
    check_subject(subject)
    available = DESIGNED_SESSIONS if ds.kind == "twin" else RELEASED_SESSIONS[subject]
    if isinstance(ds.sessions, dict) and subject not in ds.sessions:
        raise PerceptError(
            f"`dataset.sessions` says nothing about {subject}, so its sessions are unknown: add "
            f"`{subject}: n` with n from 1 to {available}, or give one number for all subjects."
        )
    wanted = ds.sessions[subject] if isinstance(ds.sessions, dict) else ds.sessions
    n_sessions = available if wanted == "all" else wanted
    if n_sessions > available:
        raise PerceptError(
            f"`dataset.sessions` asks for {n_sessions} sessions of {subject}, but only {available} exist: "
            f"give at most {available} for this subject, or `all`."
        )
    return list(range(1, n_sessions + 1))


def common_files(stimuli: bool = True) -> list[str]:
    """Keys that all subjects share: the design, the table of stimuli and, if asked, the 37 GiB of images."""
    return [EXPDESIGN, STIM_INFO, *([STIMULI] if stimuli else [])]


def subject_files(ds: NativeTree, subject: str, atlases: Iterable[str]) -> list[str]:
    """Keys needed once per subject: trials, mask, ROIs with label tables, noise ceiling, mean volume."""
    atlases = list(atlases)
    keys = [
        key_responses(subject),
        key_brainmask(subject, ds.space),
        key_mean(subject, ds.space),
        key_ncsnr(subject, ds),
        *(key_roi(subject, atlas, ds.space) for atlas in atlases),
        *(key_label_table(subject, atlas) for atlas in atlases),
    ]
    return list(dict.fromkeys(keys))  # hemispheres share a label table


def session_files(ds: NativeTree, subject: str, session: int) -> list[str]:
    """Keys needed per session: its betas and its valid voxels."""
    return [key_betas(subject, session, ds), key_valid(subject, session, ds.space)]


def files_to_fetch(ds: NativeTree, atlases: Iterable[str], extracted: Collection[str] = ()) -> list[str]:
    """Every key that a configuration fetches as a whole, while the voxels of some subjects are there already.

    Their betas are not needed again, unless raw betas are kept; and `hdf5-ranges` fetches none.
    """
    gone = (
        set(ds.subjects) if ds.format == "hdf5-ranges" else set() if ds.download.keep_raw else set(extracted)
    )
    betas = {key_betas(subject, n, ds) for subject in gone for n in sessions_of(ds, subject)}
    return [key for key in files_needed(ds, atlases) if key not in betas]


def files_needed(ds: NativeTree, atlases: Iterable[str], stimuli: bool = True) -> list[str]:
    """Every key that a configuration needs, once each, and no other.

    Parameters
    ----------
    ds : the data set's section: subjects, sessions, version, space and format of the betas
    atlases : ROI files behind the ROI sets that are extracted, e.g. "nsdgeneral", "lh.floc-faces"
    stimuli : whether the image file is needed
    """
    atlases = list(atlases)
    keys = common_files(stimuli)
    for subject in ds.subjects:
        keys += subject_files(ds, subject, atlases)
        for session in sessions_of(ds, subject):
            keys += session_files(ds, subject, session)
    return list(dict.fromkeys(keys))
