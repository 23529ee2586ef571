"""Selected voxels of a session: both formats give the same bits, damage is named, memory is bounded."""

import gzip
import tracemalloc

import h5py
import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.masking import apply_mask

from percept.files import PerceptError
from percept.voxels import stream

SHAPE, N_TRIALS = (7, 8, 9), 11
WHERE = "subj03, session 5"
LAYOUTS = {
    "as NSD": {"chunks": (N_TRIALS, 1, 1, 1)},
    "compressed": {"chunks": (N_TRIALS, 1, 1, 1), "compression": "gzip"},
    "contiguous": {"chunks": None},
    "volumes": {"chunks": (1, 9, 8, 7)},
    "ragged in time": {"chunks": (4, 2, 3, 5)},
    "slabs": {"chunks": (N_TRIALS, 2, 3, 5)},
}


@pytest.fixture
def betas(rng):
    return rng.integers(-32768, 32768, (*SHAPE, N_TRIALS)).astype(np.int16)


@pytest.fixture
def index(rng):
    return np.flatnonzero(rng.random(SHAPE) < 0.3)


def expected(betas, index):
    return betas.reshape(-1, betas.shape[3])[index].T


@st.composite
def sessions(draw):
    """A session of any small size and a non-empty choice of its voxels, in any order."""
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    n_trials = draw(st.integers(1, 5))
    size = int(np.prod(shape))
    index = draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=size, unique=True))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(-32768, 32768, (*shape, n_trials))
    return values.astype(np.int16), np.array(index)


@settings(max_examples=40, deadline=None)
@given(session=sessions(), order=st.sampled_from("<>"), chunk=st.integers(0, 3))
def test_nifti_and_hdf5_give_the_same_bits_for_any_shape_and_mask(
    tmp_path_factory, files, session, order, chunk
):
    betas, index = session
    folder, n_trials = tmp_path_factory.mktemp("session"), betas.shape[3]
    chunks = [(n_trials, 1, 1, 1), None, (1, *betas.shape[2::-1]), (n_trials, *betas.shape[2::-1])][chunk]
    nifti = files.nifti(folder / "s.nii.gz", betas, order=order)
    hdf5 = files.hdf5(folder / "s.hdf5", betas, dtype=f"{order}i2", chunks=chunks)
    for read, path in ((stream.read_nifti, nifti), (stream.read_hdf5, hdf5)):
        found = read(path, index, betas.shape[:3], WHERE, n_trials)
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, expected(betas, index))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["<i2", ">i2"])
def test_every_layout_of_hdf5_gives_the_same_bits(tmp_path, files, betas, index, layout, dtype):
    path = files.hdf5(tmp_path / "s.hdf5", betas, dtype=dtype, **LAYOUTS[layout])
    found = stream.read_hdf5(path, index, SHAPE, WHERE, N_TRIALS)
    np.testing.assert_array_equal(found, expected(betas, index))


@pytest.mark.parametrize("slab", [1, 3000, 1 << 30])
def test_the_size_of_a_slab_changes_nothing(tmp_path, files, betas, index, slab, monkeypatch):
    monkeypatch.setattr(stream, "SLAB", slab)
    path = files.hdf5(tmp_path / "s.hdf5", betas, **LAYOUTS["ragged in time"])
    np.testing.assert_array_equal(
        stream.read_hdf5(path, index, SHAPE, WHERE, N_TRIALS), expected(betas, index)
    )


def test_agrees_with_nilearn_apply_mask_and_with_nibabel(tmp_path, files, betas):
    mask = np.random.default_rng(0).random(SHAPE) < 0.4
    path = files.nifti(tmp_path / "s.nii.gz", betas)
    found = stream.read_nifti(path, np.flatnonzero(mask), SHAPE, WHERE, N_TRIALS)
    image = nib.load(path)
    peer = apply_mask(image, nib.Nifti1Image(mask.astype(np.int8), image.affine))
    np.testing.assert_array_equal(found, peer)
    np.testing.assert_array_equal(found, image.get_fdata()[mask].T)


