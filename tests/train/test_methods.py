"""The methods: against sentence-transformers on one model and the same texts, and against their formulas."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.train.losses import in_batch_negatives
from edge_embed.train.methods import cut, mrl, srl, two_d_matryoshka
from edge_embed_runtimes.tokenizer import pad

DIMS = {"demi": 4, "short": 8, "tall": 16}
close = {"atol": 1e-5, "rtol": 0}
PAIRS = 6


@pytest.fixture(scope="module")
def columns(tiny_texts) -> tuple[list[str], list[str]]:
    return tiny_texts[:PAIRS], tiny_texts[PAIRS : 2 * PAIRS]


@pytest.fixture
def encoder(tiny_encoder: Path) -> Encoder:
    return load_encoder(str(tiny_encoder)).eval()


def pooled_of(encoder: Encoder, columns: Sequence[Sequence[str]]) -> list[Tensor]:
    texts = [text for column in columns for text in column]
    padded = pad(encoder.tokenizer().encode(texts)[0], pad_id=encoder.tokenizer().pad_id)
    ids, mask = torch.from_numpy(padded.input_ids), torch.from_numpy(padded.attention_mask)
    return [encoder.pool(state, mask) for state in encoder(ids, mask)]


def ranking(vectors: Tensor) -> Tensor:
    """The task of pairs."""
    return in_batch_negatives(vectors[:PAIRS], vectors[PAIRS:], 0.05)


def word_gradients(loss: Tensor, table: torch.nn.Embedding) -> Tensor:
    return torch.autograd.grad(loss, table.weight)[0]


def assert_same(mine: Tensor, expected: Tensor, encoder: Encoder, theirs) -> None:
    """Equal losses, and equal gradients down to the words."""
    torch.testing.assert_close(mine, expected, **close)
    found = word_gradients(mine, encoder.word_embeddings)
    wanted = word_gradients(expected, theirs[0].auto_model.get_input_embeddings())
    assert wanted.abs().max() > 1e-3
    torch.testing.assert_close(found, wanted, **close)


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("dims", [(8, 32), (32, 8), (16, 16)])
def test_2d_matryoshka_equals_sentence_transformers(encoder, theirs, columns, layer, dims, monkeypatch):
    from sentence_transformers.sentence_transformer import losses

    known = [32, 16, 8]
    draws = iter([[known.index(dims[0])], [layer], [known.index(dims[1])]])
    monkeypatch.setattr(random, "sample", lambda _, count: next(draws))
    ranked = losses.MultipleNegativesRankingLoss(theirs, scale=20.0)
    features = [theirs.preprocess(column) for column in columns]
    expected = losses.Matryoshka2dLoss(theirs, ranked, known)(features, None)
    views = two_d_matryoshka(pooled_of(encoder, columns), layer, dims, ranking, task_weight=1.0, kl_weight=1.0)
    assert [view.vectors.shape[1] for view in views.values()] == list(dims)
    assert_same(views["last"].loss + views["lower"].loss, expected, encoder, theirs)


def test_matryoshka_equals_sentence_transformers(encoder, theirs, columns):
    from sentence_transformers.sentence_transformer import losses

    ranked = losses.MultipleNegativesRankingLoss(theirs, scale=20.0)
    features = [theirs.preprocess(column) for column in columns]
    expected = losses.MatryoshkaLoss(theirs, ranked, [32, 16, 8])(features, None)
    views = mrl(pooled_of(encoder, columns), {"a": 8, "b": 16, "c": 32}, ranking, task_weight=1.0)
    assert {name: view.vectors.shape[1] for name, view in views.items()} == {"a": 8, "b": 16, "c": 32}
    assert_same(sum(view.loss for view in views.values()), expected, encoder, theirs)


def test_weights_of_2d_matryoshka(encoder, columns):
    pooled = pooled_of(encoder, columns)

    def losses(task: float, kl: float) -> list[float]:
        views = two_d_matryoshka(pooled, 1, (8, 16), ranking, task_weight=task, kl_weight=kl)
        return [view.loss.item() for view in views.values()]

    (last, lower), (nothing, apart) = losses(1.0, 0.0), losses(0.0, 1.0)
    assert nothing == 0 and apart > 0.01
    assert losses(0.5, 2.0) == pytest.approx([0.5 * last, 0.5 * lower + 2 * apart], abs=1e-6)


def test_weight_of_matryoshka(encoder, columns):
    pooled = pooled_of(encoder, columns)
    one, half = (mrl(pooled, {"a": 8}, ranking, task_weight=weight)["a"].loss.item() for weight in (1.0, 0.5))
    assert half == pytest.approx(one / 2, abs=1e-6) and one > 0.1


def test_cut_gives_unit_vectors():
    state = torch.arange(1.0, 13.0).reshape(3, 4)
    torch.testing.assert_close(cut(state, 2), functional.normalize(state[:, :2], dim=1))
    assert torch.allclose(cut(state, 3).norm(dim=1), torch.ones(3))


# SRL


def tiers(seed: int = 0) -> dict[str, Tensor]:
    vectors = {}
    for place, (name, dim) in enumerate(DIMS.items()):
        generator = torch.Generator().manual_seed(seed + place)
        values = torch.randn(2 * PAIRS, dim, generator=generator, dtype=torch.float64)
        vectors[name] = functional.normalize(values, dim=1).requires_grad_()
    return vectors


def cross(vectors: Tensor) -> Tensor:
    return vectors[:PAIRS] @ vectors[PAIRS:].T


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def srl_written_out(vectors: dict[str, Tensor], *, task: float, kl: float, temperature: float) -> dict[str, float]:
    """Zhuang et al. 2024, section 3.1, one row at a time."""
    cosines = {}
    for name, both in vectors.items():
        values = both.detach().numpy()
        cosines[name] = np.array([[values[i] @ values[PAIRS + j] for j in range(PAIRS)] for i in range(PAIRS)])
    losses = {}
    for name in vectors:
        ranked = apart = 0.0
        for row in range(PAIRS):
            mine = softmax(cosines[name][row] / temperature)
            full = softmax(cosines["tall"][row] / temperature)
            ranked -= np.log(mine[row]) / PAIRS
            apart += sum(p * np.log(p / q) for p, q in zip(full, mine, strict=True)) / PAIRS
        losses[name] = task * ranked + (kl * apart if name != "tall" else 0.0)
    return losses


@pytest.mark.parametrize(("task", "kl"), [(1.0, 1.0), (0.7, 0.4), (0.0, 1.0), (2.0, 0.0)])
def test_srl_is_its_formula(task, kl):
    vectors = tiers()
    views = srl(
        vectors,
        "tall",
        lambda both: in_batch_negatives(both[:PAIRS], both[PAIRS:], 0.1),
        cross,
        task_weight=task,
        kl_weight=kl,
        temperature=0.1,
    )
    expected = srl_written_out(vectors, task=task, kl=kl, temperature=0.1)
    assert {name: view.loss.item() for name, view in views.items()} == pytest.approx(expected, abs=1e-9)
    assert all(view.vectors is vectors[name] for name, view in views.items())


def test_the_full_tier_learns_from_the_task_alone():
    vectors = tiers()
    views = srl(vectors, "tall", ranking, cross, task_weight=0.0, kl_weight=1.0, temperature=0.1)
    sum(view.loss for view in views.values()).backward()
    assert vectors["tall"].grad.abs().sum() == 0
    assert vectors["demi"].grad.abs().sum() > 0 and vectors["short"].grad.abs().sum() > 0
