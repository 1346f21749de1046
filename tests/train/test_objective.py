"""The loss of a step: its parts one by one, and how they are put together."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import TieredEncoder
from edge_embed.train.batches import Batch, Rows
from edge_embed.train.losses import alignment, in_batch_negatives, neighbours, similarity_kl, vector_kl
from edge_embed.train.objective import Objective
from edge_embed.train.recipe import LossWeights
from edge_embed.train.recipe_file import sources
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")
NOTHING = dict.fromkeys(("task", "kl", "distill", "directions", "align"), 0.0)
PAIRS = Rows("pairs", 2, torch.arange(12), torch.zeros(6))
TEXTS = Rows("texts", 1, torch.arange(12), torch.zeros(12))


def values(seed: int, width: int = 32) -> Tensor:
    return torch.randn(12, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pooled() -> list[Tensor]:
    """Pooled states of the embeddings and three layers."""
    return [values(layer) for layer in range(4)]


@pytest.fixture(scope="module")
def teacher() -> Tensor:
    return functional.normalize(values(9, 24), dim=1)


@pytest.fixture(scope="module")
def basis() -> Tensor:
    return torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(11)))[0]


@pytest.fixture
def objective(recipe, tiny_encoder, basis):
    """A maker of objectives with random heads and some weights above zero."""

    def make(method: str = "srl", head: str = "project", *, balance: bool = False, **weights: float) -> Objective:
        torch.manual_seed(0)
        model = TieredEncoder(load_encoder(str(tiny_encoder)), LADDER, head)
        for linear in model.heads.values():
            torch.nn.init.normal_(linear.weight)
        parts = LossWeights(**{**NOTHING, **weights})
        data = sources("pairs", ["never-read.tsv"])
        settings = recipe(data=data, weights=parts, method=method, head=head, balance=balance)
        return Objective(model, settings, basis, bf16=False)

    return make


def vectors_of(objective: Objective, pooled: Sequence[Tensor]) -> dict[str, Tensor]:
    return {tier.name: objective.model.tier_vector(tier, pooled[tier.layers]) for tier in LADDER}


def found(objective: Objective, pooled: Sequence[Tensor], rows: Rows, teacher: Tensor | None, step: int = 0):
    losses = {name: loss.item() for name, loss in objective.losses(pooled, rows, teacher, step).items()}
    mean = losses.pop("loss")
    assert mean == pytest.approx(sum(losses.values()) / len(losses), abs=1e-5)
    return losses


def test_each_part_by_itself(objective, pooled, teacher, basis):
    vectors = vectors_of(objective(task=1), pooled)
    full, targets = vectors["tall"], teacher @ basis
    cross = {name: mine[:6] @ mine[6:].T for name, mine in vectors.items()}
    expected = {
        "task": lambda mine, name: in_batch_negatives(mine[:6], mine[6:], 0.05),
        "kl": lambda mine, name: similarity_kl(cross[name], cross["tall"], 0.05),
        "distill": lambda mine, name: similarity_kl(neighbours(mine), neighbours(teacher), 0.05),
        "directions": lambda mine, name: alignment(mine, targets),
        "align": lambda mine, name: alignment(mine, full),
    }
    for part, loss in expected.items():
        wanted = {name: 0.7 * loss(mine, name).item() for name, mine in vectors.items()}
        if part in ("kl", "align"):
            wanted["tall"] = 0.0  # it teaches
        assert found(objective(**{part: 0.7}), pooled, PAIRS, teacher) == pytest.approx(wanted, abs=1e-5)
        assert sum(wanted.values()) > 0.1


@pytest.mark.parametrize("rows", [PAIRS, TEXTS])
def test_the_parts_add_up(objective, pooled, teacher, rows):
    parts = {"task": 0.5, "kl": 1.0, "distill": 2.0, "directions": 3.0, "align": 4.0}
    whole = found(objective(**parts), pooled, rows, teacher)
    each = [found(objective(**{part: weight}), pooled, rows, teacher) for part, weight in parts.items()]
    assert whole == pytest.approx({name: sum(one[name] for one in each) for name in whole}, abs=1e-4)


def test_texts_are_neighbours_of_each_other(objective, pooled):
    vectors = vectors_of(objective(kl=1), pooled)
    full = neighbours(vectors["tall"])
    wanted = {name: similarity_kl(neighbours(mine), full, 0.05).item() for name, mine in vectors.items()}
    assert found(objective(kl=1), pooled, TEXTS, None) == pytest.approx({**wanted, "tall": 0.0}, abs=1e-5)
    assert found(objective(task=1), pooled, TEXTS, None) == dict.fromkeys(vectors, 0.0)


@pytest.mark.parametrize("part", ["distill", "directions"])
def test_without_a_teacher_nobody_is_asked(objective, pooled, part):
    assert found(objective(**{part: 1}), pooled, PAIRS, None) == dict.fromkeys(("demi", "short", "tall"), 0.0)


def test_the_full_tier_gets_no_gradient_from_teaching(objective, pooled):
    made = objective(kl=1, align=1)
    made.losses(pooled, PAIRS, None, 0)["loss"].backward()
    gradients = {name: head.weight.grad.abs().sum().item() for name, head in made.model.heads.items()}
    assert gradients["tall"] == 0 and gradients["demi"] > 0 and gradients["short"] > 0


def test_balanced_losses_pull_alike(objective, pooled):
    """Each tier has a head of its own, so the gradient of one is what its tier's loss pulls with."""
    pulls = {}
    for balance in (False, True):
        made = objective(task=1, balance=balance)
        losses = made.losses(pooled, PAIRS, None, 0)
        losses.pop("loss").backward()
        pulls[balance] = {name: made.model.heads[name].weight.grad for name in losses}
    inverse = {name: 1 / loss.item() for name, loss in losses.items()}
    for name, pull in pulls[True].items():
        expected = 3 * pulls[False][name] * inverse[name] / sum(inverse.values())
        torch.testing.assert_close(pull, expected, atol=1e-6, rtol=1e-4)