@pytest.mark.parametrize("vox_offset", [352, 416])
@pytest.mark.parametrize(("slope", "intercept"), [(np.nan, np.nan), (0, 0), (1, 0)])
def test_headers_that_mean_unscaled_int16_are_read(
    tmp_path, files, betas, index, vox_offset, slope, intercept
):
    path = files.nifti(tmp_path / "s.nii.gz", betas, slope=slope, intercept=intercept, vox_offset=vox_offset)
    found = stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)
    np.testing.assert_array_equal(found, expected(betas, index))


def test_a_gzip_of_several_members_is_one_stream(tmp_path, files, betas, index):
    data = files.nifti_bytes(betas)
    path = tmp_path / "s.nii.gz"
    path.write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]))
    found = stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)
    np.testing.assert_array_equal(found, expected(betas, index))


@pytest.mark.parametrize("keep", [0, 5, 200, 0.3, 0.7, -9, -4, -1])
def test_a_truncated_nifti_is_named_wherever_it_ends(tmp_path, files, betas, index, keep):
    path = files.nifti(tmp_path / "s.nii.gz", betas)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(PerceptError, match=r"s\.nii\.gz \(subj03, session 5\) is truncated or corrupt"):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize("place", [0, 3, 0.2, 0.5, 0.9, -8, -3])
def test_a_flipped_byte_is_found(tmp_path, files, betas, index, place):
    path = files.nifti(tmp_path / "s.nii.gz", betas)
    data = bytearray(path.read_bytes())
    data[int(place * len(data)) if isinstance(place, float) else place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(PerceptError, match="subj03, session 5"):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)


def test_data_that_end_before_the_header_says_so_are_refused_although_the_gzip_is_whole(
    tmp_path, files, betas, index
):
    path = tmp_path / "s.nii.gz"
    path.write_bytes(gzip.compress(files.nifti_bytes(betas)[:-2]))
    with pytest.raises(PerceptError, match="the data end before the header says so"):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)


def test_more_data_than_announced_are_refused(tmp_path, files, betas, index):
    path = tmp_path / "s.nii.gz"
    path.write_bytes(gzip.compress(files.nifti_bytes(betas) + b"\0"))
    with pytest.raises(PerceptError, match="holds more data than its header announces"):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip at all" * 99, "is truncated or corrupt"),
        (gzip.compress(b"x" * 999), "has no valid NIfTI-1 header"),
        (gzip.compress(bytes(999)), "has no valid NIfTI-1 header"),
    ],
    ids=["text", "letters", "zeros"],  # the bytes of gzip hold the time: names would differ between processes
)
def test_what_is_no_nifti_is_named(tmp_path, index, content, message):
    path = tmp_path / "s.nii.gz"
    path.write_bytes(content)
    with pytest.raises(PerceptError, match=message):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize("read", [stream.read_nifti, stream.read_hdf5])
