"""What becomes of the mutants of each reader, in numbers: what `test_mutants` asserts and README.md adds up.

A mutant that is read as another file without complaint is unseen. A reader that lets one more through has
lost a check, whatever `readers.UNSEEN` allows its format; one that finds one more shall keep finding it, and
the number is lowered. The numbers are those of the libraries in `constraints.txt`: another compressor may
place another byte under the same damage.
"""

from typing import NamedTuple


class Counts(NamedTuple):
    """Of a reader's mutants.

    mutants : all of them; those that are neither whole nor unseen are refused
    whole : read exactly as the whole file is
    unseen : read as another file, by the kind of damage; kinds that are not here: none
    """

    mutants: int
    whole: int
    unseen: dict[str, int]


def counts(mutants: int, whole: int, **unseen: int) -> Counts:
    return Counts(mutants, whole, unseen)


COUNTS = {
    "table.parquet": counts(41, 0),
    "betas.h5": counts(40, 7),
    "trials.parquet": counts(40, 0),
    "voxels.parquet": counts(41, 0),
    "normalisation.h5": counts(42, 3),
    "predictions.h5": counts(42, 2),
    "images.h5": counts(42, 4),
    "encoded.h5": counts(42, 2),
    "truth of a subject.h5": counts(42, 9),
    "features.h5": counts(42, 2),
    "weights.safetensors": counts(41, 0),
    "checkpoint.pt": counts(42, 10),
    "index.json": counts(41, 5),
    "shard.safetensors": counts(42, 0),
    "images.npz": counts(42, 6),
    "list of images.parquet": counts(41, 0),
    "backbone: backbone.json": counts(41, 7),
    "backbone: config.json": counts(39, 0),
    "backbone: weights.safetensors": counts(42, 0),
    "betas_session01.nii.gz": counts(42, 1),
    "betas_session01.hdf5": counts(39, 14, flipped=2, zeroed=3, swapped=1),
    "nsd_expdesign.mat": counts(42, 6),
    "responses.tsv": counts(41, 17),
    "nsd_stim_info_merged.csv": counts(41, 2, flipped=2),
    "brainmask.nii.gz": counts(41, 4),
    "roi.nii.gz": counts(42, 5),
    "names.ctab": counts(41, 7, truncated=2, flipped=8, zeroed=3, swapped=2),
    "nsd_stimuli.hdf5": counts(42, 5, flipped=9, zeroed=1, swapped=4),
    "captions.json": counts(41, 6, flipped=3, swapped=1),
    "instances.json": counts(41, 3),
    "annotations.zip": counts(42, 8),
    "betas.npy": counts(41, 2, flipped=12, zeroed=3, swapped=3),
    "betas of a lab.h5": counts(40, 7, flipped=8, zeroed=2, swapped=2),
    "betas of a lab.parquet": counts(41, 7, flipped=4, swapped=1),
    "betas v5.mat": counts(42, 4, flipped=14, zeroed=2, swapped=4),
    "betas v7.mat": counts(42, 4),
    "betas v7.3.mat": counts(41, 8, flipped=11, zeroed=2, swapped=4),
    "volumes.nii": counts(42, 6, flipped=14, zeroed=3, swapped=4),
    "mask.nii": counts(42, 8, flipped=12, zeroed=3, swapped=4),
    "volumes.nii.gz": counts(42, 2),
    "mask.nii.gz": counts(42, 3),
    "trials.csv": counts(41, 8, truncated=2, flipped=1, zeroed=2),
    "trials.tsv": counts(42, 9, truncated=2, zeroed=2),
    "trials.txt": counts(41, 7, truncated=2, flipped=4, zeroed=1),
    "stimulus.png": counts(41, 6),
    "stimulus.jpg": counts(41, 7, flipped=9, zeroed=1, swapped=4),
    "image of a pool.png": counts(41, 7),
    "lh_training_fmri.npy": counts(41, 2, flipped=14, zeroed=3, swapped=4),
    "lh.streams_challenge_space.npy": counts(41, 2, flipped=2),
    "mapping_streams.npy": counts(41, 2, flipped=4),
    "mapping_streams.json": counts(41, 0, flipped=9, swapped=1),
    "mapping_streams.csv": counts(42, 1, truncated=4, flipped=10, zeroed=4, swapped=1),
    "embeddings.npy": counts(41, 3, flipped=13, zeroed=2, swapped=3),
    "embeddings.safetensors": counts(42, 3, flipped=14, zeroed=3, swapped=4),
    "surf/lh.inflated": counts(41, 6, flipped=7, zeroed=2, swapped=1),
    "surf/lh.sulc": counts(41, 10, flipped=11, zeroed=1, swapped=3),
    "infl_left.gii.gz": counts(42, 0),
    "sulc_left.gii.gz": counts(42, 1),
    "published.csv": counts(42, 1, flipped=2, zeroed=1),
    "config.yaml": counts(42, 7, flipped=5),
}
