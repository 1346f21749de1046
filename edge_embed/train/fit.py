"""The start of a training: heads by least squares onto the full model's leading directions."""

import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.model.tiered import TieredEncoder

_RIDGE = 1e-3
_KEPT_RIDGE = 0.1
"""More: noise in the teacher's weak directions counts as much as its strong ones, once the map is made orthonormal."""


def leading_directions(vectors: Tensor) -> Tensor:
    """The principal directions of (n, hidden) vectors about the origin, strongest first: (hidden, hidden).

    Not centred, because cosines are not: turning all vectors by this orthogonal matrix keeps every cosine.
    """
    _, directions = torch.linalg.eigh(vectors.double().T @ vectors.double())
    directions = directions.flip(1)
    # the sign of an eigenvector is free; fix it, so that the same data gives the same space
    signs = directions.gather(0, directions.abs().argmax(0, keepdim=True)).sign()
    turned: Tensor = (directions * signs).float()
    return turned


def fit_heads(
    model: TieredEncoder, pooled: dict[int, Tensor], teacher: Tensor, basis: Tensor, *, full: int | None
) -> None:
    """Set each `project` head to the least-squares map of its layer onto the leading directions of the teacher.

    Args:
        pooled: layer to (n, hidden) pooled states.
        teacher: (n, width) unit vectors of the teacher.
        basis: (width, width) directions, strongest first; a tier wider than that gets zeros for the rest.
        full: the layer that the teacher's vectors come from, None if another encoder made them; a tier that reads it
            gets the directions themselves, which is exact.
    """
    for tier in model.ladder:
        target = basis[:, : tier.dim]
        if tier.layers != full:
            target = least_squares(pooled[tier.layers], teacher @ target)
        model.set_head(tier, functional.pad(target, (0, tier.dim - target.shape[1])))


def kept_directions(teacher: Tensor, vectors: Tensor) -> Tensor:
    """The directions of a teacher along which a ladder's vectors lie already.

    The orthonormal matrix nearest to the least-squares map from the teacher's vectors to the ladder's. A ladder that is
    trained further keeps its space with them; the leading directions of other texts would turn it.

    Args:
        teacher: (n, width).
        vectors: (n, dim) of the ladder's full tier, dim at most width.

    Returns:
        (width, dim).
    """
    left, _, right = torch.linalg.svd(least_squares(teacher, vectors, ridge=_KEPT_RIDGE), full_matrices=False)
    nearest: Tensor = left @ right
    return nearest


def least_squares(inputs: Tensor, targets: Tensor, *, ridge: float = _RIDGE) -> Tensor:
    """The (a, b) matrix that maps (n, a) inputs nearest to (n, b) targets, with a small ridge for few texts."""
    x, y = inputs.double(), targets.double()
    gram = x.T @ x
    damping = ridge * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution: Tensor = torch.linalg.solve(gram + damping, x.T @ y).float()
    return solution
