"""Seeds of samples, predictions in batches, and weights that come back as they were."""

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from percept.decoders.mindeye import MindEyeConfig
from percept.decoders.task import Task
from percept.decoders.training import answers
from percept.decoders.training.job import Outcome
from percept.files import PerceptError


class InMemory:
    """Targets of a shape, whatever they hold."""

    def __init__(self, shape):
        self.shape, self.n_dims = shape, int(np.prod(shape))


class Scaled(nn.Module):
    """A network with a single number and a buffer among its weights."""

    def __init__(self):
        super().__init__()
        self.layer, self.scale = nn.Linear(3, 2), nn.Parameter(torch.tensor(2.5))
        self.register_buffer("offset", torch.arange(2.0))


def test_a_seed_is_that_of_its_image_and_number_whatever_stands_beside_it():
    whole = answers.seeds(5, np.array([7, 100, 3, 7]), 4)
    assert whole.shape == (4, 4) and whole.dtype == np.int64 and (whole >= 0).all()
    np.testing.assert_array_equal(whole[0], whole[3])
    np.testing.assert_array_equal(answers.seeds(5, np.array([3, 100]), 2), whole[[2, 1], :2])


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (1, 0)])
def test_other_images_numbers_and_runs_have_other_seeds(seeds):
    first, second = (answers.seeds(seed, np.arange(50) + 50 * place, 8) for place, seed in enumerate(seeds))
    assert len(np.union1d(first, second)) == 800


@pytest.mark.parametrize("n_rows", [1, 4, 7, 100])
def test_batches_are_put_together_in_their_order_and_know_their_rows(n_rows):
    X = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
    place = torch.arange(7.0)
    found = answers.in_batches(lambda rows, of: (rows * place[of, None])[:, None].half(), X, n_rows)
    assert found.dtype == np.float16 and found.shape == (7, 1, 3)
    np.testing.assert_array_equal(found[:, 0], (X * np.arange(7)[:, None]).astype(np.float16))


@pytest.mark.parametrize("prefix", ["", "fold-3/"])
def test_weights_come_back_as_they_were_single_numbers_too(tmp_path, prefix):
    network, other = Scaled(), Scaled()
    state = answers.state(network)
    declared = answers.shapes(network, "float16")
    assert {name: one.shape for name, one in state.items()} == {
        name: one for name, (one, _) in declared.items()
    }
    assert declared["scale"] == ((1,), "float16")
    saved = {prefix + name: one for name, one in state.items()} | {"fold-9/scale": np.ones(1, np.float32)}
    save_file(saved if prefix else state, tmp_path / "weights.safetensors")
    with torch.no_grad():
        other.offset += 1
    answers.restore(other, tmp_path / "weights.safetensors", prefix)
    for name, one in network.state_dict().items():
        assert torch.equal(other.state_dict()[name], one)


@pytest.mark.parametrize(
    ("name", "called"), [("one of subj01, seed 3", "one of subj01, seed 3"), ("", "mindeye")]
)
def test_messages_of_a_training_call_it_as_its_task_is_called(name, called, tmp_path):
    rows = np.arange(4, dtype=np.int32)
    task = Task(np.zeros((4, 2), np.float32), rows, rows, InMemory((3,)), work=tmp_path, name=name)
    assert answers.job(MindEyeConfig(target="clip"), task, 3).name == called


def made(tmp_path, **changes):
    """A task of four rows, two of them held out."""
    rows, two = np.arange(4, dtype=np.int32), np.ones((2, 2), np.float32)
    held_out = {"validation": two, "test/average": two}
    shown = {name: rows[:2] for name in held_out}
    given = {"X": np.zeros((4, 2), np.float32), "evaluate": held_out, "shown": shown, **changes}
    return Task(stimulus=rows, groups=rows, targets=InMemory((3,)), work=tmp_path, **given)


@pytest.mark.parametrize(
    ("part", "name", "matters"),
    [
        ("evaluate", "validation", True),
        ("shown", "validation", True),
        ("evaluate", "test/average", False),
        ("shown", "test/average", False),
    ],
)
def test_a_checkpoint_is_of_the_rows_that_train_and_validate_and_not_of_those_that_test(
    tmp_path, part, name, matters
):
    whole = made(tmp_path)
    groups = getattr(whole, part)
    other = made(tmp_path, **{part: groups | {name: groups[name] + 1}})
    assert (other.identity != whole.identity) == matters
    assert made(tmp_path, X=whole.X + 1).identity != whole.identity


@pytest.mark.parametrize(
    ("prior", "matters"),
    [
        ({"sampler": "ddim", "sampling_steps": 7}, False),
        ({"samples": 3}, False),
        ({"guidance": 2.0}, False),
        ({"scale": "data"}, True),
        ({"depth": 2}, True),
    ],
    ids=str,
)
def test_a_checkpoint_does_not_depend_on_how_its_prior_is_sampled(tmp_path, prior, matters):
    plain, changed = (
        answers.job(MindEyeConfig(target="clip", prior=one), made(tmp_path), 0) for one in ({}, prior)
    )
    assert (changed.identity != plain.identity) == matters
    assert answers.job(MindEyeConfig(target="clip", prior=None), made(tmp_path), 0).identity != plain.identity


def test_memory_that_runs_out_after_the_training_is_told_with_what_it_was_for(tmp_path):
    def predict(X):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")

    outcome = Outcome(pd.DataFrame(), {})
    with pytest.raises(
        PerceptError, match=r"while predicting validation by mindeye of subj01 .*prior.samples"
    ):
        next(answers.blocks(made(tmp_path, name="mindeye of subj01"), outcome, {}, predict))


def test_modules_that_only_training_needs_are_left_out():
    assert set(answers.state(Scaled(), without=("layer.", "off"))) == {"scale"}


@pytest.mark.parametrize("seed", [0, 1])
def test_first_weights_are_those_of_the_seed_and_leave_the_generator_alone(seed):
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    networks = [answers.initialised(lambda: nn.Linear(3, 2), one) for one in (seed, seed, seed + 1)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(networks[0].weight, networks[1].weight)
    assert not torch.equal(networks[0].weight, networks[2].weight)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_predictions_are_computed_in_the_precision_of_training(precision, dtype):
    network = nn.Linear(3, 2)
    with answers.arithmetic(network, precision):
        assert network(torch.ones(1, 3)).dtype == dtype
