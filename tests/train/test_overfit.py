"""Every method, and every kind of rows, learns 32 rows by heart."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from edge_embed.data.sources import Kind
from edge_embed.model.checkpoint import load_checkpoint
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed.train.batches import Rows
from edge_embed.train.finetune import fine_tune
from edge_embed.train.prepare import prepare
from edge_embed.train.recipe import LossWeights, Recipe
from edge_embed.train.recipe_file import sources
from edge_embed.train.separate import train_separately
from edge_embed.train.task import task_loss
from edge_embed_runtimes.tiers import Ladder, Tier

ALONE = LossWeights(task=1.0, kl=0.0, distill=0.0, directions=0.0, align=0.0)
TIERS = ("demi", "short", "tall")
Table = list[tuple[str, ...]]


@pytest.fixture(scope="module")
def tables(tiny_texts) -> Mapping[Kind, Table]:
    """32 rows of each kind, 21 of ranked ones, of texts that have little to do with each other."""
    texts = [" ".join(text.split()[:9]) for text in tiny_texts]
    columns = (texts[:32], texts[32:], [*texts[16:32], *texts[:16]])
    pairs = list(zip(*columns[:2], strict=True))
    return {
        "pairs": pairs,
        "triplets": list(zip(*columns, strict=True)),
        "ranked": list(zip(texts[:21], texts[21:42], texts[42:63], strict=True)),  # no text twice, no order can clash
        "groups": [(*pair, " ".join(reversed(pair[0].split()))) for pair in pairs],
        "scored": [(*pair, str(place % 5)) for place, pair in enumerate(pairs)],
        "labelled": [(*pair, str(place % 2)) for place, pair in enumerate(pairs)],
    }


@pytest.fixture
def make(recipe, tables, write):
    """A maker of recipes that train on the task of 32 rows, all of them in each step."""

    def recipe_of(kind: Kind = "pairs", **changes: object) -> Recipe:
        data = sources(kind, [write(kind, tables[kind])])
        settings = {"epochs": 40, "batch_size": 32, "learning_rate": 5e-3, "weights": ALONE, "teacher": ()}
        return recipe(data=data, **{**settings, **changes})

    return recipe_of


def losses_of(model: TieredEncoder, kind: Kind, table: Table) -> dict[str, float]:
    """The task at each tier, of all rows at once."""
    columns = 3 if kind in ("triplets", "ranked") else 2
    texts = [row[column] for column in range(columns) for row in table]
    known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    values = [float(row[2]) if kind in ("scored", "labelled") else 0.0 for row in table]
    rows = Rows(kind, columns, torch.tensor([known[text] for text in texts]), torch.tensor(values))
    found = encode_tiers(model, texts)
    return {tier: task_loss(torch.from_numpy(found[tier]), rows, 0.05).item() for tier in found}


def assert_learned(before: Mapping[str, float], after: Mapping[str, float], tiers: Sequence[str] = TIERS) -> None:
    for tier in tiers:
        assert before[tier] > 0.01 and after[tier] < 0.2 * before[tier]


@pytest.mark.parametrize("head", ["project", "truncate"])
def test_srl(make, tables, head):
    training = prepare(make(head=head))
    before = losses_of(training.model, "pairs", tables["pairs"])
    assert_learned(before, losses_of(fine_tune(training), "pairs", tables["pairs"]))


def test_mrl_trains_the_last_layer_at_every_dimension(make, tables):
    training = prepare(make(method="mrl", head="truncate"))

    def of_the_last_layer() -> dict[str, float]:
        encoder, found = training.model.encoder, {}
        for tier in training.model.ladder:
            model = TieredEncoder(encoder, Ladder((Tier("only", 3, tier.dim),)), "truncate")
            found[tier.name] = losses_of(model, "pairs", tables["pairs"])["only"]
        return found

    before = of_the_last_layer()
    fine_tune(training)
    assert_learned(before, of_the_last_layer())


def test_2dmse_trains_every_layer_at_every_dimension(make, tables):
    training = prepare(make(method="2dmse", head="truncate", epochs=80))
    before = losses_of(training.model, "pairs", tables["pairs"])
    assert_learned(before, losses_of(fine_tune(training), "pairs", tables["pairs"]))


def test_separate(make, tables, tmp_path: Path):
    recipe = make(method="separate")
    before = losses_of(prepare(make()).model, "pairs", tables["pairs"])
    train_separately(recipe, tmp_path)
    models = {tier: load_checkpoint(tmp_path / tier)[0] for tier in TIERS}
    assert [model.encoder.layers for model in models.values()] == [1, 2, 3]
    assert_learned(before, {tier: losses_of(model, "pairs", tables["pairs"])[tier] for tier, model in models.items()})
    words = [model.encoder.word_embeddings.weight for model in models.values()]
    assert not any(torch.equal(one, other) for one, other in pairwise(words))  # nothing is shared


@pytest.mark.parametrize("kind", ["triplets", "ranked", "scored", "labelled"])
def test_a_kind_of_rows(make, tables, kind):
    training = prepare(make(kind, epochs={"scored": 60, "ranked": 160}.get(kind, 40)))
    before = losses_of(training.model, kind, tables[kind])
    assert_learned(before, losses_of(fine_tune(training), kind, tables[kind]))


def test_groups(make, tables):
    """All three texts of a group come near each other, whichever two of them are drawn."""
    training = prepare(make("groups", epochs=60))

    def losses() -> list[dict[str, float]]:
        orders = [(0, 1), (1, 2), (2, 0)]
        tables_of_two = [[(row[one], row[other]) for row in tables["groups"]] for one, other in orders]
        return [losses_of(training.model, "groups", table) for table in tables_of_two]

    before = losses()
    fine_tune(training)
    for was, now in zip(before, losses(), strict=True):
        assert_learned(was, now)
