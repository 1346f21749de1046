"""The losses against their formulas written out."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.train.losses import alignment, in_batch_negatives, self_distillation, similarity_kl, srl

DIMS = {"demi": 4, "short": 8, "tall": 16}


def units(seed: int, rows: int = 6, dim: int = 16) -> Tensor:
    vectors = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(vectors, dim=1)


def tiers(seed: int) -> dict[str, Tensor]:
    return {name: units(seed + place, dim=dim) for place, (name, dim) in enumerate(DIMS.items())}


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


@pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0])
def test_in_batch_negatives_is_multiple_negatives_ranking(temperature):
    first, second = units(0), units(1)
    scores = functional.cosine_similarity(first[:, None], second[None], dim=-1) * (1 / temperature)
    expected = torch.stack([scores[row].logsumexp(0) - scores[row, row] for row in range(6)]).mean()
    assert in_batch_negatives(first, second, temperature).item() == pytest.approx(expected.item(), abs=1e-6)


def test_in_batch_negatives_equals_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    theirs = MultipleNegativesRankingLoss(None, scale=20.0)
    expected = theirs.compute_loss_from_embeddings([units(0), units(1)], None)
    assert in_batch_negatives(units(0), units(1), 0.05).item() == pytest.approx(expected.item(), abs=1e-6)


def test_in_batch_negatives_falls_as_partners_come_near():
    first, second = units(0), units(1)
    assert in_batch_negatives(first, first, 0.05) < in_batch_negatives(first, second, 0.05)


def test_similarity_kl_is_that_of_torch():
    student, teacher = units(0) @ units(1).T, units(2) @ units(3).T
    for temperature in (0.05, 1.0):
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


def test_similarity_kl_leaves_out_what_is_infinite():
    student, teacher = units(0) @ units(1).T, units(2) @ units(3).T
    own = torch.eye(6, dtype=torch.bool)
    found = similarity_kl(student.masked_fill(own, -torch.inf), teacher.masked_fill(own, -torch.inf), 0.05)
    assert found.item() == pytest.approx(kl_written_out(student, teacher, 0.05, own=False), abs=1e-6)


def test_the_teacher_gets_no_gradient():
    student, teacher = (units(0) @ units(1).T).requires_grad_(), (units(2) @ units(3).T).requires_grad_()
    similarity_kl(student, teacher, 0.05).backward()
    assert teacher.grad is None
    assert student.grad is not None and student.grad.abs().sum() > 0


def test_gradients_with_a_left_out_diagonal_are_finite():
    mine = units(0).float().requires_grad_()
    self_distillation({"demi": mine}, units(1).float(), torch.eye(16), temperature=0.05, kl=1.0, align=1.0).backward()
    assert mine.grad is not None and mine.grad.isfinite().all() and mine.grad.abs().sum() > 0


def test_srl_is_the_mean_over_the_tiers():
    first, second = tiers(10), tiers(20)
    teacher = first["tall"] @ second["tall"].T
    expected = 0.0
    for name in DIMS:
        cosines = first[name] @ second[name].T
        expected += 0.7 * functional.cross_entropy(cosines / 0.1, torch.arange(6)).item()
        if name != "tall":
            expected += 0.4 * kl_written_out(cosines, teacher, 0.1)
    found = srl(first, second, "tall", temperature=0.1, task=0.7, kl=0.4)
    assert found.item() == pytest.approx(expected / 3, abs=1e-6)


def test_the_full_tier_is_taught_by_the_task_alone():
    first = {name: vectors.requires_grad_() for name, vectors in tiers(10).items()}
    second = {name: vectors.requires_grad_() for name, vectors in tiers(20).items()}
    srl(first, second, "tall", temperature=0.1, task=0.0, kl=1.0).backward()
    assert first["tall"].grad.abs().sum() == 0 and second["tall"].grad.abs().sum() == 0
    assert first["demi"].grad.abs().sum() > 0 and second["short"].grad.abs().sum() > 0
    alone = srl({"tall": first["tall"]}, {"tall": second["tall"]}, "tall", temperature=0.1, task=0.0, kl=1.0)
    assert alone.item() == 0


def test_self_distillation_written_out():
    vectors, teacher, basis = tiers(10), units(3), torch.linalg.qr(units(4, rows=16))[0]
    targets = teacher @ basis
    expected = 0.0
    for name, dim in DIMS.items():
        expected += 0.6 * kl_written_out(vectors[name] @ vectors[name].T, teacher @ teacher.T, 0.1, own=False)
        cosines = [vectors[name][i] @ targets[i, :dim] / targets[i, :dim].norm() for i in range(6)]
        expected += 2.5 * (1 - sum(map(float, cosines)) / 6)
    found = self_distillation(vectors, teacher, basis, temperature=0.1, kl=0.6, align=2.5)
    assert found.item() == pytest.approx(expected / 3, abs=1e-6)


def test_a_model_equal_to_its_teacher_loses_nothing():
    teacher, basis = units(3), torch.linalg.qr(units(4, rows=16))[0]
    found = self_distillation({"tall": teacher @ basis}, teacher, basis, temperature=0.05, kl=1.0, align=4.0)
    assert found.item() == pytest.approx(0, abs=1e-9)


def test_self_distillation_of_a_single_text_is_its_alignment():
    vectors, teacher = units(0, rows=1, dim=4), units(3, rows=1)
    basis = torch.eye(16, dtype=torch.float64)
    found = self_distillation({"demi": vectors}, teacher, basis, temperature=0.05, kl=1.0, align=2.0)
    assert found.item() == pytest.approx(2 * alignment(vectors, teacher).item(), abs=1e-6)


@pytest.mark.parametrize("dim", [1, 4, 16])
def test_alignment_of_a_tier_at_its_target_is_zero(dim):
    targets = units(3)
    assert alignment(functional.normalize(targets[:, :dim]), targets).item() == pytest.approx(0, abs=1e-6)
    assert alignment(-functional.normalize(targets[:, :dim]), targets).item() == pytest.approx(2, abs=1e-6)
