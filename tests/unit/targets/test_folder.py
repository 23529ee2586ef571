"""A folder of images of any size: which files count, in which order, and what is made of each."""

import numpy as np
import pytest
from PIL import Image

from percept.config import plugin
from percept.files import PerceptError
from percept.targets import encode, folder, store

RNG = np.random.default_rng(0)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def picture(height, width):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def web(tmp_path):
    """Eight images of eight sizes in nested folders, and files that are none."""
    for number, name in enumerate(("b/x.png", "b.png", "B.JPG", "a/b/c.jpeg", "é.png", "10.png", "9.png")):
        save(tmp_path / name, picture(20 + number, 31 - number))
    save(tmp_path / "deep/er/z.jpg", picture(9, 40))
    (tmp_path / "notes.txt").write_text("no image")
    save(tmp_path / "._x.png", picture(3, 3))
    save(tmp_path / ".cache/x.png", picture(3, 3))
    return tmp_path


def opened(path, size=8):
    return folder.ImageFolder(path, tuple(folder.list_images(path)), size)


def test_images_of_all_folders_are_listed_in_the_order_of_their_paths(web):
    found = folder.list_images(web)
    assert found == sorted(found)
    assert found == [
        "10.png", "9.png", "B.JPG", "a/b/c.jpeg", "b.png", "b/x.png", "deep/er/z.jpg", "é.png",
    ]  # fmt: skip


def test_the_list_can_be_written_and_read(web, tmp_path):
    folder.write_list(web, tmp_path / "out" / "files.parquet")
    assert folder.read_list(tmp_path / "out" / "files.parquet", web, 8) == opened(web)


@pytest.mark.parametrize(("name", "said"), [("empty", "holds no image"), ("absent", "is no folder")])
def test_a_folder_without_images_is_refused(tmp_path, name, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PerceptError, match=rf"{name} {said}.*set `images`"):
        folder.list_images(tmp_path / name)


def test_images_come_in_one_size_in_the_order_asked_duplicates_allowed(web):
    images = opened(web)
    found = images.images([3, 0, 3])
    assert found.shape == (3, 8, 8, 3) and found.dtype == np.uint8 and len(images) == 8
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[1], images.images(np.array([0], dtype=np.int32))[0])


@pytest.mark.parametrize("shape", [(6, 6), (6, 10), (14, 6)])
def test_of_an_image_the_central_square_is_kept_pixel_by_pixel(tmp_path, shape):
    whole = picture(*shape)
    path = save(tmp_path / "a.png", whole)
    top, left = ((length - 6) // 2 for length in shape)
    np.testing.assert_array_equal(folder.square(path, 6), whole[top : top + 6, left : left + 6])


def test_a_smooth_image_keeps_its_means_when_it_shrinks(tmp_path):
    row, column = np.mgrid[0:60, 0:60]
    ramp = np.stack([2 * row, 2 * column, row + column], axis=-1).astype(np.uint8)
    small = folder.square(save(tmp_path / "a.png", ramp), 6)
    blocks = ramp.reshape(6, 10, 6, 10, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small[1:-1, 1:-1], blocks[1:-1, 1:-1], atol=2)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.full((4, 4), 7, dtype=np.uint8), [7, 7, 7]),  # grey
        (np.full((4, 4, 4), [9, 8, 7, 255], dtype=np.uint8), [9, 8, 7]),
        (np.full((4, 4, 4), [9, 8, 7, 0], dtype=np.uint8), [255, 255, 255]),  # transparent: the paper
    ],
)
def test_any_mode_becomes_colour_on_white(tmp_path, pixels, expected):
    assert folder.square(save(tmp_path / "a.png", pixels), 2).tolist() == [[expected] * 2] * 2


def test_a_photograph_is_turned_as_its_camera_noted(tmp_path):
    whole = picture(6, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter to the right for display
    found = folder.square(save(tmp_path / "a.png", whole, exif=exif), 6)
    np.testing.assert_array_equal(found, np.rot90(whole, -1))


def test_every_file_that_cannot_be_read_is_named_at_once(web):
    (web / "b.png").write_bytes((web / "9.png").read_bytes()[:200])  # cut off
    (web / "é.png").write_text("<html>not found</html>")
    with pytest.raises(PerceptError, match=r"2 of the 8 files .*: b\.png \(.*; é\.png \(.*remove or replace"):
        opened(web).images([4])
    np.testing.assert_array_equal(opened(web).images([0]), opened(web).images([0]))  # others can be read


def test_of_many_bad_files_some_are_named_and_all_are_in_the_log(tmp_path, caplog):
    for number in range(13):
        (tmp_path / f"{number:02d}.jpg").write_text("no image")
    with pytest.raises(PerceptError, match=r"13 of the 13 .*00\.jpg .*09\.jpg .* and 3 more, all of them in"):
        opened(tmp_path).images([7])
    assert all(f"{number:02d}.jpg" in caplog.text for number in range(13))


def test_a_file_that_is_gone_is_named(web):
    images = opened(web)
    (web / "B.JPG").unlink()
    with pytest.raises(PerceptError, match=r"1 of the 8 files .*: B\.JPG \(FileNotFoundError"):
        images.images([0, 2])


def embed(web, path, size=8):
    images = opened(web, size)
    target = plugin("targets", {"kind": "pixels", "size": 2})
    encode.encode_to(path, "pixels of the pool web", target, images, range(len(images)))
    return images


def test_a_pool_is_encoded_row_by_row_as_the_stimuli_are(web, tmp_path):
    images = embed(web, tmp_path / "made" / "index.json")
    found = store.read(tmp_path / "made" / "index.json", np.arange(8))
    expected, _ = encode.encode(plugin("targets", {"kind": "pixels", "size": 2}), images, range(8))
    np.testing.assert_array_equal(found, expected)


def test_an_image_that_is_replaced_is_encoded_again_and_no_other(web, tmp_path, monkeypatch):
    path = tmp_path / "made" / "index.json"
    embed(web, path)
    before = store.read(path, np.arange(8))
    save(web / "9.png", picture(5, 5))
    encoded = []
    real = type(plugin("targets", {"kind": "pixels"})).blocks

    def counted(self, source, stimuli, batches):
        encoded.extend(int(one) for batch in batches for one in batch)
        return real(self, source, stimuli, batches)

    monkeypatch.setattr("percept.targets.pixels.PixelsConfig.blocks", counted)
    embed(web, path)
    changed = np.any(store.read(path, np.arange(8)) != before, axis=(1, 2, 3))
    assert encoded == [1] and np.flatnonzero(changed).tolist() == [1]


def test_a_bad_file_stops_the_encoding_and_what_was_computed_is_kept(web, tmp_path):
    path = tmp_path / "made" / "index.json"
    whole = (web / "é.png").read_bytes()
    (web / "é.png").write_bytes(whole[:100])
    with pytest.raises(PerceptError, match=r"1 of the 8 files"):
        embed(web, path)
    assert not path.exists()
    (web / "é.png").write_bytes(whole)
    embed(web, path)
    assert store.read(path, [7]).shape == (1, 2, 2, 3)
