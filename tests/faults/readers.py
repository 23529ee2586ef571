"""Every reader of files, with a small whole file that it reads: what the mutants are made of.

`UNSEEN` says by format what nobody can find, because nothing in the file, or beside it, tells right from
wrong. Damage of other kinds, or of other files, has to be refused. How much of it a reader lets through is
counted in `unseen.py`, so the files are the same bytes in every process, whichever were made before: no time
of day in them, no text that is edited for other reasons.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.io import savemat

from percept import config, files
from percept.backbones import store as backbones
from percept.backbones.tiny import data as tiny
from percept.datasets import annotations, coco, nsd
from percept.datasets.algonauts import mapping, regions
from percept.datasets.algonauts import read_subject as read_challenge
from percept.datasets.arrays import readers
from percept.datasets.arrays import trials as lab_trials
from percept.datasets.arrays.stimuli import read_files
from percept.datasets.arrays_config import ArraysDataset
from percept.datasets.twin import truth as truths
from percept.decoders import predictions, weights
from percept.evaluation import encoded
from percept.generators import store as images
from percept.report import published
from percept.targets import folder, pool, store
from percept.voxels import normalise, stream, surface
from percept.voxels import store as voxels
from tests.unit.datasets import challenge_tree
from tests.unit.datasets import test_nsd as native

RNG = np.random.default_rng(20261129)
START = RNG.bit_generator.state  # for every file anew: tests run in any order, and not all of them
BYTES = frozenset({"flipped", "zeroed", "swapped"})
TEXT = BYTES | {"appended", "doubled", "truncated"}
UNSEEN: dict[str, frozenset[str]] = {
    # format: the damage that leaves a file as good as any other of its format
    "": frozenset(),
    "raw array": BYTES,  # npy, NIfTI, HDF5 of others, safetensors of others: numbers and nothing but numbers
    "array without an end": BYTES | {"truncated", "doubled", "appended"},  # mat 5: ends where the file does
    "text": TEXT,  # csv, tsv, ctab, yaml: another digit is another number, a line less a shorter table
    "JSON": BYTES,  # another letter in a text; brackets have to close
    "picture": BYTES,  # what a decoder makes of other bytes is a picture
}
Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Reader:
    """A file, how to make it, and how it is read.

    write : writes a whole file, and what has to lie around it, into a folder; returns its path
    read : what it holds, given its path
    format : entry of `UNSEEN`
    named : what the message names instead of the file: the folder of a backbone, which is fetched as a whole
    """

    write: Callable[[Path], Path]
    read: Read
    format: str = ""
    named: str = ""

    def make(self, root: Path) -> Path:
        """`write`, which draws the same numbers each time."""
        RNG.bit_generator.state = START
        return self.write(root)


READERS: dict[str, Reader] = {}


def reader(name: str, read: Read, format: str = "") -> Callable:
    """Register what makes the file of `name`."""

    def registered(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
        READERS[name] = Reader(make, read, format)
        return make

    return registered


def put(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def save_mat(path: Path, content: dict, packed: bool) -> Path:
    """A MATLAB 5 file without the time of day, which scipy puts into the 116 bytes that it opens with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, content, do_compression=packed)
    with path.open("r+b") as file:
        file.write(b"MATLAB 5.0 MAT-file".ljust(116))
    return path


# What the workflow makes.


@reader("table.parquet", files.read_parquet)
def table(root: Path) -> Path:
    made = pd.DataFrame(
        {"i": np.arange(300), "x": RNG.normal(size=300), "name": ["V1v", None, "hV4"] * 100, "ok": True}
    )
    made.attrs["labels"] = {"streams": ["early", "ventral"]}
    files.write_parquet(made, root / "table.parquet")
    return root / "table.parquet"


