"""MindEye's learner: its phases, what its batches hold, what its losses are, and that it learns."""

import itertools

import numpy as np
import pytest
import torch

from percept.decoders.networks import losses
from percept.decoders.networks.mindeye import MindEye, contrast_at, n_first, soft_temperature, top1
from percept.decoders.networks.mixing import Mixing, mix
from percept.decoders.networks.settings import Contrast, MindEyeLosses
from percept.decoders.training.learner import Data
from percept.files import PerceptError
from tests.unit.decoders.networks.cases import N_VOXELS, SHAPE, TINY_PRIOR, data, mindeye, when

CONTRASTS = Contrast.__args__
FIRST, SECOND = when(0), when(239)
ROWS = torch.arange(7)


def tiny(shape=SHAPE, seed=0, **given):
    torch.manual_seed(seed)
    return MindEye(N_VOXELS, shape, mindeye(**given))


def batch_of(learner, at=FIRST, seed=1, own=None):
    return learner.draw(own or data(learner.shape), ROWS, at, np.random.default_rng(seed))


# Phases.


@pytest.mark.parametrize(
    ("n_epochs", "switch", "n"), [(240, 0.33, 79), (240, 0.0, 0), (240, 1.0, 240), (3, 0.33, 0), (4, 0.33, 1)]
)
def test_the_first_phase_lasts_a_share_of_the_epochs(n_epochs, switch, n):
    cfg = MindEyeLosses(switch=switch)
    found = [contrast_at(cfg, when(epoch, n_epochs)) for epoch in range(n_epochs)]
    assert found == ["bimixco"] * n + ["softclip"] * (n_epochs - n)
    assert n_first(cfg, n_epochs) == n


@pytest.mark.parametrize(
    ("epoch", "expected"), [(79, 0.004), (159, 0.00575), (239, 0.0075)], ids=["first", "half way", "last"]
)
def test_the_temperature_rises_over_the_epochs_of_softclip(epoch, expected):
    for step in range(3):
        assert soft_temperature(MindEyeLosses(), when(epoch, step=step)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("first", "second", "start", "stop"),
    [("softclip", "softclip", 0, 239), ("softclip", "none", 0, 78), ("none", "softclip", 79, 239)],
)
def test_the_temperature_s_ends_are_those_of_its_phases(first, second, start, stop):
    cfg = MindEyeLosses(first=first, second=second)
    ends = [soft_temperature(cfg, when(epoch)) for epoch in (start, stop)]
    assert ends == pytest.approx([0.004, 0.0075])


def test_a_single_epoch_of_softclip_has_the_first_temperature():
    assert soft_temperature(MindEyeLosses(), when(0, n_epochs=1)) == pytest.approx(0.004)


# Batches.


