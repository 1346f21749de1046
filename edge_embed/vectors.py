"""Vectors on disk for other programs, with the space and the tier that they belong to."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edge_embed.extras import require
from edge_embed_runtimes.errors import OutputError
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.index.vectors import KINDS as SAVED
from edge_embed_runtimes.index.vectors import VectorSet

Write = Callable[[Path, Sequence[str], VectorSet], None]


def write_vectors(path: Path, texts: Sequence[str], vectors: VectorSet) -> None:
    """Write vectors as `.npy`, `.jsonl`, `.npz` or `.parquet`.

    A `.npy` file holds the values alone, so their origin goes into a JSON file beside it. A row of `.jsonl` or
    `.parquet` holds a text and its vector. `VectorSet.load` reads `.npz` and `.parquet`.

    Raises:
        OutputError: another ending, or a place that can't be written.
        ExtraMissing: `.parquet` without pyarrow.
    """
    check_kind(path)
    if path.suffix in SAVED:
        vectors.save(path, texts=texts)
        return
    with ExitStack() as files:
        _KINDS[path.suffix](files.enter_context(writing_file(path)), texts, vectors)
        if path.suffix == ".npy":
            beside = files.enter_context(writing_file(path.with_name(f"{path.name}.json")))
            ranges = {} if vectors.ranges is None else {"ranges": vectors.ranges.tolist()}
            origin = {**vectors.origin, "rows": len(vectors), **ranges}
            beside.write_text(json.dumps(origin, indent=1) + "\n", encoding="utf-8")


def check_kind(path: Path) -> None:
    """Check, before any work, that a file of this name could be written.

    Raises:
        OutputError: an ending that is unknown.
        ExtraMissing: `.parquet` without pyarrow.
    """
    known = (*_KINDS, *SAVED)
    if path.suffix not in known:
        raise OutputError(f"{path} has the ending {path.suffix!r}: allowed are {', '.join(known)}")
    if path.suffix == ".parquet":
        require("parquet", "pyarrow")


def _write_npy(path: Path, texts: Sequence[str], vectors: VectorSet) -> None:
    with path.open("wb") as file:
        # not np.save, whose error on a full disk does not say so
        rows = np.ascontiguousarray(vectors.values)
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(rows.data)


def _write_jsonl(path: Path, texts: Sequence[str], vectors: VectorSet) -> None:
    with path.open("w", encoding="utf-8") as file:
        for text, vector in zip(texts, vectors.values, strict=True):
            row = {"text": text, "vector": vector.tolist(), "space": vectors.space, "tier": vectors.tier.name}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


_KINDS: dict[str, Write] = {".npy": _write_npy, ".jsonl": _write_jsonl}
