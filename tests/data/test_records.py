"""Records: the same rows from every ending, the line that each begins on, what becomes of a bad one."""

import gzip
import json
import random
import sys
import tracemalloc
from pathlib import Path

import pytest

from edge_embed import extras
from edge_embed.data.records import BadRows, Record, read_records
from edge_embed_runtimes.errors import DataError, ExtraMissing

ROWS = [{"a": "one", "b": 'say "hi"'}, {"a": "zwei, drei", "b": "ü"}, {"a": "x", "b": "y"}]
ZIPPED = pytest.mark.parametrize("zipped", ["", ".gz"])
TABLES = pytest.mark.parametrize(("ending", "tab"), [(".tsv", "\t"), (".csv", ",")])


def write(path: Path, content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def write_parquet(path: Path, columns: dict) -> str:
    import pyarrow
    import pyarrow.parquet

    plain = path.with_suffix("") if path.suffix == ".gz" else path
    # small pages: a page is what a reader must hold at least
    pyarrow.parquet.write_table(pyarrow.table(columns), plain, use_dictionary=False, data_page_size=10_000)
    return write(path, plain.read_bytes())


def skipping(place: str, **options) -> tuple[list[Record], int]:
    bad = BadRows(skip=True)
    return list(read_records(place, bad, **options)), bad.counts[place]


@ZIPPED
@pytest.mark.parametrize(
    ("ending", "content", "lines"),
    [
        (".tsv", 'a\tb\r\none\tsay "hi"\r\nzwei, drei\tü\nx\ty', [2, 3, 4]),
        (".csv", 'a,b\r\none,"say ""hi"""\r\n"zwei, drei",ü\nx,y', [2, 3, 4]),
        (".jsonl", "\n".join(["", *map(json.dumps, ROWS[:2]), " \r", json.dumps(ROWS[2])]), [2, 3, 5]),
    ],
)
def test_every_ending_gives_the_same_rows(tmp_path, ending, content, lines, zipped):
    place = write(tmp_path / f"rows{ending}{zipped}", content)
    assert list(read_records(place)) == [Record(line, cells) for line, cells in zip(lines, ROWS, strict=True)]


@ZIPPED
def test_parquet_gives_the_same_rows(tmp_path, zipped):
    place = write_parquet(tmp_path / f"rows.parquet{zipped}", {name: [row[name] for row in ROWS] for name in "ab"})
    assert list(read_records(place)) == [Record(line, cells) for line, cells in enumerate(ROWS, start=1)]


@ZIPPED
def test_a_text_file_has_one_column(tmp_path, zipped):
    place = write(tmp_path / f"rows.txt{zipped}", "a cat\r\n\n \t\n b\tc \n")
    assert list(read_records(place)) == [Record(1, {"text": "a cat"}), Record(4, {"text": " b\tc "})]


def test_quoted_cells_may_span_lines(tmp_path):
    place = write(tmp_path / "rows.csv", '"a","b"\n"one\ntwo","three\r\n\r\nfour"\nx,y\n')
    assert list(read_records(place)) == [
        Record(2, {"a": "one\ntwo", "b": "three\r\n\r\nfour"}),
        Record(6, {"a": "x", "b": "y"}),
    ]


def test_cells_keep_what_json_and_parquet_know(tmp_path):
    cells = {"s": "x", "n": 1, "f": 2.5, "t": True, "l": ["a", "b"], "o": None}
    (record,) = read_records(write(tmp_path / "rows.jsonl", json.dumps(cells)))
    assert record.cells == cells
    (record,) = read_records(write_parquet(tmp_path / "rows.parquet", {name: [cell] for name, cell in cells.items()}))
    assert record.cells == cells


def test_parquet_is_numbered_across_batches_and_groups(tmp_path):
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"n": list(range(2500))}), path, row_group_size=700)
    assert [(record.line, record.cells["n"]) for record in read_records(str(path))] == [
        (number + 1, number) for number in range(2500)
    ]


