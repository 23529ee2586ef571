"""Own data: ids, images and labels of the stimuli."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from percept.datasets import arrays
from percept.files import PerceptError
from tests.unit.datasets.arrays_lab import Lab


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path)


def with_stimuli(lab, stimuli, shown):
    """A data set whose trials show `shown`."""
    return lab.dataset(
        stimuli=stimuli,
        betas={"path": lab.array("b.npy", lab.matrix[: len(shown)])},
        trials={"path": lab.table("t.csv", pd.DataFrame({"run": 1, "stimulus": shown}))},
    )


@pytest.mark.parametrize(
    ("stems", "shown", "ids"),
    [
        (["cat", "ant", "dog"], ["dog", "ant", "dog"], [2, 0, 2]),
        (["cat", "ant", "dog"], ["dog.png", "some/where/cat.png"], [2, 1]),
        (["007", "0012", "3"], ["7", "12", "003"], [7, 12, 3]),
        (["1", "b2", "a"], ["b2", "1", "a"], [2, 0, 1]),
        (["20201120123456", "20201120123455"], ["20201120123456"], [1]),
        (["v1.2", "v1.3"], ["v1.3"], [1]),
    ],
)
def test_a_trial_finds_its_image_in_the_folder(lab, stems, shown, ids):
    dataset = with_stimuli(lab, {"path": lab.images(stems=stems)}, shown)
    assert arrays.read_subject(dataset, "s1")[1].stimulus.tolist() == ids
    images = arrays.images(dataset, ids)
    written = [stems.index(next(s for s, n in arrays.catalogue(dataset).items() if n == one)) for one in ids]
    assert images.shape == (len(ids), 5, 6, 3)
    assert images[:, 0, 0, 0].tolist() == written


@pytest.mark.parametrize("name", ["i.npy", "i.h5"])
@pytest.mark.parametrize("first_id", [0, 1])
@pytest.mark.parametrize("grey", [False, True])
def test_a_trial_finds_its_image_in_an_array(lab, name, first_id, grey):
    stack = np.random.default_rng(0).integers(0, 256, (4, 5, 6) if grey else (4, 5, 6, 3), dtype=np.uint8)
    stimuli = {"path": lab.array(name, stack), "first_id": first_id}
    dataset = with_stimuli(lab, stimuli, [first_id + 3, first_id])
    assert arrays.read_subject(dataset, "s1")[1].stimulus.tolist() == [3, 0]
    expected = np.repeat(stack[..., None], 3, axis=3) if grey else stack
    np.testing.assert_array_equal(arrays.images(dataset, [3, 0, 3]), expected[[3, 0, 3]])


@settings(max_examples=25, deadline=None)
@given(shown=st.lists(st.sampled_from(["9", "10", "b", "a", "NA", "none"]), min_size=1, max_size=12))
def test_labels_are_numbered_in_order_and_come_back(tmp_path_factory, shown):
    dataset = with_stimuli(Lab(tmp_path_factory.mktemp("labels")), "labels", shown)
    stimulus = arrays.read_subject(dataset, "s1")[1].stimulus
    order = [label for label in ["9", "10", "NA", "a", "b", "none"] if label in shown]  # by value, then text
    assert arrays.labels(dataset, stimulus) == shown
    assert list(arrays.catalogue(dataset)) == order


def test_images_of_several_sizes_are_cropped_to_their_square_and_resized(lab):
    folder = lab.images(stems=["a"], size=(8, 4))
    pixels = np.zeros((6, 12, 3), np.uint8)
    pixels[:, 3:9] = 200  # the central square
    Image.fromarray(pixels).save(f"{folder}/b.png")
    dataset = with_stimuli(lab, {"path": folder, "size": 4}, ["a", "b"])
    images = arrays.images(dataset, [0, 1])
    assert images.shape == (2, 4, 4, 3)
    assert (images[1] == 200).all()


def test_an_array_of_images_is_resized_too(lab):
    stack = np.full((2, 5, 6, 3), 77, np.uint8)
    dataset = with_stimuli(lab, {"path": lab.array("i.npy", stack), "size": 4}, [0, 1])
    assert arrays.images(dataset, [1]).shape == (1, 4, 4, 3)


@pytest.mark.parametrize(
    ("stimuli", "has", "lacks"), [("labels", "labels", "images"), (None, "images", "labels")]
)
def test_a_source_offers_only_what_the_data_set_has(lab, stimuli, has, lacks):
    dataset = with_stimuli(lab, stimuli or {"path": lab.images()}, ["cat", "vase"])
    source = arrays.source(dataset)
    assert len(getattr(source, has)([1, 0])) == 2
    assert not hasattr(source, lacks)


def _two_files(lab):
    folder = lab.images(stems=["cat"])
    Image.new("RGB", (6, 5)).save(f"{folder}/cat.jpg")
    return {"path": folder}


def _sizes(lab):
    folder = lab.images(stems=["cat"])
    Image.new("RGB", (9, 5)).save(f"{folder}/dog.png")
    return {"path": folder}


def _damaged(lab):
    folder = lab.images(stems=["cat", "dog"])
    (lab.folder / "images" / "dog.png").write_bytes(b"no image")
    return {"path": folder}


def _empty(lab):
    (lab.folder / "none").mkdir()
    return {"path": lab.path("none")}


@pytest.mark.parametrize(
    ("stimuli", "message"),
    [
        (lambda lab: "labels", "has labels as stimuli .* and no images"),
        (_two_files, r"cat\.png and .*cat\.jpg both stand for stimulus 'cat'"),
        (
            lambda lab: {"path": lab.images(stems=["1", "01"])},
            "1.png and .*01.png both stand|01.png and .*1.png both stand",
        ),
        (
            _sizes,
            r"dog\.png has 9 x 5 pixels and .*cat\.png 6 x 5.*`dataset\.stimuli\.size`|cat\.png has 6 x 5",
        ),
        (_damaged, r"dog\.png is not readable as an image"),
        (_empty, "none holds no image"),
        (
            lambda lab: {"path": lab.array("i.npy", np.zeros((2, 5, 6, 3)))},
            r"holds images as float64 \(5, 6, 3\)",
        ),
        (lambda lab: {"path": lab.array("i.npy", np.zeros((2, 5, 6, 4), np.uint8))}, r"uint8 \(5, 6, 4\)"),
        (lambda lab: {"path": lab.path("absent.npy")}, "absent.npy is not there"),
        (lambda lab: {"path": lab.path("absent")}, "absent: arrays are read from .npy"),
    ],
)
def test_images_that_cannot_be_used_are_named(lab, stimuli, message):
    dataset = lab.dataset(stimuli=stimuli(lab))
    with pytest.raises(PerceptError, match=message):
        arrays.images(dataset, [0, 1])


@pytest.mark.parametrize("stimuli", ["labels", "folder", "array"])
def test_an_id_that_no_stimulus_has_is_named(lab, stimuli):
    sources = {
        "labels": lambda: "labels",
        "folder": lambda: {"path": lab.images()},
        "array": lambda: {"path": lab.array("i.npy", np.zeros((6, 5, 6, 3), np.uint8))},
    }
    dataset = lab.dataset(stimuli=sources[stimuli]())
    ask = arrays.labels if stimuli == "labels" else arrays.images
    with pytest.raises(PerceptError, match="no stimulus 6; it has 6"):
        ask(dataset, [2, 6])


@pytest.mark.parametrize(
    ("stimuli", "shown", "message"),
    [
        (
            lambda lab: {"path": lab.images()},
            ["cat", "dog", "elk", "dog"],
            "'dog' has no image in .*2 of 3 stimuli",
        ),
        (lambda lab: {"path": lab.array("i.npy", np.zeros((3, 5, 6), np.uint8))}, [1, 3], "'3' has no image"),
        (
            lambda lab: {"path": lab.array("i.npy", np.zeros((3, 5, 6), np.uint8)), "first_id": 1},
            [1, 0],
            "'0' has no image in .*there are 3, such as 1, 2, 3",
        ),
    ],
)
def test_the_first_stimulus_without_an_image_is_named(lab, stimuli, shown, message):
    with pytest.raises(PerceptError, match=message):
        arrays.read_subject(with_stimuli(lab, stimuli(lab), shown), "s1")


def told(lab, columns, subjects=("s1",), **more):
    """A data set whose trial tables say more about six trials of three images."""
    shown = ["cat", "ant", "cat", "dog", "ant", "cat"]
    for number, subject in enumerate(subjects):
        texts = {name: values[number] for name, values in columns.items()}
        lab.table(f"{subject}.csv", pd.DataFrame({"run": 1, "stimulus": shown, **texts}))
    return lab.dataset(
        subjects=subjects,
        stimuli={"path": lab.images(stems=["cat", "ant", "dog"])},
        betas={"path": lab.array("b.npy", lab.matrix[:6])},
        trials={"path": lab.path("{subject}.csv"), **more},
    )


SAID = ["a cat", "", "the  cat ", "a dog, sleeping", "an ant", "a cat"]


def test_captions_are_the_distinct_texts_of_all_trials_of_an_image(lab):
    other = ["my cat", "ants", *[None] * 4]
    source = arrays.source(told(lab, {"caption": [SAID, other]}, ["s1", "s2"]))
    assert source.captions([2, 0, 2, 1]) == [
        ("a dog, sleeping",), ("an ant", "ants"), ("a dog, sleeping",), ("a cat", "the  cat", "my cat"),
    ]  # fmt: skip


def test_objects_are_the_names_of_the_first_row_that_has_some(lab):
    objects = [None, "ant, leaf", "cat", "dog,cat", "leaf", "dog"]
    source = arrays.source(told(lab, {"objects": [objects]}))
    assert source.objects([0, 1, 2]) == [("ant", "leaf"), ("cat",), ("dog", "cat")]


@pytest.mark.parametrize("what", ["captions", "objects"])
def test_a_table_that_says_nothing_is_named(lab, what):
    source = arrays.source(told(lab, {"caption": [["a cat", *[None] * 5]]}))
    with pytest.raises(PerceptError, match=r"says nothing about \d stimuli, the first is 0"):
        getattr(source, what)([0, 1, 2])


def test_trials_that_are_left_out_say_nothing(lab):
    dataset = told(lab, {"caption": [SAID]}, leave_out=["dog"])
    with pytest.raises(PerceptError, match="1 stimuli, the first is 2"):
        arrays.source(dataset).captions([0, 1, 2])
