"""The rows of a training on disk."""

import hashlib
import sqlite3
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from edge_embed.data.records import BadRows
from edge_embed.data.sources import Source
from edge_embed.train import store as module
from edge_embed.train.recipe_file import sources
from edge_embed.train.store import RowStore, StoredRow
from edge_embed_runtimes.errors import DataError, OutputError


def rows_of(store: RowStore) -> list[StoredRow]:
    """All rows in the order of their ids."""
    return [store[row] for source in range(len(store.sources)) for row in store.lengths(source)[0].tolist()]


def test_each_row_once_in_order_with_its_value(write):
    texts = write("texts", [("a cat",), ("the river",), ("a cat",), (" the river ",), ("a bird",)])
    scored = write("scored", [("a", "b", 1), ("a", "b", 2), ("b", "a", 1), ("a", "b", 1.0)])
    store = RowStore(sources("texts", [texts]) + sources("scored", [scored]))
    assert rows_of(store) == [
        StoredRow(("a cat",), None, 0, 2),
        StoredRow(("the river",), None, 0, 3),
        StoredRow(("a bird",), None, 0, 6),
        StoredRow(("a", "b"), 1.0, 1, 2),
        StoredRow(("a", "b"), 2.0, 1, 3),
        StoredRow(("b", "a"), 1.0, 1, 4),
    ]
    assert store.counts == (3, 3)


def test_a_row_of_two_sources_counts_for_the_first(write):
    one = write("pairs", [("a", "b"), ("c", "d")], "one.tsv")
    two = write("pairs", [("c", "d"), ("e", "f")], "two.tsv")
    store = RowStore(sources("pairs", [one, two]))
    assert store.counts == (2, 1)
    assert [(row.texts, row.source) for row in rows_of(store)] == [(("a", "b"), 0), (("c", "d"), 0), (("e", "f"), 1)]
    assert RowStore(sources("pairs", [one, one])).counts == (2, 0)


def test_the_same_texts_of_another_kind_are_another_row(write):
    pairs, groups = write("pairs", [("a", "b")]), write("groups", [("a", "b", "")])
    assert RowStore(sources("pairs", [pairs]) + sources("groups", [groups])).counts == (1, 1)


@pytest.mark.parametrize(
    ("kind", "row", "texts", "value"),
    [
        ("texts", ("x",), ("x",), None),
        ("pairs", ("x", "y"), ("x", "y"), None),
        ("triplets", ("x", "y", "z"), ("x", "y", "z"), None),
        ("scored", ("x", "y", "3.5"), ("x", "y"), 3.5),
        ("labelled", ("x", "y", "true"), ("x", "y"), 1.0),
        ("groups", ("x", "y", "ü"), ("x", "y", "ü"), None),
    ],
)
def test_every_kind_comes_back(write, kind, row, texts, value):
    store = RowStore(sources(kind, [write(kind, [row, ("p", "q", "0")[: len(row)]])]))
    assert rows_of(store)[0] == StoredRow(texts, value, 0, 2)


def test_bad_rows_are_counted_or_refused(write):
    place = write("pairs", [("a", "b"), ("c",), ("", "d"), ("e", "f")])
    store = RowStore(sources("pairs", [place]), bad=BadRows(skip=True))
    assert store.counts == (2,) and store.left_out == {str(place): 2}
    assert [row.line for row in rows_of(store)] == [2, 5]
    with pytest.raises(DataError, match=r"pairs\.tsv, line 3: column 'two' is empty"):
        RowStore(sources("pairs", [place]))


@pytest.mark.parametrize("copies", [1, 3])
def test_too_few_rows(write, copies):
    with pytest.raises(DataError, match="1 rows are too few to train on: name files with at least two"):
        RowStore(sources("texts", [write("texts", [("a cat",)] * copies)]))


def test_no_room(write, monkeypatch):
    connect = sqlite3.connect

    def small_disk(place: str) -> sqlite3.Connection:
        connection = connect(place)
        connection.execute("PRAGMA max_page_count = 4")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small_disk)
    rows = [(f"text {number} of many words",) for number in range(500)]
    with pytest.raises(OutputError, match=r"no room for the rows \(.*full\): free some space, or set SQLITE_TMPDIR"):
        RowStore(sources("texts", [write("texts", rows)]))


def test_progress_is_told(write):
    told = []
    places = [write("texts", [("a",), ("b",)], "one.tsv"), write("texts", [("c",)], "two.tsv")]
    RowStore(sources("texts", places), progress=lambda *step: told.append(step))
    assert told == [("read data", 1, 2), ("read data", 2, 2)]


