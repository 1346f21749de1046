"""The loop: what a whole training does, and what it is when the seed is the same."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from training_runs import Heard, heard_of, same, weights_of

from edge_embed.model.tiered import encode_tiers
from edge_embed.train.finetune import fine_tune, job_of, layer_rates
from edge_embed.train.hardware import use_bf16
from edge_embed.train.prepare import Training
from edge_embed.train.recipe import LossWeights
from edge_embed.train.recipe_file import sources
from edge_embed_runtimes.errors import RecipeError


def test_a_run_brings_the_tiers_nearer(short, tiny_texts):
    training = short(epochs=5, max_tokens=64)
    heard = heard_of(training)
    assert not training.model.training
    first, last = (np.mean([report.loss for report in part]) for part in (heard.steps[:4], heard.steps[-4:]))
    assert last < 0.9 * first
    assert all(np.isfinite(vectors).all() for vectors in encode_tiers(training.model, tiny_texts).values())


def test_the_seed_decides_the_weights(short):
    runs = []
    for seed in (1, 1, 2):
        training = short(seed=seed, epochs=0.5, dropout=0.1)
        torch.rand(3)  # what the process drew before plays no part
        fine_tune(training)
        runs.append(weights_of(training))
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_every_part_is_trained(short):
    training = short(epochs=0.5)
    before = weights_of(training)
    fine_tune(training)
    still = [name for name, tensor in training.model.state_dict().items() if torch.equal(tensor, before[name])]
    assert [name for name in still if "pooler" not in name and "position_ids" not in name] == []


def test_a_learning_rate_of_zero_changes_nothing(short):
    training = short(learning_rate=0.0, epochs=0.5)
    before = weights_of(training)
    fine_tune(training)
    assert same(weights_of(training), before)


def test_a_share_of_the_start_is_kept(short):
    trained, kept = short(epochs=0.25), short(epochs=0.25, keep_start=0.25)
    before = weights_of(kept)
    fine_tune(trained)
    fine_tune(kept)
    after, mixed = weights_of(trained), weights_of(kept)
    assert not same(after, before)
    assert all(torch.allclose(mixed[name], 0.25 * before[name] + 0.75 * after[name], atol=1e-6) for name in before)


def test_upper_layers_learn_more_slowly(short):
    changes = []
    for top_rate in (1.0, 0.01):
        training = short(epochs=0.25, top_rate=top_rate)
        before = weights_of(training)
        fine_tune(training)
        after = weights_of(training)
        names = [name for name in after if name.endswith("intermediate.dense.weight")]
        changes.append([float((after[name] - before[name]).abs().mean()) for name in names])
    alike, graded = changes
    assert len(graded) > 2
    assert graded[0] > 0.5 * alike[0] and graded[-1] < 0.05 * alike[-1]
    assert graded == sorted(graded, reverse=True)


def test_layers_stand_on_a_geometric_line(short):
    training = short(top_rate=0.01)
    rates = list(layer_rates(training.model.encoder, 0.01).items())
    assert rates[0][1] == 1 and rates[-1][1] == pytest.approx(0.01)
    steps = [after / before for (_, before), (_, after) in pairwise(rates)]
    assert steps == pytest.approx([steps[0]] * len(steps))
    named = [name for name, _ in job_of(training).objective.named_parameters()]
    assert all(any(name.startswith(start) for name in named) for start, _ in rates)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_that_of_the_recipe(short, dropout):
    training = short(dropout=dropout, epochs=0.25)
    fine_tune(training)
    assert {module.p for module in training.model.modules() if isinstance(module, nn.Dropout)} == {dropout}


def test_texts_longer_than_the_recipe_allows_are_cut(short):
    training = short(max_tokens=5, epochs=0.25)
    seen = []
    training.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    fine_tune(training)
    assert seen == [5]


def test_all_kinds_of_rows_in_one_training(short, write, tiny_texts):
    one, two, three = tiny_texts[:17], tiny_texts[17:34], tiny_texts[34:51]
    rows = {
        "texts": [(text,) for text in one],
        "pairs": list(zip(one, two, strict=True)),
        "triplets": list(zip(one, two, three, strict=True)),
        "ranked": list(zip(one, two, three, strict=True)),
        "scored": [(*pair, place) for place, pair in enumerate(zip(one, two, strict=True))],
        "labelled": [(*pair, place % 2) for place, pair in enumerate(zip(one, two, strict=True))],
        "groups": list(zip(one, two, three, strict=True)),
    }
    data = tuple(source for kind, table in rows.items() for source in sources(kind, [write(kind, table)]))
    training = short(data=data, epochs=1)
    heard = heard_of(training)
    assert len(heard.steps) == 14  # each kind has a batch of 16 rows, and one of a single row
    assert all(tensor.isfinite().all() for tensor in training.model.state_dict().values())


def test_batches_that_teach_nothing_do_no_harm(short, write, tiny_texts):
    data = sources("texts", [write("texts", [(text,) for text in tiny_texts[:16]])])
    data += sources("pairs", [write("pairs", [("a cat", "a bird"), ("the river", "the train")])])
    alone = LossWeights(task=1, kl=0, distill=0, directions=0, align=0)
    heard = heard_of(short(data=data, teacher=(), weights=alone, epochs=1))
    losses = sorted(report.loss for report in heard.steps)
    assert len(losses) == 2 and losses[0] == 0 < losses[1]


def test_a_run_says_nothing_of_its_own(short, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = short(epochs=0.25)
    capfd.readouterr()
    fine_tune(training)
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_precisions(short, precision):
    exact = heard_of(short(epochs=0.5)).steps
    found = heard_of(short(epochs=0.5, precision=precision)).steps
    assert all(one.loss == pytest.approx(other.loss, rel=0.03) for one, other in zip(exact, found, strict=True))
    assert (found[0].loss == exact[0].loss) != use_bf16(short(precision=precision).recipe)


def test_gradient_checkpointing_gives_the_same_losses(short, caplog):
    plain, heard = heard_of(short(dropout=0.2)), Heard()
    training, runs = short(gradient_checkpointing=True, dropout=0.2), []
    training.model.encoder.backbone.encoder.layer[0].attention.register_forward_hook(lambda *_: runs.append(1))
    transformers.utils.logging.warning_once.cache_clear()
    fine_tune(training, monitor=heard)
    assert len(runs) == 2 * len(heard.steps)
    assert caplog.messages == []
    assert all(heard.losses[step] == pytest.approx(losses, rel=1e-4) for step, losses in plain.losses.items())


def spoil(training: Training) -> Training:
    with torch.no_grad():
        training.model.encoder.backbone.embeddings.word_embeddings.weight.fill_(torch.inf)
    return training


def test_a_loss_that_is_no_number(short, tiny_text_file):
    message = (
        rf"the loss is nan in step 1, with learning_rate 1: choose a smaller one, .* these rows: {tiny_text_file}, li"
    )
    with pytest.raises(RecipeError, match=message) as caught:
        fine_tune(spoil(short(learning_rate=1)))
    places = str(caught.value).partition("these rows: ")[2]
    assert places.count(f"{tiny_text_file}, line ") == 5 and places.endswith(" and 11 more")


def test_the_work_folder_is_the_only_place_that_is_written(short, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fine_tune(short(save_every=2), work=tmp_path / "work")
    assert list(Path().iterdir()) == [] and (tmp_path / "work").is_dir()