def test_the_batch_depends_on_the_generator_alone():
    first, again, other = (batch_of(tiny(), seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["voxels"], other["voxels"])


@pytest.mark.parametrize("repeats", ["sampled", "cycled", "averaged", "mixed"])
def test_responses_are_mixed_as_the_batch_says(repeats):
    learner = tiny(repeats=repeats)
    plain = tiny(repeats=repeats, first="infonce")
    batch, unmixed = batch_of(learner, seed=3), batch_of(plain, seed=3)
    mixing = Mixing(batch["partner"], batch["weight"])
    torch.testing.assert_close(batch["voxels"], mix(unmixed["voxels"], mixing))
    assert mixing.mixed.any()
    assert not mixing.mixed.all()
    assert torch.equal(batch["target"], data().tensors["target"])


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_responses_are_mixed_for_bimixco_alone(contrast):
    learner = tiny(first=contrast, mse=1.0)
    assert ("partner" in batch_of(learner)) == (contrast == "bimixco")


def test_nothing_is_mixed_in_the_second_phase():
    batch = batch_of(tiny(repeats="averaged"), SECOND)
    assert batch.keys() == {"voxels", "target"}
    assert torch.equal(batch["voxels"][1], data().tensors["voxels"][3])  # the one trial of image 1


@pytest.mark.parametrize(("share", "n_mixed"), [(0.0, 0), (1.0, 5)])
def test_the_settings_of_mixing_reach_it(share, n_mixed):
    batch = batch_of(tiny(mixing_share=share, mixing_beta=8.0), seed=3)
    assert ((batch["weight"] < 1).sum() >= n_mixed) if n_mixed else (batch["weight"] == 1).all()


def test_cycled_repeats_follow_the_step():
    learner = tiny(repeats="cycled", first="infonce")
    own = data()
    for step in range(4):
        found = batch_of(learner, when(step=step % 3, epoch=step // 3), own=own)["voxels"]
        assert torch.equal(found[0], own.tensors["voxels"][step % 3])


# Outputs.


@pytest.mark.parametrize("shape", [SHAPE, (1, 10)])
@pytest.mark.parametrize("prior", [None, TINY_PRIOR])
def test_outputs_have_a_row_for_each_row_of_the_batch(shape, prior):
    learner = tiny(shape, prior=prior, mse=1.0)
    found = learner(batch_of(learner))
    flat = (7, shape[0] * shape[1])
    expected = {"backbone": flat, "projected": flat, "mse": (7,)} | ({"prior": (7,)} if prior else {})
    assert {name: tuple(value.shape) for name, value in found.items()} == expected


@pytest.mark.parametrize("sizes", [[3, 3, 1], [1] * 7])
def test_rows_do_not_depend_on_each_other(sizes):
    learner = tiny(mse=1.0).eval()
    batch = batch_of(learner)
    whole = learner(batch)
    parts = [
        learner(dict(zip(batch, part, strict=True)))
        for part in zip(*(x.split(sizes) for x in batch.values()), strict=True)
    ]
    for name, value in whole.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), value)


def test_rows_of_the_prior_s_loss_do_not_depend_on_each_other():
    learner = tiny(prior=TINY_PRIOR).eval()
    batch = batch_of(learner)

    def first_row(other):
        torch.manual_seed(4)
        rows = {name: torch.cat((value[:1], value[other:])) for name, value in batch.items()}
        padded = {name: torch.cat((value, value))[:4] for name, value in rows.items()}
        return learner(padded)["prior"][0]

    torch.testing.assert_close(first_row(2), first_row(4))


def test_the_projector_works_on_each_token_and_is_left_out_if_told():
    learner = tiny().eval()
    found = learner(batch_of(learner))
    tokens = learner.projector(found["backbone"].unflatten(1, SHAPE))
    torch.testing.assert_close(found["projected"].unflatten(1, SHAPE), tokens)
    bare = tiny(network={"projector": False})
    found = bare(batch_of(bare))
    assert bare.projector is None
    assert found["projected"] is found["backbone"]


def test_the_squared_error_is_that_of_the_backbone():
    learner = tiny(mse=2.0, first="none", second="none").eval()
    batch = batch_of(learner)
    expected = (learner.backbone(batch["voxels"]) - batch["target"].flatten(1)).square().mean()
    found = learner.loss(learner(batch), batch, FIRST)
    assert found.keys() == {"loss", "mse"}
    torch.testing.assert_close(found["mse"], expected)
    torch.testing.assert_close(found["loss"], 2 * expected)


# Losses.


def contrast(name, found, batch, cfg, at):
    match name:
        case "bimixco":
            labels = Mixing(batch["partner"], batch["weight"]).labels(cfg.fixed_points)
            return losses.bimixco(found["projected"], batch["target"], labels, 0.006)
        case "infonce":
            return losses.info_nce(found["projected"], batch["target"], 0.006)
        case "softclip":
            temperature = 0.004 if at is FIRST else 0.0075
            return losses.soft_clip(found["projected"], batch["target"], temperature)
        case _:
            return torch.tensor(0.0)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(CONTRASTS, CONTRASTS)))
@pytest.mark.parametrize("at", [FIRST, SECOND], ids=["first", "second"])
def test_each_phase_minimises_its_contrast(first, second, at):
    learner = tiny(first=first, second=second, mse=0.5).eval()
    batch = batch_of(learner, at)
    parts = learner.loss(found := learner(batch), batch, at)
    if (first, second) == ("none", "none"):
        assert "contrastive" not in parts
        return
    expected = contrast(first if at is FIRST else second, found, batch, learner.losses, at)
    torch.testing.assert_close(parts["contrastive"], expected)
    torch.testing.assert_close(parts["loss"], expected + 0.5 * found["mse"].mean())


