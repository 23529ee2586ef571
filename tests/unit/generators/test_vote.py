"""Votes: each rule picks what its definition says, never by chance of the batch, and says whose image it "
"was."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from percept import config
from percept.config import ConfigError
from percept.files import PerceptError, read_parquet, write_parquet
from percept.generators import ballots, make, store, vote
from percept.generators.roles import Candidates, Context, Roles

N, SIDE = 7, 2  # test images, and the side of each
NAMES = ("first", "second", "third")


def picture(direction):
    """An image whose embedding, below, points in a direction (3,) of whole numbers."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:] = direction
    return image


def encode(images):
    """The colour of an image, (image, 3): an encoder whose cosines are known."""
    return images[:, 0, 0].astype(np.float32)


def candidates(rows, **more):
    """Candidates of images given as directions, (image, candidate, 3)."""
    images = np.stack([np.stack([picture(one) for one in row]) for row in rows])
    return Candidates(NAMES, images, **more)


def chosen(rule, found, seed=0, **roles):
    cfg = vote.VoteConfig(of=NAMES, rule=rule, network="tiny_clip")
    n = len(found.images)
    roles = Roles(np.arange(n, dtype=np.int32), **roles, candidates=found)
    return vote.Vote(cfg, encode).generate(roles, seed)


def members(made):
    return [one["member"] for one in made.details]


RED, GREEN, BLUE = (9, 0, 0), (0, 9, 0), (0, 0, 9)
MIXED = (9, 9, 0)


def test_the_medoid_is_most_like_the_others():
    made = chosen("medoid", candidates([[RED, MIXED, GREEN], [RED, RED, BLUE]]))
    assert members(made) == ["second", "first"]
    assert made.details[0]["similarity"] == pytest.approx(1 / np.sqrt(2))
    np.testing.assert_array_equal(made.images[0], picture(MIXED))


@pytest.mark.parametrize(("decoded", "expected"), [(RED, "first"), (GREEN, "second"), (BLUE, "third")])
def test_the_decoded_embedding_decides_between_its_neighbours(decoded, expected):
    semantic = np.array([decoded], np.float32)
    made = chosen("decoded_clip", candidates([[RED, GREEN, BLUE]]), semantic=semantic)
    assert members(made) == [expected]


def test_self_consistency_rewards_what_changed_least_even_where_all_else_disagrees():
    started = np.stack([picture(one) for one in (GREEN, GREEN, BLUE)])[None]
    made = chosen("self_consistency", candidates([[RED, MIXED, BLUE]], lowlevel=started))
    assert members(made) == ["third"] and made.details[0]["similarity"] == 1
    np.testing.assert_array_equal(made.lowlevel[0], picture(BLUE))


@pytest.mark.parametrize(("seen", "expected"), [(RED, "first"), (BLUE, "third")])
def test_the_oracle_looks_at_what_was_seen(seen, expected):
    made = chosen("oracle", candidates([[RED, GREEN, BLUE]], seen=picture(seen)[None]))
    assert members(made) == [expected]


def test_no_other_rule_looks_at_what_was_seen():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, 255, (N, 3, 3))
    started = np.stack([np.stack([picture(one) for one in row]) for row in rng.integers(1, 255, (N, 3, 3))])
    semantic = rng.random((N, 3)).astype(np.float32)
    for rule in set(vote.RULES) - {"oracle"}:
        blind, seeing = (
            chosen(rule, candidates(rows, lowlevel=started, seen=seen), semantic=semantic)
            for seen in (None, rng.integers(0, 255, (N, SIDE, SIDE, 3), dtype=np.uint8))
        )
        assert members(blind) == members(seeing)


def test_lots_depend_on_the_seed_and_the_stimulus_alone():
    found = candidates(np.full((300, 3, 3), 9))
    made = members(chosen("random", found))
    assert made == members(chosen("random", found)) != members(chosen("random", found, seed=1))
    counts = pd.Series(made).value_counts()
    assert set(counts.index) == set(NAMES) and counts.min() > 60  # 100 expected, sd 8


@pytest.mark.parametrize("rule", sorted(set(vote.RULES) - {"random"}))
def test_of_equal_candidates_the_first_is_taken(rule):
    same = candidates([[RED, RED, RED]] * N, lowlevel=np.full((N, 3, SIDE, SIDE, 3), 9, np.uint8),
                      seen=np.full((N, SIDE, SIDE, 3), 9, np.uint8))  # fmt: skip
    assert members(chosen(rule, same, semantic=np.ones((N, 3), np.float32))) == ["first"] * N


