"""Held-out scenes for the tests of the small networks."""

from functools import cache

from percept.backbones.tiny import data
from percept.datasets.scenes import drawn


@cache
def held_out(n: int) -> data.Scenes:
    """The first scenes that none of the small networks was trained on."""
    return drawn.draw(data.FIRST_HELD_OUT, n)
