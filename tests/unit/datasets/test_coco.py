"""Captions and visible objects of NSD's crops, against scenes, closed forms and counted pixels."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from percept.config import TwinDataset
from percept.datasets import coco, crops, nsd_keys, scenes
from percept.datasets.crops import Window
from percept.datasets.twin import coco as twin_coco
from percept.datasets.twin import design, tables
from percept.files import PerceptError

SHOWN = [5, 17, 290, 4001, 29999, 44000, 61033, 72999]


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    """(root, stimulus -> scene) of a twin whose annotations are about a few images."""
    root = tmp_path_factory.mktemp("twin")
    ds = TwinDataset(kind="twin", root=str(root))
    table = tables.stim_info(design.of(ds), ds.seed)
    path = root / nsd_keys.STIM_INFO
    path.parent.mkdir(parents=True)
    table.to_csv(path)
    made = {stimulus: scenes.compose(ds.seed, stimulus) for stimulus in SHOWN}
    twin_coco.write(made.values(), table, root)
    return root, made


@pytest.mark.parametrize("order", [1, -1])
def test_captions_are_those_of_the_scenes_in_the_order_asked(twin, order):
    root, made = twin
    asked = SHOWN[::order] + SHOWN[:1]
    assert coco.captions(root, asked) == [scenes.captions(made[one]) for one in asked]


def test_objects_are_those_of_the_scenes(twin):
    root, made = twin
    found = coco.objects(root, SHOWN)
    assert [set(names) for names in found] == [set(made[one].categories) for one in SHOWN]


def inside(box):
    left, top, width, height = box
    left, right, top, bottom = np.clip([left, left + width, top, top + height], 0, 1)
    return left, top, right - left, bottom - top


def test_boxes_and_areas_are_those_of_the_ellipses_in_the_scenes(twin):
    root, made = twin
    checked = 0
    for stimulus, things in zip(SHOWN, coco.visible(root, SHOWN), strict=True):
        expected = [(one.category, inside(one.box), one.box) for one in made[stimulus].objects]
        for thing in (one for one in things if not one.crowd):
            near = [e for e in expected if e[0] == thing.category and np.allclose(e[1], thing.box, atol=2e-4)]
            assert len(near) == 1
            width, height = near[0][2][2:]
            whole = np.isclose(near[0][1], near[0][2]).all()
            share = 3 / 4 if whole else thing.area / (width * height)  # of a 12-gon in its ellipse's box
            assert thing.area == pytest.approx(share * width * height, rel=1e-3)
            checked += whole
    assert checked > 10


def test_the_largest_comes_first_and_crowds_are_told(twin):
    found = coco.visible(twin[0], SHOWN)
    for things in found:
        assert [one.area for one in things] == sorted((one.area for one in things), reverse=True)
        assert all(one.supercategory == scenes.CATEGORIES[one.category].supercategory for one in things)
    assert (
        sum(one.crowd for things in found for one in things) <= 2
    )  # one in each split, where it is not cut off


# A release in miniature: what COCO's files hold, with crops of NSD.

CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 18, "name": "dog", "supercategory": "animal"},
]
RECTANGLE = [0, 0, 40, 0, 40, 30, 0, 30]


def release(
    root, annotations, crop="(0, 0, 0, 0)", size=(100, 50), order=("images", "annotations", "categories")
):
    """One image of 100 x 50 pixels, id 9 in train; the second stimulus has image 4 in val."""
    repeats = {f"subject{s}_rep{r}": 0 for s in range(1, 9) for r in range(3)}
    info = pd.DataFrame(
        {
            "cocoId": [9, 4], "cocoSplit": ["train2017", "val2017"], "cropBox": [crop, crop],
            "nsdId": [0, 1], "shared1000": [True, False], **repeats,
        }
    )  # fmt: skip
    path = root / nsd_keys.STIM_INFO
    path.parent.mkdir(parents=True, exist_ok=True)
    info.to_csv(path)
    (root / "annotations").mkdir(exist_ok=True)
    for split, number in (("train2017", 9), ("val2017", 4)):
        own = [
            {"iscrowd": 0, "id": n, **note}
            for n, note in enumerate(annotations)
            if note["image_id"] == number
        ]
        lists = {
            "images": [
                {"id": number, "width": size[0], "height": size[1]},
                {"id": 77, "width": 1, "height": 1},
            ],
            "annotations": [{"image_id": 77, "category_id": 3, "segmentation": [[1]], "iscrowd": 0, "id": -1}]
            * 2
            + own,
            "categories": CATEGORIES,
        }
        text = json.dumps({"info": {"licences": [1, [2]]}, **{name: lists[name] for name in order}})
        (root / coco.key("instances", split)).write_text(text)
    return root


def note(polygon=RECTANGLE, category=3, image=9, **more):
    return {"image_id": image, "category_id": category, "segmentation": [polygon], **more}


@pytest.mark.parametrize(
    ("crop", "area", "box"),
    [
        ("(0, 0, 0, 0)", 0.24, (0, 0, 0.4, 0.6)),
        ("(0, 0, 0, 0.5)", 0.48, (0, 0, 0.8, 0.6)),
        ("(0, 0, 0.25, 0.25)", 15 * 30 / 2500, (0, 0, 0.3, 0.6)),
        ("(0.2, 0.4, 0.1, 0.4)", 30 * 20 / 1000, (0, 0, 0.6, 1)),
        ("(0.2, 0, 0.1, 0)", 30 * 20 / 3600, (0, 0, 30 / 90, 0.5)),
    ],
)
def test_a_rectangle_is_cut_by_the_crop(tmp_path, crop, area, box):
    release(tmp_path, [note()], crop)
    ((thing,),) = coco.visible(tmp_path, [0])
    assert (thing.category, thing.supercategory, thing.crowd) == ("car", "vehicle", False)
    assert thing.area == pytest.approx(area) and thing.box == pytest.approx(box)


@pytest.mark.parametrize(
    ("polygon", "crop"),
    [
        (RECTANGLE, "(0, 0, 0.5, 0)"),
        (RECTANGLE, "(0.6, 0, 0, 0)"),
        ([0, 0, 0.9, 0, 0.9, 0.5, 0, 0.5], "(0, 0, 0, 0)"),
    ],
    ids=["left of it", "above it", "too small"],
)
def test_what_the_crop_does_not_show_is_not_there(tmp_path, polygon, crop):
    release(tmp_path, [note(polygon)], crop)
    assert coco.objects(tmp_path, [0]) == [()]


def test_categories_rank_by_the_area_of_all_their_objects(tmp_path):
    dogs = [note([x, 0, x + 30, 0, x + 30, 25, x, 25], 18) for x in (0, 50)]
    release(tmp_path, [note(), *dogs, note(image=4)])
    assert coco.objects(tmp_path, [1, 0, 0]) == [("car",), ("dog", "car"), ("dog", "car")]
    assert [one.category for one in coco.visible(tmp_path, [0])[0]] == ["car", "dog", "dog"]


@pytest.mark.parametrize(
    "order", [("images", "annotations", "categories"), ("annotations", "categories", "images")]
)
def test_lists_come_in_any_order(tmp_path, order):
    release(tmp_path, [note()], order=order)
    assert coco.objects(tmp_path, [0]) == [("car",)]


def test_an_object_in_two_parts_has_the_area_of_both_and_one_box(tmp_path):
    parts = [RECTANGLE, [60, 20, 80, 20, 80, 50, 60, 50]]
    release(tmp_path, [note() | {"segmentation": parts}])
    ((thing,),) = coco.visible(tmp_path, [0])
    assert thing.area == pytest.approx((1200 + 600) / 5000) and thing.box == pytest.approx((0, 0, 0.8, 1))


def test_a_crowd_is_counted_in_the_crop(tmp_path):
    mask = np.zeros((50, 100), dtype=bool)  # (row, column)
    mask[10:40, 20:60] = True
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    shape = {"counts": runs, "size": [50, 100]}
    np.testing.assert_array_equal(crops.decode_runs(runs, (50, 100)), mask)
    release(tmp_path, [note() | {"segmentation": shape, "iscrowd": 1}], "(0.4, 0, 0.3, 0)")
    ((thing,),) = coco.visible(tmp_path, [0])
    assert thing.crowd and thing.area == pytest.approx(30 * 20 / (70 * 30))
    assert thing.box == pytest.approx((0, 0, 30 / 70, 20 / 30))


def test_a_crowd_that_begins_in_the_first_pixel_is_read():
    np.testing.assert_array_equal(crops.decode_runs([0, 2, 4], (3, 2)), [[1, 0], [1, 0], [0, 0]])


COORDINATE = st.floats(-20, 120)


@given(corners=st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=9))
@settings(deadline=None)
def test_the_parts_inside_and_outside_a_line_make_the_whole(corners):
    polygon = np.array(corners)
    whole = Window(-20, -20, 120, 120)
    left, right = (
        crops.clip(polygon, Window(*sides)) for sides in ((-20, -20, 50, 120), (50, -20, 120, 120))
    )

    def signed(part):
        x, y = part.T if len(part) else np.zeros((2, 1))
        return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2

    assert signed(left) + signed(right) == pytest.approx(signed(polygon), abs=1e-6)
    np.testing.assert_array_equal(crops.clip(polygon, whole), polygon)
    assert not len(left) or left[:, 0].max() <= 50 + 1e-9


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_clipped_areas_agree_with_counted_pixels(seed):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 8))
    reach = rng.uniform(50, 180, 8)
    polygon = np.stack([200 + reach * np.cos(angle), 150 + reach * np.sin(angle)], axis=1)  # concave, simple
    assume(np.diff(angle, append=angle[0] + 2 * np.pi).max() < np.pi)
    window = Window(*rng.uniform([0, 0, 210, 160], [190, 140, 400, 300]))
    canvas = Image.new("1", (1600, 1200))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in polygon * 4], fill=1)
    rows, columns = np.nonzero(np.asarray(canvas))
    seen = (rows / 4 >= window.top) & (rows / 4 < window.bottom)
    seen &= (columns / 4 >= window.left) & (columns / 4 < window.right)
    clipped = crops.clip(polygon, window)
    area = crops.area_of(clipped) if len(clipped) else 0.0
    assert area == pytest.approx(seen.sum() / 16, rel=0.01, abs=150)  # half a pixel of the border


# What a user can get wrong.


@pytest.mark.parametrize("what", ["captions", "objects"])
def test_missing_annotations_name_the_file_and_the_command(tmp_path, what):
    release(tmp_path, [])
    for path in (tmp_path / "annotations").iterdir():
        path.unlink()
    kind = "captions" if what == "captions" else "instances"
    with pytest.raises(
        PerceptError, match=rf"{kind}_val2017.json is missing: .*`snakemake fetch_annotations"
    ):
        getattr(coco, what)(tmp_path, [1])


def test_only_the_files_of_the_splits_asked_for_are_needed(tmp_path):
    release(tmp_path, [note()])
    (tmp_path / coco.key("instances", "val2017")).unlink()
    assert coco.objects(tmp_path, [0]) == [("car",)]


def test_annotations_of_other_images_are_named(tmp_path):
    release(tmp_path, [])
    (tmp_path / coco.key("captions", "train2017")).write_text('{"annotations": []}')
    with pytest.raises(
        PerceptError, match=r"the captions under .* say nothing about stimulus 0 \(image 9 of COCO"
    ):
        coco.captions(tmp_path, [0])


@pytest.mark.parametrize("stimulus", [-1, 2, 73000])
def test_an_unknown_stimulus_is_named(tmp_path, stimulus):
    release(tmp_path, [])
    with pytest.raises(PerceptError, match=f"has no image {stimulus}, .*ids are 0-based"):
        coco.objects(tmp_path, [0, stimulus])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.9, 0.99])
def test_annotations_that_are_cut_off_are_named(tmp_path, share):
    path = release(tmp_path, [note()]) / coco.key("instances", "train2017")
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(PerceptError, match=r"instances_train2017.json is not readable as annotations"):
        coco.objects(tmp_path, [0])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"segmentation": {"counts": [3], "size": [50, 100]}}, "do not fill 50 x 100 pixels"),
        ({"segmentation": {"counts": "abc", "size": [50, 100]}}, "do not fill"),
        ({"segmentation": [[1, 2, 3]]}, "cannot reshape"),
        ({"segmentation": None}, "NoneType"),
        ({"category_id": 5}, "KeyError: 5"),
    ],
)
def test_an_annotation_that_makes_no_sense_is_named(tmp_path, change, why):
    release(tmp_path, [note() | change])
    with pytest.raises(PerceptError, match=f"instances_train2017.json is not readable .*{why}"):
        coco.objects(tmp_path, [0])


def test_a_list_that_is_not_there_is_named(tmp_path):
    release(tmp_path, [], order=("images", "annotations"))
    with pytest.raises(PerceptError, match="no list of categories"):
        coco.objects(tmp_path, [0])


TEXT = st.text('a"[]{},:\\ \u00e9', max_size=4)
JSON = st.recursive(
    st.none() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
ENTRIES = st.lists(st.dictionaries(TEXT, JSON, max_size=3), max_size=3)


@given(before=st.dictionaries(TEXT, JSON, max_size=3), wanted=ENTRIES, indent=st.sampled_from([None, 2]))
@settings(max_examples=40, deadline=None)
def test_entries_are_found_in_any_json(tmp_path_factory, before, wanted, indent):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({**before, "wanted": wanted, "after": [before]}, indent=indent))
    assert list(coco.entries(path, ["wanted"])) == [("wanted", entry) for entry in wanted]
