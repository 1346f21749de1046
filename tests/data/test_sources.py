"""Sources: which columns a kind takes, what a row becomes, and what is said about a bad one."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.data.records import BadRows
from edge_embed.data.sources import KINDS, Row, Source, read_rows
from edge_embed_runtimes.errors import DataError, RecipeError


@pytest.fixture
def write(tmp_path):
    """Write a TSV of rows with a header, or JSON objects one a line; returns its place."""

    def write(*rows: str | dict) -> str:
        path = tmp_path / ("a.tsv" if isinstance(rows[0], str) else "a.jsonl")
        lines = [row.replace("|", "\t") if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return str(path)

    return write


def contents(source: Source, bad: BadRows | None = None) -> list[tuple[tuple[str, ...], float | None]]:
    return [(row.texts, row.value) for row in read_rows(source, bad)]


# Columns


@pytest.mark.parametrize(
    ("kind", "header", "expected"),
    [
        ("texts", "id|text|c", ("2",)),
        ("texts", "title|body|c", ("1",)),
        ("pairs", "question|answer|c", ("1", "2")),
        ("triplets", "anchor|positive|negative|more", ("1", "2", "3")),
        ("ranked", "anchor|same|nearly|topic", ("1", "2", "3", "4")),
        ("scored", "score|sentence2|sentence1", ("3", "2", 1.0)),
        ("scored", "a|b|grade|score", ("1", "2", 3.0)),
        ("labelled", "label|sentence1|sentence2", ("2", "3", 1.0)),
        ("labelled", "a|b|c", ("1", "2", 3.0)),
        ("groups", "a|b|c|d", ("1", "2", "3", "4")),
    ],
)
def test_the_columns_of_a_kind(write, kind, header, expected):
    row = [str(place) for place, _ in enumerate(header.split("|"), start=1)]
    labels = {"1": 1.0, "3": 1.0} if kind == "labelled" else {}
    ((texts, value),) = contents(Source(write(header, "|".join(row)), kind, labels=labels))
    if value is not None:
        expected = (*expected[:2], value if kind == "labelled" else expected[2])
    assert (*texts, *([] if value is None else [value])) == expected


@pytest.mark.parametrize(
    ("kind", "columns", "expected"),
    [
        ("texts", "c", (("3",), None)),
        ("pairs", "cb", (("3", "2"), None)),
        ("triplets", "dcb", (("4", "3", "2"), None)),
        ("triplets", "abcde", (("1", "2", "3", "4", "5"), None)),
        ("ranked", "dcb", (("4", "3", "2"), None)),
        ("scored", "cba", (("3", "2"), 1.0)),
        ("labelled", "eda", (("5", "4"), 1.0)),
        ("groups", "db", (("4", "2"), None)),
    ],
)
def test_named_columns_are_taken_in_their_order(write, kind, columns, expected):
    place = write("a|b|c|d|e", "1|2|3|4|5")
    assert contents(Source(place, kind, columns=tuple(columns))) == [expected]


def test_a_column_that_is_not_there(write):
    place = write("a|b", "1|2")
    for columns in [("a", "c"), ("A", "b")]:
        with pytest.raises(DataError, match=r"a\.tsv, line 1: the header is \['a', 'b'\], expected one with"):
            list(read_rows(Source(place, "pairs", columns=columns), BadRows(skip=True)))
    with pytest.raises(
        DataError, match=r"line 1: the header is \['a', 'b'\], expected at least 3 columns for triplets"
    ):
        list(read_rows(Source(place, "triplets")))


def test_a_key_that_an_object_lacks(write):
    source = Source(write({"a": "x", "b": "y"}, {"a": "x"}, {"b": "w", "a": "z"}), "pairs")
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: column 'b' is missing from \['a'\], expected a text"):
        list(read_rows(source))
    bad = BadRows(skip=True)
    assert [(row.texts, row.line) for row in read_rows(source, bad)] == [(("x", "y"), 1), (("z", "w"), 3)]
    assert bad.counts == {source.place: 1}


# Texts


def test_texts_are_stripped_and_keep_their_line(write):
    place = write("text", "  a cat ", "\u00a0ün chat\u2028")
    assert list(read_rows(Source(place, "texts"))) == [Row(("a cat",), None, 2), Row(("ün chat",), None, 3)]


@pytest.mark.parametrize("kind", ["pairs", "triplets", "ranked", "scored", "labelled"])
@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("", "is empty"),
        (" \u3000", "is empty"),
        (None, "is empty"),
        (7, "is 7"),
        (["x"], r"is \['x'\]"),
        ("a \ud800", "has a lone surrogate"),
    ],
)
def test_a_cell_that_is_no_text(write, kind, cell, says):
    good = {"a": "x", "b": "y", "c": "1"}
    place = write(good, {**good, "b": cell})
    with pytest.raises(DataError, match=rf"a\.jsonl, line 2: column 'b' {says}, expected (a text|valid Unicode)"):
        list(read_rows(Source(place, kind)))
    bad = BadRows(skip=True)
    assert [row.line for row in read_rows(Source(place, kind), bad)] == [1]
    assert bad.counts == {place: 1}


def test_text_beyond_the_basic_plane_is_good(write):
    assert contents(Source(write({"text": "\U0001f6b2 é"}), "texts")) == [(("\U0001f6b2 é",), None)]


# Scores


@pytest.mark.parametrize(
    ("cell", "value"),
    [("4.5", 4.5), (" -1e0 ", -1.0), (3, 3.0), (0.25, 0.25), ("0", 0.0)],
)
def test_scores_as_numbers_and_as_text(write, cell, value):
    assert contents(Source(write({"a": "x", "b": "y", "c": cell}), "scored")) == [(("x", "y"), value)]


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("high", "is 'high'"),
        ("3,5", "is '3,5'"),
        ("nan", "is 'nan'"),
        ("inf", "is 'inf'"),
        (float("nan"), "is nan"),
        (10**400, r"is 10+"),
        (True, "is True"),
        ([1], r"is \[1\]"),
        ("", "is empty"),
        (None, "is empty"),
    ],
)
def test_a_score_that_is_no_number(write, cell, says):
    place = write({"a": "x", "b": "y", "c": cell})
    with pytest.raises(DataError, match=rf"a\.jsonl, line 1: column 'c' {says}, expected a number such as 3\.5"):
        list(read_rows(Source(place, "scored")))


# Labels


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1", 1.0), ("0", 0.0), (" TRUE", 1.0), ("False", 0.0), (1, 1.0), (0.0, 0.0), (True, 1.0), (False, 0.0)],
)
def test_the_truths_need_no_labels(write, cell, value):
    assert contents(Source(write({"a": "x", "b": "y", "c": cell}), "labelled")) == [(("x", "y"), value)]


@pytest.mark.parametrize(
    ("cell", "says"), [("entailment", "is 'entailment'"), (2, "is 2"), (0.5, "is 0.5"), ("", "is empty")]
)
def test_another_label_needs_labels(write, cell, says):
    place = write({"a": "x", "b": "y", "c": cell})
    with pytest.raises(DataError, match=rf"line 1: column 'c' {says}, expected 0, 1, true or false, or labels that"):
        list(read_rows(Source(place, "labelled")))


def test_labels_say_what_counts_and_leave_the_rest_out(write):
    place = write("a|b|c", "1|2|entailment", "3|4|neutral", "|6|-", "7|8| contradiction", "9|10|Entailment")
    source = Source(place, "labelled", labels={"entailment": 1, "contradiction": 0.25})
    bad = BadRows(skip=True)
    assert list(read_rows(source, bad)) == [Row(("1", "2"), 1.0, 2), Row(("7", "8"), 0.25, 5)]
    assert not bad.counts


def test_labels_are_told_as_a_text_file_has_them(write):
    cells = [1, True, 2.0, 0.5, "1"]
    place = write(*({"a": f"x{place}", "b": "y", "c": cell} for place, cell in enumerate(cells)))
    labels = {"1": 0.1, "true": 0.2, "2": 0.3, "0.5": 0.4}
    assert [value for _, value in contents(Source(place, "labelled", labels=labels))] == [0.1, 0.2, 0.3, 0.4, 0.1]


def test_an_empty_label_is_a_bad_row_unless_it_is_named(write):
    place = write("a|b|c", "1|2|yes", "3|4| ")
    with pytest.raises(DataError, match=r"a\.tsv, line 3: column 'c' is empty, expected 'yes', 'no'"):
        contents(Source(place, "labelled", labels={"yes": 1, "no": 0}))
    assert [value for _, value in contents(Source(place, "labelled", labels={"yes": 1, "": 0}))] == [1, 0]


def test_labels_that_never_occur(write):
    place = write("a|b|c", *(f"1|2|{label}" for label in ("x", "y", "x", "z", "u", "v", "w")))
    source = Source(place, "labelled", labels={"yes": 1, "no": 0})
    with pytest.raises(DataError, match=r"0 labelled pairs: its labels are 'x', 'y', 'z', 'u', 'v' .* 'yes', 'no'$"):
        contents(source)


# Groups


def test_a_group_has_the_different_texts_of_its_cells(write):
    rows = [
        {"a": "x", "b": " y ", "c": None},
        {"c": "z", "a": ""},
        {"a": "x", "b": ["y", " ", None, "x", "z "], "d": "new"},
    ]
    source = Source(write(*rows), "groups")
    bad = BadRows(skip=True)
    assert [row.texts for row in read_rows(source, bad)] == [("x", "y"), ("x", "y", "z", "new")]
    assert bad.counts == {source.place: 1}
    with pytest.raises(DataError, match=r"line 2: 1 different texts in 'c', 'a', expected at least 2"):
        contents(source)


def test_named_columns_of_a_group(write):
    place = write("source|c1|c2|c3", "f8k|x|y|", "f8k|x|x| x", "f8k|x||z")
    bad = BadRows(skip=True)
    source = Source(place, "groups", columns=("c1", "c2", "c3"))
    assert [row.texts for row in read_rows(source, bad)] == [("x", "y"), ("x", "z")]
    assert bad.counts == {place: 1}


@pytest.mark.parametrize("cell", [7, ["x", 7], {"x": 1}, [["x"]]])
def test_a_group_with_a_cell_that_is_no_text(write, cell):
    place = write({"a": "x", "b": "y", "c": cell})
    with pytest.raises(DataError, match=r"line 1: column 'c' is .+, expected a text, or a list of texts"):
        contents(Source(place, "groups"))


def test_lists_of_texts_in_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1], "set": [["x", "y"]]}), path)
    assert contents(Source(str(path), "groups", columns=("set",))) == [(("x", "y"), None)]


# How many rows


def test_a_limit_counts_the_rows_that_are_used(write):
    place = write("a|b", "1|2", "|", "3|4", "5|6", "broken")
    bad = BadRows(skip=True)
    assert [row.line for row in read_rows(Source(place, "pairs", limit=2), bad)] == [2, 4]
    assert bad.counts == {place: 1}
    assert len(contents(Source(place, "pairs", limit=9), bad)) == 3
    assert [row.line for row in read_rows(Source(write("a|b", "1|2", "x"), "pairs", limit=1))] == [2]


@pytest.mark.parametrize(
    ("kind", "called"), [("texts", "texts"), ("pairs", "pairs"), ("scored", "scored pairs"), ("groups", "groups")]
)
def test_a_source_without_a_usable_row(write, kind, called):
    with pytest.raises(DataError, match=rf"a\.tsv holds 0 {called}, and 0 rows that can't be used"):
        contents(Source(write("a|b|c"), kind))
    with pytest.raises(DataError, match=rf"a\.tsv holds 0 {called}, and 2 rows that can't be used"):
        contents(Source(write("a|b|c", "||", "x"), kind), BadRows(skip=True))


# Settings


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kind": "pair"},
            "kind 'pair' is unknown: allowed are texts, pairs, triplets, ranked, scored, labelled, groups",
        ),
        ({"weight": 0.0}, "weight is 0.0, expected a finite number above 0"),
        ({"weight": -1.0}, "weight is -1.0"),
        ({"weight": float("nan")}, "weight is nan"),
        ({"weight": float("inf")}, "weight is inf"),
        ({"limit": 0}, "limit is 0, expected at least 1"),
        ({"columns": "ab"}, r"columns is the string 'ab': write \('ab',\)"),
        ({"columns": ("a",)}, "1 columns are named, pairs have 2"),
        ({"columns": ("a", "b", "c")}, "3 columns are named, pairs have 2"),
        ({"kind": "texts", "columns": ("a", "b")}, "2 columns are named, texts have 1"),
        ({"kind": "triplets", "columns": ("a", "b")}, "2 columns are named, triplets have at least 3"),
        ({"kind": "scored", "columns": ("a", "b")}, "2 columns are named, scored have 3"),
        ({"columns": ("a", "a")}, r"a column is named twice in \('a', 'a'\)"),
        ({"labels": {"yes": 1.0}}, "pairs have no labels"),
        ({"kind": "labelled", "labels": {"yes": 1.5}}, "label 'yes' stands for 1.5, expected a number from 0 to 1"),
        ({"kind": "labelled", "labels": {"yes": float("nan")}}, "label 'yes' stands for nan"),
    ],
)
def test_a_setting_outside_its_range(fields, message):
    with pytest.raises(RecipeError, match=rf"^a\.tsv: {message}"):
        Source(**{"place": "a.tsv", "kind": "pairs", **fields})


def test_every_kind_is_known():
    assert KINDS == ("texts", "pairs", "triplets", "ranked", "scored", "labelled", "groups")
    for kind in KINDS:
        assert Source("a.tsv", kind).kind == kind


cell = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=8)


@given(rows=st.lists(st.tuples(cell, cell), min_size=1, max_size=5))
def test_a_table_is_read_as_it_was_written(tmp_path_factory, rows):
    path: Path = tmp_path_factory.mktemp("tables") / "a.tsv"
    path.write_text("a\tb\n" + "".join(f"{one}\t{other}\n" for one, other in rows), "utf-8", newline="\n")
    good = [(one.strip(), other.strip()) for one, other in rows if one.strip() and other.strip()]
    bad = BadRows(skip=True)
    if good:
        assert [texts for texts, _ in contents(Source(str(path), "pairs"), bad)] == good
    else:
        with pytest.raises(DataError, match="holds 0 pairs"):
            contents(Source(str(path), "pairs"), bad)
    assert bad.counts[str(path)] == len(rows) - len(good)
