import numpy as np
import pytest

from percept.files import PerceptError
from percept.generators.store import read_images, write_images


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
