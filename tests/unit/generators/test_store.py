import h5py
import numpy as np
import pytest

from percept.files import PerceptError
from percept.generators.store import (
    Piece,
    read_attributes,
    read_images,
    read_lowlevel,
    read_stimulus,
    write_images,
    write_pieces,
)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_images_come_back_as_they_were_written(tmp_path, n):
    images = np.random.default_rng(0).integers(0, 256, (n, 7, 9, 3), dtype=np.uint8)
    write_images(tmp_path / "a" / "images.h5", images, np.arange(n)[::-1] * 1000)
    back = read_images(tmp_path / "a" / "images.h5")
    np.testing.assert_array_equal(back.images, images)
    np.testing.assert_array_equal(back.stimulus, np.arange(n)[::-1] * 1000)
    assert back.images.dtype == np.uint8 and back.stimulus.dtype == np.int32


@pytest.mark.parametrize(
    ("images", "stimulus", "message"),
    [
        (np.zeros((2, 4, 4, 3)), [0, 1], "uint8 images"),
        (np.zeros((2, 4, 4), dtype=np.uint8), [0, 1], "uint8 images"),
        (np.zeros((2, 4, 4, 3), dtype=np.uint8), [0], "2 images came with 1 stimuli"),
    ],
)
def test_what_is_no_reconstruction_is_refused_and_leaves_no_file(tmp_path, images, stimulus, message):
    with pytest.raises(ValueError, match=message):
        write_images(tmp_path / "images.h5", images, np.array(stimulus))
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "images.h5"
    write_images(path, np.zeros((3, 4, 4, 3), dtype=np.uint8), np.arange(3))
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(PerceptError, match=r"images\.h5 does not hold the images"):
        read_images(path)


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"images\.h5"):
        read_images(tmp_path / "images.h5")


PICTURES = np.random.default_rng(1).integers(0, 256, (9, 6, 5, 3), dtype=np.uint8)
BLURRY = np.random.default_rng(2).integers(0, 256, (9, 4, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize("sizes", [(9,), (4, 5), (1, 2, 6), (3, 0, 6)])
def test_pieces_are_written_as_the_whole(tmp_path, sizes):
    rows = np.split(np.arange(9), np.cumsum(sizes)[:-1])
    settings = {"rescale": {"text": "transductive"}, "seed": 3}
    pieces = (Piece(PICTURES[row], row, BLURRY[row]) for row in rows)
    write_pieces(tmp_path / "images.h5", pieces, {"settings": settings, "set": "images"})
    back = read_images(tmp_path / "images.h5")
    np.testing.assert_array_equal(back.images, PICTURES)
    np.testing.assert_array_equal(back.stimulus, np.arange(9))
    np.testing.assert_array_equal(read_lowlevel(tmp_path / "images.h5"), BLURRY)
    assert read_attributes(tmp_path / "images.h5") == {"settings": settings, "set": "images"}


def test_without_low_level_images_there_are_none(tmp_path):
    write_images(tmp_path / "images.h5", PICTURES, np.arange(9))
    assert read_lowlevel(tmp_path / "images.h5") is None and read_attributes(tmp_path / "images.h5") == {}


@pytest.mark.parametrize(
    ("pieces", "message"),
    [
        ([], "given no images"),
        ([Piece(PICTURES, np.arange(9)), Piece(PICTURES[:, :2], np.arange(9))], "after others of"),
        ([Piece(PICTURES, np.arange(9), BLURRY), Piece(PICTURES, np.arange(9))], "9 low-level images for 18"),
        ([Piece(PICTURES, np.arange(9), BLURRY / 255)], "uint8 images"),
    ],
)
def test_pieces_that_do_not_fit_together_leave_no_file(tmp_path, pieces, message):
    with pytest.raises(ValueError, match=message):
        write_pieces(tmp_path / "images.h5", pieces)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [[], [3], [8, 0, 4], [2, 2], [-1], np.array([7, 1])])
def test_only_the_rows_asked_for_are_read_in_the_order_asked(tmp_path, rows, monkeypatch):
    write_images(tmp_path / "images.h5", PICTURES, np.arange(9) * 7, BLURRY)
    read, n_values = h5py.Dataset.__getitem__, []

    def counted(self, asked):
        n_values.append(np.size(values := read(self, asked)))
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    some = read_images(tmp_path / "images.h5", rows)
    np.testing.assert_array_equal(some.images, PICTURES[np.asarray(rows, int)])
    np.testing.assert_array_equal(some.stimulus, np.arange(9)[np.asarray(rows, int)] * 7)
    assert sum(n_values) == len(rows) * PICTURES[0].size + 9
    np.testing.assert_array_equal(read_lowlevel(tmp_path / "images.h5", rows), BLURRY[np.asarray(rows, int)])
    np.testing.assert_array_equal(read_stimulus(tmp_path / "images.h5"), np.arange(9) * 7)


def test_rows_that_are_not_there_are_said(tmp_path):
    write_images(tmp_path / "images.h5", PICTURES, np.arange(9))
    with pytest.raises(IndexError):
        read_images(tmp_path / "images.h5", [9])


@pytest.mark.parametrize("read", [read_lowlevel, read_attributes, read_stimulus])
def test_a_truncated_file_is_named_whatever_is_read(tmp_path, read):
    write_images(tmp_path / "images.h5", PICTURES, np.arange(9), BLURRY)
    (tmp_path / "images.h5").write_bytes((tmp_path / "images.h5").read_bytes()[:700])
    with pytest.raises(PerceptError, match="truncated"):
        read(tmp_path / "images.h5")
