"""Read lines and tables of text from files, plain or gzipped, and name the line where one is wrong."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

from edge_embed_runtimes.errors import DataError


def text_files(places: Iterable[Path]) -> tuple[Path, ...]:
    """The files of texts at some places: a file stands for itself, a folder for the `.txt` and `.txt.gz` files in it.

    Raises:
        DataError: a folder without such files.
    """
    files: list[Path] = []
    for place in places:
        found = sorted((*place.glob("*.txt"), *place.glob("*.txt.gz"))) if place.is_dir() else [place]
        if not found:
            raise DataError(f"{place} holds no .txt or .txt.gz files: name a file, or a folder with some")
        files += found
    return tuple(files)


def read_lines(path: Path) -> Iterator[str]:
    """The lines of a text file that hold more than white space, stripped.

    Raises:
        DataError: the file is missing, unreadable, no UTF-8, or holds no text at all.
    """
    found = False
    for _, line in numbered_lines(path):
        if line.strip():
            found = True
            yield line.strip()
    if not found:
        raise DataError(f"{path} holds no text: expected one text a line")


def read_table(path: Path, columns: Sequence[str] | int) -> Iterator[tuple[str, ...]]:
    """The rows of a TSV file with a header and no quoting, reduced to some columns.

    Args:
        columns: names of the columns to read, or how many of the first ones, whatever they are called.

    Raises:
        DataError: see `read_lines`; also a missing column, or a row that is too short or has an empty cell.
    """
    lines = numbered_lines(path)
    header = next((line.rstrip("\r\n").split("\t") for _, line in lines), [])
    names = header[:columns] if isinstance(columns, int) else list(columns)
    if not set(names) <= set(header) or (isinstance(columns, int) and len(names) < columns):
        wanted = f"{columns} columns" if isinstance(columns, int) else ", ".join(names)
        raise DataError(f"{path}, line 1: the header is {header}, expected a tab-separated one with {wanted}")
    places = [header.index(name) for name in names]
    for number, line in lines:
        cells = line.rstrip("\r\n").split("\t")
        for name, place in zip(names, places, strict=True):
            if place >= len(cells) or not cells[place].strip():
                raise DataError(f"{path}, line {number}: column {name!r} is empty, expected a text")
        yield tuple(cells[place].strip() for place in places)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line of a text file with its number, from 1.

    Raises:
        DataError: the file is missing, unreadable, or no UTF-8.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after line {number}: no valid UTF-8 ({error.reason}): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({getattr(error, 'strerror', None) or error})") from error


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")