def test_a_tier_that_has_nothing_to_learn_leaves_the_rest_balanced(objective, pooled):
    made = objective(kl=1, balance=True)
    loss = made.losses(pooled, PAIRS, None, 0)["loss"]
    loss.backward()
    assert loss.isfinite() and made.model.heads["demi"].weight.grad.isfinite().all()


def test_mrl_takes_the_last_layer(objective, pooled):
    wanted = {}
    for name, dim in (("demi", 8), ("short", 16), ("tall", 32)):
        mine = functional.normalize(pooled[3][:, :dim], dim=1)
        wanted[name] = in_batch_negatives(mine[:6], mine[6:], 0.05).item()
    assert found(objective("mrl", "truncate", task=1), pooled, PAIRS, None) == pytest.approx(wanted, abs=1e-5)


def two_d_written_out(pooled: Sequence[Tensor], layer: int, dims: Sequence[int]) -> dict[str, float]:
    last, lower = (functional.normalize(state, dim=1) for state in (pooled[3], pooled[layer]))
    tasks = []
    for state, dim in ((last, dims[0]), (lower, dims[1])):
        mine = functional.normalize(state[:, :dim], dim=1)
        tasks.append(in_batch_negatives(mine[:6], mine[6:], 0.05).item())
    return {"last": tasks[0], "lower": tasks[1] + vector_kl(lower, last).item()}


def test_2dmse_draws_a_layer_and_two_dimensions_a_step(objective, pooled):
    made, drawn = objective("2dmse", "truncate", task=1, kl=1), set()
    choices = [(layer, dims) for layer in (1, 2) for dims in ((a, b) for a in (8, 16, 32) for b in (8, 16, 32))]
    wanted = {choice: two_d_written_out(pooled, *choice) for choice in choices}
    for step in range(60):
        random.random()  # what the process draws elsewhere plays no part
        losses = found(made, pooled, PAIRS, None, step)
        assert losses == found(made, pooled, PAIRS, None, step)
        (choice,) = [choice for choice in choices if losses == pytest.approx(wanted[choice], abs=1e-5)]
        drawn.add(choice)
    assert len(drawn) > 14  # of 18


# Texts of like length together


def mixed(lengths: Sequence[int]) -> Batch:
    """A batch of texts of so many tokens each, padded to the longest."""
    longest = max(lengths)
    generator = torch.Generator().manual_seed(5)
    mask = torch.tensor([[1] * length + [0] * (longest - length) for length in lengths])
    ids = torch.randint(5, 40, mask.shape, generator=generator) * mask
    rows = Rows("texts", 1, torch.arange(len(lengths)), torch.zeros(len(lengths)))
    return Batch(ids, mask, rows, None, ())


@pytest.mark.parametrize(
    ("lengths", "runs"),
    [([3, 20] * 48, [(32, 3), (32, 20), (32, 20)]), ([19, 20] * 48, [(96, 20)]), ([3, 20] * 10, [(20, 20)])],
)
def test_texts_of_like_length_run_together(objective, monkeypatch, lengths, runs):
    one, batch = objective(align=1.0), mixed(lengths)
    whole = one.model.encoder(batch.input_ids, batch.attention_mask)
    expected = [one.model.encoder.pool(state, batch.attention_mask) for state in whole]
    seen, encoder = [], one.model.encoder.forward
    monkeypatch.setattr(
        one.model.encoder, "forward", lambda ids, *rest: seen.append(tuple(ids.shape)) or encoder(ids, *rest)
    )
    for found, state in zip(one._pooled(batch), expected, strict=True):
        torch.testing.assert_close(found, state, atol=1e-5, rtol=0)
    assert seen == runs