def subject(root: Path) -> Path:
    """The three files of a subject: 24 trials of two sessions, 40 voxels."""
    betas = RNG.integers(-900, 900, (24, 40)).astype(np.int16)
    with voxels.writing(root, betas.shape, 2, subject="subj01", scale=300.0) as writer:
        writer.add(1, betas[:12])
        writer.add(2, betas[12:])
    trials = {"session": np.repeat([1, 2], 12), "run": 1, "trial": np.tile(np.arange(1, 13), 2)}
    voxels.write_trials(root, pd.DataFrame(trials | {"stimulus": np.arange(24), "split": "train"}))
    voxels.write_voxels(root, pd.DataFrame({"i": np.arange(40), "streams": "early"}), {"streams": ["early"]})
    return root


def read_betas(path: Path) -> tuple:
    return voxels.read_betas(path.parent), voxels.read_statistics(path.parent)


READERS["betas.h5"] = Reader(lambda root: subject(root) / "betas.h5", read_betas)
READERS["trials.parquet"] = Reader(
    lambda root: subject(root) / "trials.parquet", lambda path: voxels.read_trials(path.parent)
)
READERS["voxels.parquet"] = Reader(
    lambda root: subject(root) / "voxels.parquet", lambda path: voxels.read_voxels(path.parent)
)


@reader("normalisation.h5", normalise.read_statistics)
def normalisation(root: Path) -> Path:
    mean, sd = RNG.normal(size=(2, 2, 5000)).astype(np.float32)
    applied = normalise.Applied("session", np.array([1, 2]), mean, abs(sd), np.arange(5000) % 3 > 0)
    normalise.write_statistics(root / "normalisation.h5", applied)
    return root / "normalisation.h5"


def read_predictions(path: Path) -> tuple:
    with files.open_hdf5(path) as file:
        about = dict(file.attrs)
    return predictions.read_predictions(path, "test/average"), about


@reader("predictions.h5", read_predictions)
def predicted(root: Path) -> Path:
    ids = np.arange(60)
    rows = predictions.Predictions(RNG.normal(size=(60, 200)).astype(np.float32), ids, ids * 0 + 3, ids, ids)
    about = {"fingerprint": json.dumps({"weights": "openai"}), "seed": 3, "decoder": "ridge"}
    predictions.write_predictions(root / "predictions.h5", {"test/average": rows}, about)
    return root / "predictions.h5"


def read_reconstructions(path: Path) -> tuple:
    return images.read_images(path), images.read_lowlevel(path), images.read_attributes(path)


@reader("images.h5", read_reconstructions)
def reconstructions(root: Path) -> Path:
    made = RNG.integers(0, 256, (2, 6, 32, 32, 3), dtype=np.uint8)
    made[:, :3] //= 64  # what compression shortens
    images.write_images(root / "images.h5", made[0], np.arange(6), made[1], {"strength": 0.85, "seed": 7})
    return root / "images.h5"


@reader("encoded.h5", encoded.read)
def responses_predicted(root: Path) -> Path:
    rows = RNG.normal(size=(3, 40, 300)).astype(np.float32)
    ids = np.arange(40, dtype=np.int32)
    made = encoded.Encoded(rows[0], rows[1], ids, ids, np.arange(300), ids, rows[2])
    encoded.write(made, root / "encoded.h5")
    return root / "encoded.h5"


def true_world(root: Path) -> Path:
    """Both files of the truth about a twin's subject."""
    n, dims = 30, 6
    square = RNG.normal(size=(dims, dims))
    made = truths.Truth(
        RNG.normal(size=(n, dims)).astype(np.float32), np.arange(n), np.ones(n, np.float32),
        np.ones(n, np.float32), RNG.normal(size=(n, 2)).astype(np.float32), square @ square.T,
        np.arange(n) % 2 == 0, np.zeros((2, n), np.float32), np.eye(dims), np.arange(50, dtype=np.int32),
        RNG.normal(size=(50, dims)).astype(np.float32), np.arange(50, dtype=np.int32),
    )  # fmt: skip
    truths.write(made, root / truths.key("subj01"))
    with files.create_hdf5(root / truths.FEATURES) as file:
        files.put(file, "features", made.features)
        files.put(file, "stimulus", made.stimulus)
    return root


