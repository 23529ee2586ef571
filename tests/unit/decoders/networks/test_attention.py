"""The transformer computes what its papers define, as slow formulas and other libraries confirm."""

import math

import pytest
import torch
from torch.autograd.functional import jacobian
from torch.nn import functional as F  # noqa: N812
from transformers.models.t5.modeling_t5 import T5Attention

from percept.decoders.networks.attention import (
    Attention,
    FeedForward,
    RelativeBias,
    Rotary,
    Rotation,
    StableNorm,
    Transformer,
    _kernel,
    bucket_of,
    relative_buckets,
    rotate,
)

DIM, LENGTH, HEADS, WIDTH = 10, 7, 3, 4


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def tokens(n_rows=2, length=LENGTH, dim=DIM):
    return torch.randn(n_rows, length, dim)


@pytest.mark.parametrize(
    ("distance", "bucket"),
    [(0, 0), (1, 1), (15, 15), (16, 16), (45, 23), (46, 24), (127, 31), (128, 31), (513, 31)],
)
def test_distances_are_exact_up_to_15_then_logarithmic_up_to_128(distance, bucket):
    assert bucket_of(torch.tensor(distance)) == bucket
    if 16 <= distance < 128:
        assert bucket == 16 + math.floor(16 * math.log(distance / 16) / math.log(128 / 16))


@pytest.mark.parametrize("length", [3, 60, 515])
def test_symmetric_buckets_are_those_of_t5_and_the_null_key_has_none(length):
    found = relative_buckets(length, "symmetric")
    key_after = torch.arange(length) - torch.arange(length)[:, None]
    peer = T5Attention._relative_position_bucket(
        key_after, bidirectional=True, num_buckets=32, max_distance=128
    )
    assert torch.equal(found[:, 1:], peer)
    assert torch.equal(found[:, 0], torch.full((length,), -1))


@pytest.mark.parametrize("length", [3, 60, 515])
def test_causal_buckets_are_those_of_t5_with_the_null_key_in_the_first_place(length):
    found = relative_buckets(length, "causal")
    key_after = torch.arange(length + 1) - torch.arange(length)[:, None]
    peer = T5Attention._relative_position_bucket(
        key_after, bidirectional=False, num_buckets=32, max_distance=128
    )
    assert torch.equal(found, peer)


def test_causal_buckets_do_not_tell_later_keys_apart_but_symmetric_ones_do():
    causal, symmetric = relative_buckets(9, "causal"), relative_buckets(9, "symmetric")
    assert causal[2, 3:].unique().tolist() == [0]  # the query itself and all after it
    assert symmetric[2, 1:].unique().numel() == 9  # every distance of its own


@pytest.mark.parametrize("direction", ["causal", "symmetric"])
def test_the_bias_of_a_pair_is_that_of_its_bucket(direction):
    bias, buckets = RelativeBias(LENGTH, HEADS, direction), relative_buckets(LENGTH, direction)
    found = bias()
    assert found.shape == (HEADS, LENGTH, LENGTH + 1)
    for query in range(LENGTH):
        for key in range(LENGTH + 1):
            bucket = buckets[query, key]
            expected = bias.table.weight[bucket] if bucket >= 0 else torch.zeros(HEADS)
            torch.testing.assert_close(found[:, query, key], expected)


def test_frequencies_fall_from_one_to_almost_one_in_ten_thousand_and_are_frozen():
    rotary = Rotary(32)
    assert not rotary.frequencies.requires_grad
    expected = [10_000 ** (-2 * pair / 32) for pair in range(16)]
    torch.testing.assert_close(rotary.frequencies, torch.tensor(expected))


def test_rotation_turns_pairs_of_neighbours_by_an_angle_that_grows_with_the_position():
    x, frequencies = torch.randn(2, LENGTH, 9), Rotary(6).frequencies
    found = rotate(x, Rotary(6)(LENGTH))
    for position in range(LENGTH):
        pairs = torch.view_as_complex(x[:, position, :6].clone().view(2, 3, 2))
        turned = torch.view_as_real(pairs * torch.exp(1j * position * frequencies)).flatten(-2)
        torch.testing.assert_close(found[:, position, :6], turned)
    assert torch.equal(found[..., 6:], x[..., 6:])  # features beyond the rotated ones stay


@pytest.mark.parametrize("shift", [1, 5])
def test_rotated_similarities_depend_on_the_distance_alone(shift):
    q, k = torch.randn(2, 8).expand(20, 2, 8).unbind(dim=1)  # the same at every position
    rotation = Rotary(8)(20)
    similar = rotate(q, rotation) @ rotate(k, rotation).T
    torch.testing.assert_close(similar[shift:, shift:], similar[:-shift, :-shift], rtol=1e-4, atol=1e-4)


def slow_attention(module, x, bias, rotation):
    """One row, one head, one query at a time."""
    normed = F.layer_norm(x, (DIM,), module.norm.weight)
    kv = normed @ module.keys_values.weight.T
    gathered = torch.zeros(len(x), LENGTH, HEADS * WIDTH)
    for row in range(len(x)):
        k = torch.cat((module.null[:1], rotate(kv[row, :, :WIDTH], rotation)))
        v = torch.cat((module.null[1:], kv[row, :, WIDTH:]))
        for head in range(HEADS):
            place = slice(head * WIDTH, (head + 1) * WIDTH)
            q = rotate(normed[row] @ module.queries.weight[place].T, rotation)
            for query in range(LENGTH):
                logits = 16 * F.cosine_similarity(q[query], k, dim=-1) + bias[head, query]
                gathered[row, query, place] = logits.softmax(dim=0) @ v
    return F.layer_norm(gathered @ module.out.weight.T, (DIM,), module.out_norm.weight)


