"""The methods: which layers and dimensions a step trains, and by what loss; pure functions of hidden states.

`pooled[l]` is the pooled state of layer l, (texts, hidden); layer 0 is the embeddings.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from edge_embed.train.losses import similarity_kl, vector_kl

Task = Callable[[Tensor], Tensor]
"""Unit vectors (texts, dim) of a batch to the loss of its task."""
Similarities = Callable[[Tensor], Tensor]
"""Unit vectors (texts, dim) of a batch to the cosines (n, m) that are compared; -inf leaves one out."""


@dataclass(frozen=True, slots=True)
class View:
    """One layer and dimension as a step sees it: its unit vectors (texts, dim), and its loss."""

    vectors: Tensor
    loss: Tensor


def srl(
    vectors: Mapping[str, Tensor],
    full: str,
    task: Task,
    similarities: Similarities,
    *,
    task_weight: float,
    kl_weight: float,
    temperature: float,
) -> dict[str, View]:
    """Starbucks representation learning: the task at every tier, and each tier's similarities near the full one's.

    Zhuang et al. 2024, arXiv 2410.13230, section 3.1. The full tier teaches and gets no gradient from that.

    Args:
        vectors: tier name to (texts, dim).
        full: name of the tier that teaches the others.
    """
    target = similarities(vectors[full])
    views = {}
    for tier, mine in vectors.items():
        loss = task_weight * task(mine)
        if tier != full and kl_weight:
            loss = loss + kl_weight * similarity_kl(similarities(mine), target, temperature)
        views[tier] = View(mine, loss)
    return views


def mrl(pooled: Sequence[Tensor], dims: Mapping[str, int], task: Task, *, task_weight: float) -> dict[str, View]:
    """Matryoshka representation learning: the task at several dimensions of the last layer.

    Kusupati et al. 2022, arXiv 2205.13147, equation 1.

    Args:
        dims: name to number of leading values.
    """
    views = {}
    for name, dim in dims.items():
        vectors = cut(pooled[-1], dim)
        views[name] = View(vectors, task_weight * task(vectors))
    return views


def two_d_matryoshka(
    pooled: Sequence[Tensor],
    layer: int,
    dims: tuple[int, int],
    task: Task,
    *,
    task_weight: float,
    kl_weight: float,
) -> dict[str, View]:
    """2D Matryoshka: the task at the last layer and at one below it, each at one dimension, and the layers aligned.

    Li et al. 2024, arXiv 2402.14776, section 3.2, with both layers weighing the same and a teacher without gradient.

    Args:
        layer: the one below the last.
        dims: leading values of the last layer, and of the other.
    """
    last, lower = (functional.normalize(pooled[place], dim=-1) for place in (-1, layer))
    top, other = cut(last, dims[0]), cut(lower, dims[1])
    return {
        "last": View(top, task_weight * task(top)),
        "lower": View(other, task_weight * task(other) + kl_weight * vector_kl(lower, last)),
    }


def cut(state: Tensor, dim: int) -> Tensor:
    """The first `dim` values of (n, hidden) as unit vectors."""
    return functional.normalize(state[:, :dim], dim=-1)