READERS["truth of a subject.h5"] = Reader(
    lambda root: true_world(root) / truths.key("subj01"),
    lambda path: truths.read(path.parents[len(Path(truths.key("subj01")).parts) - 1], "subj01"),
)
READERS["features.h5"] = Reader(
    lambda root: true_world(root) / truths.FEATURES,
    lambda path: truths.read(path.parents[len(Path(truths.FEATURES).parts) - 1], "subj01"),
)


@reader("weights.safetensors", weights.encoder)
def decoder(root: Path) -> Path:
    shapes = {"encoder.a": ((30, 20), "float32"), "encoder.b": ((20,), "float16"), "other": ((3,), "int64")}
    with weights.create(root / "weights.safetensors", shapes, {"subject": "subj01"}) as tensors:
        for values in tensors.values():
            values[:] = RNG.integers(0, 100, values.shape)
    return root / "weights.safetensors"


def read_checkpoint(path: Path) -> Any:
    """A damaged checkpoint is set aside, which the log says; then there is none."""
    from percept.decoders.training import checkpoint

    found = checkpoint.read(path, "mark")
    if found is None:
        assert path.exists() or path.with_name(f"{path.name}.damaged").exists()
        raise files.PerceptError(f"{path} was not taken up")
    return found


@reader("checkpoint.pt", read_checkpoint)
def checkpoint(root: Path) -> Path:
    import torch

    from percept.decoders.training import checkpoint

    checkpoint.write(root / "checkpoint.pt", {"mark": "mark", "epoch": 3, "weights": torch.arange(900.0)})
    return root / "checkpoint.pt"


def features(root: Path) -> Path:
    values = RNG.normal(size=(7, 4, 3)).astype(np.float32)
    ids = np.array([2, 3, 5, 8, 13, 2021, 72999], dtype=np.int32)
    fingerprint = {"kind": "open_clip", "backbone": {"weights": "openai", "probe": [0.1, 0.2]}}
    store.write(root / "index.json", values, ids, fingerprint, target="clip")
    return root


def read_features(index: Path) -> tuple:
    with store.open_features(index) as opened:
        return opened.read(opened.stimuli), opened.stimuli, opened.shape, opened.fingerprint, opened.target


READERS["index.json"] = Reader(lambda root: features(root) / "index.json", read_features)
READERS["shard.safetensors"] = Reader(
    lambda root: features(root) / "shards" / "ids-00000-00999.safetensors",
    lambda path: read_features(path.parents[1] / "index.json"),
)


@reader("images.npz", lambda path: tiny.load(path.parent))
def painted(root: Path) -> Path:
    made = RNG.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    np.savez(root / "images.npz", images=made)
    told = {"captions": [["a", "b"]] * 4, "objects": [["cat"]] * 4, "setting": ["sea"] * 4}
    files.write_parquet(pd.DataFrame(told), root / "scenes.parquet")
    return root / "images.npz"


@reader("list of images.parquet", lambda path: folder.read_list(path, path.parent / "pool", 8).files)
def listed(root: Path) -> Path:
    for name in ("a.png", "b/c.png"):
        put(root / "pool" / name, png(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)))
    folder.write_list(root / "pool", root / "files.parquet")
    return root / "files.parquet"


def backbone(root: Path) -> Path:
    place = root / "sd_vae"
    put(place / "config.json", '{"sample_size": 32}')
    put(place / "weights.safetensors", RNG.bytes(900))
    backbones.write_manifest(place, "sd_vae")
    return place


def read_backbone(place: Path) -> tuple:
    """Found by the environment variable that the test sets."""
    whole = backbones.require("sd_vae")
    return backbones.identity("sd_vae"), [
        (whole / name).read_bytes() for name in ("config.json", "weights.safetensors")
    ]


for _name in ("backbone.json", "config.json", "weights.safetensors"):
    READERS[f"backbone: {_name}"] = Reader(
        lambda root, name=_name: backbone(root) / name,
        lambda path: read_backbone(path.parent),
        named="sd_vae",
    )


# What NSD releases.


