"""Whole files that say something impossible: keys and columns that are gone, other types, NaN, rows twice.

Such a file is well-formed, so no checksum tells: what it holds has to be looked at. Each is refused by name.
"""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.io import loadmat, savemat

from percept.config import ConfigError
from percept.files import PerceptError, read_parquet, write_parquet
from tests.faults.readers import READERS

GONE = object()


def at(*path, value=GONE):
    """A change of JSON or YAML: another value at a place, or none there."""

    def change(content):
        here = content
        for key in path[:-1]:
            here = here[key]
        if value is GONE:
            del here[path[-1]]
        else:
            here[path[-1]] = value
        return content

    return change


def instead(value):
    return lambda _: value


def captions(told, *keys, **values):
    """Annotations with some of their keys, and with other values."""
    return {"annotations": [{key: one[key] for key in keys} | values for one in told["annotations"]]}


NO_OBJECT = {
    "null": instead(None),
    "a list": instead([1]),
    "a text": instead("x"),
    "a number": instead(1e300),
}
INDEX = {
    **NO_OBJECT,
    **{f"no {key}": at(key) for key in ("target", "fingerprint", "precision", "shape", "shards")},
    "shape of text": at("shape", value="ab"),
    "shape of NaN": at("shape", value=[float("nan")]),
    "huge shape": at("shape", value=[10**30, 3]),
    "negative shape": at("shape", value=[-4, 3]),
    "no file": at("shards", 0, "file"),
    "another file": at("shards", 0, "file", value="shards/ids-02000-02999.safetensors"),
    "a file above": at("shards", 0, "file", value="../../../etc/passwd"),
    "an absolute file": at("shards", 0, "file", value="/etc/passwd"),
    "a file of numbers": at("shards", 0, "file", value=3),
    "more rows": at("shards", 0, "rows", value=6),
    "rows of text": at("shards", 0, "rows", value="5"),
    "another precision": at("precision", value="float16"),
    "another backbone": at("fingerprint", "backbone", "weights", value="laion2b"),
    "another checksum": at("shards", 0, "crc32", value="00000000"),
    "shards by name": at("shards", value={"a": 1}),
    "a shard twice": lambda index: index | {"shards": [*index["shards"], index["shards"][0]]},
}
MANIFEST = {
    **NO_OBJECT,
    **{f"no {key}": at(key) for key in ("name", "library", "repository", "revision", "files")},
    "files in a list": at("files", value=[1]),
    "no digest": at("files", "config.json", "sha256"),
    "a size of text": at("files", "config.json", "size", value="22"),
    "a file above": lambda about: about | {"files": {"../../a": {"size": 1, "sha256": "0"}}},
    "an absolute file": lambda about: about | {"files": {"/etc/passwd": {"size": 1, "sha256": "0"}}},
    "another name": at("name", value="sd15"),
    "another repository": at("repository", value="somebody/else"),
}
MAPPING = {
    **NO_OBJECT,
    "no names": instead({}),
    "a number for a name": at("1", value=7),
    "no name": at("1", value=""),
    "a negative number": at("-3", value="V9"),
    "a number that is none": at("one", value="V9"),
    "a name twice": at("1", value="ventral"),
    "a number twice": at("01", value="V9"),
}
CAPTIONS = {
    **NO_OBJECT,
    "no list": at("annotations"),
    "an empty list": at("annotations", value=[]),
    "annotations of text": at("annotations", value=["x"]),
    "no caption": lambda told: captions(told, "id", "image_id"),
    "no image": lambda told: captions(told, "id", "caption"),
    "a caption of numbers": lambda told: captions(told, *told["annotations"][0], caption=3),
    "images in a list": lambda told: captions(told, *told["annotations"][0], image_id=[1]),
}
SETTINGS = {
    "a list": instead([1]),
    "a text": instead("x"),
    "no data set": at("dataset"),
    "no decoders": at("decoders"),
    "an unknown key": at("dataste", value={}),
    "a subject that is none": at("dataset", "subjects", value=["../subj01"]),
    "NaN": at("dataset", "bits", value=float("nan")),
    "a text for a number": at("evaluation", "bootstrap", value="many"),
    "a huge number": at("evaluation", "bootstrap", value=-(10**30)),
    "a target that is none": at("decoders", "ridge_clip", "target", value="clop"),
    "code": at("report", "title", value={"!!python/object/apply:os.system": ["true"]}),
}


def dump_json(path, content):
    path.write_text(json.dumps(content))


def dump_yaml(path, content):
    path.write_text(yaml.safe_dump(content))


def cells(column, value, row=3):
    """Another value in one cell of a table."""

    def change(table):
        table[column] = table[column].astype(object)
        table.loc[row, column] = value
        return table

    return change


def without(column):
    return lambda table: table.drop(columns=column)


def twice(table):
    return pd.concat([table, table.iloc[:1]], ignore_index=True)


