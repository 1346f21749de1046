"""Retrieval: reading the layout of BEIR, exact search, hand-computed measures."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from edge_embed.evaluate import retrieval
from edge_embed.evaluate.retrieval import (
    RetrievalScores,
    RetrievalSet,
    cross_found,
    encode_retrieval,
    grade_rankings,
    read_retrieval,
    score_found,
    score_retrieval,
    search,
)
from edge_embed_runtimes.errors import DataError

CORPUS = [
    {"_id": "d1", "title": "Bicycles", "text": "lean on walls.", "metadata": {}},
    {"_id": "d2", "title": "", "text": " Rain falls. "},
    {"_id": "d3", "text": "Née"},
]
QUERIES = [{"_id": "q1", "text": "wall?"}, {"_id": "q2", "text": "wet?"}, {"_id": "q3", "text": "unjudged"}]
QRELS = "query-id\tcorpus-id\tscore\nq2\td2\t1\nq1\td1\t2\nq1\td3\t1\nq2\td1\t0\n"


def lines(entries) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def write(folder: Path, *, corpus=CORPUS, queries=QUERIES, qrels=QRELS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "corpus.jsonl").write_text(corpus if isinstance(corpus, str) else lines(corpus), "utf-8")
    (folder / "queries.jsonl").write_text(queries if isinstance(queries, str) else lines(queries), "utf-8")
    (folder / "qrels.tsv").write_text(qrels, "utf-8")
    return folder


def test_reads_a_folder(tmp_path):
    data = read_retrieval(write(tmp_path / "tiny"))
    assert data == RetrievalSet(
        name="tiny",
        documents=("Bicycles lean on walls.", "Rain falls.", "Née"),
        queries=("wall?", "wet?"),
        relevant=({0: 2, 2: 1}, {1: 1}),
        own=(None, None),
    )


def test_reads_gzip_and_the_nested_judgements(tmp_path):
    folder = write(tmp_path / "tiny")
    plain = read_retrieval(folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    (folder / "qrels").mkdir()
    (folder / "qrels.tsv").rename(folder / "qrels" / "test.tsv")
    assert read_retrieval(folder) == plain


def test_a_document_with_the_querys_id_is_not_searched_unless_it_is_judged(tmp_path):
    qrels = "query-id\tcorpus-id\tscore\nd1\td2\t1\nd3\td3\t1\n"
    data = read_retrieval(
        write(tmp_path / "own", queries=[{"_id": "d1", "text": "a"}, {"_id": "d3", "text": "b"}], qrels=qrels)
    )
    assert data.own == (0, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"corpus": '{"_id": "d1", "text": "a"}\n\n{"_id": "d2"\n'}, ["corpus.jsonl, line 3", "no JSON"]),
        ({"corpus": "[" * 100_000}, ["corpus.jsonl, line 1", "no JSON"]),
        ({"corpus": '["d1", "a"]\n'}, ["corpus.jsonl, line 1", "expected an object"]),
        ({"corpus": '{"_id": 7, "text": "a"}\n'}, ["corpus.jsonl, line 1", "_id is 7"]),
        ({"corpus": '{"_id": "d1"}\n'}, ["corpus.jsonl, line 1", "text is None"]),
        ({"corpus": '{"_id": "d1", "text": "a", "title": null}\n'}, ["corpus.jsonl, line 1", "title is None"]),
        ({"corpus": '{"_id": "d1", "text": "\\ud800"}\n'}, ["corpus.jsonl, line 1", "lone surrogate"]),
        ({"corpus": lines([*CORPUS, CORPUS[0]])}, ["corpus.jsonl, line 4", "'d1'", "each once"]),
        ({"queries": '{"_id": "q1"}\n'}, ["queries.jsonl, line 1", "text is None"]),
        ({"qrels": QRELS + "q9\td1\t1\n"}, ["qrels.tsv, line 6", "query-id 'q9'"]),
        ({"qrels": QRELS + "q3\td9\t1\n"}, ["qrels.tsv, line 6", "corpus-id 'd9'"]),
        ({"qrels": QRELS + "q3\td1\tyes\n"}, ["qrels.tsv, line 6", "'yes'", "whole number"]),
        ({"qrels": QRELS + "q3\td1\t1001\n"}, ["qrels.tsv, line 6", "'1001'", "up to 1000"]),
        ({"qrels": QRELS + f"q3\td1\t{10**30}\n"}, ["qrels.tsv, line 6", "up to 1000"]),
        ({"qrels": QRELS + "q3\td1\n"}, ["qrels.tsv, line 6", "'score'"]),
        ({"qrels": QRELS + "q1\td1\t2\n"}, ["qrels.tsv, line 6", "earlier line"]),
        ({"qrels": "q1\td1\t1\n"}, ["qrels.tsv, line 1", "query-id"]),
        ({"qrels": "query-id\tcorpus-id\tscore\nq1\td1\t0\n"}, ["qrels.tsv", "no relevant document"]),
    ],
)
def test_a_bad_line_is_refused(tmp_path, change, says):
    folder = write(tmp_path / "bad", **change)
    with pytest.raises(DataError) as caught:
        read_retrieval(folder)
    for words in (str(folder), *says):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_file_is_named(tmp_path, name):
    folder = write(tmp_path / "bad")
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"holds no {name}"):
        read_retrieval(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"queries": (), "relevant": (), "own": ()},
        {"queries": ("q",), "relevant": ({},), "own": (None,)},
        {"queries": ("q",), "relevant": ({2: 1},), "own": (None,)},
        {"queries": ("q",), "relevant": ({0: 0},), "own": (None,)},
        {"queries": ("q",), "relevant": ({0: 1001},), "own": (None,)},
        {"queries": ("q",), "relevant": ({0: 1},), "own": ()},
    ],
)
def test_a_set_made_by_hand_is_checked_too(fields):
    with pytest.raises(DataError, match="mine"):
        RetrievalSet(name="mine", documents=("a", "b"), **fields)


def test_measures_by_hand():
    first = np.array([5, 0, 6, 1])  # relevant at ranks 2 (grade 2) and 4 (grade 1); a third one is not found
    gained = 2 / math.log2(3) + 1 / math.log2(5)
    best = 2 + 1 / math.log2(3) + 1 / math.log2(4)
    second = np.array([3])  # the only one, at rank 1
    scores = grade_rankings([first, second], [{0: 2, 1: 1, 2: 1}, {3: 1}])
    assert scores.ndcg_at_10 == pytest.approx((gained / best + 1) / 2)
    assert scores.mrr_at_10 == pytest.approx((1 / 2 + 1) / 2)
    assert scores.recall_at_100 == pytest.approx((2 / 3 + 1) / 2)


def test_the_measures_cut_at_10_and_100():
    ranking = np.arange(200)
    assert grade_rankings([ranking], [{10: 1}]) == RetrievalScores(0, 0, 1)
    assert grade_rankings([ranking], [{9: 1}]).mrr_at_10 == pytest.approx(0.1)
    assert grade_rankings([ranking], [{9: 1}]).ndcg_at_10 == pytest.approx(1 / math.log2(11))
    assert grade_rankings([ranking], [{99: 1, 100: 1}]) == RetrievalScores(0, 0, 0.5)
    all_relevant = dict.fromkeys(range(20), 1)  # the ideal ranking has ten places too
    assert grade_rankings([ranking], [all_relevant]).ndcg_at_10 == pytest.approx(1)


def test_the_order_of_a_ranking_counts_not_the_names_of_documents():
    for first, second in ((2, 10), (10, 2), (9, 10)):
        ranking = np.array([first, second])
        assert grade_rankings([ranking], [{first: 1}]).mrr_at_10 == 1
        assert grade_rankings([ranking], [{second: 1}]).mrr_at_10 == pytest.approx(0.5)
        assert grade_rankings([ranking], [{second: 1}]).ndcg_at_10 == pytest.approx(1 / math.log2(3))


def test_a_query_that_finds_nothing_counts_as_nothing():
    nothing = np.array([], dtype=np.int64)
    assert grade_rankings([nothing, np.array([3])], [{0: 1}, {3: 1}]) == RetrievalScores(0.5, 0.5, 0.5)


def unit_rows(count: int, dim: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("chunk_values", [1, 100, 1 << 20])
def test_search_is_exact_whatever_the_chunk(monkeypatch, chunk_values):
    monkeypatch.setattr(retrieval, "_CHUNK_VALUES", chunk_values)
    documents, queries = unit_rows(50, 8, 0), unit_rows(7, 8, 1)
    found = list(search(documents, queries, own=[None] * 7, top=5))
    expected = np.argsort(-np.round(queries @ documents.T, 6), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(found, expected)


def test_ties_go_to_the_earlier_document_also_at_the_cut():
    documents = np.repeat(unit_rows(3, 8, 0), 40, axis=0)
    order = np.argsort(-(unit_rows(1, 8, 1) @ documents[::40].T)[0])
    (found,) = search(documents, unit_rows(1, 8, 1), own=[None], top=100)
    expected = np.concatenate([np.arange(40) + 40 * group for group in order])[:100]
    np.testing.assert_array_equal(found, expected)


def test_the_own_document_is_left_out_and_few_documents_are_enough():
    documents = unit_rows(4, 8, 0)
    (found,) = search(documents, documents[2:3], own=[2])
    assert sorted(found.tolist()) == [0, 1, 3]


def test_vectors_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="finite"):
        list(search(np.full((2, 2), np.nan, np.float32), unit_rows(1, 2, 0), own=[None]))


class KnownModel:
    """Vectors from a table; keeps what it was asked for."""

    ladder_names = ("demi", "short")
    one_space = True

    def __init__(self, demi: dict, short: dict):
        self.tables = {"short": short, "demi": demi}
        self.asked = []

    def encode_tiers(self, texts, progress=lambda *_: None):
        self.asked.append(texts)
        return {tier: np.array([table[text] for text in texts], np.float32) for tier, table in self.tables.items()}


def test_scores_every_tier_in_one_pass(tmp_path):
    data = read_retrieval(write(tmp_path / "tiny"))
    places = [*data.documents, *data.queries]
    demi = dict(zip(places, [[1, 0], [0, 1], [-1, 0], [0, 1], [1, 0]], strict=True))
    short = dict(zip(places, [[1, 0, 0], [0, 1, 0], [0.6, 0, 0.8], [1, 0, 0], [0, 1, 0]], strict=True))
    model, told = KnownModel(demi, short), []
    scores = score_retrieval(model, data, lambda *step: told.append(step))
    assert len(model.asked) == 1
    assert told == [("search", 1, 2), ("search", 2, 2)]
    assert list(scores) == ["demi", "short"]
    assert scores["short"] == RetrievalScores(1, 1, 1)
    # demi: 'wall?' ranks d2, d1 (grade 2), d3 (grade 1); 'wet?' ranks d1, d2 (grade 1), d3
    wall = (2 / math.log2(3) + 1 / 2) / (2 + 1 / math.log2(3))
    assert scores["demi"].ndcg_at_10 == pytest.approx((wall + 1 / math.log2(3)) / 2)
    assert scores["demi"].mrr_at_10 == pytest.approx(0.5)
    assert scores["demi"].recall_at_100 == 1


def test_tiers_are_searched_across_over_the_shorter_one_renormalised():
    data = RetrievalSet("d", ("x", "y", "z"), ("q",), ({1: 1},), (None,))
    documents = {"demi": unit([1, 0], [0, 1], [1, 1]), "short": unit([4, 3, 0], [3, 4, 20], [1, -1, 0])}
    queries = {"demi": unit([0, 1]), "short": unit([0, 1, -1])}
    matrix = cross_found(documents, queries, data)
    assert list(matrix) == ["demi", "short"]
    assert all(list(row) == ["demi", "short"] for row in matrix.values())
    # the second of short's documents is the best by its first two values, and only by these
    assert matrix["demi"]["short"] == pytest.approx(1)
    assert matrix["short"]["short"] == pytest.approx(1 / math.log2(4))
    assert matrix["short"]["demi"] == pytest.approx(1)


def unit(*rows) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_the_diagonal_is_each_tier_alone(tmp_path):
    data = read_retrieval(write(tmp_path / "tiny"))
    texts = [*data.documents, *data.queries]
    demi, short = unit_rows(5, 2, 0), unit_rows(5, 3, 1)
    model = KnownModel(dict(zip(texts, demi, strict=True)), dict(zip(texts, short, strict=True)))
    documents, queries = encode_retrieval(model, data)
    told = []
    matrix = cross_found(documents, queries, data, lambda *step: told.append(step))
    alone = score_found(documents, queries, data)
    assert {tier: matrix[tier][tier] for tier in matrix} == {tier: alone[tier].ndcg_at_10 for tier in alone}
    assert told == [("search across", done, 4) for done in (1, 2, 3, 4)]


def test_a_row_of_zeros_is_like_nothing_across_tiers():
    data = RetrievalSet("d", ("x", "y"), ("q",), ({1: 1},), (None,))
    documents = {"short": unit([0, 0, 1], [1, 0, 0])}
    assert cross_found(documents, {"demi": unit([1, 0])}, data) == {"demi": {"short": 1}}


def test_equal_texts_of_a_set_are_encoded_once(tmp_path):
    data = RetrievalSet("d", ("x", "y", "x"), ("y",), ({1: 1},), (None,))
    model = KnownModel({"x": [1, 0], "y": [0, 1]}, {"x": [1, 0, 0], "y": [0, 1, 0]})
    documents, queries = encode_retrieval(model, data)
    assert documents["demi"].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert queries["short"].tolist() == [[0, 1, 0]]
    assert model.asked == [["x", "y"]]