def read_session(path: Path) -> np.ndarray:
    read = stream.read_hdf5 if path.suffix == ".hdf5" else stream.read_nifti
    return read(path, np.arange(0, 504, 5), (7, 8, 9), "subj01", n_trials=20)


def session() -> np.ndarray:
    return RNG.integers(-900, 900, (7, 8, 9, 20)).astype(np.int16)


@reader("betas_session01.nii.gz", read_session)
def session_nifti(root: Path) -> Path:
    data = nib.Nifti1Image(session(), np.eye(4)).to_bytes()
    return put(root / "betas_session01.nii.gz", gzip.compress(data, 1, mtime=0))


@reader("betas_session01.hdf5", read_session, "raw array")
def session_hdf5(root: Path) -> Path:
    with h5py.File(root / "betas_session01.hdf5", "w") as file:
        file.create_dataset("betas", data=session().transpose(), chunks=(20, 1, 1, 1))
    return root / "betas_session01.hdf5"


def of_tree(root: Path, key: str) -> Path:
    """The root of a native tree in which the key is this file."""
    return root.parents[len(Path(key).parts) - 1]


DESIGN, RESPONSES, INFO = nsd.EXPDESIGN, nsd.key_responses(native.SUBJECT), nsd.STIM_INFO


@reader("nsd_expdesign.mat", lambda path: nsd.read_design(of_tree(path, DESIGN)))
def design(root: Path) -> Path:
    ordering, subjectim, shared = native.released_ids()
    content = {"masterordering": ordering[None], "subjectim": subjectim, "sharedix": shared[None]}
    return save_mat(root / DESIGN, content, packed=True)  # as released


@reader(
    "responses.tsv", lambda path: nsd.read_trials(of_tree(path, RESPONSES), native.SUBJECT, [1, 2]), "text"
)
def responses(root: Path) -> Path:
    native.write_responses(root, native.responses(*native.released_ids()[:2]))
    return root / RESPONSES


@reader("nsd_stim_info_merged.csv", lambda path: nsd.read_stim_info(of_tree(path, INFO)), "text")
def stimuli_table(root: Path) -> Path:
    native.write_table(root, INFO, native.stim_info().to_csv())
    return root / INFO


MASK = nsd.key_brainmask(native.SUBJECT, native.SPACE)
ROI = nsd.key_roi(native.SUBJECT, "Kastner2015", native.SPACE)
NAMES = nsd.key_label_table(native.SUBJECT, "Kastner2015")


def native_tree(root: Path) -> Path:
    native.write_volume(root, MASK, np.ones((7, 8, 9), np.int16))
    native.write_volume(root, ROI, RNG.choice([-1, 0, 1, 12], (7, 8, 9)).astype(np.float32))
    native.write_table(root, NAMES, "0 Unknown\n1   V1v\n12 \t MST/TO2\n13 ecc4+ 10 20 30 0\n")
    return root


def read_roi(root: Path) -> tuple:
    return nsd.read_roi(root, native.SUBJECT, "Kastner2015", native.SPACE)


for _name, _key, _format in (
    ("brainmask.nii.gz", MASK, ""), ("roi.nii.gz", ROI, ""), ("names.ctab", NAMES, "text")
):  # fmt: skip
    READERS[_name] = Reader(
        lambda root, key=_key: native_tree(root) / key,
        lambda path, key=_key: read_roi(of_tree(path, key)),
        _format,
    )


@reader("nsd_stimuli.hdf5", lambda path: nsd.read_stimuli(of_tree(path, nsd.STIMULI), range(8)), "raw array")
def stimuli(root: Path) -> Path:
    (root / nsd.STIMULI).parent.mkdir(parents=True)
    with h5py.File(root / nsd.STIMULI, "w") as file:
        file["imgBrick"] = RNG.integers(0, 256, (8, 10, 10, 3), dtype=np.uint8)
    return root / nsd.STIMULI


SHOWN = (5, 17, 290)