@pytest.mark.parametrize("rule", ["oracle", "decoded_clip", "medoid"])
def test_rounding_of_the_encoder_does_not_decide(rule):
    """The order of a batch changes the last digits of a network: candidates that differ there are equal."""
    calls = []

    def noisy(images):
        calls.append(images)
        return encode(images) + np.float32([0, 0, 1e-3 * (len(calls) == 1)])  # cosine lower by 6e-9

    found = candidates([[RED, RED, GREEN]], seen=picture(RED)[None])
    cfg = vote.VoteConfig(of=NAMES, rule=rule)
    roles = Roles(np.arange(1), semantic=np.array([RED], np.float32), candidates=found)
    assert members(vote.Vote(cfg, noisy).generate(roles, 0)) == ["first"]


def test_images_without_the_low_level_they_were_drawn_from_cannot_be_compared_with_it():
    with pytest.raises(PerceptError, match="not all kept with the low-level images"):
        chosen("self_consistency", candidates([[RED, GREEN, BLUE]]))


def test_an_image_is_encoded_once_however_often_it_stands_for_election():
    calls = []

    def counted(images):
        calls.append(len(images))
        return encode(images)

    remembered = vote.remembering(counted)
    images = np.stack([picture(one) for one in (RED, GREEN, RED)])
    np.testing.assert_array_equal(remembered(images), encode(images))
    np.testing.assert_array_equal(remembered(images[::-1]), encode(images[::-1]))
    assert calls == [2]


# Files.


def files(folder, sizes=(SIDE, SIDE, SIDE)):
    """Files of three reconstructions, as the rule of a vote is given them."""
    rng = np.random.default_rng(5)
    stimulus, given = np.arange(N) * 3, {}
    for name, side in zip(NAMES, sizes, strict=True):
        for kind in ("images", "recovery"):
            images = rng.integers(0, 255, (N, side, side, 3), dtype=np.uint8)
            store.write_images(folder / f"{name}-{kind}.h5", images, stimulus, images // 2)
            given[f"of_{name}_{kind}"] = folder / f"{name}-{kind}.h5"
        rows = [
            {"set": kind, "caption": f"{name} {kind} {row}"}
            for kind in ("images", "recovery")
            for row in range(N)
        ]
        write_parquet(pd.DataFrame(rows), folder / f"{name}.parquet")
        given[f"of_{name}_details"] = folder / f"{name}.parquet"
    return given


def settings(rule="medoid", **more):
    generator = vote.VoteConfig(of=NAMES, rule=rule, network="tiny_clip", batch_size=3, **more)
    return {"generator": generator.model_dump(mode="json"), "seed": 0}, generator


def run(folder, given, rule="medoid", source=None):
    plain, generator = settings(rule)
    outputs = {name: folder / f"{name}.h5" for name in ("images", "recovery")}
    job = make.Job(outputs | {"details": folder / "details.parquet"}, 0, plain)
    own = ballots.named(given, "vote", plain)
    make.run(vote.Vote(generator, encode), ballots.sets(own, plain, source), job)
    return read_parquet(folder / "details.parquet")


def test_every_chosen_image_is_that_of_the_member_that_is_named(tmp_path):
    given = files(tmp_path)
    details = run(tmp_path / "vote", given)
    for kind in ("images", "recovery"):
        own = details[details["set"] == kind]
        made = store.read_images(tmp_path / f"vote/{kind}.h5")
        assert own["stimulus"].tolist() == made.stimulus.tolist() == list(range(0, 3 * N, 3))
        for row, (member, caption) in enumerate(zip(own["member"], own["caption"], strict=True)):
            source = given[f"of_{member}_{kind}"]
            np.testing.assert_array_equal(made.images[row], store.read_images(source, [row]).images[0])
            lowlevel = store.read_lowlevel(tmp_path / f"vote/{kind}.h5", [row])
            np.testing.assert_array_equal(lowlevel, store.read_lowlevel(source, [row]))
            assert caption == f"{member} {kind} {row}"


def test_the_oracle_alone_is_given_what_was_seen(tmp_path):
    class Source:
        def images(self, stimuli):
            truth = store.read_images(tmp_path / "third-images.h5").images
            return truth[np.asarray(stimuli) // 3]

    details = run(tmp_path / "vote", files(tmp_path), "oracle", Source())
    assert (details.loc[details["set"] == "images", "member"] == "third").all()


def test_candidates_of_other_test_images_are_refused(tmp_path):
    given = files(tmp_path)
    images = np.zeros((N, SIDE, SIDE, 3), np.uint8)
    store.write_images(tmp_path / "second-images.h5", images, np.arange(N), images)
    with pytest.raises(PerceptError, match=r"about different test images.*held out has to be the same"):
        run(tmp_path / "vote", given)


def test_candidates_of_other_sizes_are_refused(tmp_path):
    with pytest.raises(PerceptError, match=r"images of one size.*third: 4 x 4"):
        run(tmp_path / "vote", files(tmp_path, sizes=(SIDE, SIDE, 4)))


# Settings.

ENTRIES = {
    "dataset": {"kind": "twin"},
    "targets": {
        "clip": {"kind": "clip_image", "backbone": "tiny_clip"},
        "tokens": {"kind": "clip_image", "backbone": "tiny_clip", "output": "tokens"},
        "latents": {"kind": "vae_latent", "backbone": "tiny_vae"},
    },
    "decoders": {
        "clip": {"kind": "ridge", "target": "clip"},
        "tokens": {"kind": "ridge", "target": "tokens"},
        "low": {"kind": "lowlevel", "target": "latents"},
    },
}
DRAWN = {"kind": "caption_diffusion", "backbone": "tiny_text", "captioner": "tiny_blip",
         "lowlevel_backbone": "tiny_vae"}  # fmt: skip


def loaded(name="vote", semantic=None, **given):
    made = {one: {"lowlevel": "low", "generator": DRAWN} for one in NAMES}
    made["looked_up"] = {"semantic": "clip", "generator": {"kind": "nearest"}}
    made["other_vote"] = {"generator": {"kind": "vote", "of": NAMES, "network": "tiny_clip"}}
    wanted = {"kind": "vote", "of": NAMES, "network": "tiny_clip", **given}
    made[name] = {"generator": wanted, **({"semantic": semantic} if semantic else {})}
    return config.load(ENTRIES | {"reconstructions": made})


@pytest.mark.parametrize("rule", ["medoid", "self_consistency", "random"])
def test_a_vote_needs_no_decoder_of_its_own(rule):
    assert loaded(rule=rule).reconstructions["vote"].roles == {}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"of": ["first", "secnod", "third"]}, r"vote\.generator\.of` names 'secnod'.*'second'"),
        ({"of": ["first", "second", "other_vote"]}, "names 'other_vote', which is no entry of"),
        ({"of": ["first", "first", "second"]}, "name each once"),
        ({"of": ["first"]}, "at least 2 items"),
        ({"of": ["first", "second"]}, "no medoid can be chosen"),
        ({"rule": "self_consistency", "of": [*NAMES, "looked_up"]}, "looked_up` has no role `lowlevel`"),
        ({"rule": "decoded_clip"}, "lacks semantic"),
        ({"rule": "decoded_clip", "semantic": "tokens"}, r"output: pooled\}, but 'tokens' predicts"),
        ({"rule": "medoid", "semantic": "clip"}, "does not use semantic"),
        ({"rule": "oracle"}, r"`reconstructions\.vote` chooses by what was seen.*with `oracle` in it"),
    ],
)
def test_a_vote_that_cannot_be_is_refused_before_anything_runs(given, message):
    with pytest.raises(ConfigError, match=message):
        loaded(**given)


