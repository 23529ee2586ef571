import re

import pandas as pd
import pytest

from percept.report import training

EPOCHS = range(6)
RECORDS = [
    {"decoder": "mindeye", "subject": subject, "parameters": 2_500_000, "seconds": seconds,
     "samples_per_s": 410.0, "peak_memory_mb": 900.0, "energy_j": None, "chosen_epoch": 3}
    for subject, seconds in (("subj01", 11.0), ("subj02", 17.0))
]  # fmt: skip


def history(validated=True, decoder="mindeye"):
    rows = [
        {"decoder": decoder, "subject": subject, "epoch": epoch, "loss": 5.0 - epoch}
        | ({"validation_loss": abs(3.0 - epoch) + at} if validated else {})
        for at, subject in enumerate(("subj01", "subj02"))
        for epoch in EPOCHS
    ]
    return pd.DataFrame(rows)


def text(picture):
    return picture.data.decode()


@pytest.mark.parametrize(
    ("frame", "panels"),
    [
        (history(), ["mindeye: training", "mindeye: validation"]),
        (history(validated=False), ["mindeye: training"]),
        (
            pd.concat([history(), history(False, "low")]),
            ["mindeye: training", "mindeye: validation", "low: training"],
        ),
        (
            pd.concat([history().assign(validation_divergence=0.2), history(False, "low")]),
            ["mindeye: training", "mindeye: validation", "mindeye: divergence", "low: training"],
        ),
    ],
)
def test_each_decoder_has_a_panel_for_each_loss_that_it_has(frame, panels):
    drawn = training.training_curve(frame, RECORDS)
    titles = re.findall(r"<!-- ([\w ]+: (?:training|validation|divergence)) -->", text(drawn))
    assert titles == panels
    assert all(name in drawn.alt for name in frame.decoder.unique())


@pytest.mark.parametrize(
    "frame", [pd.DataFrame({"decoder": ["ridge"], "subject": ["subj01"], "alpha": [10.0], "r2": [0.1]}),
              history().iloc[:0]],
)  # fmt: skip
def test_decoders_without_epochs_make_no_figure(frame):
    assert training.training_curve(frame) is None


def test_solved_decoders_beside_a_network_get_no_panel():
    ridge = pd.DataFrame({"decoder": ["ridge"], "subject": ["subj01"], "alpha": [10.0]})
    drawn = training.training_curve(pd.concat([ridge, history()]), RECORDS)
    assert "ridge" not in drawn.alt


def test_the_caption_tells_what_the_largest_training_took():
    told = training.costs(RECORDS)
    assert told == "mindeye: 2.5 million parameters, 17 s, 410 images per second, 900 MB."


@pytest.mark.parametrize(
    ("more", "said"), [({"energy_j": 7.2e6}, "2 kWh"), ({"note": "no teacher"}, "(no teacher)")]
)
def test_the_caption_tells_energy_and_notes_where_there_are_some(more, said):
    assert said in training.costs([RECORDS[0] | more])


def test_nothing_is_told_of_no_training():
    assert training.costs([]) == ""
