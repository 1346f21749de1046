"""Rows on disk: read and checked once, then fetched in any order, so that memory does not grow with the data."""

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.data.records import BadRows
from edge_embed.data.sources import Source, read_rows
from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.errors import DataError, OutputError
from edge_embed_runtimes.progress import Progress, silent

_TABLE = """
CREATE TABLE rows (
    id INTEGER PRIMARY KEY, source INTEGER, line INTEGER, value REAL, texts TEXT, longest INTEGER,
    content BLOB, UNIQUE (content)
)
"""
_INSERT = "INSERT OR IGNORE INTO rows (source, line, value, texts, longest, content) VALUES (?, ?, ?, ?, ?, ?)"
_CHUNK_ROWS = 2048


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row: its texts, its score or label if it has one, and where it came from."""

    texts: tuple[str, ...]
    value: float | None
    source: int
    line: int


class RowStore:
    """The rows of some sources, each once, in an SQLite file of its own, which goes when the store goes.

    Args:
        sources: read in this order; a row that stands in two of them counts for the first.
        bad: what to do with rows that can't be used.

    Attributes:
        pools: the places of the sources that are drawn as one: those of a folder, or a file alone.
        counts: rows of each pool.

    Raises:
        DataError: see `edge_embed.data.sources.read_rows`; also fewer than two rows.
        OutputError: no room for the file.
    """

    def __init__(self, sources: Sequence[Source], *, bad: BadRows | None = None, progress: Progress = silent) -> None:
        self.sources = tuple(sources)
        self._file = sqlite3.connect("")  # a temporary file, which SQLite deletes
        self._file.execute(_TABLE)
        try:
            for number, source in enumerate(self.sources):
                self._file.executemany(_INSERT, _entries(number, source, bad))
                progress("read data", number + 1, len(self.sources))
            self._file.execute("CREATE INDEX of_source ON rows (source)")
            self._file.commit()
        except sqlite3.OperationalError as error:
            raise OutputError(f"no room for the rows ({error}): free some space, or set SQLITE_TMPDIR") from error
        self.pools = _pools(self.sources)
        self.counts = tuple(map(self._count, self.pools))
        if sum(self.counts) < 2:
            raise DataError(f"{sum(self.counts)} rows are too few to train on: name files with at least two")
        self.left_out = dict(bad.counts) if bad else {}

    def __getitem__(self, row: int) -> StoredRow:
        found = self._file.execute("SELECT texts, value, source, line FROM rows WHERE id = ?", (row,)).fetchone()
        if found is None:
            raise IndexError(f"no row {row}")
        texts, value, source, line = found
        return StoredRow(tuple(json.loads(texts)), value, source, line)

    def lengths(self, pool: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The ids of a pool's rows (n,), and the characters of the longest text of each (n,)."""
        wanted = "SELECT id, longest FROM rows WHERE source BETWEEN ? AND ? ORDER BY id"
        found = self._file.execute(wanted, _ends(self.pools[pool]))
        table = np.fromiter(found, dtype=np.dtype([("id", np.int64), ("longest", np.int32)]), count=self.counts[pool])
        return np.ascontiguousarray(table["id"]), np.ascontiguousarray(table["longest"])

    def text_chunks(self) -> Iterator[list[str]]:
        """Every text, in lists of a few thousand, in the order of the rows; a text that two rows share comes twice."""
        found = self._file.execute("SELECT texts FROM rows ORDER BY id")
        while chunk := found.fetchmany(_CHUNK_ROWS):
            yield [text for (texts,) in chunk for text in json.loads(texts)]

    def count_texts(self) -> int:
        """How many texts `text_chunks` gives."""
        return int(self._file.execute("SELECT SUM(json_array_length(texts)) FROM rows").fetchone()[0])

    def sample_texts(self, limit: int, seed: int) -> list[str]:
        """At most `limit` different texts, each equally likely to be among them however often it stands in the data."""
        chosen: dict[bytes, str] = {}
        for chunk in self.text_chunks():
            chosen.update((_draw(text, seed), text) for text in chunk)
            if len(chosen) > 2 * limit:
                chosen = dict(sorted(chosen.items())[:limit])
        return [text for _, text in sorted(chosen.items())[:limit]]

    def where(self, row: int) -> str:
        """The file and line of a row."""
        found = self[row]
        return f"{self.sources[found.source].place}, line {found.line}"

    def hashes(self) -> dict[str, str]:
        """File name to sha256, with folders before it where files share a name.

        What a hub gave is known by a hash of its rows.
        """
        hashes: dict[str, str] = {}
        for number, source in enumerate(self.sources):
            path = Path(source.place)
            found = sha256_of(path) if path.is_file() else self._hash_rows(number)
            names = _names_of(source.place, number)
            hashes[next(name for name in names if hashes.get(name, found) == found)] = found
        return hashes

    def _count(self, pool: Sequence[int]) -> int:
        wanted = "SELECT COUNT(*) FROM rows WHERE source BETWEEN ? AND ?"
        return int(self._file.execute(wanted, _ends(pool)).fetchone()[0])

    def _hash_rows(self, source: int) -> str:
        digest = hashlib.sha256()
        for (content,) in self._file.execute("SELECT content FROM rows WHERE source = ? ORDER BY id", (source,)):
            digest.update(content)
        return digest.hexdigest()


def _pools(sources: Sequence[Source]) -> tuple[tuple[int, ...], ...]:
    def same(number: int) -> Source | int:
        return replace(sources[number], place="") if sources[number].folder else number

    return tuple(tuple(pool) for _, pool in groupby(range(len(sources)), key=same))


def _ends(pool: Sequence[int]) -> tuple[int, int]:
    return pool[0], pool[-1]


def _names_of(place: str, number: int) -> Iterator[str]:
    """What to call a source, from the shortest name on."""
    parts = (place,) if place.startswith("hub:") else Path(place).parts
    yield from ("/".join(parts[-length:]) for length in range(1, len(parts) + 1))
    yield f"{place}, source {number + 1}"


def _draw(text: str, seed: int) -> bytes:
    """A number drawn for a text: the same whenever it comes."""
    return hashlib.blake2b(text.encode(), digest_size=16, key=str(seed).encode()).digest()


def _entries(
    number: int, source: Source, bad: BadRows | None
) -> Iterator[tuple[int, int, float | None, str, int, bytes]]:
    for row in read_rows(source, bad):
        texts = json.dumps(row.texts, ensure_ascii=False)
        content = hashlib.blake2b(f"{source.kind}\n{row.value}\n{texts}".encode(), digest_size=16).digest()
        yield number, row.line, row.value, texts, max(map(len, row.texts)), content
