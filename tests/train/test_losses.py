"""The losses against sentence-transformers, and against their formulas written out."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.train.losses import (
    alignment,
    contrastive,
    cosent,
    in_batch_negatives,
    neighbours,
    ranking,
    similarity_kl,
    vector_kl,
)

close = {"atol": 1e-5, "rtol": 0}


def values(seed: int, rows: int = 6, dim: int = 16) -> Tensor:
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def units(seed: int, rows: int = 6, dim: int = 16) -> Tensor:
    return functional.normalize(values(seed, rows, dim), dim=1)


def columns_of(count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Columns of values of any length that take gradients, and the unit vectors made from them."""
    leaves = [values(column).requires_grad_() for column in range(count)]
    return leaves, [functional.normalize(leaf, dim=1) for leaf in leaves]


def kl_written_out(student: Tensor, teacher: Tensor, temperature: float, *, own: bool = True) -> float:
    """Mean over rows of sum p log(p / q), one number at a time; `own` says whether the diagonal counts."""
    total = 0.0
    for row in range(len(student)):
        seen = [place for place in range(student.shape[1]) if own or place != row]
        p = (teacher[row, seen] / temperature).exp()
        q = (student[row, seen] / temperature).exp()
        p, q = p / p.sum(), q / q.sum()
        total += float((p * (p / q).log()).sum())
    return total / len(student)


def gradients(loss: Tensor, *vectors: Tensor) -> tuple[Tensor | None, ...]:
    """Of some vectors, None where nothing flows back."""
    return torch.autograd.grad(loss, vectors, allow_unused=True, retain_graph=True)


# In-batch negatives


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("columns", [2, 3, 4])
def test_in_batch_negatives_equals_sentence_transformers(temperature, columns):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    leaves, texts = columns_of(columns)
    expected = MultipleNegativesRankingLoss(None, scale=1 / temperature).compute_loss_from_embeddings(texts, None)
    found = in_batch_negatives(texts[0], torch.cat(texts[1:]), temperature)
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(gradients(found, *leaves), gradients(expected, *leaves), **close)


def test_in_batch_negatives_written_out():
    first, second = units(0), units(1)
    expected = 0.0
    for row in range(6):
        cosines = [float(first[row] @ second[other]) / 0.1 for other in range(6)]
        expected += math.log(sum(map(math.exp, cosines))) - cosines[row]
    assert in_batch_negatives(first, second, 0.1).item() == pytest.approx(expected / 6, abs=1e-9)


def test_what_is_the_same_is_no_negative():
    first, candidates = units(0), units(1, rows=8)
    same = torch.zeros(6, 8, dtype=torch.bool)
    same[0, [0, 3]] = True  # its own partner stays
    same[2, 7] = True
    rows = []
    for row in range(6):
        left = [other for other in range(8) if other == row or not same[row, other]]
        logits = (first[row] @ candidates[left].T) / 0.05
        rows.append(functional.cross_entropy(logits, torch.tensor(left.index(row))))
    found = in_batch_negatives(first, candidates, 0.05, same=same)
    assert found.item() == pytest.approx(torch.stack(rows).mean().item(), abs=1e-9)
    assert found < in_batch_negatives(first, candidates, 0.05)


def test_rows_that_are_all_the_same_have_no_loss_and_no_gradient():
    first, second = units(0).requires_grad_(), units(1)
    loss = in_batch_negatives(first, second, 0.05, same=torch.ones(6, 6, dtype=torch.bool))
    assert loss.item() == 0
    assert torch.equal(gradients(loss, first)[0], torch.zeros(6, 16, dtype=torch.float64))


# Scored and labelled pairs


@pytest.mark.parametrize("temperature", [0.05, 1.0])
@pytest.mark.parametrize("scores", [[0.0, 5.0, 2.5, 1.0, 4.0, 3.0], [1.0, 1.0, 0.0, 0.5, 0.5, 1.0], [2.0] * 6])
def test_cosent_equals_sentence_transformers(temperature, scores):
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    leaves, texts = columns_of(2)
    labels = torch.tensor(scores)
    expected = CoSENTLoss(None, scale=1 / temperature).compute_loss_from_embeddings(texts, labels)
    found = cosent(*texts, labels, temperature)
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(gradients(found, *leaves), gradients(expected, *leaves), **close)


def test_cosent_written_out():
    first, second, scores = units(0), units(1), [3.0, 1.0, 2.0, 2.0, 0.0, 5.0]
    terms = 1.0
    for one in range(6):
        for other in range(6):
            if scores[one] > scores[other]:
                apart = float(first[other] @ second[other] - first[one] @ second[one])
                terms += math.exp(apart / 0.2)
    assert cosent(first, second, torch.tensor(scores), 0.2).item() == pytest.approx(math.log(terms), abs=1e-9)


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_ranking_is_cosent_of_all_pairs(rows):
    first, near, far = (units(seed, rows) for seed in range(3))
    pairs = [(first[row], near[row], 2.0) for row in range(rows)] + [(first[row], far[row], 1.0) for row in range(rows)]
    pairs += [(first[row], near[other], 0.0) for row in range(rows) for other in range(rows) if row != other]
    one, other = (torch.stack([pair[side] for pair in pairs]) for side in (0, 1))
    expected = cosent(one, other, torch.tensor([score for _, _, score in pairs]), 0.1)
    assert ranking(first, torch.cat([near, far]), 0.1).item() == pytest.approx(expected.item(), abs=1e-9)


