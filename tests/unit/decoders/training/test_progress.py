"""What a user sees of a training."""

import logging
import sys
import time

import pytest

from percept.decoders.training.progress import Progress, writer
from percept.files import PerceptError


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "step": 5 * epoch, "loss": 1 / epoch, "validation_loss": 2.0, "error": 3.0}


def said(caplog: pytest.LogCaptureFixture, times: list[float], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    caplog.set_level(logging.INFO)
    clock = iter([time_ for time_ in times for _ in range(2)])
    progress = Progress("toy", 0, 5 * len(times), None)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for epoch in range(1, len(times) + 1):
        progress.epoch(row(epoch))
    progress.close()
    return [record.getMessage() for record in caplog.records]


def test_a_log_gets_the_first_and_the_last_epoch_and_a_line_now_and_then(caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    lines = said(caplog, [0.0, 30.0, 30.5, 31.0], monkeypatch)
    assert lines[0] == "toy: epoch 1, step 5 of 20: loss 1, validation_loss 2"
    assert len(lines) == 3 and "epoch 4, step 20 of 20" in lines[-1]


def test_a_terminal_gets_a_bar_instead(caplog, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert said(caplog, [0.0, 30.0], monkeypatch) == []


def test_without_tensorboard_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(PerceptError, match="with its extra `tensorboard`"):
        writer()