def test_a_missing_file_is_named(tmp_path, index, read):
    with pytest.raises(PerceptError, match=r"absent \(subj03, session 5\) does not exist"):
        read(tmp_path / "absent", index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize("dtype", ["float32", "uint16", "int32", "uint8"])
def test_another_type_is_refused_by_name(tmp_path, files, betas, index, dtype):
    path = files.nifti(tmp_path / "s.nii.gz", betas.astype(dtype))
    with pytest.raises(PerceptError, match=f"holds {dtype}, but the betas of NSD are int16"):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)
    path = files.hdf5(tmp_path / "s.hdf5", betas, dtype=dtype)
    with pytest.raises(PerceptError, match=f"holds {dtype}, but the betas of NSD are int16"):
        stream.read_hdf5(path, index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize(("slope", "intercept"), [(1 / 300, 0), (1, 5)])
def test_a_scaling_is_refused_with_its_numbers(tmp_path, files, betas, index, slope, intercept):
    path = files.nifti(tmp_path / "s.nii.gz", betas, slope=slope, intercept=intercept)
    with pytest.raises(PerceptError, match=f"scl_slope {slope:g}, scl_inter {intercept:g}.*unit is unknown"):
        stream.read_nifti(path, index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize("suffix", ["nii.gz", "hdf5"])
def test_a_mask_of_another_shape_is_refused_with_both_shapes(tmp_path, files, betas, index, suffix):
    write, read = (files.nifti, stream.read_nifti) if suffix == "nii.gz" else (files.hdf5, stream.read_hdf5)
    path = write(tmp_path / f"s.{suffix}", betas)
    with pytest.raises(PerceptError, match=r"\(7, 8, 9, 11\), but the masks of the subject have \(9, 8, 7\)"):
        read(path, index, (9, 8, 7), WHERE, N_TRIALS)


@pytest.mark.parametrize("suffix", ["nii.gz", "hdf5"])
def test_another_number_of_trials_is_named(tmp_path, files, betas, index, suffix):
    write, read = (files.nifti, stream.read_nifti) if suffix == "nii.gz" else (files.hdf5, stream.read_hdf5)
    path = write(tmp_path / f"s.{suffix}", betas)
    with pytest.raises(PerceptError, match="holds 11 trials, but a session has 750"):
        read(path, index, SHAPE, WHERE)


def test_a_hdf5_without_betas_is_named(tmp_path, index):
    with h5py.File(tmp_path / "s.hdf5", "w") as file:
        file["other"] = np.zeros(3)
    with pytest.raises(PerceptError, match=r"s\.hdf5 \(subj03, session 5\) has no dataset `betas`"):
        stream.read_hdf5(tmp_path / "s.hdf5", index, SHAPE, WHERE, N_TRIALS)


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.99])
def test_a_truncated_hdf5_is_named(tmp_path, files, betas, index, keep):
    path = files.hdf5(tmp_path / "s.hdf5", betas)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    with pytest.raises(PerceptError, match=r"s\.hdf5 \(subj03, session 5\) is truncated or corrupt"):
        stream.read_hdf5(path, index, SHAPE, WHERE, N_TRIALS)


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path, betas, index):
    with h5py.File(tmp_path / "s.hdf5", "w") as file:
        made = file.create_dataset("betas", (N_TRIALS, 9, 8, 7), "<i2", chunks=(N_TRIALS, 1, 1, 1))
        made[:, 4, 3, 2] = betas[2, 3, 4]
    found = stream.read_hdf5(tmp_path / "s.hdf5", index, SHAPE, WHERE, N_TRIALS)
    sparse = np.zeros_like(betas)
    sparse[2, 3, 4] = betas[2, 3, 4]
    np.testing.assert_array_equal(found, expected(sparse, index))


@pytest.mark.parametrize("layout", ["nifti", "as NSD", "contiguous", "slabs"])
def test_memory_is_bounded_by_the_voxels_and_not_by_the_session(tmp_path, files, layout, monkeypatch):
    monkeypatch.setattr(stream, "SLAB", 1 << 20)
    shape, n_trials = (20, 24, 18), 300
    betas = np.zeros((*shape, n_trials), np.int16)  # 5.2 MB
    index = np.arange(0, 8640, 40)  # 216 voxels: 0.13 MB
    layouts = {
        "as NSD": {"chunks": (n_trials, 1, 1, 1)},
        "contiguous": {"chunks": None},
        "slabs": {"chunks": (n_trials, 1, 24, 20)},
    }
    if layout == "nifti":
        read, path = stream.read_nifti, files.nifti(tmp_path / "s.nii.gz", betas)
    else:
        read, path = stream.read_hdf5, files.hdf5(tmp_path / "s.hdf5", betas, **layouts[layout])
    tracemalloc.start()
    read(path, index, shape, WHERE, n_trials)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < betas.nbytes / 3