def test_the_files_of_a_folder_are_one_pool(write, tmp_path):
    for name in ("x/a.tsv", "x/b.tsv", "y/a.tsv", "y/b.tsv"):
        write("pairs", [(f"{name} {row}", "one") for row in range(3)], name)
    alone = write("pairs", [("two", "three")], "alone.tsv")
    folders = [tmp_path / "x", tmp_path / "y"]
    store = RowStore(sources("pairs", [*folders, alone, alone]) + sources("groups", folders[:1]))
    assert store.pools == ((0, 1), (2, 3), (4,), (5,), (6, 7))
    assert store.counts == (6, 6, 1, 0, 6)
    assert [store[row].source for row in store.lengths(1)[0].tolist()] == [2, 2, 2, 3, 3, 3]
    assert store.where(4).endswith("b.tsv, line 2") and len(store.hashes()) == 5


def test_lengths_are_those_of_the_longest_text(write):
    store = RowStore(sources("pairs", [write("pairs", [("a", "bcd"), ("efgh", "i")])]))
    ids, lengths = store.lengths(0)
    assert lengths.tolist() == [3, 4] and [store[row].texts[0] for row in ids.tolist()] == ["a", "efgh"]


def test_a_row_that_is_not_there(write):
    store = RowStore(sources("texts", [write("texts", [("a",), ("b",)])]))
    with pytest.raises(IndexError, match="no row 99"):
        store[99]


def peak_bytes(path: Path) -> int:
    tracemalloc.start()
    store = RowStore(sources("texts", [path]))
    assert sum(map(len, store.text_chunks())) == store.count_texts()
    store.sample_texts(50, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_file(write, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ROWS", 128)
    small, large = (
        write(
            "texts", [(f"text {number} of some words and a few more of them",) for number in range(rows)], f"{rows}.tsv"
        )
        for rows in (1_000, 10_000)
    )
    peak_bytes(small)  # what is made once
    assert peak_bytes(large) < peak_bytes(small) + 100_000


def test_every_text_in_chunks(write, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ROWS", 2)
    pairs = write("pairs", [("a", "b"), ("a", "c"), ("d", "a")])
    store = RowStore(sources("pairs", [pairs]) + sources("texts", [write("texts", [("e",)])]))
    assert list(store.text_chunks()) == [["a", "b", "a", "c"], ["d", "a", "e"]]
    assert store.count_texts() == 7


def test_a_sample_of_different_texts(write, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_ROWS", 16)
    rows = [("often", f"text {number}") for number in range(99)]
    store = RowStore(sources("pairs", [write("pairs", rows)]))
    samples = [store.sample_texts(20, seed) for seed in range(60)]
    assert all(len(set(sample)) == len(sample) == 20 for sample in samples)
    assert store.sample_texts(20, 7) == samples[7] != samples[8]
    drawn = Counter(text for sample in samples for text in sample)
    assert drawn.keys() == {"often", *(row[1] for row in rows)}
    assert max(drawn.values()) <= 30  # 12 on average; `often` is no more likely than the others
    assert sorted(store.sample_texts(1000, 0)) == sorted(drawn)


def test_where_a_row_stands(write):
    place = write("texts", [("a",), ("a",), ("b",)])
    store = RowStore(sources("texts", [place]))
    assert [store.where(row) for row in store.lengths(0)[0].tolist()] == [f"{place}, line 2", f"{place}, line 4"]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_are_known_by_their_hashes(write):
    texts, pairs = write("texts", [("a",), ("b",)]), write("pairs", [("a", "b")])
    store = RowStore(sources("texts", [texts]) + sources("pairs", [pairs, pairs]))
    assert store.hashes() == {"texts.tsv": sha256(texts), "pairs.tsv": sha256(pairs)}


def test_files_of_one_name_are_told_apart(write, tmp_path):
    (tmp_path / "x").mkdir()
    files = [write("texts", [(text,)], f"{text}/t.tsv") for text in "abc"]
    deep = [write("texts", [("d",)], "x/t.tsv"), tmp_path / "x" / "b" / "t.tsv"]
    deep[1].parent.mkdir()
    deep[1].write_text("text\ne\n")
    store = RowStore(sources("texts", [*files, *deep]))
    assert store.hashes() == {
        "t.tsv": sha256(files[0]),
        "b/t.tsv": sha256(files[1]),
        "c/t.tsv": sha256(files[2]),
        "x/t.tsv": sha256(deep[0]),
        "x/b/t.tsv": sha256(deep[1]),
    }


def test_what_a_hub_gave_is_known_by_its_rows(write, monkeypatch):
    monkeypatch.setattr(module, "read_rows", lambda source, bad: rows[source.limit])
    rows = {1: [StoredRow(("a",), None, 0, 1), StoredRow(("b",), None, 0, 2)], 2: [StoredRow(("c",), None, 0, 1)]}
    hub = [Source("hub:owner/name/pair:train", "texts", limit=limit) for limit in (1, 2)]
    one, two = (RowStore(part).hashes() for part in (hub[:1], hub))
    assert list(one) == ["hub:owner/name/pair:train"] and one.items() < two.items()
    assert list(two)[1] == "hub:owner/name/pair:train, source 2"
    assert len(set(two.values())) == 2 and all(len(digest) == 64 for digest in two.values())
