import logging

import pytest

from tests.unit.generators import networks


@pytest.fixture(scope="session")
def backbones(tmp_path_factory):
    """A folder of backbones with small random networks."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    return networks.write_all(tmp_path_factory.mktemp("backbones"))


@pytest.fixture
def elsewhere(backbones, monkeypatch):
    """Backbones are looked for in that folder first."""
    monkeypatch.setenv("PERCEPT_BACKBONES", str(backbones))
    return backbones
