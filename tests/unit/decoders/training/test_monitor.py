"""What a training costs."""

import time

import pytest
import torch

from percept.decoders.training import monitor
from percept.decoders.training.monitor import Meter

CPU = torch.device("cpu")


def test_time_beside_the_steps_is_not_that_of_steps(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 14.0])  # made, aside, back, tick
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = Meter(CPU)
    with meter.aside():
        pass
    meter.tick()
    assert (meter.seconds, meter.wall) == (3 + 4, 14)


def test_costs_go_on_after_a_checkpoint(monkeypatch):
    monkeypatch.setattr(monitor, "energy", lambda device: None)
    meter = Meter(CPU)
    meter.load({"seconds": 5.0, "wall": 8.0, "samples": 100, "joules": None})
    assert meter.record()["samples_per_s"] == 20 and meter.record()["seconds"] == 8
    assert meter.state() == {"seconds": 5.0, "wall": 8.0, "samples": 100, "joules": None}


@pytest.mark.parametrize(
    ("readings", "joules"), [([1.0, 3.5], 2.5), ([9.0, 1.0], 0.0), ([1.0, None], None), ([None, 2.0], None)]
)
def test_energy_is_the_difference_of_a_counter(monkeypatch, readings, joules):
    values = iter(readings)
    monkeypatch.setattr(monitor, "energy", lambda device: next(values))
    meter = Meter(CPU)
    meter.tick()
    assert meter.record()["energy_j"] == joules


def test_the_processors_counters_are_summed(tmp_path):
    for socket, value in enumerate((1_500_000, 2_500_000)):
        (tmp_path / f"intel-rapl:{socket}").mkdir()
        (tmp_path / f"intel-rapl:{socket}" / "energy_uj").write_text(f"{value}\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the first socket, counted there already
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("700\n")
    assert monitor._cpu_energy(tmp_path) == 4.0


def test_counters_that_are_not_there_are_none(tmp_path):
    assert monitor._cpu_energy(tmp_path) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir(parents=True)  # not a file that can be read
    assert monitor._cpu_energy(tmp_path) is None


def test_peak_memory_is_at_least_what_torch_holds():
    held = torch.ones(10_000_000)
    assert monitor.peak_memory(CPU) > held.numel() * 4
