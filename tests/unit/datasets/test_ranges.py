"""Single voxels of a session, near and far: the values of the whole file, for few of its bytes."""

import sys
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept.datasets.download import bucket, chunks, ranges, source
from percept.files import PerceptError

sys.path.append(str(Path(__file__).parent))
import s3_server as server

SHAPE = (23, 17, 19)  # x, y, z: a tree of three levels
N_TRIALS = 11
LAYOUTS = {
    "matlab": {"libver": "earliest"},  # superblock 0, version 1 headers and tree
    "h5py": {"libver": ("v108", "latest")},  # version 2 headers, version 1 tree
    "latest": {"libver": "latest"},  # another kind of index: the library's own scan
    "block": {"libver": "earliest", "userblock_size": 512},
    "latest block": {"libver": "latest", "userblock_size": 512},
}


def volume(shape=SHAPE, n_trials=N_TRIALS):
    """Betas (trial, z, y, x), each value its own."""
    z, y, x = shape[::-1]
    return np.random.default_rng(0).integers(-(2**15), 2**15, (n_trials, z, y, x)).astype("<i2")


def write(path, betas, options=LAYOUTS["matlab"], **more):
    with h5py.File(path, "w", **options) as file:
        chunk = (len(betas), *[1] * (betas.ndim - 1))
        file.create_dataset("betas", data=betas, **({"chunks": chunk} | more))
    return path


