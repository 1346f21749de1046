"""From a recipe to what stands on disk: trained, killed, resumed, begun anew."""

import json
from pathlib import Path

import pytest
import torch
from training_runs import Heard

from edge_embed.evaluate.separate import SeparateModel
from edge_embed.model.checkpoint import describe_checkpoint, load_checkpoint
from edge_embed.model.encoder import load_encoder
from edge_embed.train import separate
from edge_embed.train.recipe import LoopSettings, Recipe
from edge_embed.train.recipe_file import sources
from edge_embed.train.run import Target, pretrain_encoder, train_checkpoint
from edge_embed.train.separate import recipes_of
from edge_embed_runtimes.errors import DataError, OutputError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder


@pytest.fixture
def settings(recipe):
    """A maker of recipes of eight steps, with a state after each third."""

    def make(**changes: object) -> Recipe:
        return recipe(**{"epochs": 2, "max_tokens": 12, "save_every": 3, **changes})

    return make


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "model"


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_and_its_scores(settings, output, tiny_scored_file, write):
    texts = write("texts", [("a cat",), ("",), ("the river",), ("a bird",)])
    made = settings(data=sources("texts", [texts]), skip_bad_rows=True, dev=tiny_scored_file, batch_size=2, epochs=20)
    outcome = train_checkpoint(made, Target(output))
    model, origin = load_checkpoint(output)
    assert [str(tier) for tier in model.ladder] == ["demi 1x8", "short 2x16", "tall 3x32"]
    assert origin.recipe == made.describe() and origin.data.keys() == {"texts.tsv"}
    assert outcome.before.keys() == outcome.after.keys() == {"demi", "short", "tall"}
    assert all(outcome.before[tier] != outcome.after[tier] for tier in outcome.after)
    assert outcome.left_out == {str(texts): 1}
    assert listed(output.parent) == {"model"}


def test_a_killed_training_is_resumed(settings, output, tmp_path):
    train_checkpoint(settings(), Target(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(settings(), Target(output), monitor=Heard(die_after=5))
    assert listed(output.parent) == {"model.work"}
    with pytest.raises(OutputError, match=r"model\.work holds a training that was broken off: go on with --resume"):
        train_checkpoint(settings(), Target(output))
    with pytest.raises(RecipeError, match="holds a training with another seed"):
        train_checkpoint(settings(seed=1), Target(output, resume=True))
    rest = Heard()
    train_checkpoint(settings(), Target(output, resume=True), monitor=rest)
    assert rest.numbers == [4, 5, 6, 7, 8] and listed(output.parent) == {"model"}
    assert describe_checkpoint(output)["space"] == describe_checkpoint(tmp_path / "whole")["space"]


def test_a_killed_training_is_begun_anew(settings, output):
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(settings(), Target(output), monitor=Heard(die_after=5))
    anew = Heard()
    train_checkpoint(settings(), Target(output, replace=True), monitor=anew)
    assert anew.numbers == list(range(1, 9)) and listed(output.parent) == {"model"}


def test_what_stands_at_the_output_is_kept_unless_asked(settings, output):
    output.mkdir(parents=True)
    (output / "mine").touch()
    steps = Heard()
    with pytest.raises(OutputError, match="model exists already: name another place, or pass --force"):
        train_checkpoint(settings(), Target(output), monitor=steps)
    assert steps.numbers == [] and listed(output.parent) == {"model"}
    train_checkpoint(settings(), Target(output, replace=True))
    assert not (output / "mine").exists() and load_checkpoint(output)


def test_a_recipe_that_can_not_be_trained_leaves_nothing(settings, output):
    with pytest.raises(DataError):
        train_checkpoint(settings(data=sources("texts", ["/no/where.txt"])), Target(output))
    assert not output.parent.exists() or listed(output.parent) == set()


def test_nothing_to_resume(settings, output):
    with pytest.raises(OutputError, match=r"model\.work holds no training to go on with: leave --resume out"):
        train_checkpoint(settings(), Target(output, resume=True))


# Models trained apart


def test_each_tier_has_a_recipe_of_its_own(settings):
    made = recipes_of(settings(method="separate", seed=3))
    assert {name: [str(tier) for tier in one.ladder] for name, one in made.items()} == {
        "demi": ["demi 1x8"], "short": ["short 2x16"], "tall": ["tall 3x32"],
    }  # fmt: skip
    assert {(one.method, one.seed, one.epochs) for one in made.values()} == {("srl", 3, 2)}


def test_models_trained_apart_are_killed_and_resumed(settings, output, tiny_texts, tmp_path, monkeypatch):
    made = settings(method="separate")
    train_checkpoint(made, Target(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(made, Target(output), monitor=Heard(die_after=12))  # in the second tier
    assert listed(output.parent / "model.work") >= {"recipe.json", "demi", "short.states"}
    prepared, rest = [], Heard()
    prepare = separate.prepare
    monkeypatch.setattr(separate, "prepare", lambda one, **how: (prepared.append(one), prepare(one, **how))[1])
    train_checkpoint(made, Target(output, resume=True), monitor=rest)
    assert [str(one.ladder.top) for one in prepared] == ["short 2x16", "tall 3x32"]
    assert rest.numbers == [*range(4, 9), *range(1, 9)]
    assert listed(output.parent) == {"model"}
    assert listed(output) == {"demi", "short", "tall", "separate.json"}
    assert json.loads((output / "separate.json").read_text()) == {"format": 1, "tiers": ["demi", "short", "tall"]}
    vectors = SeparateModel.open(output).encode_tiers(tiny_texts[:3])
    assert {tier: found.shape for tier, found in vectors.items()} == {"demi": (3, 8), "short": (3, 16), "tall": (3, 32)}
    for tier in ("demi", "short", "tall"):
        one, other = (describe_checkpoint(folder / tier)["space"] for folder in (output, tmp_path / "whole"))
        assert one == other


# Pre-training


def test_an_encoder_is_pretrained_killed_and_resumed(tiny_family, tiny_text_file, output):
    made = LoopSettings(
        base=str(tiny_family("bert")),
        data=sources("texts", [tiny_text_file]),
        ladder=parse_ladder("1x8,4x32"),
        epochs=2,
        batch_size=16,
        max_tokens=12,
        save_every=3,
    )
    with pytest.raises(KeyboardInterrupt):
        pretrain_encoder(made, Target(output), monitor=Heard(die_after=5))
    rest = Heard()
    outcome = pretrain_encoder(made, Target(output, resume=True), monitor=rest)
    assert rest.numbers == [4, 5, 6, 7, 8] and listed(output.parent) == {"model"}
    assert (outcome.before, outcome.after, outcome.left_out) == ({}, {}, {})
    encoder, base = load_encoder(str(output)), load_encoder(made.base)
    assert encoder.layers == 4 and not torch.equal(encoder.word_embeddings.weight, base.word_embeddings.weight)