@pytest.mark.parametrize("fixed_points", ["added", "assigned"])
def test_the_labels_of_fixed_points_are_those_of_the_settings(fixed_points):
    learner = tiny(fixed_points=fixed_points).eval()
    batch = batch_of(learner) | {"partner": ROWS, "weight": torch.ones(7)}
    parts = learner.loss(found := learner(batch), batch, FIRST)
    right = losses.info_nce(found["projected"], batch["target"], 0.006)
    torch.testing.assert_close(parts["contrastive"], right if fixed_points == "added" else 0 * right)


@pytest.mark.parametrize("mixed_prior", ["dropped", "kept"])
def test_the_prior_learns_from_mixed_rows_only_if_told(mixed_prior):
    learner = tiny(prior=TINY_PRIOR, mixed_prior=mixed_prior)
    batch = batch_of(learner)
    mixed = Mixing(batch["partner"], batch["weight"]).mixed
    found = learner(batch)
    prior = torch.arange(7.0, requires_grad=True)
    parts = learner.loss(found | {"prior": prior}, batch, FIRST)
    expected = prior.mean() if mixed_prior == "kept" else prior[~mixed].mean()
    torch.testing.assert_close(parts["prior"], expected)
    torch.testing.assert_close(parts["loss"], parts["contrastive"] + 30 * expected)
    parts["prior"].backward()
    assert ((prior.grad != 0) == (~mixed if mixed_prior == "dropped" else torch.ones(7).bool())).all()


def test_a_batch_of_mixed_rows_alone_teaches_the_prior_nothing():
    learner = tiny(prior=TINY_PRIOR)
    batch = batch_of(learner) | {"partner": ROWS.roll(1), "weight": torch.full((7,), 0.5)}
    assert learner.loss(learner(batch), batch, FIRST)["prior"] == 0


def test_every_row_teaches_the_prior_once_nothing_is_mixed():
    learner = tiny(prior=TINY_PRIOR)
    batch = batch_of(learner, SECOND)
    found = learner(batch)
    torch.testing.assert_close(learner.loss(found, batch, SECOND)["prior"], found["prior"].mean())


def gradients(part, at=SECOND):
    learner = tiny(prior=TINY_PRIOR)
    batch = batch_of(learner, at)
    learner.loss(learner(batch), batch, at)[part].backward()
    return {
        name: any(one.grad is not None and one.grad.abs().sum() > 0 for one in module.parameters())
        for name, module in learner.named_children()
    }


@pytest.mark.parametrize(
    ("part", "taught"),
    [
        ("contrastive", {"backbone": True, "projector": True, "prior": False}),
        ("prior", {"backbone": True, "projector": False, "prior": True}),
        ("loss", {"backbone": True, "projector": True, "prior": True}),
    ],
)
def test_both_losses_teach_the_backbone_and_each_its_own_head(part, taught):
    assert gradients(part) == taught


@pytest.mark.parametrize("at", [FIRST, SECOND], ids=["first", "second"])
def test_half_precision_gives_a_float32_loss_close_to_the_exact_one(at):
    learner = tiny().eval()
    batch = batch_of(learner, at)
    exact = learner.loss(learner(batch), batch, at)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        found = learner.loss(learner(batch), batch, at)["loss"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0)


@pytest.mark.parametrize(
    "given",
    [
        {"first": "none"},
        {"second": "none"},
        {"first": "none", "second": "none"},
    ],
)
def test_a_phase_without_any_loss_is_refused(given):
    with pytest.raises(PerceptError, match="phase of the training has nothing to minimise"):
        tiny(**given)


@pytest.mark.parametrize(
    "given",
    [
        {"first": "none", "switch": 0.0},
        {"second": "none", "switch": 1.0},
        {"first": "none", "mse": 1.0},
        {"second": "none", "prior": TINY_PRIOR},
    ],
)
def test_a_phase_that_never_comes_or_that_another_loss_fills_is_accepted(given):
    assert tiny(**given).projector is not None


# Validation and prediction.