@pytest.mark.filterwarnings("ignore:ContrastiveLoss expects binary labels")
@pytest.mark.parametrize("labels", [[0, 1, 1, 0, 0, 1], [0.0, 0.25, 1.0, 0.5, 0.9, 0.1]])
@pytest.mark.parametrize("margin", [0.5, 1.2])
def test_contrastive_equals_sentence_transformers(labels, margin):
    from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

    leaves, texts = columns_of(2)
    numbers = torch.tensor(labels, dtype=torch.float64)
    expected = ContrastiveLoss(None, margin=margin).compute_loss_from_embeddings(texts, numbers)
    found = contrastive(*texts, numbers, margin=margin)
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(gradients(found, *leaves), gradients(expected, *leaves), **close)


def test_contrastive_has_the_margin_of_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

    texts, labels = [units(0), units(1)], torch.zeros(6)
    expected = ContrastiveLoss(None).compute_loss_from_embeddings(texts, labels)
    torch.testing.assert_close(contrastive(*texts, labels), expected, **close)


# Teachers


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_similarity_kl_is_that_of_torch(temperature):
    student, teacher = units(0) @ units(1).T, units(2) @ units(3).T
    expected = functional.kl_div(
        (student / temperature).log_softmax(1), (teacher / temperature).softmax(1), reduction="batchmean"
    )
    found = similarity_kl(student, teacher, temperature).item()
    assert found == pytest.approx(expected.item(), abs=1e-6)
    assert found == pytest.approx(kl_written_out(student, teacher, temperature), abs=1e-6)
    assert found > 0.01


def test_similarity_kl_of_equals_is_zero():
    cosines = units(0) @ units(1).T
    assert similarity_kl(cosines, cosines.clone(), 0.05).item() == pytest.approx(0, abs=1e-12)
    assert similarity_kl(cosines + 0.3, cosines, 0.05).item() == pytest.approx(0, abs=1e-12)  # a shift changes nothing


def test_a_text_is_no_neighbour_of_its_own():
    vectors = units(0)
    found = neighbours(vectors)
    assert found.diagonal().tolist() == [-math.inf] * 6
    away = ~torch.eye(6, dtype=torch.bool)
    torch.testing.assert_close(found[away], (vectors @ vectors.T)[away])


def test_similarity_kl_leaves_out_what_is_infinite():
    student, teacher = neighbours(units(0)), neighbours(units(2))
    found = similarity_kl(student, teacher, 0.05)
    expected = kl_written_out(units(0) @ units(0).T, units(2) @ units(2).T, 0.05, own=False)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_a_single_text_has_no_neighbours():
    student = units(0, rows=1).requires_grad_()
    assert similarity_kl(neighbours(student), neighbours(units(1, rows=1)), 0.05).item() == 0


def test_vector_kl_written_out():
    student, teacher = units(0), units(1)
    expected = kl_written_out(student, teacher, 0.3) * 0.3
    assert vector_kl(student, teacher).item() == pytest.approx(expected, abs=1e-9)
    assert vector_kl(student, teacher, 1.0).item() == pytest.approx(kl_written_out(student, teacher, 1.0), abs=1e-9)


@pytest.mark.parametrize("dim", [1, 4, 16])
def test_alignment_of_a_tier_at_its_target_is_zero(dim):
    targets = units(3)
    assert alignment(functional.normalize(targets[:, :dim]), targets).item() == pytest.approx(0, abs=1e-6)
    assert alignment(-functional.normalize(targets[:, :dim]), targets).item() == pytest.approx(2, abs=1e-6)


def test_alignment_written_out():
    vectors, targets = units(0, dim=4), units(3)
    cosines = [float(vectors[row] @ targets[row, :4] / targets[row, :4].norm()) for row in range(6)]
    assert alignment(vectors, targets).item() == pytest.approx(1 - sum(cosines) / 6, abs=1e-9)


def test_narrow_targets_have_zeros_for_the_rest():
    vectors, targets = units(0), units(3, dim=4)
    padded = torch.cat([targets, torch.zeros(6, 12, dtype=torch.float64)], dim=1)
    assert alignment(vectors, targets).item() == pytest.approx(1 - float((vectors * padded).sum(1).mean()), abs=1e-9)


@pytest.mark.parametrize(
    "loss",
    [
        lambda student, teacher: similarity_kl(student @ units(7).T, teacher @ units(8).T, 0.05),
        lambda student, teacher: similarity_kl(neighbours(student), neighbours(teacher), 0.05),
        vector_kl,
        alignment,
    ],
)
def test_the_teacher_gets_no_gradient(loss):
    student, teacher = units(0).requires_grad_(), units(1).requires_grad_()
    mine, theirs = gradients(loss(student, teacher), student, teacher)
    assert theirs is None
    assert mine.isfinite().all() and mine.abs().sum() > 0.01
