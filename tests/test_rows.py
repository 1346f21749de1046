"""Lines and tables of text, plain and gzipped, and the place that an error names."""

import gzip
from pathlib import Path

import pytest

from edge_embed.rows import numbered_lines, read_lines, read_table, text_files
from edge_embed_runtimes.errors import DataError


def write(path: Path, content: str | bytes) -> Path:
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.mark.parametrize("name", ["texts.txt", "texts.txt.gz"])
def test_lines_are_stripped_and_blank_ones_left_out(tmp_path, name):
    path = write(tmp_path / name, " a cat \r\n\n\t\nün chat\nlast")
    assert list(read_lines(path)) == ["a cat", "ün chat", "last"]


def test_only_a_newline_ends_a_line(tmp_path):
    path = write(tmp_path / "texts", "one\u2028two\x85three\rfour\x0cfive\n")
    assert list(read_lines(path)) == ["one\u2028two\x85three\rfour\x0cfive"]


@pytest.mark.parametrize("content", ["", "\n\n", " \t\r\n"])
def test_a_file_without_text(tmp_path, content):
    with pytest.raises(DataError, match=r"texts\.txt holds no text: expected one text a line"):
        list(read_lines(write(tmp_path / "texts.txt", content)))


def test_lines_are_numbered_from_one(tmp_path):
    assert list(numbered_lines(write(tmp_path / "texts", "a\n\nb"))) == [(1, "a\n"), (2, "\n"), (3, "b")]


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.tsv.gz"])
def test_a_table_by_name_and_by_place(tmp_path, name):
    path = write(tmp_path / name, 'first\tsecond\tthird\r\n"a\tb "b"\t c \r\nd\te\tf\tmore\n')
    assert list(read_table(path, ["third", "first"])) == [("c", '"a'), ("f", "d")]
    assert list(read_table(path, 2)) == [('"a', 'b "b"'), ("d", "e")]


def test_columns_that_are_not_read_may_be_empty(tmp_path):
    assert list(read_table(write(tmp_path / "t.tsv", "a\tb\tc\n1\t\t3\n4\n"), 1)) == [("1",), ("4",)]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a\tb\n1\t2\n3\n", 2, r"t\.tsv, line 3: column 'b' is empty, expected a text"),
        ("a\tb\n1\t \n", ["b"], r"t\.tsv, line 2: column 'b' is empty"),
        ("a\tb\n1\t2\n\n", ["a"], r"t\.tsv, line 3: column 'a' is empty"),
        ("a\tb\n1\t2\n", ["a", "c"], r"t\.tsv, line 1: the header is \['a', 'b'\], expected .* with a, c"),
        ("a\n1\n", 2, r"t\.tsv, line 1: the header is \['a'\], expected .* with 2 columns"),
        ("a,b\n1,2\n", ["a"], r"line 1: the header is \['a,b'\]"),
        ("", ["a"], r"t\.tsv, line 1: the header is \[\]"),
    ],
)
def test_a_wrong_row_names_line_and_column(tmp_path, content, columns, message):
    with pytest.raises(DataError, match=message):
        list(read_table(write(tmp_path / "t.tsv", content), columns))


def test_a_table_of_a_header_alone_has_no_row(tmp_path):
    assert list(read_table(write(tmp_path / "t.tsv", "a\tb\n"), 2)) == []


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt can't be read \(No such file"):
        list(read_lines(tmp_path / "none.txt"))
    with pytest.raises(DataError, match=r"can't be read \(Is a directory\)"):
        list(read_lines(tmp_path))


def test_no_utf_8(tmp_path):
    path = write(tmp_path / "texts.txt", b"a\n" * 20_000 + b"caf\xe9\n")
    with pytest.raises(DataError, match=r"texts\.txt, after line \d+: no valid UTF-8 .*save it as UTF-8"):
        list(read_lines(path))


@pytest.mark.parametrize("name", ["texts.txt", "texts.txt.gz"])
def test_the_place_of_what_is_no_utf_8(tmp_path, name):
    path = write(tmp_path / name, b"a\nb\nc\xff\nd\n")
    with pytest.raises(DataError, match=r"no valid UTF-8") as caught:
        list(read_lines(path))
    assert int(str(caught.value).split("after line ")[1].split(":")[0]) <= 2


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-20], lambda raw: b"plain text", lambda raw: raw[:10] + b"\xff" * 40]
)
def test_a_damaged_gzip(tmp_path, damage):
    raw = gzip.compress("".join(f"text {n * 7919} of many\n" for n in range(500)).encode())
    (tmp_path / "texts.gz").write_bytes(damage(raw))
    with pytest.raises(DataError, match=r"texts\.gz can't be read"):
        list(read_lines(tmp_path / "texts.gz"))


def test_a_folder_stands_for_its_text_files(tmp_path):
    for name in ("b.txt", "a.txt.gz", "c.tsv", "d.gz", "sub/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "text\n")
    alone = tmp_path / "c.tsv"
    assert text_files([alone, tmp_path]) == (alone, tmp_path / "a.txt.gz", tmp_path / "b.txt")
    assert text_files([tmp_path / "none.txt"]) == (tmp_path / "none.txt",)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \.txt or \.txt\.gz files"):
        text_files([tmp_path / "empty"])
