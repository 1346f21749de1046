"""Alike rows in one batch."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from edge_embed.train.alike import Alike, group_nearest
from edge_embed.train.batches import Plan
from edge_embed.train.finetune import job_of
from edge_embed.train.loop import plan_of
from edge_embed.train.prepare import prepare
from edge_embed.train.recipe_file import sources
from edge_embed.train.store import RowStore


def clusters(count: int, each: int) -> torch.Tensor:
    """Vectors in `count` tight clusters, mixed."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(count, 16, generator=generator).repeat(each, 1)
    return functional.normalize(centres + 0.05 * torch.randn(centres.shape, generator=generator), dim=1)


@pytest.mark.parametrize(("count", "each"), [(30, 4), (1, 4), (300, 8)])
def test_a_group_is_a_cluster(count, each):
    groups = group_nearest(clusters(count, each), each)
    assert sorted(place for group in groups for place in group) == list(range(count * each))
    assert all(len(group) == each and len({place % count for place in group}) == 1 for group in groups)


def test_every_vector_is_in_one_group_of_at_most_the_size():
    vectors = functional.normalize(torch.randn(101, 8, generator=torch.Generator().manual_seed(1)), dim=1)
    groups = group_nearest(vectors, 8)
    assert sorted(place for group in groups for place in group) == list(range(101))
    assert max(map(len, groups)) == 8 and len(groups) < 40
    assert groups[0][0] == 0 and set(groups[0]) == set((vectors @ vectors[0]).topk(8).indices.tolist())


class Topics:
    """Vectors of texts: one axis a topic, the number after the text's first letter."""

    def get(self, texts):
        return np.eye(50, dtype=np.float32)[[int(text.split()[0][1:]) for text in texts]]


@pytest.fixture
def store(write) -> RowStore:
    """Eight texts of each of fifty topics, of any length."""
    chooser = np.random.default_rng(0)
    rows = [
        (f"t{topic} {number} " + "word " * int(chooser.integers(1, 30)),) for number in range(8) for topic in range(50)
    ]
    return RowStore(sources("texts", [write("texts", rows)]))


def test_the_plan_keeps_groups_together(store):
    def whole(batches) -> float:
        """The share of rows that meet another one of their topic."""
        topics = [[store[row].texts[0].split()[0] for row, _ in batch] for batch in batches]
        return np.mean([batch.count(topic) > 1 for batch in topics for topic in batch])

    settings = {"epochs": 2, "batch_size": 16, "seed": 0}
    mixed, grouped = Plan(store, **settings), Plan(store, **settings, alike=Alike(store, Topics(), 4))
    rows = [sorted(key for batch in plan for key in batch) for plan in (mixed, grouped)]
    assert rows[0] == rows[1] and list(grouped) == list(grouped)
    assert [len(batch) for batch in grouped] == [len(batch) for batch in mixed]
    assert whole(grouped) > 2 * whole(mixed)


@pytest.mark.parametrize("alike", [1, 4])
def test_a_recipe_says_how_many(recipe, alike):
    job = job_of(prepare(recipe(alike=alike)))
    assert (job.alike is None) == (alike == 1)
    assert plan_of(job)._alike is job.alike