@cache
def read_whole(path):
    """(trial, x y z): the slow, plain way."""
    with h5py.File(path) as file:
        return file["betas"][:].transpose(0, 3, 2, 1).reshape(len(file["betas"]), -1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    return {name: write(folder / f"{name}.hdf5", volume(), options) for name, options in LAYOUTS.items()}


@pytest.fixture(scope="module")
def s3(files):
    with server.running() as running:
        for name, path in files.items():
            running.put(f"{name}.hdf5", path.read_bytes())
        yield running


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(bucket, "BACKOFF_S", 0.01)


def blob():
    """An ROI: a ball in one corner, in no particular order, and one voxel far from it, twice."""
    x, y, z = np.indices(SHAPE)
    inside = (x - 5) ** 2 + (y - 4) ** 2 + (z - 6) ** 2 < 16
    voxels = np.append(np.flatnonzero(inside), [7000, 7000])
    return np.random.default_rng(1).permutation(voxels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_local_voxels_are_those_of_the_whole_file(files, layout):
    voxels = blob()
    betas = ranges.read_local(files[layout], voxels, SHAPE)
    assert betas.dtype == np.int16 and betas.flags.c_contiguous
    np.testing.assert_array_equal(betas, read_whole(files[layout])[:, voxels])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_remote_voxels_are_those_of_the_whole_file(files, s3, layout):
    voxels = blob()
    betas = ranges.read_session(f"{layout}.hdf5", s3.cfg(), voxels, SHAPE)
    np.testing.assert_array_equal(betas, read_whole(files[layout])[:, voxels])


@given(st.lists(st.integers(0, np.prod(SHAPE) - 1), max_size=60))
def test_any_voxels_in_any_order_may_be_read(files, voxels):
    betas = ranges.read_local(files["matlab"], voxels)
    assert betas.shape == (N_TRIALS, len(voxels))
    np.testing.assert_array_equal(betas, read_whole(files["matlab"])[:, voxels])


def no_scan(betas):
    raise AssertionError("the short way was not taken")


@pytest.mark.parametrize("layout", ["matlab", "h5py", "block"])
def test_the_short_way_through_the_index_agrees_with_the_library(files, layout, monkeypatch):
    every = np.arange(np.prod(SHAPE))
    with h5py.File(files[layout]) as file:
        by_library = chunks._scan(file["betas"]).reshape(SHAPE[::-1]).transpose().ravel()
    monkeypatch.setattr(chunks, "_scan", no_scan)
    with source.LocalFile(files[layout]) as near:
        grid, starts = chunks.locate(near, every)
    assert grid.shape == SHAPE and len(np.unique(starts)) == len(every)
    np.testing.assert_array_equal(starts, by_library)


@pytest.mark.parametrize("fill", [0, -7])
def test_chunks_never_written_hold_the_fill_value(tmp_path, fill):
    path = tmp_path / "sparse.hdf5"
    with h5py.File(path, "w", libver="earliest") as file:
        betas = file.create_dataset("betas", (11, 9, 8, 7), "<i2", chunks=(11, 1, 1, 1), fillvalue=fill)
        betas[:, 4, 3, 2] = np.arange(11)
    everywhere = np.arange(7 * 8 * 9)
    np.testing.assert_array_equal(ranges.read_local(path, everywhere), read_whole(path))
    assert np.count_nonzero(ranges.read_local(path, everywhere) != fill) >= 10


@pytest.mark.parametrize("layout", ["matlab", "latest"])
def test_a_session_without_any_chunk_is_all_fill_value(tmp_path, layout):
    with h5py.File(tmp_path / "empty.hdf5", "w", **LAYOUTS[layout]) as file:
        file.create_dataset("betas", (11, 9, 8, 7), "<i2", chunks=(11, 1, 1, 1), fillvalue=3)
    np.testing.assert_array_equal(ranges.read_local(tmp_path / "empty.hdf5", [0, 503]), np.full((11, 2), 3))


def test_betas_behind_a_soft_link_are_found(tmp_path):
    path = write(tmp_path / "linked.hdf5", volume((7, 8, 9)))
    with h5py.File(path, "a") as file:
        file.move("betas", "elsewhere")
        file["betas"] = h5py.SoftLink("/elsewhere")
    np.testing.assert_array_equal(ranges.read_local(path, np.arange(504)), read_whole(path))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("extra", ["track_times", "track_order", "attributes"])
def test_longer_headers_do_not_mislead(tmp_path, layout, extra):
    path = tmp_path / "noted.hdf5"
    options = {} if extra == "attributes" else {extra: True}
    betas = volume((3, 4, 5))
    with h5py.File(path, "w", **LAYOUTS[layout]) as file:
        dataset = file.create_dataset("betas", betas.shape, "<i2", chunks=(11, 1, 1, 1), **options)
        for number in range(40 * (extra == "attributes")):  # more than one block of the header can hold
            dataset.attrs[f"note {number}"] = "x" * 50
        dataset[...] = betas
    np.testing.assert_array_equal(ranges.read_local(path, np.arange(60)), read_whole(path))


def test_only_a_part_of_the_file_moves(tmp_path, s3):
    path = write(tmp_path / "long.hdf5", volume((20, 24, 18), 750))  # 13 MB, the demo's volume
    s3.put("long.hdf5", path.read_bytes())
    x, y, z = np.indices((20, 24, 18))
    voxels = np.flatnonzero((x - 10) ** 2 + (y - 4) ** 2 + (z - 6) ** 2 < 12)
    far = source.RemoteFile("long.hdf5", s3.cfg())
    betas = ranges.read(far, voxels)
    np.testing.assert_array_equal(betas, read_whole(path)[:, voxels])
    assert far.size == path.stat().st_size
    assert betas.nbytes < far.n_read < 0.15 * far.size
    assert far.n_read == sum(served.sent for served in s3.proxy.gets("long.hdf5"))
    assert far.n_requests < len(voxels) / 2  # neighbours share requests


# When things go wrong


@pytest.mark.parametrize(
    "fault",
    [server.drop(3), server.drop(0, reset=True), server.truncate(5), server.status(503)],
    ids=["dropped", "reset", "short", "503"],
)
def test_ranges_are_asked_for_again(files, s3, fault):
    s3.proxy.plan("matlab.hdf5", fault, fault)
    voxels = blob()
    betas = ranges.read_session("matlab.hdf5", s3.cfg(), voxels)
    np.testing.assert_array_equal(betas, read_whole(files["matlab"])[:, voxels])


@pytest.mark.parametrize("ranges_before", [0, 1, 4], ids="after {} ranges".format)
def test_a_session_replaced_meanwhile_is_refused(files, s3, ranges_before):
    data = files["matlab"].read_bytes()

    def replace_object(reply):
        s3.put("replaced.hdf5", data + b"newer")
        return reply

    s3.put("replaced.hdf5", data)
    s3.proxy.plan("replaced.hdf5", *[lambda reply: reply] * ranges_before, replace_object)
    with pytest.raises(PerceptError, match=r"replaced\.hdf5 was replaced on the server"):
        ranges.read_session("replaced.hdf5", s3.cfg(connections=1), np.arange(0, 7000, 500))


def test_a_server_without_ranges_is_refused_before_it_sends_everything(s3):
    s3.proxy.plan("matlab.hdf5", server.forever(server.ignore_range))
    with pytest.raises(PerceptError, match=r"ignores byte ranges.*matlab\.hdf5.*`dataset\.format: nii\.gz`"):
        ranges.read_session("matlab.hdf5", s3.cfg(), [0])
    s3.proxy.plan("matlab.hdf5")


def test_an_unknown_session_is_named(s3):
    with pytest.raises(bucket.Refused, match=r"betas_session41\.hdf5 \(404\)"):
        ranges.read_session("betas_session41.hdf5", s3.cfg(), [0])


OTHER_LAYOUTS = {
    "other chunks": lambda: (volume((7, 8, 9)), {"chunks": (1, 9, 8, 7)}),
    "time in two chunks": lambda: (volume((7, 8, 9), 12), {"chunks": (6, 1, 1, 1)}),
    "contiguous": lambda: (volume((7, 8, 9)), {"chunks": None}),
    "compressed": lambda: (volume((7, 8, 9)), {"compression": "gzip"}),
    "checksummed": lambda: (volume((7, 8, 9)), {"fletcher32": True}),
    "floats": lambda: (volume((7, 8, 9)).astype("f4"), {}),
    "big-endian": lambda: (volume((7, 8, 9)).astype(">i2"), {}),
    "a surface": lambda: (volume((7, 8, 9))[:, 0, 0], {}),
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS)
def test_any_other_layout_is_named_with_the_way_out(tmp_path, layout):
    betas, options = OTHER_LAYOUTS[layout]()
    path = write(tmp_path / "other.hdf5", betas, **options)
    with pytest.raises(PerceptError, match=r"other\.hdf5 is not laid out.*`dataset\.format: nii\.gz`"):
        ranges.read_local(path, [0])


def test_a_file_without_betas_is_named_with_what_it_holds(tmp_path):
    with h5py.File(tmp_path / "stimuli.hdf5", "w") as file:
        file["imgBrick"] = np.zeros(3)
    with pytest.raises(PerceptError, match=r"stimuli\.hdf5 has no data set `betas`, but \['imgBrick'\]"):
        ranges.read_local(tmp_path / "stimuli.hdf5", [0])


def test_a_file_that_is_no_hdf5_is_named(tmp_path):
    (tmp_path / "page.hdf5").write_bytes(b"<html>log in first</html>" * 99)
    with pytest.raises(PerceptError, match=r"page\.hdf5 cannot be read as hdf5"):
        ranges.read_local(tmp_path / "page.hdf5", [0])


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("layout", ["matlab", "latest"])
def test_a_truncated_file_is_named(files, tmp_path, kept, layout):
    data = files[layout].read_bytes()
    (tmp_path / "short.hdf5").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(PerceptError, match=r"short\.hdf5 (cannot be read|ends at byte)"):
        ranges.read_local(tmp_path / "short.hdf5", [0, 6999])


def test_an_index_that_points_beyond_the_file_is_named(files, tmp_path):
    data = files["matlab"].read_bytes()
    (tmp_path / "wild.hdf5").write_bytes(data)
    with source.LocalFile(files["matlab"]) as near:
        starts = chunks.locate(near, np.array([5]))[1]
    at = data.index(int(starts[0]).to_bytes(8, "little"))
    with (tmp_path / "wild.hdf5").open("r+b") as file:
        file.seek(at)
        file.write((10**12).to_bytes(8, "little"))
    with pytest.raises(PerceptError, match=r"wild\.hdf5 ends at byte \d+, but its own index points to"):
        ranges.read_local(tmp_path / "wild.hdf5", [5])


def test_a_damaged_node_is_named(files, tmp_path):
    data = files["matlab"].read_bytes()
    (tmp_path / "torn.hdf5").write_bytes(data.replace(b"TREE\x01\x00", b"EERT\x01\x00"))  # the leaves
    with pytest.raises(PerceptError, match=r"the index of .*torn\.hdf5 is damaged"):
        ranges.read_local(tmp_path / "torn.hdf5", [0])


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PerceptError, match=r"session07\.hdf5 is missing.*`dataset\.sessions`"):
        ranges.read_local(tmp_path / "betas_session07.hdf5", [0])


@pytest.mark.parametrize("voxel", [-1, np.prod(SHAPE)])
def test_voxels_outside_the_volume_are_refused(files, voxel):
    with pytest.raises(ValueError, match=rf"voxels 0 to {voxel}|voxels {voxel} to 0"):
        ranges.read_local(files["matlab"], [0, voxel])


def test_a_mask_of_another_shape_is_refused(files):
    with pytest.raises(PerceptError, match=r"\(23, 17, 19\) voxels \(x, y, z\), the mask \(19, 17, 23\)"):
        ranges.read_local(files["matlab"], [0], SHAPE[::-1])


# Pieces that share a request


@given(
    starts=st.lists(st.integers(0, 10**5), min_size=1, max_size=50),
    length=st.integers(1, 2000),
    seed=st.integers(0, 9),
)
def test_gathered_pieces_are_the_bytes_of_the_file(tmp_path_factory, starts, length, seed):
    path = tmp_path_factory.getbasetemp() / f"bytes {seed}"
    if not path.exists():
        path.write_bytes(np.random.default_rng(seed).bytes(102_000))
    data = path.read_bytes()
    with source.LocalFile(path) as near:
        pieces = source.gather(near, np.array(starts), length)
        assert near.n_read <= (max(starts) - min(starts)) + length
    assert [piece.tobytes() for piece in pieces] == [data[start : start + length] for start in starts]


@pytest.mark.parametrize(
    ("starts", "n_requests"),
    [
        ([0, 10, 20], 1),
        ([0, 10 + source.GAP], 1),
        ([0, 11 + source.GAP], 2),
        (list(range(0, source.LONGEST + 10, source.GAP)), 2),  # never longer than LONGEST
    ],
)
def test_requests_span_small_gaps_only(starts, n_requests):
    assert len(source._breaks(np.array(starts), 10)) + 1 == n_requests