def annotated(root: Path) -> Path:
    from percept.config import TwinDataset
    from percept.datasets import scenes
    from percept.datasets.twin import coco as twin_coco
    from percept.datasets.twin import design, tables

    ds = TwinDataset(kind="twin", root=str(root))
    known = tables.stim_info(design.of(ds), ds.seed)
    known = known[known["nsdId"].isin(SHOWN)].assign(cocoSplit="train2017")
    put(root / INFO, known.to_csv())
    twin_coco.write([scenes.compose(ds.seed, one) for one in SHOWN], known, root)
    return root


READERS["captions.json"] = Reader(
    lambda root: annotated(root) / coco.key("captions", "train2017"),
    lambda path: coco.captions(path.parents[1], SHOWN),
    "JSON",
)
READERS["instances.json"] = Reader(
    lambda root: annotated(root) / coco.key("instances", "train2017"),
    lambda path: coco.visible(path.parents[1], SHOWN),
    "JSON",
)


def unpacked(path: Path) -> list[bytes]:
    annotations.unpack(path, path.parent)
    return [(path.parent / key).read_bytes() for key in coco.KEYS]


@reader("annotations.zip", unpacked)
def archive(root: Path) -> Path:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for key in coco.KEYS:
            entry = zipfile.ZipInfo(key)  # of 1980, not of now
            file.writestr(entry, RNG.bytes(300).hex(), zipfile.ZIP_DEFLATED)
    return put(root / "annotations.zip", packed.getvalue())


# What a lab or the challenge brings.


def matrix() -> np.ndarray:
    return RNG.normal(size=(12, 30))


@reader("betas.npy", readers.read_array, "raw array")
def npy(root: Path) -> Path:
    np.save(root / "betas.npy", matrix())
    return root / "betas.npy"


@reader("betas of a lab.h5", readers.read_array, "raw array")
def lab_hdf5(root: Path) -> Path:
    with h5py.File(root / "betas.h5", "w") as file:
        file["betas"] = matrix()
    return root / "betas.h5"


@reader("betas of a lab.parquet", readers.read_array, "raw array")
def lab_parquet(root: Path) -> Path:
    pd.DataFrame(matrix(), columns=[f"v{column}" for column in range(30)]).to_parquet(root / "b.parquet")
    return root / "b.parquet"


@reader("betas v5.mat", readers.read_array, "array without an end")
def old_mat(root: Path) -> Path:
    return save_mat(root / "betas.mat", {"betas": matrix()}, packed=False)


@reader("betas v7.mat", readers.read_array)
def packed_mat(root: Path) -> Path:
    return save_mat(root / "betas.mat", {"betas": matrix()}, packed=True)


@reader("betas v7.3.mat", readers.read_array, "raw array")
def new_mat(root: Path) -> Path:
    with h5py.File(root / "betas.mat", "w", userblock_size=512) as file:
        file["betas"] = matrix()
    return root / "betas.mat"


def read_blocks(path: Path) -> list[np.ndarray]:
    return list(readers.blocks(readers.open_volumes(path), path))


for _suffix, _format in ((".nii", "raw array"), (".nii.gz", "")):

    @reader(f"volumes{_suffix}", read_blocks, _format)
    def volumes(root: Path, suffix: str = _suffix) -> Path:
        path = root / f"volumes{suffix}"
        nib.Nifti1Image(session().astype(np.float32), np.eye(4)).to_filename(path)
        return path

    @reader(f"mask{_suffix}", readers.read_volume, _format)
    def mask(root: Path, suffix: str = _suffix) -> Path:
        path = root / f"mask{suffix}"
        nib.Nifti1Image(session()[..., 0], np.eye(4)).to_filename(path)
        return path


def read_lab_trials(path: Path) -> pd.DataFrame:
    told = {"kind": "arrays", "name": "lab", "subjects": ["s1"], "betas": {"path": "betas.npy"}}
    ds = ArraysDataset.model_validate(told | {"trials": {"path": str(path)}})
    return lab_trials.numbered(lab_trials.read_table(ds, "s1"), ds, "s1")


