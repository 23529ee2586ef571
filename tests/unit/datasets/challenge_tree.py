"""A tiny challenge subject in either naming scheme: 40 + 12 images, 30 + 34 vertices, 3 regions per class.

One region of the mappings has no vertex in it (as have those beyond the third), and one vertex is NaN.
"""

import numpy as np

from percept.datasets.algonauts.regions import REGIONS
from percept.datasets.algonauts.write import Subject, image_path, write_arrays, write_image
from percept.datasets.algonauts_config import AlgonautsDataset

N_TRAIN, N_TEST, N_LEFT, N_RIGHT = 40, 12, 30, 34
MISSING, NAN_VERTEX = ("floc-faces", "FFA-1"), 33  # the fourth of the right hemisphere
SCHEMES = ("official", "renamed")


def subject(seed=0, test=True, stimulus=None):
    """Arrays of one subject; every number is its own."""
    rng = np.random.default_rng(seed)
    n_vertices = N_LEFT + N_RIGHT
    ids = np.arange(100, 100 + N_TRAIN + N_TEST) * 7 if stimulus is None else stimulus
    responses = {"train": rng.normal(0, 0.8, (N_TRAIN, n_vertices)).astype(np.float32)}
    responses["train"][:, NAN_VERTEX] = np.nan
    if test:
        responses["test"] = rng.normal(0, 0.8, (N_TEST, n_vertices)).astype(np.float32)
    regions = {name: rng.integers(0, 4, n_vertices) for name in REGIONS}
    atlas, region = MISSING
    regions[atlas][regions[atlas] == REGIONS[atlas].index(region) + 1] = 0
    vertices = {"lh": np.arange(N_LEFT) * 50, "rh": 3 + np.arange(N_RIGHT) * 70}
    ceiling = rng.uniform(0.1, 0.6, n_vertices).astype(np.float32) if test else None
    return Subject({"train": ids[:N_TRAIN], "test": ids[N_TRAIN:]}, responses, vertices, regions, ceiling)


def picture(stimulus):
    """An 8 x 8 image of its own."""
    return np.random.default_rng(int(stimulus)).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def write(root, names="official", subjects=("subj01",), **changes):
    """Write a tree; the settings that read it."""
    for at, name in enumerate(subjects):
        made = subject(at, **changes)
        write_arrays(made, root / name, names)
        for part, ids in made.stimulus.items():
            for row, stimulus in enumerate(ids):
                write_image(picture(stimulus), image_path(root / name, names, part, row, int(stimulus)))
    return AlgonautsDataset(kind="algonauts", root=str(root), subjects=subjects)