TRIALS = {
    **{f"no {column}": without(column) for column in ("session", "stimulus")},
    "a row twice": twice,
    "a row less": lambda table: table.iloc[1:].reset_index(drop=True),
    "sessions exchanged": lambda table: table.assign(session=3 - table["session"]),
    "a session that is NaN": lambda table: table.assign(session=table["session"].where(table.index != 3)),
    "a stimulus that is NaN": lambda table: table.assign(stimulus=table["stimulus"].where(table.index != 3)),
    "stimuli of text": lambda table: table.assign(stimulus=table["stimulus"].astype(str)),
    "a huge stimulus": lambda table: table.assign(stimulus=table["stimulus"] * 1e300),
}
VOXELS = {
    "a row twice": twice,
    "a row less": lambda table: table.iloc[1:].reset_index(drop=True),
    "no row": lambda table: table.iloc[:0],
}
LIST = {
    "no files": without("file"),
    "numbers": lambda table: table.assign(file=range(len(table))),
    "a file above": cells("file", "../../etc/passwd", 0),
    "an absolute file": cells("file", "/etc/passwd", 0),
    "nothing": cells("file", None, 0),
}
RESPONSES = {
    **{f"no {column}": without(column) for column in ("SESSION", "RUN", "TRIAL", "73KID", "10KID")},
    "a trial twice": twice,
    "an id of 0": cells("73KID", 0),
    "an id beyond": cells("73KID", 73001),
    "a huge id": cells("73KID", 1e300),
    "an id that is NaN": cells("73KID", np.nan),
    "an id of text": cells("73KID", "many"),
    "an id between": cells("73KID", 7.5),
}
INFO = {
    **{f"no {column}": without(column) for column in ("nsdId", "cocoId", "cropBox", "subject3_rep1")},
    "a row twice": twice,
    "an id that is NaN": cells("nsdId", np.nan),
    "an id of text": cells("nsdId", "x"),
    "a huge id": cells("nsdId", 1e300),
    "a crop of text": cells("cropBox", "(a, b, c, d)"),
    "a crop of three": lambda table: table.assign(cropBox="(0, 0, 0)"),
    "a crop that is none": cells("cropBox", np.nan),
    "a trial that is NaN": cells("subject3_rep1", np.nan),
}
PRINTED = {
    **{f"no {column}": without(column) for column in ("value", "metric", "source")},
    "a value of text": cells("value", "high"),
    "a line twice": twice,
}


def dump_csv(path, table):
    table.to_csv(path, index=False)


def dump_tsv(path, table):
    table.to_csv(path, index=False, sep="\t")


DESIGN = {
    **{f"no {field}": lambda found, field=field: {key: found[key] for key in found if key != field}
       for field in ("masterordering", "subjectim", "sharedix")},
    "ids of text": lambda found: found | {"subjectim": "abc"},
    "ids that are NaN": lambda found: found | {"subjectim": found["subjectim"] * np.nan},
    "huge ids": lambda found: found | {"subjectim": found["subjectim"] * 1e12},
    "another order": lambda found: found | {"subjectim": found["subjectim"][:, ::-1]},
    "no ids": lambda found: found | {"masterordering": np.zeros((1, 0))},
}  # fmt: skip


def load_mat(path):
    return {key: value for key, value in loadmat(path).items() if not key.startswith("__")}


def in_hdf5(change):
    """A change of an HDF5 file in place."""

    def changed(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return changed


def no(name):
    return in_hdf5(lambda file: file.__delitem__(name))


HDF5 = {
    "betas.h5": {f"no {name}": no(name) for name in ("betas", "sessions", "session_mean", "session_sd")},
    "normalisation.h5": {f"no {name}": no(name) for name in ("sessions", "mean", "sd")},
    "predictions.h5": {
        f"no {name}": no(f"test/average/{name}") for name in ("predicted", "stimulus", "fold")
    },
    "images.h5": {f"no {name}": no(name) for name in ("images", "stimulus")},
    "encoded.h5": {f"no {name}": no(name) for name in ("predicted", "measured", "withheld")},
    "features.h5": {f"no {name}": no(name) for name in ("features", "stimulus")},
    "nsd_stimuli.hdf5": {"no images": no("imgBrick")},
    "betas_session01.hdf5": {"no betas": no("betas")},
}
PARTS = {
    "index.json": (INDEX, lambda path: json.loads(path.read_text()), dump_json),
    "backbone: backbone.json": (MANIFEST, lambda path: json.loads(path.read_text()), dump_json),
    "mapping_streams.json": (MAPPING, lambda path: json.loads(path.read_text()), dump_json),
    "captions.json": (CAPTIONS, lambda path: json.loads(path.read_text()), dump_json),
    "config.yaml": (SETTINGS, lambda path: yaml.safe_load(path.read_text()), dump_yaml),
    "trials.parquet": (TRIALS, read_parquet, lambda path, table: write_parquet(table, path)),
    "voxels.parquet": (VOXELS, read_parquet, lambda path, table: write_parquet(table, path)),
    "list of images.parquet": (LIST, read_parquet, lambda path, table: write_parquet(table, path)),
    "responses.tsv": (RESPONSES, lambda path: pd.read_csv(path, sep="\t"), dump_tsv),
    "nsd_stim_info_merged.csv": (INFO, pd.read_csv, dump_csv),
    "published.csv": (PRINTED, pd.read_csv, dump_csv),
    "nsd_expdesign.mat": (DESIGN, load_mat, savemat),
}


def edited(change, load, dump):
    return lambda path: dump(path, change(load(path)))


CASES = {
    (name, what): edited(change, load, dump)
    for name, (changes, load, dump) in PARTS.items()
    for what, change in changes.items()
} | {(name, what): change for name, changes in HDF5.items() for what, change in changes.items()}


@pytest.fixture(autouse=True)
def _backbones(tmp_path, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(tmp_path))


@pytest.mark.parametrize(("name", "what"), CASES)
def test_what_a_file_cannot_say_is_refused_by_name(name, what, tmp_path):
    reader = READERS[name]
    path = reader.make(tmp_path)
    CASES[name, what](path)
    with pytest.raises((PerceptError, ConfigError)) as caught:
        reader.read(path)
    assert (reader.named or path.name) in str(caught.value) or str(path.parent) in str(caught.value)