for _suffix, _separator in ((".csv", ","), (".tsv", "\t"), (".txt", " ")):

    @reader(f"trials{_suffix}", read_lab_trials, "text")
    def lab_table(root: Path, suffix: str = _suffix, separator: str = _separator) -> Path:
        told = pd.DataFrame({"stimulus": ["cat", "rest"] * 10, "run": np.arange(20)})
        told.to_csv(root / f"trials{suffix}", sep=separator, index=False)
        return root / f"trials{suffix}"


def png(image: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(image).save(packed, "PNG")
    return packed.getvalue()


@reader("stimulus.png", lambda path: read_files([path]), "picture")
def picture(root: Path) -> Path:
    return put(root / "stimulus.png", png(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)))


@reader("stimulus.jpg", lambda path: read_files([path]), "picture")
def photograph(root: Path) -> Path:
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / "stimulus.jpg")
    return root / "stimulus.jpg"


@reader(
    "image of a pool.png",
    lambda path: folder.ImageFolder(path.parent, (path.name,), 8).images([0]),
    "picture",
)
def pooled(root: Path) -> Path:
    return put(root / "pooled.png", png(RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)))


def challenge(root: Path) -> Path:
    challenge_tree.write(root / "tree")
    return root / "tree" / "subj01"


def read_subject(place: Path) -> tuple:
    from percept.datasets.algonauts_config import AlgonautsDataset

    ds = AlgonautsDataset(kind="algonauts", root=str(place.parent), subjects=("subj01",))
    return read_challenge(ds, "subj01")


READERS["lh_training_fmri.npy"] = Reader(
    lambda root: challenge(root) / "training_split/training_fmri/lh_training_fmri.npy",
    lambda path: read_subject(path.parents[2]),
    "raw array",
)
READERS["lh.streams_challenge_space.npy"] = Reader(
    lambda root: challenge(root) / "roi_masks/lh.streams_challenge_space.npy",
    lambda path: read_subject(path.parents[1]),
    "raw array",
)


def read_mapping(path: Path) -> dict[int, str]:
    return mapping.read(path.parent, "streams")


STREAMS = dict(enumerate(regions.REGIONS["streams"], start=1))


@reader("mapping_streams.npy", read_mapping, "raw array")
def mapped_npy(root: Path) -> Path:
    np.save(
        root / "mapping_streams.npy", np.array({0: "Unknown", **STREAMS}, dtype=object), allow_pickle=True
    )
    return root / "mapping_streams.npy"


@reader("mapping_streams.json", read_mapping, "JSON")
def mapped_json(root: Path) -> Path:
    return put(root / "mapping_streams.json", json.dumps(STREAMS))


@reader("mapping_streams.csv", read_mapping, "text")
def mapped_csv(root: Path) -> Path:
    return put(root / "mapping_streams.csv", "".join(f"{n},{name}\n" for n, name in STREAMS.items()))


@reader("embeddings.npy", lambda path: read_pool(path), "raw array")
def embeddings_npy(root: Path) -> Path:
    np.save(root / "embeddings.npy", matrix().astype(np.float32))
    return root / "embeddings.npy"


@reader("embeddings.safetensors", lambda path: read_pool(path), "raw array")
def embeddings_safetensors(root: Path) -> Path:
    from safetensors.numpy import save_file

    save_file({"image": matrix().astype(np.float32)}, root / "embeddings.safetensors")
    return root / "embeddings.safetensors"


def read_pool(path: Path) -> np.ndarray:
    with pool.open_pool(path) as opened:
        return opened.read(np.arange(opened.shape[0]))


# FreeSurfer's surfaces, and what people write.


