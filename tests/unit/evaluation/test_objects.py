"""Who knows which objects an image shows, and what is said where nobody does."""

import pytest

from percept.datasets import coco
from percept.evaluation.objects import known
from percept.files import PerceptError
from percept.targets.sources import NativeSource


class Told:
    """A source that answers, or refuses to."""

    def __init__(self, answer):
        self.answer = answer

    def objects(self, stimuli):
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer] * len(stimuli)


def test_what_the_source_says_is_known():
    assert known(Told(("dog", "car")), [3, 8]) == ([("dog", "car")] * 2, "")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (object(), "this data set does not say what its images show"),
        (Told(PerceptError("no column `objects`")), "no column `objects`"),
    ],
)
def test_who_says_nothing_is_not_asked_again_and_the_reason_is_kept(source, reason, caplog):
    caplog.set_level("INFO")
    assert known(source, [3]) == (None, reason)
    assert reason in caplog.text


@pytest.mark.parametrize("error", [ValueError("x"), AttributeError("x")])
def test_faults_of_the_program_are_never_taken_for_silence(error):
    with pytest.raises(type(error)):
        known(Told(error), [3])


@pytest.mark.parametrize("there", [0, 1, 2])
def test_absent_annotations_are_silence_and_damaged_ones_an_error(tmp_path, monkeypatch, there):
    def refused(root, stimuli):
        raise PerceptError(f"the annotations of {root} cannot be used")

    monkeypatch.setattr(coco, "objects", refused)
    (tmp_path / "annotations").mkdir()
    for split in coco.SPLITS[:there]:
        (tmp_path / coco.key("instances", split)).write_text("{")
    source = NativeSource(tmp_path)
    if there == 2:
        with pytest.raises(PerceptError, match="cannot be used"):
            known(source, [3])
    else:
        assert known(source, [3]).names is None and "cannot be used" in known(source, [3]).reason
