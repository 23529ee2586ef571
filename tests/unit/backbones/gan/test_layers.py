import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)

from percept.backbones.gan import layers


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def one_by_one(x, weight, style, demodulate):
    """Equations 1 and 3 of Karras et al. (2020), a kernel per image."""
    found = []
    for image, scale in zip(x, style, strict=True):
        kernel = weight * scale[None, :, None, None]
        if demodulate:
            kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + layers.EPSILON).sqrt()
        found.append(F.conv2d(image[None], kernel, padding=weight.shape[-1] // 2)[0])
    return torch.stack(found)


def grouped(x, weight, style):
    """All images in one convolution, a group each: how it is usually written."""
    n, _, height, width = x.shape
    kernels = weight * style[:, None, :, None, None]
    kernels = kernels * (kernels.square().sum(dim=(2, 3, 4), keepdim=True) + layers.EPSILON).rsqrt()
    found = F.conv2d(x.reshape(1, -1, height, width), kernels.flatten(0, 1), padding=1, groups=n)
    return found.reshape(n, -1, height, width)


# The modulated convolution.


@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize("kernel", [1, 3])
def test_every_image_is_convolved_with_its_own_kernel(kernel, demodulate):
    x, weight, style = drawn(3, 5, 6, 7), drawn(4, 5, kernel, kernel, seed=1), drawn(3, 5, seed=2) + 1
    found = layers.modulated_conv(x, weight, style, demodulate=demodulate)
    torch.testing.assert_close(found, one_by_one(x, weight, style, demodulate), rtol=1e-4, atol=1e-5)


def test_it_is_the_grouped_convolution_with_its_gradients():
    given = [drawn(3, 5, 6, 7), drawn(4, 5, 3, 3, seed=1), drawn(3, 5, seed=2) + 1]
    gradients = []
    for function in (layers.modulated_conv, grouped):
        leaves = [value.clone().requires_grad_() for value in given]
        function(*leaves).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_inputs_of_unit_variance_come_out_with_unit_variance_whatever_the_style(scale):
    x, weight = drawn(4, 24, 32, 32), drawn(32, 24, 3, 3, seed=1)
    style = scale * (drawn(4, 24, seed=2) + 1)
    inside = layers.modulated_conv(x, weight, style)[:, :, 1:-1, 1:-1]  # zeros come in at the border
    np.testing.assert_allclose(inside.var().item(), 1, rtol=0.03)


def test_a_larger_style_changes_nothing_but_through_its_direction():
    x, weight, style = drawn(2, 3, 4, 4), drawn(5, 3, 3, 3, seed=1), drawn(2, 3, seed=2) + 1
    torch.testing.assert_close(
        layers.modulated_conv(x, weight, 7 * style),
        layers.modulated_conv(x, weight, style),
        rtol=1e-4,
        atol=1e-5,
    )


def test_enlarging_is_bilinear_before_the_convolution():
    x, weight, style = drawn(2, 3, 4, 5), drawn(6, 3, 3, 3, seed=1), drawn(2, 3, seed=2) + 1
    found = layers.modulated_conv(x, weight, style, enlarge=True)
    larger = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, layers.modulated_conv(larger, weight, style), rtol=1e-4, atol=1e-5)
    assert found.shape == (2, 6, 8, 10)


def test_halving_undoes_doubling_of_what_is_smooth():
    ramp = torch.arange(8.0)[None, None, None].expand(1, 2, 6, 8)
    again = layers.halved(layers.doubled(ramp))
    torch.testing.assert_close(again[..., 1:-1], ramp[..., 1:-1])


# The spread of the minibatch.


def test_images_that_are_the_same_have_no_spread():
    found = layers.with_spread(drawn(1, 3, 4, 5).repeat(8, 1, 1, 1))
    assert found.shape == (8, 4, 4, 5)
    assert found[:, 3].abs().max() < 1e-6


def test_the_spread_is_the_mean_standard_deviation_over_the_images_of_a_group():
    x = drawn(8, 3, 4, 5)
    found = layers.with_spread(x, group=4)[:, 3, 0, 0]
    for number in range(2):
        members = [number, number + 2, number + 4, number + 6]  # dealt in turn
        expected = x[members].std(dim=0, unbiased=False).mean()
        np.testing.assert_allclose(found[members], expected.expand(4), rtol=1e-3)


def test_a_batch_that_does_not_divide_is_one_group():
    x = drawn(6, 3, 4, 5)
    found = layers.with_spread(x, group=4)[:, 3]
    assert found.unique().numel() == 1 and found[0, 0, 0] > 0


# The scaled layers.


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_a_linear_layer_starts_with_unit_variance_and_its_bias_whatever_its_rate(rate):
    torch.manual_seed(0)
    layer = layers.Linear(256, 300, bias=1.0, rate=rate)
    found = layer(drawn(200, 256, seed=5))
    np.testing.assert_allclose(found.mean().item(), 1, atol=0.05)
    np.testing.assert_allclose(found.var().item(), 1, rtol=0.05)


def test_a_lower_rate_moves_the_output_less_by_the_same_step_of_the_weights():
    moved = []
    for rate in (1.0, 0.01):
        torch.manual_seed(0)
        layer, x = layers.Linear(8, 5, rate=rate), drawn(3, 8)
        before = layer(x)
        with torch.no_grad():
            layer.weight += 0.5
        moved.append(layer(x) - before)
    torch.testing.assert_close(moved[1], 0.01 * moved[0], rtol=1e-3, atol=1e-5)


def test_a_convolution_starts_with_unit_variance():
    torch.manual_seed(0)
    found = layers.Conv(24, 40, 3)(drawn(4, 24, 20, 20, seed=5))[:, :, 1:-1, 1:-1]
    np.testing.assert_allclose(found.var().item(), 1, rtol=0.05)


def test_the_rectifier_about_keeps_the_power_of_a_normal_input():
    expected = layers.GAIN**2 * (1 + layers.SLOPE**2) / 2
    np.testing.assert_allclose(layers.rectified(drawn(100_000)).square().mean().item(), expected, rtol=0.02)


def test_power_is_one_and_zeros_stay_zeros():
    x = torch.cat([5 * drawn(2, 9), torch.zeros(1, 9)])
    power = layers.unit_power(x).square().mean(dim=1)
    np.testing.assert_allclose(power, [1, 1, 0], atol=1e-5)
    assert math.isfinite(power.sum())
