"""What a GAN is trained on: whose images, which of them, how much noise."""

import numpy as np
import pytest

from percept.backbones.gan.conditions import LEVELS, matched_strengths
from percept.files import PerceptError
from percept.gan_settings import LEVELS as N_LEVELS
from percept.gans import read
from percept.targets import store
from tests.unit.gans import pools
from tests.unit.gans.pools import TARGET, N, section


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return pools.write(tmp_path_factory.mktemp("read"), known=(3, 1))


def photographs(pool, cfg=None, **given):
    files, place, *_ = pool
    return read.photographs(cfg or section(), {**files, **given}, place, [TARGET])


def test_images_of_the_data_set_are_left_out_and_the_others_keep_their_embeddings(pool):
    found = photographs(pool)
    assert found.rows.tolist() == list(range(2, N)) and found.left_out == 2
    np.testing.assert_allclose(
        found.conditions, pool[2][2:], rtol=2e-3, atol=2e-3
    )  # stored in half precision
    assert found.images.size == 16 and found.strengths == (pools.TYPED,)


def test_a_pool_of_nothing_but_images_of_the_data_set_is_refused(pool):
    with pytest.raises(PerceptError, match=r"24 images, 24 of which the data set has too; 0 are left, .* 12"):
        photographs(pool, section(same=0.0), features=pool[0]["embeddings"])


def test_strengths_are_matched_to_a_decoders_errors_over_all_subjects(pool, tmp_path):
    _, _, embeddings, features = pool
    rng = np.random.default_rng(0)
    guesses = [features + scale * rng.standard_normal(features.shape) for scale in (0.1, 2.0)]
    paths = [tmp_path / f"{number}.h5" for number in range(2)]
    for path, guess in zip(paths, guesses, strict=True):
        pools.predict(path, guess.astype(np.float32))
    cfg = section(noise={"decoders": ["ridge"], "strengths": []})
    found = photographs(pool, cfg, predictions_0=paths)
    mean, spread = embeddings[2:].mean(axis=0), embeddings[2:].std(axis=0)
    predicted, true = (np.concatenate(each) for each in (guesses, [features] * 2))
    expected = matched_strengths((predicted - mean) / spread, (true - mean) / spread)
    np.testing.assert_allclose(found.strengths[0], expected, atol=5e-3)
    assert expected[0] < 0.3 < expected[-1] and len(expected) == N_LEVELS == len(LEVELS)


def test_embeddings_of_another_number_or_network_are_refused(pool, tmp_path):
    values = pool[2].astype(np.float32)
    np.save(tmp_path / "short.npy", values[:-1])
    with pytest.raises(PerceptError, match="23 embeddings, and the pool has 24 images"):
        photographs(pool, embeddings=[tmp_path / "short.npy"])
    store.write(tmp_path / "other/index.json", values, np.arange(N), {"backbone": "other"}, "clip")
    with pytest.raises(PerceptError, match="other"):
        photographs(pool, embeddings=[tmp_path / "other/index.json"])
    values[4, 2] = np.nan
    np.save(tmp_path / "damaged.npy", values)
    with pytest.raises(PerceptError, match="embeddings of 1 images are not finite"):
        photographs(pool, embeddings=[tmp_path / "damaged.npy"])


def test_two_conditions_lie_beside_each_other(pool):
    files, place, embeddings, _ = pool
    both = {name: [*files[name], *files[name]] for name in ("embeddings", "features")}
    cfg = section(conditions=("clip", "other"), noise={"strengths": [pools.TYPED, pools.TYPED]})
    found = read.photographs(cfg, {**files, **both}, place, [TARGET, TARGET])
    assert found.conditions.shape == (N - 2, 2 * embeddings.shape[1]) and len(found.strengths) == 2
