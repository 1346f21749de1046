"""Lines of text, plain and gzipped, and the place that an error names."""

import gzip
from pathlib import Path

import pytest

from edge_embed.data.lines import numbered_lines, read_lines, text_files
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


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = write(tmp_path / "texts.txt", "\ufeffa cat\n\ufeffb\n")
    assert list(read_lines(path)) == ["a cat", "\ufeffb"]


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
