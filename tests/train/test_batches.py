"""Which rows stand together, and how they become tensors."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed.data.sources import Source
from edge_embed.model.encoder import load_encoder
from edge_embed.train.batches import Collator, Key, Part, Plan, RowDataset
from edge_embed.train.recipe_file import sources
from edge_embed.train.store import RowStore
from edge_embed.train.teacher import VectorCache
from edge_embed_runtimes.tokenizer import Tokenizer


def words(count: int) -> str:
    return " ".join(["word"] * count)


@pytest.fixture
def store(write) -> RowStore:
    """Three sources of 60, 41 and 10 rows, of one to thirty words, with the weights 1, 0.5 and 2."""
    chooser = np.random.default_rng(0)
    found = []
    for name, rows, weight in (("a", 60, 1.0), ("b", 41, 0.5), ("c", 10, 2.0)):
        lines = [(f"{name}{row} {words(int(chooser.integers(1, 30)))}",) for row in range(rows)]
        found.append(Source(str(write("texts", lines, f"{name}.tsv")), "texts", weight=weight))
    return RowStore(found)


def plan(store: RowStore, **changes: object) -> Plan:
    return Plan(store, **{"epochs": 1.5, "batch_size": 8, "seed": 0, **changes})


def rows_of(batch: list[Key]) -> set[int]:
    return {row for row, _ in batch}


@pytest.mark.parametrize("epochs", [1.0, 1.5, 0.3, 3.0])
def test_every_row_as_often_as_its_weight_says(store, epochs):
    keys = [key for batch in plan(store, epochs=epochs) for key in batch]
    assert len(set(keys)) == len(keys)  # no row twice in one pass
    counts = Counter(row for row, _ in keys)
    for number, source in enumerate(store.sources):
        ids = store.lengths(number)[0].tolist()
        drawn = [counts[row] for row in ids]
        often = epochs * source.weight
        assert sum(drawn) == round(often * len(ids))
        assert set(drawn) <= {int(often), -int(-often // 1)}


def test_batches_are_full_and_of_one_source(store):
    batches = list(plan(store))
    assert len(batches) == len(plan(store)) == 12 + 4 + 6
    found: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for batch in batches:
        (source,) = {store[row].source for row in rows_of(batch)}
        found[source].append(len(batch))
    assert found == {0: [8] * 7 + [4] + [8] * 3 + [6], 1: [8] * 3 + [7], 2: [8, 2] * 3}


def test_the_files_of_a_folder_are_drawn_as_one(write, tmp_path):
    for name in ("x/a.tsv", "x/b.tsv"):
        write("pairs", [(f"{name} {words(row)}", "one") for row in range(1, 13)], name)
    batches = list(plan(RowStore(sources("pairs", [tmp_path / "x"])), epochs=2))
    assert [len(batch) for batch in batches] == [8] * 6
    assert all(min(rows_of(batch)) <= 12 < max(rows_of(batch)) for batch in batches)


@pytest.mark.parametrize(("rows", "sizes"), [(32, [8, 8, 8, 8]), (30, [8, 8, 8, 6]), (9, [8, 1]), (3, [3])])
def test_a_batch_holds_no_row_twice(write, rows, sizes):
    store = RowStore(sources("texts", [write("texts", [(words(number),) for number in range(1, rows + 1)])]))
    batches = list(plan(store, epochs=50))
    assert len(plan(store, epochs=50)) == len(batches) == 50 * len(sizes)
    for number in range(50):
        one_pass = batches[number * len(sizes) : (number + 1) * len(sizes)]
        assert [len(batch) for batch in one_pass] == sizes
        assert {row for batch in one_pass for row in rows_of(batch)} == set(range(1, rows + 1))


def test_sources_are_spread_over_the_training(store):
    order = [store[batch[0][0]].source for batch in plan(store, epochs=12)]
    quarters = [Counter(order[start : start + len(order) // 4]) for start in range(0, len(order), len(order) // 4)]
    for source, count in Counter(order).items():
        assert all(abs(quarter[source] - count / 4) <= 2 for quarter in quarters[:4])
    assert len(set(order[:6])) > 1


def test_a_batch_holds_rows_of_like_length(write):
    chooser = np.random.default_rng(0)
    rows = [(f"{number} {words(int(chooser.integers(1, 30)))}",) for number in range(800)]
    store = RowStore(sources("texts", [write("texts", rows)]))
    lengths = dict(zip(*(column.tolist() for column in store.lengths(0)), strict=True))

    def padding(batches: list[list[Key]]) -> int:
        return sum(max(lengths[row] for row, _ in batch) - lengths[row] for batch in batches for row, _ in batch)

    grouped = list(plan(store, epochs=2))
    keys = [key for batch in grouped for key in batch]
    by_chance = [keys[start::200] for start in range(200)]
    assert padding(grouped) < 0.1 * padding(by_chance)
    longest = [max(lengths[row] for row, _ in batch) for batch in grouped]
    falls = sum(one > other for one, other in pairwise(longest))
    assert falls > 50  # but short batches don't all come first


def test_the_seed_decides_everything(store):
    once = plan(store)
    assert list(once) == list(once) == list(plan(store)) != list(plan(store, seed=1))


def test_each_pass_puts_other_rows_together(write):
    store = RowStore(sources("texts", [write("texts", [(f"text {number:02}",) for number in range(64)])]))
    batches = list(plan(store, epochs=2))
    first, second = ({frozenset(rows_of(batch)) for batch in part} for part in (batches[:8], batches[8:]))
    assert len(first) == len(second) == 8 and not first & second


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_batches_of_one(store, world):
    whole = list(plan(store, batch_size=8))
    parts = [list(plan(store, batch_size=8 // world, part=Part(rank, world))) for rank in range(world)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert len({len(share) for share in shares}) == 1
        together = [key for share in shares for key in share]
        if len(batch) >= world:
            assert together == batch[: len(batch) // world * world]
        else:
            assert set(together) == set(batch)


def test_a_batch_of_fewer_rows_than_processes(write):
    store = RowStore(sources("texts", [write("texts", [(text,) for text in "abcde"])]))
    parts = [list(Plan(store, epochs=1, batch_size=2, seed=0, part=Part(rank, 2))) for rank in range(2)]
    assert [len(batch) for batch in parts[0]] == [2, 1]
    assert parts[0][1] == parts[1][1]
    assert rows_of(parts[0][0] + parts[1][0] + parts[0][1]) == {1, 2, 3, 4, 5}


def test_a_source_whose_rows_all_stand_elsewhere_has_no_batches(write):
    path = write("texts", [("a",), ("b",), ("c",)])
    store = RowStore(sources("texts", [path, path]))
    assert store.counts == (3, 0) and len(list(plan(store, epochs=1))) == 1


@pytest.mark.parametrize("epochs", [0.0, 0.001])
def test_too_few_epochs_for_a_row(store, epochs):
    assert len(plan(store, epochs=epochs)) == 0 and list(plan(store, epochs=epochs)) == []


def test_the_dataset_gives_rows_by_key(store):
    assert RowDataset(store)[3, 1] == ((3, 1), store[3])


# Batches as tensors


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> Tokenizer:
    return load_encoder(str(tiny_encoder)).tokenizer(6)


def drawn(store: RowStore, *keys: Key) -> list[tuple[Key, object]]:
    return [RowDataset(store)[key] for key in keys]


TRIPLETS = [("a cat", "the river", "a bird"), ("the old man sees the house", "a cat", "the train")]


def test_texts_stand_column_by_column(write, tokenizer):
    store = RowStore(sources("triplets", [write("triplets", TRIPLETS)]))
    batch = Collator(store, tokenizer, None, seed=0)(drawn(store, (2, 0), (1, 0)))
    texts = [TRIPLETS[row][column] for column in range(3) for row in (1, 0)]
    ids = tokenizer.encode(texts)[0]
    assert max(map(len, ids)) == 6  # the limit
    for row, expected in enumerate(ids):
        fill = 6 - len(expected)
        assert batch.input_ids[row].tolist() == [*expected, *[tokenizer.pad_id] * fill]
        assert batch.attention_mask[row].tolist() == [1] * len(expected) + [0] * fill
    assert batch.input_ids.dtype == batch.attention_mask.dtype == batch.rows.ids.dtype == torch.int64
    assert batch.stored == (2, 1) and batch.teacher is None
    assert batch.rows.kind == "triplets" and batch.rows.columns == 3 and batch.rows.values.tolist() == [0.0, 0.0]
    assert [batch.rows.column(column, batch.rows.ids).tolist() for column in range(3)] == [
        batch.rows.ids[start : start + 2].tolist() for start in (0, 2, 4)
    ]


def test_equal_texts_have_equal_ids(write, tokenizer):
    store = RowStore(sources("triplets", [write("triplets", TRIPLETS)]))
    batch = Collator(store, tokenizer, None, seed=0)(drawn(store, (1, 0), (2, 0)))
    first, partner = batch.rows.column(0, batch.rows.ids), batch.rows.column(1, batch.rows.ids)
    assert first[0] == partner[1] and len(set(batch.rows.ids.tolist())) == 5


@pytest.mark.parametrize(("kind", "values"), [("scored", [2.5, 0.0]), ("labelled", [1.0, 0.0])])
def test_scores_and_labels(write, tokenizer, kind, values):
    store = RowStore(sources(kind, [write(kind, [("a", "b", f"{values[0]:g}"), ("c", "d", 0)])]))
    batch = Collator(store, tokenizer, None, seed=0)(drawn(store, (1, 0), (2, 0)))
    assert batch.rows.kind == kind and batch.rows.columns == 2
    assert batch.rows.values.tolist() == values and batch.rows.values.dtype == torch.float32


def test_groups_give_two_of_their_texts_others_at_each_pass(write, tokenizer):
    store = RowStore(sources("groups", [write("groups", [("cat", "river", "bird"), ("man", "house", "train")])]))
    collate = Collator(store, tokenizer, None, seed=0)
    pairs = set()
    for number in range(20):
        batch = collate(drawn(store, (1, number), (2, number)))
        assert batch.rows.columns == 2 and len(batch.input_ids) == 4
        for row in range(2):
            pair = tuple(batch.input_ids[place, 1].item() for place in (row, row + 2))
            assert pair[0] != pair[1]
            pairs.add((row, *pair))
    assert len(pairs) == 12  # both orders of three pairs a group
    again = Collator(store, tokenizer, None, seed=0)(drawn(store, (1, 3)))
    assert torch.equal(again.input_ids, collate(drawn(store, (1, 3))).input_ids)
    others = [Collator(store, tokenizer, None, seed=seed)(drawn(store, (1, 3))).rows.ids.tolist() for seed in range(9)]
    assert len({tuple(ids) for ids in others}) > 1


def test_the_teacher_stands_at_its_texts(write, tokenizer, tmp_path):
    store = RowStore(sources("triplets", [write("triplets", TRIPLETS)]))
    texts = sorted({text for row in TRIPLETS for text in row})
    vectors = {text: np.eye(5, dtype=np.float32)[place] for place, text in enumerate(texts)}
    cache = VectorCache(tmp_path / "teacher.sqlite")
    cache.put(texts, np.stack([vectors[text] for text in texts]))
    batch = Collator(store, tokenizer, cache, seed=0)(drawn(store, (2, 0), (1, 0)))
    expected = [vectors[TRIPLETS[row][column]] for column in range(3) for row in (1, 0)]
    assert batch.teacher.dtype == torch.float32
    np.testing.assert_array_equal(batch.teacher.numpy(), expected)


def test_a_batch_on_a_device(write, tokenizer, tmp_path):
    store = RowStore(sources("pairs", [write("pairs", [("a", "b"), ("c", "d")])]))
    cache = VectorCache(tmp_path / "teacher.sqlite")
    cache.put(list("abcd"), np.eye(4, dtype=np.float32))
    batch = Collator(store, tokenizer, cache, seed=0)(drawn(store, (1, 0), (2, 0)))
    moved = batch.to(torch.device("meta"))
    tensors = [moved.input_ids, moved.attention_mask, moved.rows.ids, moved.rows.values, moved.teacher]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.stored == batch.stored and moved.rows.kind == "pairs"
    assert Collator(store, tokenizer, None, seed=0)(drawn(store, (1, 0))).to(torch.device("meta")).teacher is None
