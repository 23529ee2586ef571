import numpy as np
import pytest
import torch

from percept.backbones.gan.augment import MOVED, Augmentation, augmented

NOTHING = Augmentation(share=1.0, shift=0, hole=0, brightness=0, contrast=0, saturation=0)
KINDS = {
    "shift": {"shift": 0.25}, "hole": {"hole": 0.5}, "brightness": {"brightness": 0.5},
    "contrast": {"contrast": 0.5}, "saturation": {"saturation": 0.9},
}  # fmt: skip


def only(kind, share=1.0):
    return Augmentation(**{**{name: 0 for name in KINDS}, **KINDS[kind], "share": share})


def images(n=6, seed=0):
    return torch.rand(n, 3, 16, 12, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def changed(given, how, seed=1):
    return augmented(given, how, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("how", [NOTHING, Augmentation(share=0.0)], ids=["no strength", "no share"])
def test_without_strength_or_share_images_stay_as_they_are(how):
    torch.testing.assert_close(changed(images(), how), images(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_pass_through_every_change(kind):
    """Were one computed outside of torch, or on copies, the generator would learn nothing through it."""
    given = images().requires_grad_()
    out = changed(given, only(kind))
    assert (out - given).abs().max() > 0.01
    (out * torch.randn(out.shape, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert (given.grad.abs().flatten(1).sum(dim=1) > 0).all()


def test_gradients_are_those_of_finite_differences():
    given = images(2).double().requires_grad_()

    def function(x):
        return changed(x, Augmentation(share=1.0)).sum(dim=(1, 2, 3))

    assert torch.autograd.gradcheck(
        lambda x: function(x)[:, None] ** 2, given[:, :, :4, :4].detach().requires_grad_()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_the_images_is_changed(kind):
    out = changed(images(400), only(kind, share=0.3))
    share = ((out - images(400)).abs() > 1e-5).flatten(1).any(dim=1).float().mean().item()
    most = 4 * np.sqrt(0.3 * 0.7 / 400)
    assert 0.3 - most - 0.06 < share < 0.3 + most  # some shifts round to no pixel


def test_a_shift_moves_by_whole_pixels_and_lets_zeros_in():
    given = images(40) + 2  # nowhere zero
    for before, after in zip(given, changed(given, only("shift")), strict=True):
        kept = (after != 0).all(dim=0)
        rows, columns = kept.any(dim=1).nonzero().flatten(), kept.any(dim=0).nonzero().flatten()
        height, width = len(rows), len(columns)
        assert height >= 12 and width >= 9
        down, right = rows[0].item() or height - 16, columns[0].item() or width - 12
        inside = after[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        top, left = max(0, -down), max(0, -right)
        torch.testing.assert_close(inside, before[:, top : top + height, left : left + width])


def test_a_hole_is_zero_and_the_rest_untouched():
    given = images(30) + 2
    out = changed(given, only("hole"))
    hole = (out == 0).all(dim=1)
    assert torch.equal(out[~hole[:, None].expand_as(out)], given[~hole[:, None].expand_as(out)])
    shares = hole.float().mean(dim=(1, 2))
    assert (shares > 0).all() and (shares < 0.3).all()  # a quarter, less where it leaves the image


def test_brightness_moves_all_pixels_alike_and_saturation_keeps_the_grey():
    bright = changed(images(), only("brightness")) - images()
    assert (bright.flatten(1).std(dim=1) < 1e-5).all() and bright.abs().max() <= 0.5
    colourful = changed(images(), only("saturation"))
    torch.testing.assert_close(colourful.mean(dim=1), images().mean(dim=1), rtol=1e-4, atol=1e-5)


def test_real_and_generated_images_are_changed_by_the_generator_that_is_given():
    how = Augmentation(share=1.0)
    assert torch.equal(changed(images(), how), changed(images(), how))
    assert not torch.equal(changed(images(), how), changed(images(), how, seed=2))


def test_moved_images_keep_their_colours():
    for before, after in zip(images(), changed(images(), MOVED), strict=True):
        known = torch.cat([before.flatten(1).T, torch.zeros(1, 3)])  # (pixel, 3), and what comes in
        assert torch.cdist(after.flatten(1).T, known).min(dim=1).values.max() < 1e-3