@pytest.mark.parametrize("direction", ["causal", "symmetric"])
def test_attention_is_a_softmax_of_cosine_similarities_over_shared_keys_and_a_null(direction):
    module, bias, rotation = attention_parts(direction)
    x = tokens()
    found = module(x, bias, rotation)
    torch.testing.assert_close(found, slow_attention(module, x, bias, rotation), rtol=1e-4, atol=1e-5)


def attention_parts(direction="symmetric"):
    module = Attention(DIM, HEADS, WIDTH)
    torch.nn.init.normal_(module.norm.weight)
    torch.nn.init.normal_(module.out_norm.weight)
    return module, RelativeBias(LENGTH, HEADS, direction)(), Rotary(WIDTH)(LENGTH)


def test_attention_has_the_gradient_of_its_slow_formula():
    module, bias, rotation = attention_parts()
    x = tokens().requires_grad_()
    inputs = (x, bias, module.null, module.queries.weight, module.keys_values.weight)
    fast = torch.autograd.grad(module(x, bias, rotation).square().sum(), inputs, retain_graph=True)
    slow = torch.autograd.grad(slow_attention(module, x, bias, rotation).square().sum(), inputs)
    for ours, expected in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_attention_does_not_care_how_long_the_queries_and_keys_are():
    module, bias, rotation = attention_parts()
    x, before = tokens(), None
    for factor in (1.0, 8.0):
        module.queries.weight.data *= factor
        module.keys_values.weight.data[:WIDTH] *= factor  # keys; values come after them
        after = module(x, bias, rotation)
        if before is not None:
            torch.testing.assert_close(after, before)
        before = after


def test_feed_forward_is_gated_by_silu():
    module, x = FeedForward(DIM), tokens()
    hidden = F.layer_norm(x, (DIM,)) @ module.hidden.weight.T
    value, gate = hidden[..., : 4 * DIM], hidden[..., 4 * DIM :]
    expected = (value * gate * torch.sigmoid(gate)) @ module.out.weight.T
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e4, 1e30])
def test_the_stable_norm_does_not_depend_on_the_scale(factor):
    x = torch.randn(2, 3, DIM)
    found = StableNorm(DIM, bias=False)(factor * x)
    largest = x.abs().amax(dim=-1, keepdim=True)
    torch.testing.assert_close(found, F.layer_norm(x / largest, (DIM,)), rtol=1e-4, atol=1e-5)
    assert StableNorm(DIM, bias=False)(torch.zeros(1, DIM)).isfinite().all()


def small_transformer(depth=2, direction="symmetric"):
    return Transformer(DIM, LENGTH, depth, HEADS, WIDTH, direction)


@pytest.mark.parametrize("direction", ["causal", "symmetric"])
@pytest.mark.parametrize("depth", [1, 3])
def test_every_token_depends_on_every_other(direction, depth):
    model = small_transformer(depth, direction)
    found = jacobian(lambda x: model(x[None])[0], tokens(1)[0])  # (out token, out, in token, in)
    assert (found.abs().amax(dim=(1, 3)) > 1e-6).all()


@pytest.mark.parametrize("first", [0, 1, 4, 6])
@pytest.mark.parametrize("depth", [1, 3])
def test_leaving_out_tokens_changes_nothing_of_the_others(first, depth):
    model, x = small_transformer(depth), tokens()
    torch.testing.assert_close(model(x, first), model(x)[:, first:])


def test_rows_do_not_see_each_other():
    model, x = small_transformer(), tokens(4)
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-4, atol=1e-5)


def test_the_relative_bias_is_computed_once_for_all_layers():
    model, calls = small_transformer(depth=5), []
    model.bias.register_forward_hook(lambda *_: calls.append(1))
    model(tokens())
    assert len(calls) == 1


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_half_precision_is_finite_and_near_single_precision_with_gradients(precision, size):
    model = small_transformer()
    with torch.no_grad():
        x = size * tokens()
        expected = model(x)
    with torch.autocast("cpu", dtype=precision):
        found = model(x)
    found.float().square().sum().backward()
    error = (found.float() - expected).square().mean() / expected.square().mean()
    assert error.sqrt() < (0.05 if precision == torch.bfloat16 else 0.01)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_all_that_is_frozen_is_the_frequencies():
    model = Transformer(DIM, LENGTH, 2, 2, 64, "symmetric")
    frozen = {name: p.numel() for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"rotary.frequencies": 16}  # half of the 32 features of a head that turn


def test_a_rotation_can_begin_at_a_later_position():
    rotation = Rotary(4)(6)
    later = rotation.since(2)
    assert isinstance(later, Rotation)
    assert torch.equal(later.cosine, rotation.cosine[2:]) and torch.equal(later.sine, rotation.sine[2:])


@pytest.mark.parametrize(("device", "gradients"), [("cuda", True), ("cuda", False), ("cpu", True)])
def test_the_kernel_of_attention_is_chosen_for_training_on_a_gpu_alone(device, gradients):
    kernels = torch.backends.cuda
    with torch.set_grad_enabled(gradients), _kernel(torch.device(device)):
        excluded = kernels.flash_sdp_enabled(), kernels.cudnn_sdp_enabled()
        allowed = kernels.mem_efficient_sdp_enabled()
    free = device == "cpu" or not gradients
    assert allowed and excluded == (free, free)
