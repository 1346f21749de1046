"""What an app's own tests get: an embedder without a bundle."""

import numpy as np
import pytest

from edge_embed import Budget, PowerState, fake_embedder
from edge_embed_runtimes.errors import NoTierFits

TEXTS = ["a cat", "a dog", "", "ein B\u00e4r \U0001f43b"]


def test_vectors_are_those_of_the_text_alone():
    with fake_embedder() as one, fake_embedder() as other:
        vectors = one.encode(TEXTS)
        assert vectors.shape == (4, 384) and vectors.dtype == np.float32
        np.testing.assert_array_equal(other.encode(TEXTS[::-1]), vectors[::-1])
        assert np.abs(vectors @ vectors.T - np.eye(4)).max() < 0.5
        assert len(one.encode(TEXTS * 1000)) == 4000


@pytest.mark.parametrize(
    ("budget", "tier"),
    [
        (Budget(latency_ms=2), "short"),
        (Budget(energy_mj=5.5), "venti"),
        (Budget(memory_mb=30), "tall"),
        (Budget(min_quality=0.9), "trenta"),
    ],
)
def test_it_chooses_by_the_budget(budget, tier):
    with fake_embedder(budget=budget) as embedder:
        assert embedder.choice.tier.name == tier


def test_a_budget_that_nothing_meets():
    with pytest.raises(NoTierFits, match=r"score 0\.900 is under 0\.95"):
        fake_embedder("1x8,6x16", budget=Budget(min_quality=0.95))


def test_it_saves_on_battery_and_tells():
    told = []
    budget = Budget(min_quality=0.75)
    with fake_embedder(budget=budget, on_choice=told.append, dwell_s=0) as embedder:
        embedder.reconsider(PowerState("battery", battery_percent=40))
        assert embedder.choice.tier.name == "tall"
        embedder.reconsider(PowerState("mains"))
        assert [choice.tier.name for choice in told] == ["tall", "trenta"]


def test_an_index_and_its_queries():
    with fake_embedder() as embedder:
        index = embedder.encode_documents(TEXTS, tier="short", dtype="int8")
        queries = embedder.encode_queries(TEXTS, against=index)
        assert (index.similarity(queries).argmax(1) == range(4)).all()


def test_it_refines_to_the_larger_tiers_own_vectors():
    with fake_embedder("1x8,2x16") as embedder:
        first = embedder.begin(TEXTS, tier=embedder.tiers.tiers[0])
        refined = embedder.refine(first, to=embedder.tiers.top)
        np.testing.assert_array_equal(refined.vectors.values, embedder.encode(TEXTS))
