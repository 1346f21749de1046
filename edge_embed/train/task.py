"""The task of a batch: what its kind of rows asks of vectors."""

import torch
from torch import Tensor

from edge_embed.train.batches import Rows
from edge_embed.train.losses import contrastive, cosent, in_batch_negatives, ranking


def task_loss(vectors: Tensor, rows: Rows, temperature: float) -> Tensor:
    """The loss of (columns * n, dim) unit vectors of a batch's texts; 0 for plain texts."""
    first = rows.column(0, vectors)
    match rows.kind:
        case "texts":
            return 0 * vectors.sum()  # of no effect, but with a gradient, which parallel training waits for
        case "pairs" | "groups" | "triplets":
            return in_batch_negatives(first, vectors[len(first) :], temperature, same=_no_negatives(rows))
        case "ranked":
            same = _no_negatives(rows)[:, : len(first)]
            return ranking(first, vectors[len(first) :], temperature, same=same)
        case "scored":
            return cosent(first, rows.column(1, vectors), rows.values, temperature)
        case "labelled":
            return contrastive(first, rows.column(1, vectors), rows.values)


def _no_negatives(rows: Rows) -> Tensor:
    """(n, candidates): where a candidate's text equals that of the row, or of the row's partner."""
    first, partner, candidates = rows.column(0, rows.ids), rows.column(1, rows.ids), rows.ids[len(rows.values) :]
    same: Tensor = torch.logical_or(first[:, None] == candidates[None, :], partner[:, None] == candidates[None, :])
    return same