@TABLES
def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path, ending, tab):
    place = write(tmp_path / f"rows{ending}", f"\ufeffa{tab}b\n1{tab}2\n")
    assert [record.cells for record in read_records(place)] == [{"a": "1", "b": "2"}]


@TABLES
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1", r"line 3: column 'b' is empty: expected 3 cells as in the header, not 1"),
        ("", r"line 3: column 'a' is empty: expected 3 cells as in the header, not 0"),
        ("1|2|3|4", r"line 3: 4 cells, expected 3 as in the header \['a', 'b', 'c'\]"),
    ],
)
def test_a_row_with_another_number_of_cells(tmp_path, ending, tab, row, message):
    place = write(tmp_path / f"rows{ending}", f"a|b|c\n1|2|3\n{row}\n4|5|6\n".replace("|", tab))
    with pytest.raises(DataError, match=rf"rows\{ending}, {message}"):
        list(read_records(place))
    found, left_out = skipping(place)
    assert [(record.line, record.cells["a"]) for record in found] == [(2, "1"), (4, "4")]
    assert left_out == 1


@pytest.mark.parametrize("row", ['"x"y,z', "x\ry,z", '"' + "x" * 140_000 + '",z'])
def test_a_row_that_is_no_csv(tmp_path, row):
    place = write(tmp_path / "rows.csv", f"a,b\n1,2\n{row}\n3,4\n")
    with pytest.raises(DataError, match=r"rows\.csv, line 3: no valid CSV \(.+\), expected cells with a comma"):
        list(read_records(place))
    found, left_out = skipping(place)
    assert [(record.line, record.cells["a"]) for record in found] == [(2, "1"), (4, "3")]
    assert left_out == 1


def test_a_quote_that_is_never_closed(tmp_path):
    place = write(tmp_path / "rows.csv", 'a,b\n1,2\n"x,y\n3,4\n')
    with pytest.raises(DataError, match=r"rows\.csv, line 3: no valid CSV \(unexpected end of data\)"):
        list(read_records(place))
    assert [record.line for record in skipping(place)[0]] == [2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"a": "x"', r"no JSON \(.+\), expected an object such as"),
        ("[" * 100_000, r"no JSON"),
        ("1" * 5000, r"no JSON"),
        ('["a"]', r"found '\[\"a\"\]', expected an object such as \{\"text\": \"\.\.\.\"\}"),
        ("null", r"found 'null', expected an object"),
    ],
)
def test_a_row_that_is_no_object(tmp_path, row, message):
    place = write(tmp_path / "rows.jsonl", f'{{"a": "1"}}\n{row}\n{{"b": 2}}\n')
    with pytest.raises(DataError, match=rf"rows\.jsonl, line 2: {message}"):
        list(read_records(place))
    assert skipping(place) == ([Record(1, {"a": "1"}), Record(3, {"b": 2})], 1)


@TABLES
@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        ("a|b", ["b", "c"], r"the header is \['a', 'b'\], expected one with b, c"),
        ("", [], r"the header is \[\], expected one with the names of columns, such as sentence1"),
        ("\n1|2", ["a"], r"the header is \[\], expected one with a"),
        ("a|b|a\n1|2|3", [], r"the header names 'a' more than once"),
    ],
)
def test_a_wrong_header_is_an_error_even_where_bad_rows_are_skipped(tmp_path, ending, tab, header, columns, message):
    place = write(tmp_path / f"rows{ending}", header.replace("|", tab))
    with pytest.raises(DataError, match=rf"rows\{ending}, line 1: {message}"):
        skipping(place, columns=columns)


def test_a_header_that_is_no_csv(tmp_path):
    with pytest.raises(DataError, match=r"rows\.csv, line 1: the header is no valid CSV"):
        skipping(write(tmp_path / "rows.csv", '"a"b,c\n1,2\n'))


