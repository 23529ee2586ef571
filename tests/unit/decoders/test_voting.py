"""The voting pipeline's low level, and the mistakes of its public code (Koios1143/Machine-Learning-Final)."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from percept.backbones import autoencoder, captioner, diffusion, image, text
from percept.decoders.lowlevel import VOTING, LowLevelConfig
from percept.decoders.networks.lowlevel import LowLevelBackbone
from percept.decoders.networks.settings import LowLevelNetwork
from percept.decoders.predict import Job, read_predictions, train_and_predict
from percept.decoders.training import seeds
from percept.decoders.training.job import Plan
from percept.decoders.training.optimiser import learning_rate
from percept.decoders.training.settings import TrainingConfig
from percept.files import read_parquet
from percept.targets import store
from tests.unit.decoders.made_up import by_image, features, subject

VERTICES = 39_548  # of both hemispheres of subject 1 of the challenge
LATENT = (4, 64, 64)  # of Stable Diffusion at 512 x 512; the report says 64 x 16 x 16, which is the map
SIZE = {"width": 16, "blocks": 1, "map_channels": 8, "up_channels": (8, 16)}
TRAINING = {"epochs": 5, "batch_size": 16, "peak_epochs": 1, "device": "cpu"}


def tiny(**given):
    training = TRAINING | given.pop("training", {})
    return LowLevelConfig(target="latents", compat="voting", network=SIZE, training=training, **given)


# Its size.


def test_at_full_size_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        network = LowLevelConfig(target="latents", compat="voting").build(VERTICES, LATENT)
    assert sum(one.numel() for one in network.parameters()) == 138_188_228
    assert network.head is None and network.backbone.shape == (64, 16, 16)


def test_the_latent_is_not_the_map():
    with torch.device("meta"):
        network = LowLevelConfig(target="latents", compat="voting").build(VERTICES, LATENT)
        found = network.upsampler(network.backbone(torch.empty(2, VERTICES)))
    assert found.shape == (2, *LATENT)


def test_the_preset_sets_what_its_description_says_and_leaves_given_values():
    described = LowLevelConfig.model_fields["compat"].description
    sections = {name: each for name, each in VOTING.items() if isinstance(each, dict)}
    flat = {f"{name}.{key}": value for name, each in sections.items() for key, value in each.items()}
    flat |= {key: value for key, value in VOTING.items() if key not in sections}
    assert flat and all(f"{key}: {value}" in described for key, value in flat.items())
    given = LowLevelConfig(target="latents", compat="voting", network={"width": 64})
    assert (given.network.width, given.network.block_dropout, given.losses.l1) == (64, 0.3, 1.0)


def test_first_weights_have_the_spread_of_glorot_and_bengio():
    torch.manual_seed(0)
    network = LowLevelNetwork(width=96, blocks=1, map_channels=4, init="xavier")
    layers = LowLevelBackbone(200, (4, 4), network).layers
    for one in (layers.stem[0], layers.blocks[0][0], layers.last):
        n_out, n_in = one.weight.shape
        bound = np.sqrt(6 / (n_in + n_out))
        assert one.weight.abs().max() <= bound
        assert float(one.weight.detach().var()) == pytest.approx(
            bound**2 / 3, rel=0.05
        )  # uniform in (-bound, bound)


# What its code gets wrong (the numbers are those of the list in docs/voting.md).


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    return features(tmp_path_factory.mktemp("latents"), "latents", (2, 4, 6), 60)


def trained(folder, path, cfg, seed=0, X=None, **job):
    responses, trials = subject(path)
    responses = responses if X is None else X
    train_and_predict(
        cfg, responses, trials, by_image(trials), store.Features(path), Job(folder, seed=seed, **job)
    )
    return folder, trials


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(lambda: autoencoder.open_named("tiny_vae", device="cpu").network, id="autoencoder"),
        pytest.param(lambda: image.open_named("tiny_clip", device="cpu").tower, id="image encoder"),
        pytest.param(lambda: captioner.open_named("tiny_blip", device="cpu").network, id="captioner"),
        pytest.param(lambda: text.open_named("tiny_text", "tokens", "cpu").network, id="text encoder"),
        pytest.param(lambda: parts("tiny_text"), id="diffusion from text"),
        pytest.param(lambda: parts("tiny_unclip"), id="diffusion from images"),
    ],
)
def test_2_a_frozen_network_has_nothing_to_train_and_is_in_evaluation_mode(opened):
    network = opened()
    found = list(network.parameters())
    assert found and not any(one.requires_grad for one in found)
    assert not any(one.training for one in network.modules())


def parts(name):
    """All networks of a sampler, in the modes that they are in, as one module."""
    together = torch.nn.Module()
    for role, one in diffusion.open_named(name, "cpu").pipeline.components.items():
        if isinstance(one, torch.nn.Module):
            together.add_module(role, one)
    together.training = False
    return together


def test_2_no_part_of_a_decoder_is_frozen_by_mistake_and_training_reaches_all_of_it(tmp_path, latents):
    cfg = tiny(training={"weight_decay": 0.0})
    folder, _ = trained(tmp_path, latents, cfg)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        before = cfg.build(19, (2, 4, 6)).state_dict()
    after = load_file(folder / "weights.safetensors")
    unchanged = [
        name
        for name, one in before.items()
        if np.array_equal(one.numpy().reshape(after[name].shape), after[name])
    ]
    assert before.keys() == after.keys() and unchanged == []


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "steps"), [(3500, 64, 54), (3500, 16, 218), (5000, 64, 78), (40, 64, 1)]
)
def test_3_the_schedule_ends_with_the_last_step_of_the_rows_that_train(n_rows, batch_size, steps):
    cfg = TrainingConfig(epochs=50, batch_size=batch_size, learning_rate=5e-4)
    plan = Plan.of(cfg, n_rows)
    assert (plan.steps_per_epoch, plan.n_steps) == (steps, 50 * steps)
    last = learning_rate(cfg, plan.n_steps, plan.n_steps - 1)
    assert last == pytest.approx(5e-4 / 25 / 1000)  # computed for 5,000 of 3,500 rows it was still 1.08e-4


def test_3_a_training_ends_at_the_lowest_learning_rate_although_its_last_batch_is_incomplete(
    tmp_path, latents
):
    folder, trials = trained(tmp_path, latents, tiny())
    history = read_parquet(folder / "history.parquet")
    n_images = trials.stimulus.nunique() - 20  # 8 validate, 12 test
    assert n_images % 16 and history["step"].iloc[-1] == 5 * (n_images // 16)
    assert history["learning_rate"].iloc[-1] == pytest.approx(5e-4 / 25 / 1000)


def test_4_rows_are_visited_in_another_order_in_every_epoch():
    orders = [seeds.order(7, epoch, 200) for epoch in range(4)]
    for order in orders:
        assert sorted(order) == list(range(200))
        assert np.mean(order == np.arange(200)) < 0.05
    assert all(np.mean(orders[0] == other) < 0.05 for other in orders[1:])


@pytest.mark.parametrize("seed", [3, 849])
def test_5_voters_of_any_seed_are_tested_on_the_same_images_and_train_on_none_of_them(
    tmp_path, latents, seed
):
    folder, trials = trained(tmp_path, latents, tiny(training={"epochs": 2}), seed, fitted=True)
    groups = {name: read_predictions(folder / "predictions.h5", name) for name in ("fitted", "test/average")}
    test = by_image(trials)[0].test
    assert set(groups["test/average"].stimulus) == set(trials.stimulus.iloc[test])
    assert not set(groups["test/average"].stimulus) & set(groups["fitted"].stimulus)
    assert "split" not in LowLevelConfig.model_fields  # a decoder cannot have one of its own


def test_7_the_weights_that_validate_best_are_kept_not_the_last(tmp_path, latents):
    noise = np.random.default_rng(0).standard_normal((144, 19)).astype(np.float32)  # learned by heart only
    hot = {"epochs": 30, "learning_rate": 0.01, "weight_decay": 0.0}
    folder, _ = trained(tmp_path, latents, tiny(training=hot), X=noise)
    history = read_parquet(folder / "history.parquet")
    best = history["validation_loss"].min()
    found = read_predictions(folder / "predictions.h5", "validation")
    true = store.read(latents, found.stimulus).reshape(len(found.stimulus), -1)
    assert np.abs(found.predicted - true).mean() == pytest.approx(best, abs=1e-4)
    assert history["validation_loss"].iloc[-1] > best + 1e-3  # the last weights would not have done as well


def test_1_training_validation_and_test_are_masked_alike(tmp_path, latents):
    """Every row in the same way, so that what the mask hides cannot reach any prediction."""
    X, trials = subject(latents)
    kept = np.arange(X.shape[1]) % 3 > 0
    rows = by_image(trials)[0]
    masked, hidden = np.where(kept, X, 0), X.copy()
    hidden[np.r_[rows.validation, rows.test]] *= np.where(kept, 1, 50)  # only what is hidden differs
    one, _ = trained(tmp_path / "one", latents, tiny(), X=masked.astype(np.float32))
    other, _ = trained(tmp_path / "other", latents, tiny(), X=np.where(kept, hidden, 0).astype(np.float32))
    for group in ("validation", "test/average"):
        pair = [read_predictions(folder / "predictions.h5", group).predicted for folder in (one, other)]
        np.testing.assert_array_equal(*pair)


def test_fitted_predictions_are_those_of_the_weights_on_the_rows_that_trained_them(tmp_path, latents):
    cfg = tiny(training={"epochs": 40, "learning_rate": 3e-3})
    folder, trials = trained(tmp_path, latents, cfg, fitted=True)
    errors = {}
    for name in ("fitted", "validation"):
        found = read_predictions(folder / "predictions.h5", name)
        true = store.read(latents, found.stimulus).reshape(len(found.stimulus), -1)
        errors[name] = np.abs(found.predicted - true).mean()
        assert len(found.stimulus) == len(np.unique(found.stimulus))
    train = by_image(trials)[0].train
    fitted = read_predictions(folder / "predictions.h5", "fitted")
    assert set(fitted.stimulus) == set(trials.stimulus.iloc[train])
    assert errors["fitted"] < 0.97 * errors["validation"]


def test_without_being_asked_for_training_images_are_not_predicted(tmp_path, latents):
    folder, _ = trained(tmp_path, latents, tiny(training={"epochs": 2}))
    assert read_predictions(folder / "predictions.h5", "fitted", missing_ok=True) is None
