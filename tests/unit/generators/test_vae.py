import numpy as np
import pytest

from percept.backbones import autoencoder
from percept.files import PerceptError
from percept.generators.roles import Context, Roles
from percept.generators.vae import VaeConfig

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.mark.parametrize("side", [4, 6])
def test_decodes_the_latents_as_their_autoencoder_does(side):
    latents = np.random.default_rng(0).standard_normal((3, 4, side, side)).astype(np.float32)
    made = (
        VaeConfig(backbone="tiny_vae", device="cpu")
        .build(Context())
        .generate(Roles(np.arange(3), lowlevel=latents), 0)
    )
    np.testing.assert_array_equal(
        made.images, autoencoder.open_named("tiny_vae", device="cpu").decode(latents)
    )
    assert made.images.shape == (3, 8 * side, 8 * side, 3) and made.lowlevel is None


@pytest.mark.parametrize("shape", [(3, 4, 4), (4, 16), (64,)])
def test_what_are_no_latents_of_this_autoencoder_is_refused(shape):
    generator = VaeConfig(backbone="tiny_vae", device="cpu").build(Context())
    with pytest.raises(PerceptError, match="`vae_latent` of this same autoencoder"):
        generator.generate(Roles(np.arange(2), lowlevel=np.zeros((2, *shape), dtype=np.float32)), 0)


@pytest.mark.parametrize(
    ("settings", "n_gpus"), [({}, 1), ({"device": "cpu"}, 0), ({"backbone": "tiny_vae"}, 0)]
)
def test_settings_say_what_is_needed(settings, n_gpus):
    section = VaeConfig(**settings)
    assert section.n_gpus == n_gpus and section.backbones == (section.backbone,)