def test_named_columns_are_looked_for_in_parquet_and_text_too(tmp_path):
    place = write_parquet(tmp_path / "rows.parquet", {"a": ["1"], "b": ["2"]})
    assert [record.cells for record in read_records(place, columns=["b"])] == [{"b": "2"}]
    with pytest.raises(DataError, match=r"rows\.parquet, line 1: the header is \['a', 'b'\], expected one with c"):
        list(read_records(place, columns=["c"]))
    with pytest.raises(DataError, match=r"rows\.txt, line 1: the header is \['text'\], expected one with c"):
        list(read_records(write(tmp_path / "rows.txt", "x\n"), columns=["c"]))


def test_an_object_may_lack_a_named_column(tmp_path):
    place = write(tmp_path / "rows.jsonl", '{"a": 1}\n{"b": 2}\n')
    assert [record.cells for record in read_records(place, columns=["b"])] == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("name", ["rows", "rows.json", "rows.gz", "rows.tsv.zip"])
def test_an_unknown_ending_lists_the_known_ones(tmp_path, name):
    with pytest.raises(DataError, match=r"known are \.tsv, \.csv, \.jsonl, \.parquet, \.txt, each also with \.gz"):
        read_records(write(tmp_path / name, "a\tb\n1\t2\n"))


@pytest.mark.parametrize("name", [f"rows{end}{z}" for end in (".tsv", ".csv", ".jsonl", ".txt") for z in ("", ".gz")])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "can't be read .*No such file"),
        (lambda path: path.write_bytes(gzip.compress(path.read_bytes())[:-9]), "can't be read|no valid UTF-8"),
        (lambda path: write(path, b"a\n" * 9 + b"\xff\n"), "no valid UTF-8"),
    ],
    ids=["missing", "cut", "latin"],
)
def test_a_file_that_cant_be_read_is_an_error_even_where_bad_rows_are_skipped(tmp_path, name, damage, message):
    damage(Path(write(tmp_path / name, '{"a": "b"}\n' * 500)))
    with pytest.raises(DataError, match=message):
        skipping(str(tmp_path / name))


@ZIPPED
@pytest.mark.parametrize("damage", [lambda raw: raw[:-30], lambda raw: b"a\tb\n", lambda raw: b""])
def test_a_damaged_parquet_file(tmp_path, damage, zipped):
    path = tmp_path / f"rows.parquet{zipped}"
    whole = Path(write_parquet(tmp_path / "whole.parquet", {"a": ["x"] * 500})).read_bytes()
    write(path, damage(whole))
    with pytest.raises(DataError, match=r"rows\.parquet.* can't be read \(.+\)"):
        skipping(str(path))


def test_a_parquet_file_that_is_missing_cut_or_no_utf_8(tmp_path):
    import pyarrow

    with pytest.raises(DataError, match=r"none\.parquet can't be read \(No such file"):
        list(read_records(str(tmp_path / "none.parquet")))
    place = write_parquet(tmp_path / "rows.parquet.gz", {"a": [f"text {n * 7919}" for n in range(500)]})
    Path(place).write_bytes(Path(place).read_bytes()[:-20])
    with pytest.raises(DataError, match=r"rows\.parquet\.gz can't be read"):
        list(read_records(place))
    latin = pyarrow.array([b"caf\xe9"]).view(pyarrow.string())
    with pytest.raises(DataError, match=r"latin\.parquet can't be read \(.*utf-8"):
        list(read_records(write_parquet(tmp_path / "latin.parquet", {"a": latin})))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"pyarrow not installed: pip install 'edge-embed\[parquet\]'"):
        list(read_records(str(tmp_path / "rows.parquet")))


# The hub, with a library of the same face in place of the real one