def test_validation_scores_mean_responses_against_all_images():
    learner, own = tiny().eval(), data()
    voxels = own.tensors["voxels"].numpy()
    means = np.stack([voxels[[t for t in row if t >= 0]].mean(0) for row in own.tensors["trials"].numpy()])
    projected = learner.embed(means)["projected"]
    with torch.no_grad():
        found = learner.validate(own, FIRST)
    cosines = losses.similarity(projected, own.tensors["target"])
    assert found["loss"] == pytest.approx(losses.calibrated_info_nce(projected, own.tensors["target"]))
    assert found["image_given_brain"] == np.mean(cosines.argmax(1).numpy() == np.arange(7))
    assert found["brain_given_image"] == np.mean(cosines.argmax(0).numpy() == np.arange(7))
    assert found.keys() == {"loss", "info_nce", "image_given_brain", "brain_given_image"}


def test_the_validation_loss_does_not_follow_the_schedule():
    learner, own = tiny(prior=TINY_PRIOR).eval(), data()
    with torch.no_grad():
        assert learner.validate(own, FIRST) == learner.validate(own, SECOND)


def test_retrieval_is_named_by_its_direction():
    """Every prediction is nearest to image 0: it finds one image; but each image finds its own prediction."""
    cosines = torch.tensor([[0.9, 0.5, 0.2], [0.8, 0.6, 0.1], [0.7, 0.3, 0.4]])
    found = top1(cosines)
    assert found["image_given_brain"] == pytest.approx(1 / 3)
    assert found["brain_given_image"] == 1


def test_without_a_contrast_the_other_losses_are_validated():
    learner = tiny(prior=TINY_PRIOR, first="none", second="none", mse=2.0).eval()
    with torch.no_grad():
        found = learner.validate(data(), FIRST)
    assert found["loss"] == pytest.approx(30 * found["prior"] + 2 * found["mse"])
    assert learner.projector is None


def test_the_prior_is_validated_under_the_same_noise_whatever_was_drawn_before():
    learner = tiny(prior=TINY_PRIOR).eval()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    with torch.no_grad():
        first = learner.validate(data(), FIRST)["prior"]
    assert torch.equal(torch.rand(3), expected)  # the generator went on where it was
    with torch.no_grad():
        assert learner.validate(data(), FIRST)["prior"] == first


@pytest.mark.parametrize("mode", [True, False])
def test_embedding_switches_dropout_off_and_leaves_the_mode(mode):
    learner = tiny().train(mode)
    voxels = np.random.default_rng(0).standard_normal((70, N_VOXELS), dtype=np.float32)
    first, again, end = learner.embed(voxels), learner.embed(voxels), learner.embed(torch.tensor(voxels[64:]))
    for name in ("backbone", "projected"):
        assert torch.equal(first[name], again[name])
        torch.testing.assert_close(first[name][64:], end[name])
    assert learner.training is mode


def test_samples_depend_on_their_row_and_seed_alone():
    learner = tiny(prior=TINY_PRIOR)
    backbone = torch.randn(4, 24)
    seeds = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9], [1, 2, 3]])
    found = learner.sample(backbone, seeds)
    assert found.shape == (4, 3, *SHAPE)
    torch.testing.assert_close(learner.sample(backbone[2:3], seeds[2:3]), found[2:3])
    torch.testing.assert_close(learner.sample(backbone[1:2], seeds[1:2, :1]), found[1:2, :1])
    assert not torch.allclose(found[0], found[3], atol=1e-3)  # the same seeds, another row
    assert not torch.allclose(found[0, 0], found[0, 1], atol=1e-3)
    assert learner.training


def test_more_rows_are_sampled_than_go_at_once():
    learner = tiny(prior=TINY_PRIOR)
    backbone, seeds = torch.randn(25, 24), np.arange(75).reshape(25, 3)
    torch.testing.assert_close(
        learner.sample(backbone[23:], seeds[23:]), learner.sample(backbone, seeds)[23:]
    )


