"""The losses: pure functions of tier vectors.

Every vector here has unit length, so a product of two is their cosine. `Tiers` maps a tier's name to its (n, dim)
vectors.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

Tiers = Mapping[str, Tensor]


def in_batch_negatives(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each row's partner among all partners.

    Multiple negatives ranking (Henderson et al. 2017, arXiv 1705.00652, section 4.4).

    Args:
        first, second: (n, dim), row i of one belongs to row i of the other.
    """
    return functional.cross_entropy(first @ second.T / temperature, torch.arange(len(first), device=first.device))


def similarity_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of a student's distributions over neighbours from the teacher's, which gets no gradient.

    Args:
        student, teacher: (n, m) cosines; -inf leaves a neighbour out on both sides.
    """
    seen = teacher.detach().isfinite()
    if not seen.any():
        return student.new_zeros(())  # a batch of one text has no neighbours
    target = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    found = functional.log_softmax(student / temperature, dim=-1)
    terms = target.exp() * (target.masked_fill(~seen, 0.0) - found.masked_fill(~seen, 0.0))
    return terms.sum(-1).mean()


def srl(first: Tiers, second: Tiers, full: str, *, temperature: float, task: float, kl: float) -> Tensor:
    """Starbucks representation learning: the task at every tier, and each tier's similarities near the full model's.

    Zhuang et al. 2024, arXiv 2410.13230, section 3.1; the mean over the tiers, so that the learning rate does not
    depend on their number.

    Args:
        first, second: tier vectors of pairs.
        full: name of the tier that teaches the others.
    """
    teacher = first[full] @ second[full].T
    losses = []
    for tier in first:
        loss = task * in_batch_negatives(first[tier], second[tier], temperature)
        if tier != full:
            loss = loss + kl * similarity_kl(first[tier] @ second[tier].T, teacher, temperature)
        losses.append(loss)
    return torch.stack(losses).mean()


def self_distillation(
    vectors: Tiers, teacher: Tensor, basis: Tensor, *, temperature: float, kl: float, align: float
) -> Tensor:
    """Every tier near a frozen full model: in its similarities, and in its leading directions.

    Args:
        vectors: tier vectors of texts.
        teacher: (n, hidden) unit vectors of the same texts by the full model.
        basis: (hidden, hidden), the directions that the tiers share, leading ones first.
    """
    similarities = _without_self(teacher @ teacher.T)
    targets = teacher @ basis
    losses = [
        kl * similarity_kl(_without_self(mine @ mine.T), similarities, temperature) + align * alignment(mine, targets)
        for mine in vectors.values()
    ]
    return torch.stack(losses).mean()


def alignment(vectors: Tensor, targets: Tensor) -> Tensor:
    """One minus the mean cosine between (n, dim) vectors and the first `dim` values of (n, hidden) targets."""
    return 1 - functional.cosine_similarity(vectors, targets[:, : vectors.shape[1]], dim=-1).mean()


def _without_self(similarities: Tensor) -> Tensor:
    own = torch.eye(len(similarities), dtype=torch.bool, device=similarities.device)
    return similarities.masked_fill(own, -torch.inf)
