"""Training on the tiny encoder: the start, what a short run changes, and what it repeats exactly."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed.model.checkpoint import space_of
from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import encode_tiers, pooled_states
from edge_embed.train.data import Batch, Collator, RowDataset
from edge_embed.train.loop import Training, batch_loss, prepare, run
from edge_embed.train.losses import alignment, in_batch_negatives
from edge_embed.train.recipe import LossWeights, Recipe
from edge_embed_runtimes.errors import DataError, EncoderError, LadderError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder

Make = Callable[..., Recipe]


@pytest.fixture(scope="session")
def recipe(tiny_encoder: Path, tiny_text_file: Path) -> Make:
    """A recipe for the tiny encoder: twenty batches of 16 texts, changed as asked."""
    plain = Recipe(
        str(tiny_encoder),
        texts=(tiny_text_file,),
        ladder=parse_ladder("1x8,2x16,3x32"),
        epochs=5,
        batch_size=16,
        learning_rate=5e-4,
    )

    def make(**changes: object) -> Recipe:
        return replace(plain, **changes)

    return make


def batch_of(training: Training) -> Batch:
    """All rows of a corpus in one batch."""
    tokenizer = training.model.encoder.tokenizer()
    dataset = RowDataset(training.corpus, tokenizer)
    return Collator(dataset.ids, tokenizer.pad_id)([dataset[row] for row in range(len(dataset))])


@torch.inference_mode()
def loss_of(training: Training) -> float:
    return batch_loss(training, training.model.eval(), batch_of(training)).item()


@torch.inference_mode()
def distance_of(training: Training, tier: str) -> float:
    """One minus the mean cosine of a tier to its targets."""
    vectors = encode_tiers(training.model, training.corpus.texts)[tier]
    return alignment(torch.from_numpy(vectors), training.teacher @ training.basis).item()


def weights_of(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


def test_the_prepared_top_is_the_base_encoder_turned(recipe, tiny_encoder, tiny_texts):
    training = prepare(recipe())
    found = encode_tiers(training.model, tiny_texts)["tall"]
    base = pooled_states(load_encoder(str(tiny_encoder)), tiny_texts, layers=(3,))[3]
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    np.testing.assert_allclose(training.teacher.numpy(), base, atol=1e-6)
    np.testing.assert_allclose(found, base @ training.basis.numpy(), atol=1e-5)
    np.testing.assert_allclose(found @ found.T, base @ base.T, atol=1e-5)
    assert distance_of(training, "tall") < 1e-5


def test_prepared_heads_are_nearer_than_truncation(recipe):
    fitted = prepare(recipe())
    plain = prepare(recipe())
    for tier in plain.model.ladder:
        plain.model.set_head(tier, torch.eye(32)[:, : tier.dim])
    for tier in ("demi", "short"):
        assert distance_of(fitted, tier) < 0.5 * distance_of(plain, tier)


def test_a_ladder_below_the_full_model_learns_from_all_of_it(recipe, tiny_encoder, tiny_texts):
    training = prepare(recipe(ladder=parse_ladder("1x8,2x16")))
    assert training.model.encoder.layers == 2
    base = pooled_states(load_encoder(str(tiny_encoder)), tiny_texts, layers=(3,))[3]
    np.testing.assert_allclose(training.teacher.numpy(), base / np.linalg.norm(base, axis=1, keepdims=True), atol=1e-6)
    before = loss_of(training)
    run(training)
    assert loss_of(training) < before


def test_truncate_keeps_the_directions_of_the_encoder(recipe):
    training = prepare(recipe(head="truncate"))
    assert torch.equal(training.basis, torch.eye(32)) and not training.model.heads
    assert distance_of(training, "tall") < 1e-5


def test_prepare_says_where_it_comes_from(recipe, tiny_text_file):
    training = prepare(recipe())
    origin = training.origin
    assert origin.base_model == Path(training.recipe.base).name and origin.recipe["texts"] == ["tiny.txt"]
    assert origin.data.keys() == {tiny_text_file.name} and set(origin.versions) == {
        "edge-embed", "torch", "transformers",
    }  # fmt: skip
    json.dumps([origin.recipe, origin.versions])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"base": "nonsense"}, EncoderError),
        ({"texts": (Path("/no/where.txt"),)}, DataError),
        ({"ladder": parse_ladder("1x8,4x16")}, LadderError),
        ({"ladder": parse_ladder("1x8,2x33")}, LadderError),
    ],
)
def test_prepare_refuses(recipe, changes, error):
    with pytest.raises(error):
        prepare(recipe(**changes))


@pytest.mark.parametrize("head", ["project", "truncate"])
def test_a_short_run_brings_the_tiers_nearer(recipe, head):
    training = prepare(recipe(head=head))
    before, apart = loss_of(training), {tier: distance_of(training, tier) for tier in ("demi", "short")}
    model = run(training)
    assert model is training.model and not model.training
    assert loss_of(training) < 0.9 * before
    for tier, was in apart.items():
        assert distance_of(training, tier) < was


def test_32_pairs_are_overfitted(recipe, tiny_texts, tmp_path):
    partners = tiny_texts[32:]
    rows = "".join(f"{first}\t{second}\n" for first, second in zip(tiny_texts[:32], partners, strict=True))
    (tmp_path / "pairs.tsv").write_text(f"one\ttwo\n{rows}")
    weights = LossWeights(task=1.0, kl=0.0, align=0.0)
    training = prepare(
        recipe(texts=(), pairs=(tmp_path / "pairs.tsv",), weights=weights, epochs=60, batch_size=32, learning_rate=2e-3)
    )

    def task_losses() -> list[float]:
        first, second = (encode_tiers(training.model, texts) for texts in (tiny_texts[:32], partners))
        return [
            in_batch_negatives(torch.from_numpy(first[tier]), torch.from_numpy(second[tier]), 0.05).item()
            for tier in first
        ]

    before = task_losses()
    run(training)
    for was, now in zip(before, task_losses(), strict=True):
        assert now < 0.2 * was


def test_the_seed_decides_the_weights(recipe):
    runs = []
    for seed in (1, 1, 2):
        training = prepare(recipe(seed=seed, epochs=0.5, dropout=0.1))
        torch.rand(3)  # what the process drew before plays no part
        run(training)
        runs.append((weights_of(training), space_of(training.model)))
    (first, space), (second, space_again), (_, other_space) = runs
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert space == space_again != other_space


def test_every_part_is_trained(recipe):
    training = prepare(recipe(epochs=0.25))
    before = weights_of(training)
    run(training)
    same = [name for name, tensor in training.model.state_dict().items() if torch.equal(tensor, before[name])]
    assert [name for name in same if "pooler" not in name and "position_ids" not in name] == []


def test_a_learning_rate_of_zero_changes_nothing(recipe):
    training = prepare(recipe(learning_rate=0.0, epochs=0.25))
    before = weights_of(training)
    run(training)
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.model.state_dict().items())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_that_of_the_recipe(recipe, dropout):
    training = prepare(recipe(dropout=dropout, epochs=0.25))
    run(training)
    found = {module.p for module in training.model.modules() if isinstance(module, torch.nn.Dropout)}
    assert found == {dropout}


@pytest.mark.parametrize("with_texts", [True, False])
def test_batches_with_pairs(recipe, tiny_pair_file, tiny_text_file, with_texts):
    texts = (tiny_text_file,) if with_texts else ()
    training = prepare(recipe(texts=texts, pairs=(tiny_pair_file,)))
    assert len(batch_of(training)["pairs"]) == 24
    before = loss_of(training)
    run(training)
    assert loss_of(training) < before


def test_the_task_counts_only_where_there_are_pairs(recipe, tiny_pair_file, tiny_text_file):
    heavy = LossWeights(task=5.0)
    losses = {}
    for name, files in (("texts", {}), ("pairs", {"pairs": (tiny_pair_file,)})):
        losses[name] = [loss_of(prepare(recipe(weights=weights, **files))) for weights in (LossWeights(), heavy)]
    assert losses["texts"][0] == losses["texts"][1]
    assert losses["pairs"][1] > losses["pairs"][0] + 1e-3


def test_a_single_pair_in_a_batch_has_no_task(recipe, tmp_path):
    (tmp_path / "pairs.tsv").write_text("one\ttwo\na cat\ta bird\n")
    losses = [
        loss_of(prepare(recipe(texts=(), pairs=(tmp_path / "pairs.tsv",), weights=LossWeights(task=task))))
        for task in (1.0, 50.0)
    ]
    assert losses[0] == losses[1]


def test_a_last_batch_of_one_text_is_trained_on(recipe, tiny_texts, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(tiny_texts[:17]) + "\n")
    training = prepare(recipe(texts=(tmp_path / "texts.txt",), epochs=1))
    assert len(training.corpus.rows) % training.recipe.batch_size == 1
    run(training)
    assert all(tensor.isfinite().all() for tensor in training.model.state_dict().values())


def test_texts_longer_than_the_recipe_allows_are_cut(recipe):
    training = prepare(recipe(max_tokens=5, epochs=0.25))
    seen = []
    forward = training.model.encoder.forward
    training.model.encoder.forward = lambda ids, mask: (seen.append(ids.shape[1]), forward(ids, mask))[1]
    run(training)
    assert seen and max(seen) == 5


def test_a_loss_that_is_no_number(recipe):
    training = prepare(recipe(learning_rate=1.0))
    with torch.no_grad():
        training.model.encoder.backbone.embeddings.word_embeddings.weight.fill_(torch.inf)
    with pytest.raises(RecipeError, match=r"the loss is nan with learning_rate 1: choose a smaller one"):
        run(training)


def test_progress_is_told(recipe):
    told = []
    training = prepare(recipe(epochs=1), progress=lambda *step: told.append(step))
    run(training, progress=lambda *step: told.append(step))
    last = {stage: (done, total) for stage, done, total in told}
    assert last == {"full model": (64, 64), "fit heads": (64, 64), "train": (4, 4)}
    assert [done for stage, done, _ in told if stage == "train"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("epochs", "steps"), [(0.0, 1), (0.1, 1), (1.5, 6)])
def test_the_number_of_steps(recipe, epochs, steps):
    told = []
    run(prepare(recipe(epochs=epochs)), progress=lambda *step: told.append(step))
    assert told[-1] == ("train", steps, steps)


def test_a_run_says_nothing_of_its_own(recipe, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(prepare(recipe(epochs=0.25)))
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""
    assert list(tmp_path.iterdir()) == []
