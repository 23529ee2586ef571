"""Processes that share work answer in order, and none that is killed is waited for."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from percept.datasets.twin import sharing
from percept.files import PerceptError


def square(number):
    return np.full(200_000, number**2)  # more than a pipe holds


@pytest.mark.parametrize("processes", [1, 2, 5])
def test_answers_come_in_the_order_of_the_items(processes):
    assert [int(answer[0]) for answer in sharing.shared(square, range(7), processes)] == [
        n**2 for n in range(7)
    ]
    assert psutil.Process().children() == []


def fails_at_three(number):
    if number == 3:
        raise ValueError("three")
    return number


def test_what_goes_wrong_in_a_process_is_raised_here():
    with pytest.raises(ValueError, match="three"):
        list(sharing.shared(fails_at_three, range(5), 2))
    assert psutil.Process().children() == []


def dies_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.timeout(60)
def test_a_process_that_is_killed_is_named_and_not_waited_for():
    with pytest.raises(PerceptError, match="was killed before it was done"):
        list(sharing.shared(dies_at_three, range(5), 2))


@pytest.mark.timeout(60)
def test_a_process_that_is_killed_in_the_middle_of_an_answer_is_not_waited_for():
    """It has written what the pipe holds, and not the rest."""
    answers = sharing.shared(square, range(6), 2)
    next(answers)
    time.sleep(0.5)
    psutil.Process().children()[1].send_signal(signal.SIGKILL)
    with pytest.raises(PerceptError, match="was killed before it was done"):
        list(answers)


@pytest.mark.timeout(60)
def test_processes_end_when_the_one_that_started_them_is_killed():
    code = """
import os, signal, time, psutil
from percept.datasets.twin import sharing
answers = sharing.shared(lambda n: bytes(500_000), range(10), 2)
next(answers)
print(*(child.pid for child in psutil.Process().children()), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pids = [int(one) for one in done.stdout.split()]
    assert done.returncode == -signal.SIGKILL and len(pids) == 2
    deadline = time.monotonic() + 30
    while left := [pid for pid in pids if psutil.pid_exists(pid)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
