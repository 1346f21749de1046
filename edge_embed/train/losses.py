"""The losses: pure functions of vectors.

Every vector here has unit length, so a product of two is their cosine.
"""

import torch
from torch import Tensor
from torch.nn import functional


def in_batch_negatives(first: Tensor, candidates: Tensor, temperature: float, *, same: Tensor | None = None) -> Tensor:
    """Cross-entropy of finding each row's partner among all candidates.

    Multiple negatives ranking (Henderson et al. 2017, arXiv 1705.00652, section 4.4).

    Args:
        first: (n, dim).
        candidates: (m, dim), m at least n: candidate i is the partner of row i, those from n on are hard negatives.
        same: (n, m) bool, true where a candidate is no negative of a row, being equal to its text or its partner.
    """
    similarities = first @ candidates.T / temperature
    if same is not None:
        own = torch.eye(*similarities.shape, dtype=torch.bool, device=first.device)
        similarities = similarities.masked_fill(same & ~own, -torch.inf)
    return functional.cross_entropy(similarities, torch.arange(len(first), device=first.device))


def cosent(first: Tensor, second: Tensor, scores: Tensor, temperature: float) -> Tensor:
    """log(1 + sum of exp((cosine of the pair scored lower - that of the one scored higher) / temperature)).

    CoSENT (Su 2022, https://kexue.fm/archives/8847), over all pairs of pairs with different scores.

    Args:
        first, second: (n, dim), row i of one belongs to row i of the other.
        scores: (n,), on whatever scale.
    """
    cosines = (first * second).sum(-1) / temperature
    wrong = cosines[:, None] - cosines[None, :]
    wrong = wrong[scores[:, None] < scores[None, :]]
    return torch.logsumexp(torch.cat([wrong.new_zeros(1), wrong]), dim=0)


def ranking(first: Tensor, others: Tensor, temperature: float, *, same: Tensor | None = None) -> Tensor:
    """CoSENT of each row with its others, which come from the most to the least like it, and with those of other rows.

    The same as `cosent` of all these pairs, each scored by its column and the strange ones lowest; but its sum over
    pairs of pairs is a sum of products here, so that it takes no more than n^2 values.

    Args:
        first: (n, dim).
        others: (columns * n, dim), column by column; the first column's are what other rows are compared with.
        same: (n, n) bool, true where the first column's text of another row is not to be compared with, as above.
    """
    count = len(first)
    columns = torch.split(others, count)
    levels = [(first * column).sum(-1) / temperature for column in columns]
    if count > 1:
        own = torch.eye(count, dtype=torch.bool, device=first.device)
        strange = first @ columns[0].T / temperature
        levels.append(strange[~own if same is None else ~(own | same)])
    wrong = [
        torch.logsumexp(level, 0) + torch.logsumexp(-torch.cat(levels[:place]), 0)
        for place, level in enumerate(levels)
        if place
    ]
    return torch.logsumexp(torch.stack([torch.zeros_like(wrong[0]), *wrong]), dim=0)


def contrastive(first: Tensor, second: Tensor, labels: Tensor, *, margin: float = 0.5) -> Tensor:
    """Half the mean of label * distance^2 + (1 - label) * max(0, margin - distance)^2, distance being 1 - cosine.

    Hadsell, Chopra, LeCun 2006, "Dimensionality reduction by learning an invariant mapping", equation 4.

    Args:
        first, second: (n, dim), row i of one belongs to row i of the other.
        labels: (n,) from 0 (unlike) to 1 (alike).
    """
    distances = 1 - (first * second).sum(-1)
    alike, unlike = distances.square(), functional.relu(margin - distances).square()
    return 0.5 * (labels * alike + (1 - labels) * unlike).mean()


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


def vector_kl(student: Tensor, teacher: Tensor, temperature: float = 0.3) -> Tensor:
    """KL divergence between vectors read as distributions over their values, times the temperature.

    The alignment of layers in 2D Matryoshka (Li et al. 2024, arXiv 2402.14776, section 3.2). The teacher gets no
    gradient.

    Args:
        student, teacher: (n, dim).
    """
    target = functional.softmax(teacher.detach() / temperature, dim=-1)
    found = functional.log_softmax(student / temperature, dim=-1)
    return functional.kl_div(found, target, reduction="batchmean") * temperature


def neighbours(vectors: Tensor) -> Tensor:
    """The (n, n) cosines of a batch's (n, dim) vectors with each other; a text is no neighbour of its own: -inf."""
    own = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    return (vectors @ vectors.T).masked_fill(own, -torch.inf)


def alignment(vectors: Tensor, targets: Tensor) -> Tensor:
    """One minus the mean cosine of (n, dim) vectors to the first `dim` values of (n, width) targets.

    Targets of fewer values than `dim` have zeros for the rest. They get no gradient.
    """
    dim = vectors.shape[1]
    targets = functional.pad(targets.detach(), (0, max(0, dim - targets.shape[1])))
    return 1 - functional.cosine_similarity(vectors, targets[:, :dim], dim=-1).mean()