FAKE = """
def load_dataset(*names, split, streaming):
    assert streaming
    if names[0] == "owner/gone":
        raise ConnectionError("Couldn't reach 'owner/gone' on the Hub\\nand more")
    yield {"name": names[0], "config": names[1], "split": split}
    if names[0] == "owner/short":
        raise OSError("the line broke")
    yield {"name": "second", "config": None, "split": split}
"""


@pytest.fixture
def fake_hub(tmp_path, monkeypatch):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "datasets.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "hub")
    monkeypatch.delitem(sys.modules, "datasets", raising=False)
    yield
    monkeypatch.delitem(sys.modules, "datasets", raising=False)


@pytest.mark.parametrize(
    ("place", "config", "split"),
    [
        ("hub:owner/name", None, "train"),
        ("hub:owner/name:dev", None, "dev"),
        ("hub:owner/name/pair-score", "pair-score", "train"),
        ("hub:owner/name/v1.0:test_2", "v1.0", "test_2"),
    ],
)
def test_a_data_set_of_the_hub_is_streamed(fake_hub, place, config, split):
    first, second = read_records(place)
    assert first == Record(1, {"name": "owner/name", "config": config, "split": split})
    assert (second.line, second.cells["name"]) == (2, "second")


def test_what_the_hub_does_not_give(fake_hub):
    with pytest.raises(DataError, match=r"hub:owner/gone can't be read \(Couldn't reach .* Hub\): check the names"):
        list(read_records("hub:owner/gone"))
    rows = read_records("hub:owner/short")
    assert next(rows).line == 1
    with pytest.raises(DataError, match=r"hub:owner/short can't be read \(the line broke\)"):
        next(rows)
    with pytest.raises(DataError, match=r"hub:owner/name, line 1: the header is \['name', .* expected one with text"):
        list(read_records("hub:owner/name", columns=["text"]))


@pytest.mark.parametrize("place", ["hub:", "hub:name", "hub:a/b/c/d", "hub:a/b:", "hub:a/b:c:d", "hub: a/b"])
def test_a_place_that_names_no_data_set(place):
    with pytest.raises(DataError, match=r"names no data set: expected hub:owner/name"):
        list(read_records(place))


def test_the_hub_without_its_library(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match=r"datasets not installed: pip install 'edge-embed\[hub\]'"):
        list(read_records("hub:owner/name"))


# Bad rows, memory


def test_bad_rows_are_counted_by_place(tmp_path):
    bad = BadRows(skip=True)
    places = [write(tmp_path / f"{name}.tsv", content) for name, content in (("a", "x\ty\n1\n\n"), ("b", "x\n1\t2\n"))]
    assert [record for place in places for record in read_records(place, bad)] == []
    assert bad.counts == {places[0]: 2, places[1]: 1}
    with pytest.raises(DataError, match=r"^a\.tsv, line 7: no good$"):
        BadRows().refuse("a.tsv", 7, "no good")


@pytest.mark.parametrize("name", ["a.tsv", "a.csv.gz", "a.jsonl", "a.txt.gz", "a.parquet", "a.parquet.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    def peak_of(count: int) -> int:
        noise = random.Random(0)
        rows = [(f"text {n}", noise.randbytes(30).hex()) for n in range(count)]
        path = tmp_path / f"{count}-{name}"
        if ".parquet" in name:
            place = write_parquet(path, {"a": [a for a, _ in rows], "b": [b for _, b in rows]})
        elif ".jsonl" in name:
            place = write(path, "".join(f'{{"a": "{a}", "b": "{b}"}}\n' for a, b in rows))
        else:
            tab = "," if ".csv" in name else "\t"
            place = write(path, f"a{tab}b\n" + "".join(f"{a}{tab}{b}\n" for a, b in rows))
        del rows
        assert sum(1 for _ in read_records(place)) >= count  # once before, for what imports take
        tracemalloc.start()
        for _ in read_records(place):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_of(20_000) < peak_of(2_000) + 200_000  # of about 1.4 MB more
