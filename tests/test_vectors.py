"""Vectors on disk in three formats, each with its origin."""

import errno
import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_embed import extras
from edge_embed.vectors import check_kind, write_vectors
from edge_embed_runtimes.errors import ExtraMissing, OutputError
from edge_embed_runtimes.index.vectors import VectorSet
from edge_embed_runtimes.tiers import Tier

TIER = Tier("short", 2, 5)
TEXTS = ["a cat", 'a "quoted"\ttext\nof lines', "ein Café \u2028 日本"]
VECTORS = np.random.default_rng(0).standard_normal((3, 5)).astype(np.float32)
KINDS = pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet"])


def write(path: Path, texts: list[str] = TEXTS, vectors: np.ndarray = VECTORS) -> Path:
    write_vectors(path, texts, VectorSet(vectors, TIER, "0123abcd", 5))
    return path


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_npy_with_a_file_beside_it(tmp_path):
    found = np.load(write(tmp_path / "out.npy"), allow_pickle=False)
    assert found.dtype == np.float32 and np.array_equal(found, VECTORS)
    assert listing(tmp_path) == ["out.npy", "out.npy.json"]
    assert json.loads((tmp_path / "out.npy.json").read_text()) == {
        "space": "0123abcd", "tier": "short", "layers": 2, "tier_dim": 5, "dim": 5, "dtype": "float32", "rows": 3,
    }  # fmt: skip


def test_jsonl(tmp_path):
    lines = write(tmp_path / "out.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b"" and len(lines) == 3 and "Café" in lines[2].decode()
    for line, text, vector in zip(lines, TEXTS, VECTORS, strict=True):
        row = json.loads(line)
        assert np.array_equal(np.array(row.pop("vector"), np.float32), vector)
        assert row == {"text": text, "space": "0123abcd", "tier": "short"}
    assert listing(tmp_path) == ["out.jsonl"]


def test_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(write(tmp_path / "out.parquet"))
    assert table.column_names == ["text", "vector"] and table["text"].to_pylist() == TEXTS
    assert table.schema.field("vector").type == pyarrow.list_(pyarrow.float32(), 5)
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float32), VECTORS)
    expected = {b"space": b"0123abcd", b"tier": b"short", b"layers": b"2", b"dim": b"5"}
    assert expected.items() <= table.schema.metadata.items()
    assert listing(tmp_path) == ["out.parquet"]


@KINDS
def test_no_row(tmp_path, kind):
    write(tmp_path / f"out.{kind}", [], np.empty((0, 5), np.float32))
    if kind == "npy":
        assert np.load(tmp_path / "out.npy").shape == (0, 5)
    assert f"out.{kind}" in listing(tmp_path)


@KINDS
@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda vectors: np.repeat(vectors, 2, axis=1)[:, ::2]], ids=["fortran", "strided"]
)
def test_any_layout_in_memory(tmp_path, kind, layout):
    assert not layout(VECTORS).flags.c_contiguous and np.array_equal(layout(VECTORS), VECTORS)
    found = write(tmp_path / f"out.{kind}", TEXTS, layout(VECTORS)).read_bytes()
    if kind == "npy":
        assert np.array_equal(np.load(tmp_path / "out.npy"), VECTORS)
    else:
        assert found == write(tmp_path / f"plain.{kind}").read_bytes()


@KINDS
def test_a_file_is_replaced(tmp_path, kind):
    write(tmp_path / f"out.{kind}", TEXTS, VECTORS + 1)
    again = write(tmp_path / f"out.{kind}").read_bytes()
    assert again == write(tmp_path / "sub" / f"new.{kind}").read_bytes()


@pytest.mark.parametrize("name", ["out.csv", "out", "out.zip", "out.npy.gz", ".npy"])
def test_another_ending_is_refused_before_any_work(tmp_path, name):
    with pytest.raises(OutputError, match=r"has the ending '.*': allowed are \.npy, \.jsonl, \.npz, \.parquet"):
        check_kind(tmp_path / name)
    with pytest.raises(OutputError, match="has the ending"):
        write(tmp_path / name)
    assert listing(tmp_path) == []


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda module: None)
    for kind in ("npy", "jsonl"):
        check_kind(tmp_path / f"out.{kind}")
    with pytest.raises(ExtraMissing, match=r"pyarrow not installed: pip install 'edge-embed\[parquet\]'"):
        write(tmp_path / "out.parquet")
    assert listing(tmp_path) == []


def fill_up(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 64 KB, for which the system's answer comes as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@KINDS
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_leaves_nothing(tmp_path, kind):
    vectors = np.random.default_rng(0).standard_normal((8000, 5)).astype(np.float32)
    with pytest.raises(OutputError, match=f"no room left on the disk of .*out.{kind}: nothing was written"):
        write(tmp_path / f"out.{kind}", [f"text {row}" for row in range(8000)], vectors)
    assert listing(tmp_path) == []


def test_a_disk_that_is_full_at_the_file_beside_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_text", fill_up)
    with pytest.raises(OutputError, match="no room left"):
        write(tmp_path / "out.npy")
    assert listing(tmp_path) == []


@KINDS
def test_a_place_under_a_file_is_refused(tmp_path, kind):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="can't be written"):
        write(tmp_path / "file" / f"out.{kind}")
    assert listing(tmp_path) == ["file"]


def test_texts_and_vectors_must_agree(tmp_path):
    for kind in ("jsonl", "parquet"):
        with pytest.raises(ValueError, match=r"argument 2 is longer|length"):
            write(tmp_path / f"out.{kind}", TEXTS[:2])
    assert listing(tmp_path) == []
