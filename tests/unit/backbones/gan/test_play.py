"""What a game is played for, where it is more than the small networks' own game shows."""

import pytest
import torch

from percept.backbones.gan import conditions, play
from percept.backbones.gan.generator import Generator, Size

SIZE = Size((6, 5, 4), (3, 2), latent=4, style=5, mapping=2, rate=1.0)


@pytest.fixture(scope="module")
def maker():
    torch.manual_seed(0)
    return Generator(SIZE).eval()


def drawn(n=4, seed=0):
    z, other, c = (
        torch.randn(n, width, generator=torch.Generator().manual_seed(seed + at))
        for at, width in enumerate((4, 4, 5))
    )
    return z, other, c


def mixed(maker, z, other, c, seed=0):
    with torch.inference_mode():
        return play.mixed(maker, z, other, c, torch.Generator().manual_seed(seed))


def test_mixing_with_itself_or_at_z_of_zero_changes_nothing(maker):
    z, _, c = drawn()
    for same in (z, torch.zeros_like(z)):
        torch.testing.assert_close(mixed(maker, same, same, c), maker(same, c))


def test_layers_read_the_other_z_from_one_that_is_drawn_on(maker, monkeypatch):
    z, other, c = drawn()
    w, w_other = maker.mapped(z), maker.mapped(other)
    read = []
    for layer in maker.layers:
        own = layer.forward
        monkeypatch.setattr(
            layer, "forward", lambda x, given, c, own=own: read.append(given) or own(x, given, c)
        )
    starts = set()
    for seed in range(30):
        read.clear()
        mixed(maker, z, other, c, seed)
        first = [torch.equal(each, w) for each in read].index(False)
        assert all(torch.equal(each, w) for each in read[:first])
        assert all(torch.equal(each, w_other) for each in read[first:])
        starts.add(first)
    assert starts == {1, 2, 3, 4} and len(maker.layers) == 5  # neither none nor all


def test_each_condition_gets_noise_of_its_own_strengths():
    c = torch.nn.functional.normalize(drawn()[2][:, :3], dim=1)
    both = torch.cat([c, c[:, :2] / c[:, :2].norm(dim=1, keepdim=True)], dim=1)
    none, much = (0.0,) * 5, (0.9,) * 5
    found = play.disturbed(both, SIZE, torch.Generator().manual_seed(0), (none, much), clean=0.0)
    torch.testing.assert_close(found[:, :3], both[:, :3])
    assert (found[:, 3:] - both[:, 3:]).abs().max() > 0.1
    same = conditions.noised(both, torch.full((4,), 0.3), (3, 2), torch.Generator().manual_seed(1))
    each = conditions.noised(both, torch.full((4, 2), 0.3), (3, 2), torch.Generator().manual_seed(1))
    torch.testing.assert_close(same, each, rtol=0, atol=0)