def surfaces(root: Path, suffix: str) -> Path:
    """An octahedron for each hemisphere, in FreeSurfer's layout or nilearn's."""
    places = np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32) * 30
    faces = np.array([[x, y, z] for x in (0, 3) for y in (1, 4) for z in (2, 5)], np.int32)
    for side, name in surface.SIDES.items():
        if suffix == ".gii.gz":
            kinds = {"infl": (places, faces), "sulc": (np.arange(6, dtype=np.float32),)}
            intents = ("NIFTI_INTENT_POINTSET", "NIFTI_INTENT_TRIANGLE")
            for kind, held in kinds.items():
                which = intents if len(held) == 2 else ("NIFTI_INTENT_SHAPE",)
                arrays = [
                    nib.gifti.GiftiDataArray(one, intent=intent)
                    for one, intent in zip(held, which, strict=True)
                ]
                data = nib.gifti.GiftiImage(darrays=arrays).to_bytes()
                put(root / f"{kind}_{name}.gii.gz", gzip.compress(data, mtime=0))
        else:
            (root / "surf").mkdir(exist_ok=True)
            nib.freesurfer.write_geometry(root / f"surf/{side}.inflated", places, faces, "made today")
            nib.freesurfer.write_morph_data(root / f"surf/{side}.sulc", np.arange(6), fnum=8)
    return root


for _file, _suffix, _format in (
    ("surf/lh.inflated", "", "raw array"), ("surf/lh.sulc", "", "raw array"),
    ("infl_left.gii.gz", ".gii.gz", ""), ("sulc_left.gii.gz", ".gii.gz", ""),
):  # fmt: skip
    READERS[_file] = Reader(
        lambda root, file=_file, suffix=_suffix: surfaces(root, suffix) / file,
        lambda path, file=_file: tuple(surface.load_mesh(of_tree(path, file))),
        _format,
    )


PRINTED = """\
method,subject,protocol,metric,direction,pool,value,source,sure,note
Plain Decoder,mean,37/982,pixcorr,,,0.254,"Doe et al. 2021, table 1",read,
Plain Decoder,mean,37/982,alexnet2,,,0.830,"Doe et al. 2021, table 1",read,
Plain Decoder,mean,37/982,top1,image_from_brain,300,0.110,"Doe et al. 2021, table 2",remembered,headed Image
Plain Decoder,mean,37/982,top1,brain_from_image,300,0.490,"Doe et al. 2021, table 2",remembered,headed Brain
"Decoder, Second",subj01,40/1000,clip,,,0.77,"Roe 2023, main comparison",read,
"Decoder, Second",subj02,40/1000,clip,,,0.765,"Roe 2023, main comparison",read,
"Decoder, Second",subj01,40/1000,effnet,,,0.862,"Roe 2023, main comparison",third-party,lower is better
"Decoder, Second",subj01,40/1000,swav,,,0.465,"Roe 2023, main comparison",third-party,lower is better
"""


@reader("published.csv", lambda path: published.load([path]), "text")
def printed(root: Path) -> Path:
    return put(root / "published.csv", PRINTED)


SETTINGS = """\
# A small experiment, with most kinds of values.
dataset:
  kind: twin
  name: tiny
  root: resources/tiny
  subjects: [subj01, subj02]
  sessions: {subj01: 2, subj02: 1}
  volumes: {subj01: [14, 16, 12], subj02: [13, 17, 11]}
  shared_images: 40
  bits: 6.0

voxels:
  extract: [nsdgeneral]

targets:
  pixels: {kind: pixels, size: 8}
  clip: {kind: clip_image, backbone: tiny_clip}
  latents: {kind: vae_latent, backbone: tiny_vae}

decoders:
  ridge_pixels: {kind: ridge, target: pixels, alphas: [100, 10000]}
  ridge_clip: {kind: ridge, target: clip, seeds: [0, 1]}
  ridge_latents: {kind: ridge, target: latents}

reconstructions:
  linear: {lowlevel: ridge_pixels, generator: {kind: pixels, out: 64}}
  unclip:
    semantic: ridge_clip
    lowlevel: ridge_latents
    rescale: {semantic: cross_validated}
    generator: {kind: image_diffusion, backbone: tiny_unclip, lowlevel_backbone: tiny_vae, steps: 4}

evaluation:
  retrieval: {pools: [10, 30]}
  images: {networks: [tiny_clip, tiny_judge]}
  bootstrap: 100
  permutations: 100

report:
  title: A small experiment
"""


@reader("config.yaml", lambda path: config.plain(config.load(path)), "text")
def settings(root: Path) -> Path:
    return put(root / "config.yaml", SETTINGS)
