"""Vectors on disk, with the space and the tier that they belong to."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.extras import require
from edge_embed_runtimes.errors import OutputError
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.tiers import Tier

Origin = dict[str, str | int]
Write = Callable[[Path, Sequence[str], NDArray[np.float32], Origin], None]


def write_vectors(path: Path, texts: Sequence[str], vectors: NDArray[np.float32], *, tier: Tier, space: str) -> None:
    """Write (n, dim) vectors as `.npy`, `.jsonl` or `.parquet`.

    A `.npy` file holds the vectors alone, so their origin goes into a JSON file beside it; the others hold each text
    and its vector, and their origin inside.

    Raises:
        OutputError: another ending, or a place that can't be written.
        ExtraMissing: `.parquet` without pyarrow.
    """
    check_kind(path)
    origin: Origin = {"space": space, "tier": tier.name, "layers": tier.layers, "dim": tier.dim}
    with ExitStack() as files:
        _KINDS[path.suffix](files.enter_context(writing_file(path)), texts, vectors, origin)
        if path.suffix == ".npy":
            beside = files.enter_context(writing_file(path.with_name(f"{path.name}.json")))
            beside.write_text(json.dumps({**origin, "rows": len(vectors)}, indent=1) + "\n", encoding="utf-8")


def check_kind(path: Path) -> None:
    """Check, before any work, that a file of this name could be written.

    Raises:
        OutputError: an ending that is unknown.
        ExtraMissing: `.parquet` without pyarrow.
    """
    if path.suffix not in _KINDS:
        raise OutputError(f"{path} has the ending {path.suffix!r}: allowed are {', '.join(_KINDS)}")
    if path.suffix == ".parquet":
        require("parquet", "pyarrow")


def _write_npy(path: Path, texts: Sequence[str], vectors: NDArray[np.float32], origin: Origin) -> None:
    with path.open("wb") as file:
        # not np.save, whose error on a full disk does not say so
        rows = np.ascontiguousarray(vectors)
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(rows.data)


def _write_jsonl(path: Path, texts: Sequence[str], vectors: NDArray[np.float32], origin: Origin) -> None:
    with path.open("w", encoding="utf-8") as file:
        for text, vector in zip(texts, vectors, strict=True):
            row = {"text": text, "vector": vector.tolist(), "space": origin["space"], "tier": origin["tier"]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(path: Path, texts: Sequence[str], vectors: NDArray[np.float32], origin: Origin) -> None:
    import pyarrow
    import pyarrow.parquet

    values = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    table = pyarrow.table({"text": list(texts), "vector": values})
    table = table.replace_schema_metadata({key: str(value) for key, value in origin.items()})
    pyarrow.parquet.write_table(table, path)


_KINDS: dict[str, Write] = {".npy": _write_npy, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
