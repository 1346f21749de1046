"""Pre-training: it learns, and what it saves is an encoder like any other."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import Heard

from edge_embed.model.checkpoint import describe_checkpoint
from edge_embed.model.encoder import load_encoder
from edge_embed.model.families import FAMILIES
from edge_embed.model.masked import load_masked_words
from edge_embed.model.tiered import pooled_states
from edge_embed.train.prepare import prepare
from edge_embed.train.pretrain import (
    NewHead,
    Pretraining,
    prepare_pretraining,
    run_pretraining,
    save_pretrained,
)
from edge_embed.train.recipe import LoopSettings
from edge_embed.train.recipe_file import sources
from edge_embed_runtimes.errors import CheckpointError, DataError, EncoderError, LadderError, OutputError
from edge_embed_runtimes.tiers import parse_ladder

Make = Callable[..., LoopSettings]


@pytest.fixture
def settings(tiny_family, tiny_text_file) -> Make:
    """A maker of settings for an encoder with a saved head: four steps a pass."""
    plain = LoopSettings(
        base=str(tiny_family("bert")),
        data=sources("texts", [tiny_text_file]),
        ladder=parse_ladder("1x8,2x16,4x32"),
        epochs=2,
        batch_size=16,
        learning_rate=2e-3,
        max_tokens=16,
        precision="fp32",
    )
    return lambda **changes: replace(plain, **changes)


def pretrained(settings: LoopSettings, **how: object) -> tuple[Pretraining, Heard]:
    training, heard = prepare_pretraining(settings), Heard()
    encoder = run_pretraining(training, monitor=heard, **how)
    assert encoder is training.encoder
    return training, heard


@pytest.mark.parametrize("model_type", FAMILIES)
def test_it_lowers_the_loss_of_every_kind_of_encoder(settings, tiny_family, model_type):
    _, heard = pretrained(settings(base=str(tiny_family(model_type)), epochs=8))
    for tier in ("demi", "short", "tall"):
        before, after = (np.mean([step.losses[tier] for step in part]) for part in (heard.steps[:4], heard.steps[-4:]))
        assert after < 0.93 * before
    assert all(step.loss == pytest.approx(sum(step.losses.values()) / 3) for step in heard.steps)


def test_head_and_encoder_are_trained(settings):
    training = prepare_pretraining(settings(epochs=0.5))
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in (training.encoder, training.head)]
    run_pretraining(training)
    for part, was in zip((training.encoder, training.head), before, strict=True):
        still = [name for name, tensor in part.state_dict().items() if torch.equal(tensor, was[name])]
        assert [name for name in still if ".pooler." not in name and "position_ids" not in name] == []


def test_an_encoder_without_a_head_gets_one_and_a_warning(settings, tiny_encoder, tmp_path):
    made = settings(base=str(tiny_encoder), ladder=parse_ladder("1x8,3x32"), epochs=0.5)
    with pytest.warns(NewHead, match="encoder0 has no saved masked-language head: a new one is tied to its word emb"):
        training = prepare_pretraining(made)
    run_pretraining(training)
    save_pretrained(training, tmp_path / "out")
    again, found = load_masked_words(load_encoder(str(tmp_path / "out")))
    assert found and torch.equal(again.dense.weight, training.head.dense.weight)


@pytest.mark.parametrize(("model_type", "pooling"), [("bert", "mean"), ("roberta", "cls"), ("modernbert", "mean")])
def test_what_is_saved_is_an_encoder(settings, tiny_family, tiny_texts, recipe, tmp_path, model_type, pooling):
    from sentence_transformers import SentenceTransformer

    training = prepare_pretraining(settings(base=str(tiny_family(model_type)), epochs=0.5))
    training.encoder.settings = replace(training.encoder.settings, pooling=pooling)
    run_pretraining(training)
    save_pretrained(training, tmp_path / "out")
    again = load_encoder(str(tmp_path / "out"))
    assert again.settings == training.encoder.settings and again.layers == 4
    mine, saved = (pooled_states(one, tiny_texts, layers=(4,))[4] for one in (training.encoder, again))
    np.testing.assert_allclose(saved, mine, atol=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # sentence-transformers' own, on module names of version 5
        theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    found = theirs.encode(tiny_texts, show_progress_bar=False)
    np.testing.assert_allclose(found, mine / np.linalg.norm(mine, axis=1, keepdims=True), atol=1e-5)
    made = prepare(recipe(base=str(tmp_path / "out"), ladder=parse_ladder("1x8,4x32")))
    assert made.recipe.base_name == "out"


def test_it_says_where_it_comes_from(settings, tmp_path, tiny_text_file):
    training, _ = pretrained(settings(epochs=0.25))
    save_pretrained(training, tmp_path / "out")
    told = json.loads((tmp_path / "out" / "pretraining.json").read_text())
    assert told["origin"]["base_model"] == Path(training.settings.base).name
    assert told["origin"]["recipe"] == training.settings.describe()
    assert told["origin"]["data"].keys() == {tiny_text_file.name}
    with pytest.raises(CheckpointError, match="is an encoder without a ladder: run 'edge-embed train' on it first"):
        describe_checkpoint(tmp_path / "out")


def test_nothing_is_overwritten(settings, tmp_path):
    training = prepare_pretraining(settings())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(OutputError, match="out exists already"):
        save_pretrained(training, tmp_path / "out")
    save_pretrained(training, tmp_path / "out", replace=True)
    assert not (tmp_path / "out" / "mine").exists()


def test_a_killed_run_goes_on_as_if_nothing_had_happened(settings, tmp_path):
    made = settings(save_every=3, dropout=0.1)
    whole, heard = pretrained(made)
    with pytest.raises(KeyboardInterrupt):
        run_pretraining(prepare_pretraining(made), work=tmp_path, monitor=Heard(die_after=5))
    resumed, again = pretrained(made, work=tmp_path)
    assert again.losses == {step: losses for step, losses in heard.losses.items() if step > 3}
    for part in ("encoder", "head"):
        state, expected = getattr(resumed, part).state_dict(), getattr(whole, part).state_dict()
        other = [name for name, tensor in expected.items() if not torch.equal(state[name], tensor)]
        assert [name for name in other if ".pooler." not in name] == []  # the pooler is new at each load


def test_an_encoder_without_a_mask_token(settings):
    training = prepare_pretraining(settings())
    training.encoder.hub_tokenizer.mask_token = None
    with pytest.raises(EncoderError, match="bert0 has no mask token: pre-training needs one; choose another encoder"):
        run_pretraining(training)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"base": "nonsense"}, EncoderError),
        ({"data": sources("texts", ["/no/where.txt"])}, DataError),
        ({"ladder": parse_ladder("1x8,5x16")}, LadderError),
        ({"ladder": parse_ladder("1x8,2x33")}, LadderError),
    ],
)
def test_what_is_refused(settings, changes, error):
    with pytest.raises(error):
        prepare_pretraining(settings(**changes))
