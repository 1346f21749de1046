"""Rows that are alike put together, so that a batch asks for fine distinctions."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_embed.train.store import RowStore

POOL = 12_000
"""Rows among which alike ones are looked for at a time."""
_CANDIDATES = 5
_AT_ONCE = 1000


class TextVectors(Protocol):
    """What gives vectors of texts."""

    def get(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts: (n, width) float32, unit length."""


class Alike:
    """Groups of rows whose first texts are near each other.

    Args:
        vectors: by which they are near.
        size: rows a group.
    """

    def __init__(self, store: RowStore, vectors: TextVectors, size: int) -> None:
        self._store = store
        self._vectors = vectors
        self._size = size

    def groups(self, rows: Sequence[int]) -> list[list[int]]:
        """Places among some rows of the store, each in one group: a row and the nearest that no group has yet."""
        first = [self._store[row].texts[0] for row in rows]
        return group_nearest(torch.from_numpy(self._vectors.get(first)), self._size)


def group_nearest(vectors: Tensor, size: int) -> list[list[int]]:
    """Disjoint groups of at most `size` of (n, width) unit vectors: greedily each one with the nearest still free.

    A vector is left with fewer, or alone, when most of those near it are taken.
    """
    wanted = min(len(vectors), _CANDIDATES * size)
    parts = [vectors[start : start + _AT_ONCE] for start in range(0, len(vectors), _AT_ONCE)]
    near = torch.cat([(part @ vectors.T).topk(wanted).indices for part in parts]).tolist()
    free = [True] * len(vectors)
    groups = []
    for place, candidates in enumerate(near):
        if free[place]:
            free[place] = False
            group = [place, *(other for other in candidates if free[other])][:size]
            for other in group:
                free[other] = False
            groups.append(group)
    return groups
