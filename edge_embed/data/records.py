"""Read any file as rows of named cells, one at a time: memory does not grow with the file."""

import csv
import gzip
import json
import re
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edge_embed.data.lines import numbered_lines
from edge_embed.extras import require
from edge_embed_runtimes.errors import DataError

ENDINGS = (".tsv", ".csv", ".jsonl", ".parquet", ".txt")
_HUB = re.compile(r"hub:(?P<name>[^/:\s]+/[^/:\s]+)(/(?P<config>[^/:\s]+))?(:(?P<split>[^/:\s]+))?")
_BATCH_ROWS = 1024
_BUFFER_BYTES = 1 << 16  # of a Parquet column, which else is read at once for a whole group of rows


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a file.

    Attributes:
        line: where the row begins in its file, from 1; of `.parquet` and the hub the number of the row, from 1.
        cells: column to what stands there: a string, or in JSON, Parquet and on the hub whatever these know.
    """

    line: int
    cells: Mapping[str, object]


class BadRows:
    """What to do with a row that can't be used: stop (the default), or count it and go on.

    Attributes:
        counts: place to the number of rows that were left out.
    """

    def __init__(self, *, skip: bool = False) -> None:
        self._skip = skip
        self.counts: Counter[str] = Counter()

    def refuse(self, place: str, line: int, message: str) -> None:
        """Leave a row out.

        Raises:
            DataError: bad rows are not to be skipped; the message names place and line.
        """
        if not self._skip:
            raise DataError(f"{place}, line {line}: {message}")
        self.counts[place] += 1


def read_records(place: str, bad: BadRows | None = None, *, columns: Sequence[str] = ()) -> Iterator[Record]:
    """The rows of a file, or of a data set of the hub, in their order.

    What a file holds is told by its ending, each also with `.gz` behind it, and UTF-8 throughout:

    - `.tsv`: a header, then one row a line; no quoting, so that `"` is a letter like any other.
    - `.csv`: a header, then rows as RFC 4180 has them; a quoted cell may span lines.
    - `.jsonl`: one object a line; blank lines are left out.
    - `.parquet`: needs pyarrow.
    - `.txt`: one text a line in the one column `text`; blank lines are left out.

    Args:
        place: a path; or `hub:owner/name`, `hub:owner/name/config`, each also with `:split` (else `train`) behind it,
            which is streamed through the library datasets.
        bad: takes the rows that are malformed; without it the first one is an error.
        columns: names that the header must hold; in `.jsonl`, which has none, any object may lack any of them.

    Raises:
        DataError: an unknown ending, a file that is missing, damaged or no UTF-8, a header without one of `columns`,
            a malformed row, or a data set that no hub gives out.
        ExtraMissing: pyarrow or datasets is needed and isn't installed.
    """
    bad = BadRows() if bad is None else bad
    if place.startswith("hub:"):
        return _read_hub(place, columns)
    path = Path(place)
    match Path(place.removesuffix(".gz")).suffix:
        case ".tsv":
            return _read_table(place, _split_tsv(path), bad, columns)
        case ".csv":
            return _read_table(place, _split_csv(place, path, bad), bad, columns)
        case ".jsonl":
            return _read_jsonl(place, path, bad)
        case ".parquet":
            return _read_parquet(place, path, columns)
        case ".txt":
            return _read_txt(place, path, columns)
        case ending:
            raise DataError(
                f"{place} has the ending {ending!r}: known are {', '.join(ENDINGS)}, each also with .gz behind it, "
                f"and hub:owner/name"
            )


def _read_table(
    place: str, rows: Iterator[tuple[int, list[str]]], bad: BadRows, columns: Sequence[str]
) -> Iterator[Record]:
    header = next((cells for _, cells in rows), [])
    _check_header(place, header, columns)
    for line, cells in rows:
        if len(cells) == len(header):
            yield Record(line, dict(zip(header, cells, strict=True)))
        elif len(cells) < len(header):
            wrong = f"column {header[len(cells)]!r} is empty: expected {len(header)} cells as in the header"
            bad.refuse(place, line, f"{wrong}, not {len(cells)}")
        else:
            bad.refuse(place, line, f"{len(cells)} cells, expected {len(header)} as in the header {header}")


def _split_tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    for line, text in numbered_lines(path):
        row = text.rstrip("\r\n")
        yield line, row.split("\t") if row else []


def _split_csv(place: str, path: Path, bad: BadRows) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader((text for _, text in numbered_lines(path)), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if line == 1:
                raise DataError(f"{place}, line 1: the header is no valid CSV ({error}): save the file anew") from error
            bad.refuse(place, line, f"no valid CSV ({error}), expected cells with a comma between them")


def _read_jsonl(place: str, path: Path, bad: BadRows) -> Iterator[Record]:
    for line, text in numbered_lines(path):
        if not text.strip():
            continue
        try:
            entry = json.loads(text)
        except (ValueError, RecursionError) as error:
            bad.refuse(place, line, f'no JSON ({error}), expected an object such as {{"text": "..."}}')
            continue
        if isinstance(entry, dict):
            yield Record(line, entry)
        else:
            bad.refuse(place, line, f'found {text.strip()!r:.60}, expected an object such as {{"text": "..."}}')


def _read_txt(place: str, path: Path, columns: Sequence[str]) -> Iterator[Record]:
    _check_header(place, ["text"], columns)
    for line, text in numbered_lines(path):
        if text.strip():
            yield Record(line, {"text": text.rstrip("\r\n")})


def _read_parquet(place: str, path: Path, columns: Sequence[str]) -> Iterator[Record]:
    require("parquet", "pyarrow")
    import pyarrow
    from pyarrow.parquet import ParquetFile

    line = 0
    try:
        with _unpacked(path) as file, ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            _check_header(place, table.schema_arrow.names, columns)
            for batch in table.iter_batches(_BATCH_ROWS, columns=list(columns) or None):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    line += 1
                    yield Record(line, dict(zip(batch.schema.names, row, strict=True)))
    except DataError:  # a ValueError too
        raise
    except (OSError, EOFError, zlib.error, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise DataError(f"{place} can't be read ({_reason(error)})") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[IO[bytes]]:
    """The file to read from anywhere in it, which a gzip stream can't give: unpacked into a temporary file."""
    if path.suffix != ".gz":
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, file)
        yield file


def _read_hub(place: str, columns: Sequence[str]) -> Iterator[Record]:
    found = _HUB.fullmatch(place)
    if not found:
        raise DataError(f"{place} names no data set: expected hub:owner/name, hub:owner/name/config:split or the like")
    require("hub", "datasets")
    try:
        from datasets import load_dataset

        rows = load_dataset(found["name"], found["config"], split=found["split"] or "train", streaming=True)
        for line, row in enumerate(rows, start=1):
            if line == 1:
                _check_header(place, list(row), columns)
            yield Record(line, row)
    except DataError:
        raise
    except Exception as error:  # it hands on whatever its own readers and the hub's client raise
        raise DataError(
            f"{place} can't be read ({_reason(error)}): check the names of data set, configuration and split, and the "
            f"network; or save it as a file"
        ) from error


def _check_header(place: str, header: Sequence[str], columns: Sequence[str]) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{place}, line 1: the header names {twice[0]!r} more than once, expected each column once")
    if not header or not set(columns) <= set(header):
        wanted = ", ".join(columns) or "the names of columns, such as sentence1, sentence2, score"
        raise DataError(f"{place}, line 1: the header is {list(header)}, expected one with {wanted}")


def _reason(error: Exception) -> str:
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__
