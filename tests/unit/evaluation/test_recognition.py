"""What a judge sees in a reconstruction, by hand-counted answers."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from percept.config import EvaluationConfig
from percept.evaluation import recognition, reconstruction
from percept.evaluation.objects import Known
from percept.evaluation.reconstruction import Made, score_reconstructions

from .test_images import scenes

CLASSES = ("bird", "bus", "car", "dog")
OBJECTS = (("dog", "car"), ("car",), ("bird", "bus"), ("dog",))


def logits(*names):
    """Outputs that are largest for the named classes."""
    rows = np.tile(np.linspace(0, 0.1, len(CLASSES)), (len(names), 1))
    rows[np.arange(len(names)), [CLASSES.index(name) for name in names]] = 1
    return rows.astype(np.float32)


def measured(made, shown=("dog", "car", "bird", "bus"), objects=OBJECTS):
    answers = recognition.Answers(logits(*made), logits(*shown))
    return {measure.metric: measure for measure in recognition.measures(answers, objects, CLASSES)}


def test_the_first_answer_has_to_be_the_main_object_or_of_its_kind():
    # a bus for the car is the right kind; a car for the dog is in the scene, and not its main object
    found = measured(["car", "bus", "bird", "dog"])
    assert found["object"].values.tolist() == [0, 0, 1, 1]
    assert found["category"].values.tolist() == [0, 1, 1, 1]


def test_chance_is_the_mean_over_wrong_pairings():
    found = measured(["dog", "dog", "bird", "bus"])
    # objects are dog, car, bird, dog: wrong pairs that hit are (0, 3), (1, 0), (1, 3), out of 12
    assert found["object"].chance == pytest.approx(3 / 12)
    hits = found["object"].if_true
    assert_allclose(hits[:2], [[1, 0, 0, 1], [1, 0, 0, 1]])


@pytest.mark.parametrize("answer", CLASSES)
def test_one_answer_for_all_scores_its_chance(answer):
    found = measured([answer] * 4)["object"]
    assert found.values.mean() == pytest.approx(found.chance)


def test_the_score_of_the_true_images_is_the_ceiling_in_the_note():
    assert measured(["dog"] * 4)["object"].note == "of the true images themselves: 0.750"


def test_an_image_without_objects_is_missed():
    found = measured(["dog"] * 4, objects=((), *OBJECTS[1:]))
    assert found["object"].values.tolist() == [0, 0, 0, 1]


def test_without_objects_there_is_nothing_to_compare_with():
    assert measured(["dog"] * 4, objects=None) == {}


def test_a_single_image_has_no_wrong_pairing():
    assert np.isnan(measured(["dog"], shown=["dog"], objects=OBJECTS[:1])["object"].chance)


def test_kinds_are_cocos_supercategories_and_unknown_names_their_own():
    assert recognition.kinds(["dog", "car", "unicorn"]).tolist() == ["animal", "vehicle", "unicorn"]


class Judge:
    """Sees a dog in bright images and a car in dark ones."""

    fixed, classes = True, CLASSES

    def features(self, batch, antialias=None):
        bright = batch.mean(axis=(1, 2, 3)) > 127
        answers = logits(*np.where(bright, "dog", "car"))
        layers = batch.reshape(len(batch), -1)[:, :50].astype(np.float32)
        return {"judge_early": layers, "judge_late": layers[:, ::-1], "judge_logits": answers}


@pytest.fixture
def scored(label, monkeypatch):
    monkeypatch.setattr(reconstruction, "_is_there", lambda name: True)
    monkeypatch.setattr(reconstruction.metric, "open_named", lambda *_: Judge())
    settings = EvaluationConfig(images={"networks": ("tiny_judge",)}, bootstrap=50, permutations=50)
    true = scenes(6) // 4 + np.array([160, 20, 160, 20, 160, 20], np.uint8)[:, None, None, None]
    made = Made(
        replace(label, what="reconstruction"), true[::-1], {"recovery": true, "mean_image": true[[0] * 6]}
    )

    def score(objects):
        return score_reconstructions([made], true, np.arange(6), settings, Known(objects))[0].rows

    return score


def test_the_judge_gives_rows_with_chance_floors_and_ceiling(scored):
    rows = scored([("dog",), ("car",)] * 3)
    of_object = rows[rows["metric"] == "object"]
    found = dict(zip(of_object["control"].fillna("own"), of_object["value"], strict=True))
    assert found["own"] == 0 and found["recovery"] == 1
    assert found["mean_image"] == pytest.approx(0.5)
    assert found["chance"] == pytest.approx(18 / 30)  # every answer fits the three images of the other kind
    assert {"judge_early", "judge_late", "category"} <= set(rows["metric"])
    assert not any("logits" in name for name in rows["metric"])


def test_notes_stand_with_the_reconstruction_and_its_ceiling_alone(scored):
    rows = scored([("dog",), ("car",)] * 3)
    noted = rows[(rows["metric"] == "object") & rows["note"].notna()]
    assert set(noted["control"].fillna("own")) == {"own", "recovery"}
    assert set(noted["note"]) == {"of the true images themselves: 1.000"}


def test_what_the_judge_cannot_compare_is_not_available(scored):
    rows = scored(None)
    lost = rows[rows["metric"].isin(["object", "category"])]
    assert len(lost) == 2 and lost["value"].isna().all()
    assert lost["note"].str.contains("nobody said which objects").all()