@pytest.mark.parametrize("name", ["oracle", "vote_oracle", "oracle-of-three"])
def test_the_oracle_is_an_upper_bound_by_its_name_and_its_note(name):
    section = loaded(name, rule="oracle").reconstructions[name].generator
    assert section.uses_truth and section.note.startswith(
        "upper bound, no method: one of first, second, third"
    )


@pytest.mark.parametrize("rule", sorted(set(vote.RULES) - {"oracle"}))
def test_every_other_rule_is_a_method(rule):
    semantic = "clip" if rule == "decoded_clip" else None
    section = loaded(rule=rule, semantic=semantic).reconstructions["vote"].generator
    assert not section.uses_truth and rule in section.note and "bound" not in section.note


def test_drawing_lots_loads_no_network(monkeypatch):
    section = vote.VoteConfig(of=NAMES, rule="random", network="clip_vit_l14")
    assert section.backbones == () and section.n_gpus == 0
    assert section.build(Context()).encode is None


def test_the_built_vote_compares_by_its_network(elsewhere):
    section = vote.VoteConfig(of=NAMES, rule="medoid", network="tiny_clip", device="cpu")
    images = np.random.default_rng(0).integers(0, 255, (2, 3, 32, 32, 3), dtype=np.uint8)
    built = section.build(Context())
    roles = Roles(np.arange(2), candidates=Candidates(NAMES, images))
    by_hand = replace(roles, candidates=Candidates(NAMES, images[:, ::-1]))
    pairs = zip(*(partial(built.generate, seed=0)(one).details for one in (roles, by_hand)), strict=True)
    assert all(one["sample"] == 2 - other["sample"] for one, other in pairs)