def test_the_sampler_of_the_settings_is_used():
    learner = tiny(prior=TINY_PRIOR | {"sampler": "ddim", "sampling_steps": 3})
    ddpm = tiny(prior=TINY_PRIOR)
    backbone, seeds = torch.randn(2, 24), np.array([[1], [2]])
    expected = ddpm.prior.sample(backbone.unflatten(1, SHAPE), [1, 2], 3, "ddim")
    torch.testing.assert_close(learner.sample(backbone, seeds)[:, 0], expected)


@pytest.mark.parametrize("given", [{"prior": None}])
def test_without_a_prior_there_is_nothing_to_sample(given):
    with pytest.raises(PerceptError, match="no diffusion prior"):
        tiny(**given).sample(torch.zeros(1, 24), np.zeros((1, 1), dtype=int))


@pytest.mark.parametrize("contrast", ["bimixco", "softclip"])
def test_a_tiny_mindeye_learns_a_small_batch_by_heart(contrast):
    learner = tiny(
        prior=TINY_PRIOR | {"condition_dropout": 0.0, "image_dropout": 0.0},
        first=contrast,
        switch=1.0,
        network={"width": 64, "dropout": 0.0, "block_dropout": 0.0},
        repeats="averaged",
    )
    own = data()
    with torch.no_grad():
        at_start = learner.eval().validate(own, FIRST)
    optimiser = torch.optim.AdamW(learner.train().parameters(), 2e-3)
    rng = np.random.default_rng(0)
    for _ in range(400):
        batch = learner.draw(own, ROWS, FIRST, rng)
        optimiser.zero_grad()
        learner.loss(learner(batch), batch, FIRST)["loss"].backward()
        optimiser.step()
    with torch.no_grad():
        found = learner.eval().validate(own, FIRST)
    assert found["image_given_brain"] == found["brain_given_image"] == 1
    assert found["loss"] < 0.2 * at_start["loss"]
    assert found["prior"] < 0.7 * at_start["prior"]


def test_the_whole_has_the_published_number_of_parameters():
    settings = mindeye(prior={}, network={"width": 4096, "blocks": 4, "projector_width": 2048})
    with torch.device("meta"):
        learner = MindEye(15_724, (257, 768), settings)
    count = {name: sum(p.numel() for p in one.parameters()) for name, one in learner.named_children()}
    assert count["backbone"] + count["projector"] == 947_579_904
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) <= 1_003_635_088
    assert sum(count.values()) == 1_003_635_088


def test_a_single_image_can_be_validated():
    own = data()
    one = Data(1, {name: value[:1] if name != "voxels" else value for name, value in own.tensors.items()})
    with torch.no_grad():
        assert tiny().eval().validate(one, FIRST)["image_given_brain"] == 1


@pytest.mark.parametrize(
    ("name", "value", "at"),
    [
        ("mixing_temperature", 0.1, FIRST),
        ("soft_start", 0.1, when(79)),
        ("soft_end", 0.1, SECOND),
        ("prior", 2.0, SECOND),
        ("mse", 2.0, SECOND),
    ],
)
def test_every_setting_of_the_losses_reaches_the_loss(name, value, at):
    found = []
    for given in ({}, {name: value}):
        learner = tiny().eval()
        learner.losses = MindEyeLosses(**{"mse": 1.0} | given)
        learner.prior = torch.nn.Identity()
        outputs = learner.outputs((batch := batch_of(learner, at))["voxels"])
        outputs |= {"prior": torch.ones(7), "mse": torch.ones(7)}
        found.append(learner.loss(outputs, batch, at)["loss"].item())
    assert abs(found[0] - found[1]) > 1e-3


@pytest.mark.parametrize(
    ("name", "value"),
    [("residual", False), ("stem", "linear"), ("block", "prenorm"), ("blocks", 1), ("width", 8)],
)
def test_every_setting_of_the_network_reaches_it(name, value):
    plain, changed = (tiny(network=given).eval() for given in ({}, {name: value}))
    voxels = torch.randn(3, N_VOXELS)
    assert not torch.allclose(plain.backbone(voxels), changed.backbone(voxels), atol=1e-3)


def test_both_dropouts_reach_their_layers():
    learner = tiny(network={"dropout": 0.25, "block_dropout": 0.75})
    found = [one.p for one in learner.backbone.modules() if isinstance(one, torch.nn.Dropout)]
    assert found == [0.25, 0.75, 0.75]
