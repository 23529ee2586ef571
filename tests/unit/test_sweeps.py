"""Sweeps: every combination becomes a decoder, and a mistake is named before any job runs."""

import re
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from percept import config, sweeps
from percept.config import ConfigError

BASE = {
    "dataset": {"kind": "twin"},
    "targets": {"latents": {"kind": "vae_latent", "backbone": "tiny_vae"}, "pixels": {"kind": "pixels"}},
    "decoders": {
        "low": {"kind": "lowlevel", "target": "latents", "training": {"epochs": 7}, "seeds": [4, 5]},
        "ridge": {"kind": "ridge", "target": "pixels"},
    },
}
GRID = {"mask": ["set1", "set2", "set3", "all"], "training.batch_size": [16, 32, 64]}


def loaded(**sweep):
    return config.load(deepcopy(BASE) | {"sweeps": {"roi-by-batch": {"decoder": "low", **sweep}}})


def test_every_combination_is_a_decoder_with_a_name_that_says_what_it_is():
    found = loaded(**GRID).swept
    assert len(found) == 12
    assert list(found)[:2] == [
        "roi-by-batch_mask-set1_batch_size-16",
        "roi-by-batch_mask-set1_batch_size-32",
    ]
    made = found["roi-by-batch_mask-set3_batch_size-64"]
    assert (made.mask, made.training.batch_size, made.training.epochs, made.seeds) == ("set3", 64, 7, (4, 5))


def test_the_base_and_the_other_decoders_stay_as_they_are():
    plain, swept = config.load(BASE), loaded(**GRID)
    assert swept.decoders == plain.decoders and not plain.swept
    assert list(swept.every_decoder) == [*swept.decoders, *swept.swept]


@pytest.mark.parametrize("key", ["batch_size", "training.batch_size"])
def test_a_setting_of_one_section_needs_no_section(key):
    assert list(loaded(**{key: [8]}).sweeps["roi-by-batch"].fields) == ["training.batch_size"]


@pytest.mark.parametrize(
    "fields",
    [GRID, {"network.up_channels": [[8, 16], [4, 8, 8]]}, {"compat": ["mindeye1", "voting", None]}],
    ids=["grid", "lists", "presets"],
)
def test_what_is_printed_can_be_read_back_with_the_same_decoders(fields):
    found = loaded(**fields)
    again = config.load(config.plain(found))
    assert again == found and again.swept == found.swept


MEMBER = {"kind": "lowlevel", "target": "latents", "mask": "set1"}


@pytest.mark.parametrize(
    "members",
    [
        {"roi-by-batch_mask-set1": {**MEMBER, "mask": "set2"}},
        {"roi-by-batch_mask-set1": {"kind": "ridge", "target": "pixels", "mask": "set1"}},
        {"roi-by-batch_mask-set2": {**MEMBER, "mask": "set2"}},
        {"roi-by-batch_mask-set1": MEMBER, "another": MEMBER},
    ],
    ids=["value", "kind", "name", "one more"],
)
def test_members_that_are_not_those_of_the_grid_are_refused(members):
    assert loaded(mask=["set1"], members={"roi-by-batch_mask-set1": MEMBER})
    with pytest.raises(ConfigError, match=r"`sweeps\.roi-by-batch\.members` is made from.*remove `members`"):
        loaded(mask=["set1"], members=members)


def test_a_preset_is_filled_in_for_each_value_of_its_own():
    found = loaded(compat=["mindeye1", "voting", None]).swept
    assert [one.network.width for one in found.values()] == [4096, 2048, 4096]
    assert [one.training.select for one in found.values()] == ["last", "validation", "validation"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"maks": ["set1"]}, r"`sweeps\.roi-by-batch\.maks` is no setting.*did you mean 'mask'"),
        ({"training.batchsize": [1]}, r"batchsize` is no setting.*did you mean 'training\.batch_size'"),
        ({"kind": ["ridge"]}, r"kind` is no setting"),
        ({"mask": "set1"}, r"is 'set1', but a sweep needs a list of values"),
        ({"mask": []}, r"is \[\], but a sweep needs a list"),
        ({"training.batch_size": [16, -1]}, r"batch_size-1.*training\.batch_size`: Input should be greater"),
        ({"training.select": ["best"]}, r"select-best.*'validation' or 'last'"),
        ({"training.learning_rate": [0.5, "0-5"]}, r"would be called .* as another one of this sweep"),
        ({"mask": ["m" * 200]}, r"too long for a folder"),
        ({"target": ["pixels"]}, r"a decoder of kind `lowlevel` takes a target"),
        ({}, r"sweeps\.roi-by-batch\.fields`.*at least 1 item"),
    ],
)
def test_a_mistake_is_named_with_its_place(fields, message):
    with pytest.raises(ConfigError, match=message):
        loaded(**fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("sweeps", {"s": {"decoder": "lwo", "mask": ["set1"]}}), r"`sweeps\.s\.decoder` names 'lwo'.*'low'"),
        (("decoders", {**BASE["decoders"], "s_mask-set1": BASE["decoders"]["ridge"]}), "are of one name"),
    ],
)
def test_names_of_a_sweep_have_to_fit_the_other_entries(change, message):
    source = deepcopy(BASE) | {"sweeps": {"s": {"decoder": "low", "mask": ["set1"]}}}
    with pytest.raises(ConfigError, match=message):
        config.load(source | dict([change]))


values = st.lists(st.integers(1, 9), min_size=1, max_size=4, unique=True)


@given(fields=st.dictionaries(st.sampled_from(["a", "b.c", "b.d"]), values, min_size=1))
def test_there_are_as_many_combinations_as_the_product_of_the_values(fields):
    found = list(sweeps.combinations(fields))
    names = {sweeps.member_name("s", one) for one in found}
    expected = 1
    for one in fields.values():
        expected *= len(one)
    assert len(found) == len(names) == expected
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) for name in names)


def test_the_base_is_not_changed_by_the_values_that_replace_its_own():
    base = {"kind": "lowlevel", "training": {"epochs": 7}}
    made = sweeps.with_values(base, {"training.batch_size": 8, "network.blocks": 2})
    assert made == {"kind": "lowlevel", "training": {"epochs": 7, "batch_size": 8}, "network": {"blocks": 2}}
    assert base == {"kind": "lowlevel", "training": {"epochs": 7}}


@pytest.mark.parametrize("name", ["low", "roi-by-batch_mask-set2_batch_size-16"])
def test_the_settings_of_every_decoder_are_found_by_its_name(name):
    found = loaded(**GRID)
    settings = sweeps.settings_of(config.plain(found), name)
    assert config.plugin("decoders", settings) == found.every_decoder[name]
