"""The task of each kind of rows, and which candidates are no negatives."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.data.sources import KINDS, Kind
from edge_embed.train.batches import Rows
from edge_embed.train.losses import contrastive, cosent, in_batch_negatives, ranking
from edge_embed.train.task import task_loss


def vectors_of(texts: int, seed: int = 0) -> Tensor:
    values = torch.randn(texts, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(values, dim=1)


def rows_of(kind: Kind, *columns: Sequence[int], values: Sequence[float] | None = None) -> Rows:
    """Rows whose texts are known by numbers."""
    ids = torch.tensor([number for column in columns for number in column])
    return Rows(kind, len(columns), ids, torch.tensor(values or [0.0] * len(columns[0])))


def test_texts_have_no_task():
    assert task_loss(vectors_of(3), rows_of("texts", [1, 2, 3]), 0.05).item() == 0


@pytest.mark.parametrize("kind", ["pairs", "groups"])
def test_pairs_and_groups_find_their_partners(kind):
    vectors = vectors_of(6)
    found = task_loss(vectors, rows_of(kind, [1, 2, 3], [4, 5, 6]), 0.1)
    assert found == in_batch_negatives(vectors[:3], vectors[3:], 0.1)


def test_triplets_have_hard_negatives():
    vectors = vectors_of(12)
    found = task_loss(vectors, rows_of("triplets", [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]), 0.1)
    assert found == in_batch_negatives(vectors[:3], vectors[3:], 0.1)
    assert found > in_batch_negatives(vectors[:3], vectors[3:6], 0.1)


@pytest.mark.parametrize(
    ("columns", "same"),
    [
        (([1, 2, 3], [4, 5, 4]), [(0, 2), (2, 0)]),  # two rows share a partner
        (([1, 2, 3], [4, 1, 6]), [(0, 1)]),  # a row's text is the partner of another
        (([1, 1, 3], [4, 5, 6]), []),  # an anchor is no candidate
        (([1, 2, 3], [1, 5, 6]), []),  # its own partner always counts
        (([1, 2, 3], [4, 5, 6], [5, 8, 1]), [(1, 3), (0, 5)]),  # hard negatives of other rows
        (([1, 2, 3], [4, 5, 6], [4, 8, 9]), [(0, 3)]),  # a wrong row: its negative is its partner
    ],
)
def test_equal_texts_are_no_negatives(columns, same):
    kind = "triplets" if len(columns) == 3 else "pairs"
    vectors = vectors_of(3 * len(columns))
    masked = torch.zeros(3, 3 * (len(columns) - 1), dtype=torch.bool)
    for row, candidate in same:
        masked[row, candidate] = True
    found = task_loss(vectors, rows_of(kind, *columns), 0.1)
    assert found.item() == pytest.approx(in_batch_negatives(vectors[:3], vectors[3:], 0.1, same=masked).item())
    unmasked = in_batch_negatives(vectors[:3], vectors[3:], 0.1)
    assert (found < unmasked) if same else (found == unmasked)


def test_scored_and_labelled_pairs():
    vectors, values = vectors_of(6), [1.0, 0.0, 0.5]
    ids = ([1, 2, 3], [4, 5, 6])
    scored = task_loss(vectors, rows_of("scored", *ids, values=values), 0.1)
    assert scored == cosent(vectors[:3], vectors[3:], torch.tensor(values), 0.1)
    labelled = task_loss(vectors, rows_of("labelled", *ids, values=values), 0.1)
    assert labelled == contrastive(vectors[:3], vectors[3:], torch.tensor(values))
    assert scored != labelled


def test_ranked_texts_are_ordered_over_all_rows():
    vectors = vectors_of(12)
    found = task_loss(vectors, rows_of("ranked", [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12]), 0.1)
    assert found.item() == pytest.approx(ranking(vectors[:3], vectors[3:], 0.1).item())


def test_an_equal_text_of_another_row_is_not_ranked_below():
    vectors = vectors_of(9)
    same = torch.zeros(3, 3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    found = task_loss(vectors, rows_of("ranked", [1, 2, 3], [4, 4, 5], [6, 7, 8]), 0.1)
    assert found.item() == pytest.approx(ranking(vectors[:3], vectors[3:], 0.1, same=same).item())
    assert found < ranking(vectors[:3], vectors[3:], 0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_row_has_a_loss_that_can_be_trained(kind):
    columns = {"texts": 1, "triplets": 3, "ranked": 3}.get(kind, 2)
    vectors = vectors_of(columns).requires_grad_()
    loss = task_loss(vectors, rows_of(kind, *([number] for number in range(columns)), values=[1.0]), 0.05)
    assert loss.isfinite()
    if kind != "texts":
        assert torch.autograd.grad(loss, vectors)[0].isfinite().all()
