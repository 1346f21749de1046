"""Read lines of text from files, plain or gzipped, and name the place where one is wrong."""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from edge_embed_runtimes.errors import DataError

_SURROGATE = re.compile("[\ud800-\udfff]")
_BYTE_ORDER_MARK = "\ufeff"  # spreadsheets write it in front of UTF-8


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can spell a text: JSON and Parquet can hold lone surrogates, which it can't."""
    return text.isascii() or not _SURROGATE.search(text)


def text_files(places: Iterable[Path], ending: str = ".txt") -> tuple[Path, ...]:
    """The files at some places: a file stands for itself, a folder for the files in it with this ending, or with `.gz`.

    Raises:
        DataError: a folder without such files.
    """
    files: list[Path] = []
    for place in places:
        found = sorted((*place.glob(f"*{ending}"), *place.glob(f"*{ending}.gz"))) if place.is_dir() else [place]
        if not found:
            raise DataError(f"{place} holds no {ending} or {ending}.gz files: name a file, or a folder with some")
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


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Every line of a text file with its number, from 1; a byte order mark in front of the first is left out.

    Raises:
        DataError: the file is missing, unreadable, or no UTF-8.
    """
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, after line {number}: no valid UTF-8 ({error.reason}): save it as UTF-8") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({getattr(error, 'strerror', None) or error})") from error


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")
