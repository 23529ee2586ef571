import logging
import warnings

import numpy as np
import pytest
import transformers

from percept.backbones import diffusion
from percept.backbones.diffusion import Conditions
from tests.unit.backbones.diffusion import networks

GENERATORS = {
    "sd15": ("text",),
    "tiny_text": ("prompts",),
    "stable_unclip": ("image",),
    "tiny_unclip": ("image", "text"),
    "versatile_diffusion": ("image", "text"),
    "ip_adapter": ("image",),
    "ip_adapter_plus": ("image", "prompts"),
}
SHAPES = {
    "stable_unclip": (networks.IMAGE,),
    "tiny_unclip": (networks.IMAGE,),
    "versatile_diffusion": (257, networks.VERSATILE),
    "ip_adapter": (networks.IMAGE,),
    "ip_adapter_plus": (17, 14),
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A folder of backbones with small random networks."""
    transformers.logging.set_verbosity_error()
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        return networks.write_all(tmp_path_factory.mktemp("backbones"))


@pytest.fixture(autouse=True)
def _elsewhere(folders, monkeypatch):
    monkeypatch.setenv("PERCEPT_BACKBONES", str(folders))


@pytest.fixture(scope="session")
def opened(folders):
    """Samplers by their settings, each opened once, on the CPU."""
    made = {}

    def get(name, **settings):
        key = (name, *sorted(settings.items()))
        if key not in made:
            made[key] = diffusion.open_named(name, device="cpu", **{"steps": 3, **settings})
        return made[key]

    return get


@pytest.fixture
def conditions():
    """What a generator reads, for `n` images: random embeddings, prompts, images of another size."""

    def get(name, n, parts=None, seed=0):
        rng = np.random.default_rng(seed)
        text = (77, networks.VERSATILE) if name == "versatile_diffusion" else (networks.TOKENS, networks.TEXT)
        offered = {
            "image": rng.standard_normal((n, *SHAPES.get(name, ()))).astype(np.float32),
            "text": rng.standard_normal((n, *text)).astype(np.float32),
            "prompts": [["a red dog", "blue boat a", "red"][(i + seed) % 3] for i in range(n)],
            "init": rng.integers(0, 256, (n, 40, 56, 3), dtype=np.uint8),
        }
        return Conditions(**{part: offered[part] for part in parts or GENERATORS[name]})

    return get
