"""The scripts that draw: real files in, pictures out, with a stand-in for Snakemake's object."""

import re
import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from percept.decoders.predictions import Predictions, write_predictions
from percept.files import write_parquet
from percept.generators import store
from percept.generators.sheet import Layout
from percept.targets import store as targets
from tests.unit.source import REPOSITORY

from .pictures import STIMULUS, N, items

SUBJECTS, METHODS = ("subj01", "subj02"), ("linear", "unclip")
TRAIN = np.array([2, 91, 5, 77, 13])
COLOURS = np.random.default_rng(5).integers(0, 256, (100, 3), dtype=np.uint8)  # one per image of the data set


def flat(numbers, side=24):
    """Images of a single colour each, so that each is recognised on a sheet."""
    return np.broadcast_to(COLOURS[numbers][:, None, None], (len(numbers), side, side, 3)).copy()


def run(name, folder, **parts):
    stand_in = SimpleNamespace(log=[str(folder / f"{name}.log")], **parts)
    runpy.run_path(str(REPOSITORY / "workflow" / "scripts" / f"{name}.py"), {"snakemake": stand_in})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The files of two subjects with two reconstructions; the second has low-level images and captions."""
    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "images.npy", flat(np.arange(100)))
    trials = pd.DataFrame({"stimulus": [*TRAIN, *STIMULUS], "split": ["train"] * 5 + ["test"] * N})
    write_parquet(trials, folder / "trials.parquet")
    features = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    targets.write(folder / "index.json", features, np.arange(100), {"kind": "random"}, "random")
    predicted = features[np.resize(TRAIN, N)] + 0.01  # image k is nearest to training image k modulo 5
    once = Predictions(predicted, STIMULUS, np.ones(N), np.full(N, -1), np.full(N, -1))
    write_predictions(folder / "predictions.h5", {"test/average": once}, {})
    for subject in SUBJECTS:
        for method in METHODS:
            at = folder / subject / method
            at.mkdir(parents=True)
            low = flat(STIMULUS) // 2 if method == "unclip" else None
            store.write_images(at / "images.h5", 255 - flat(STIMULUS), STIMULUS, low)
            store.write_images(at / "recovery.h5", flat(STIMULUS), STIMULUS)
            write_parquet(items(subject, method), at / "items.parquet")
            details = pd.DataFrame({"stimulus": STIMULUS, "set": "images", "caption": "a red <kite>"})
            write_parquet(details, at / "details.parquet")
    return folder


def of(folder, subjects, file):
    return [str(folder / subject / method / file) for subject in subjects for method in METHODS]


def inputs(folder, subjects):
    names = {
        "images": "images.h5",
        "recovery": "recovery.h5",
        "details": "details.parquet",
        "per_item": "items.parquet",
    }
    return {name: of(folder, subjects, file) for name, file in names.items()}


def params(folder):
    dataset = {
        "kind": "arrays", "name": "lab", "subjects": SUBJECTS, "betas": {"path": "unused.npy"},
        "trials": {"path": str(folder / "trials.parquet")}, "stimuli": {"path": str(folder / "images.npy")},
    }  # fmt: skip
    named = {"subjects": SUBJECTS, "reconstructions": METHODS, "bounds": []}
    return SimpleNamespace(dataset=dataset, **named, seed=0, title="Lab")


@pytest.fixture(scope="module")
def sheets(made):
    given = SimpleNamespace(
        **inputs(made, SUBJECTS[:1]),
        predictions=[str(made / "predictions.h5")] * 2,
        features=[str(made / "index.json")] * 2,
        trials=str(made / "trials.parquet"),
    )
    output = SimpleNamespace(
        each=[str(made / "linear.png"), str(made / "unclip.png")], subject=str(made / "all.png")
    )
    run("draw_sheets", made, input=given, output=output, params=params(made))
    return {name: np.asarray(Image.open(made / f"{name}.png")) for name in ("linear", "unclip", "all")}


def cells(sheet, row):
    """Colours at the centres of the cells of a row, by their known distances."""
    layout = Layout()
    y = layout.margin + layout.header + row * (layout.cell + layout.gap) + layout.cell // 2
    left = layout.margin + layout.labels
    columns = []
    for _ in range(3):
        columns += [left + layout.cell // 2 + column * (layout.cell + layout.gap) for column in range(3)]
        left += 3 * layout.cell + 2 * layout.gap + layout.between_groups
    return sheet[y, columns]


@pytest.mark.parametrize(("name", "rows"), [("linear", 5), ("unclip", 6), ("all", 3)])
def test_a_sheet_has_a_row_for_everything_that_there_is(sheets, name, rows):
    layout = Layout()
    expected = (
        2 * layout.margin + layout.header + rows * layout.cell + (rows - 1) * layout.gap + layout.footer
    )
    assert sheets[name].shape[0] == expected


def test_reconstructions_stand_below_what_was_seen_and_above_what_they_are_compared_with(sheets):
    seen, low, made, recovered, nearest, random = (
        cells(sheets["unclip"], row).astype(int) for row in range(6)
    )
    np.testing.assert_array_equal(made, 255 - seen)
    np.testing.assert_array_equal(low, seen // 2)
    np.testing.assert_array_equal(recovered, seen)
    own = {tuple(COLOURS[number]): tuple(COLOURS[TRAIN[at % 5]]) for at, number in enumerate(STIMULUS)}
    assert [own[tuple(colour)] for colour in seen.tolist()] == [tuple(colour) for colour in nearest.tolist()]
    assert {tuple(colour) for colour in random.tolist()} <= {tuple(COLOURS[number]) for number in TRAIN}


def test_the_sheet_of_a_subject_shows_the_same_images_for_all_methods(sheets):
    seen, first, second = (cells(sheets["all"], row).astype(int) for row in range(3))
    np.testing.assert_array_equal(first, 255 - seen)
    np.testing.assert_array_equal(first, second)


def test_the_gallery_holds_every_test_image_of_every_subject_and_method(made):
    given = SimpleNamespace(**inputs(made, SUBJECTS))
    run("write_gallery", made, input=given, output=[str(made / "gallery.html")], params=params(made))
    html = (made / "gallery.html").read_text(encoding="utf-8")
    tiles = re.findall(r'data-method="(\w+)"', html)
    assert tiles.count("linear") == tiles.count("unclip") == 2 * N
    assert "a red &lt;kite&gt;" in html and "All 11 test" in html
    assert 'name="kind"' not in html  # this data set does not say what its images show
