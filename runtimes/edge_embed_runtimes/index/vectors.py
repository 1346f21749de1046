"""Vectors with what they mean: the tier and the space that they belong to, and the type they are kept in."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.errors import EdgeEmbedError, ExtraMissing, OutputError, SpaceMismatch, VectorError
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.index.journal import Journal
from edge_embed_runtimes.index.outputs import (
    Dtype,
    Values,
    check_dtype,
    convert,
    find_ranges,
    numpy_type,
    restore,
    unit_length,
    width_of,
)
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Tier

_BLOCK_ROWS = 16_384
_CHUNK_TEXTS = 1024


class Encoder(Protocol):
    """What `VectorSet.upgrade` needs of an embedder."""

    @property
    def space(self) -> str:
        """Id of the vector space."""

    def encode_documents(self, texts: Sequence[str], *, tier: Tier | str | None = None) -> "VectorSet":
        """See `edge_embed_runtimes.embedder.Embedder.encode_documents`."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorSet:
    """Vectors of texts, one a row.

    Attributes:
        values: (n, dim) of `dtype`; of bits (n, ceil(dim / 8)) uint8.
        tier: the tier that made them.
        space: id of the space; only vectors of one space can be compared.
        dim: how many dimensions they have; fewer than the tier's after `shrink`.
        dtype: what the values are kept in.
        ranges: of int8, (dim,) float32: the value that 127 stands for.

    Raises:
        VectorError: values of another shape or type than the rest says.
    """

    values: Values
    tier: Tier
    space: str
    dim: int
    dtype: Dtype = "float32"
    ranges: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        wanted = (numpy_type(self.dtype), (len(self.values), width_of(self.dtype, self.dim)))
        if (self.values.dtype, self.values.shape) != wanted:
            raise VectorError(
                f"values are {self.values.dtype} of shape {self.values.shape}: "
                f"{self.dtype} of {self.dim} dimensions needs {wanted[0]} of shape {wanted[1]}"
            )
        if not 1 <= self.dim <= self.tier.dim:
            raise VectorError(f"vectors of {self.dim} dimensions can't be of {self.tier}")
        if (self.dtype == "int8") != (self.ranges is not None and self.ranges.shape == (self.dim,)):
            raise VectorError(f"int8, and nothing else, has a range for each of its {self.dim} dimensions")

    def __len__(self) -> int:
        return len(self.values)

    def floats(self) -> NDArray[np.float32]:
        """The vectors as (n, dim) float32 of unit length."""
        return restore(self.values, self.dtype, self.dim, self.ranges)

    def to(self, dtype: Dtype, ranges: NDArray[np.float32] | None = None) -> "VectorSet":
        """The same in another type.

        Args:
            ranges: for int8; None takes what these vectors need.
        """
        vectors = self.floats()
        if dtype == "int8" and ranges is None:
            ranges = find_ranges(vectors)
        ranges = ranges if dtype == "int8" else None
        return replace(self, values=convert(vectors, dtype, ranges), dtype=dtype, ranges=ranges)

    def shrink(self, tier: Tier) -> "VectorSet":
        """The first `tier.dim` values of each, at unit length: an index cut down without its texts.

        They stay what the larger tier said of the texts, and compare with queries of any tier as before.

        Raises:
            VectorError: the tier has more dimensions than these vectors.
        """
        if tier.dim > self.dim:
            raise VectorError(f"{self.dim} dimensions can't shrink to the {tier.dim} of {tier}: upgrade them")
        cut = VectorSet(unit_length(self.floats()[:, : tier.dim]), self.tier, self.space, tier.dim)
        return cut.to(self.dtype)

    def similarity(self, queries: "VectorSet") -> NDArray[np.float32]:
        """Cosine of every query (rows) to every vector of this set (columns), float32, over the dimensions of both.

        Raises:
            SpaceMismatch: the queries are of another space.
        """
        if queries.space != self.space:
            raise SpaceMismatch(
                f"queries of space {queries.space!r} can't be compared with vectors of {self.space!r}: "
                f"embed both with one bundle"
            )
        dim = min(self.dim, queries.dim)
        wanted = unit_length(queries.floats()[:, :dim])
        found = np.empty((len(queries), len(self)), dtype=np.float32)
        for start in range(0, len(self), _BLOCK_ROWS):
            rows = restore(self.values[start : start + _BLOCK_ROWS], self.dtype, self.dim, self.ranges)
            found[:, start : start + len(rows)] = wanted @ unit_length(rows[:, :dim]).T
        return found

    def upgrade(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        *,
        tier: Tier | str | None = None,
        path: Path | str | None = None,
        progress: Progress = silent,
    ) -> "VectorSet":
        """The same texts by a larger tier, in this set's type.

        Args:
            encoder: an embedder of the same space.
            texts: those of this set, in its order.
            tier: the tier to raise it to; None for the one that the embedder has chosen.
            path: where the new set is saved. What is done is kept beside it, so that the same call goes on after a
                kill; the file itself changes last, at once.

        Raises:
            SpaceMismatch: the embedder is of another space.
            VectorError: another number of texts.
            OutputError: another process upgrades to this place, or it can't be written.
        """
        if encoder.space != self.space:
            raise SpaceMismatch(f"an embedder of space {encoder.space!r} can't upgrade vectors of {self.space!r}")
        if len(texts) != len(self):
            raise VectorError(f"{len(texts)} texts for {len(self)} vectors: pass the same texts in the same order")
        if path is None:
            return encoder.encode_documents(texts, tier=tier).to(self.dtype)
        target = encoder.encode_documents([], tier=tier)
        key = _digest(self.space, target.tier.canonical, texts)
        with Journal(Path(path), key, width=target.dim, rows=len(texts)) as journal:
            for start in range(journal.done, len(texts), _CHUNK_TEXTS):
                progress("upgrade", start, len(texts))
                journal.add(encoder.encode_documents(texts[start : start + _CHUNK_TEXTS], tier=target.tier).floats())
            progress("upgrade", len(texts), len(texts))
            raised = replace(target, values=journal.rows()).to(self.dtype)
            raised.save(path)
            journal.finish()
        return raised

    def save(self, path: Path | str, *, texts: Sequence[str] | None = None) -> None:
        """Write as `.npz` or `.parquet`.

        Args:
            texts: written beside the vectors into a `.parquet` file.

        Raises:
            OutputError: another ending, or a place that can't be written.
            ExtraMissing: `.parquet` without pyarrow.
        """
        path = Path(path)
        if path.suffix not in KINDS:
            raise OutputError(f"{path} has the ending {path.suffix!r}: allowed are {', '.join(KINDS)}")
        with writing_file(path) as temporary:
            KINDS[path.suffix][0](temporary, self, texts)

    @property
    def origin(self) -> dict[str, str | int]:
        """What they are, in plain words and numbers, for any file format."""
        return {
            "space": self.space,
            "tier": self.tier.name,
            "layers": self.tier.layers,
            "tier_dim": self.tier.dim,
            "dim": self.dim,
            "dtype": self.dtype,
        }

    @staticmethod
    def load(path: Path | str) -> "VectorSet":
        """Read what `save` wrote.

        Raises:
            VectorError: the file is missing, or holds no vectors of ours.
            ExtraMissing: `.parquet` without pyarrow.
        """
        path = Path(path)
        if path.suffix not in KINDS:
            raise VectorError(f"{path} has the ending {path.suffix!r}: allowed are {', '.join(KINDS)}")
        try:
            values, ranges, origin = KINDS[path.suffix][1](path)
            return VectorSet(
                values=values,
                tier=Tier(origin["tier"], int(origin["layers"]), int(origin["tier_dim"])),
                space=str(origin["space"]),
                dim=int(origin["dim"]),
                dtype=origin["dtype"],
                ranges=ranges,
            )
        except FileNotFoundError as error:
            raise VectorError(f"no vectors at {path}: embed some with 'edge-embed embed'") from error
        except (EdgeEmbedError, OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
            if isinstance(error, ExtraMissing):
                raise
            raise VectorError(f"{path} holds no vectors of edge-embed ({error}): embed the texts again") from error


Parts = tuple[Values, NDArray[np.float32] | None, Mapping[str, Any]]


def _write_npz(path: Path, vectors: VectorSet, texts: Sequence[str] | None) -> None:
    ranges = np.empty(0, dtype=np.float32) if vectors.ranges is None else vectors.ranges
    with path.open("wb") as file:
        np.savez(file, values=vectors.values, ranges=ranges, origin=np.array(json.dumps(vectors.origin)))


def _read_npz(path: Path) -> Parts:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        ranges = arrays["ranges"]
        return arrays["values"], ranges if len(ranges) else None, json.loads(str(arrays["origin"]))


def _write_parquet(path: Path, vectors: VectorSet, texts: Sequence[str] | None) -> None:
    pyarrow, parquet = _pyarrow()
    flat = pyarrow.array(np.ascontiguousarray(vectors.values).ravel())
    column = pyarrow.FixedSizeListArray.from_arrays(flat, vectors.values.shape[1])
    table = pyarrow.table({**({} if texts is None else {"text": list(texts)}), "vector": column})
    origin = {name: str(value) for name, value in vectors.origin.items()}
    ranges = {} if vectors.ranges is None else {"ranges": json.dumps(vectors.ranges.tolist())}
    parquet.write_table(table.replace_schema_metadata({**origin, **ranges}), path)


def _read_parquet(path: Path) -> Parts:
    _, parquet = _pyarrow()
    table = parquet.read_table(path, columns=["vector"])
    origin = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    width = table.schema.field("vector").type.list_size
    values = table.column("vector").combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, width)
    ranges = np.asarray(json.loads(origin["ranges"]), dtype=np.float32) if "ranges" in origin else None
    return values, ranges, origin


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ExtraMissing("pyarrow isn't installed: pip install 'edge-embed[parquet]'") from error
    return pyarrow, pyarrow.parquet


KINDS: dict[str, tuple[Callable[[Path, VectorSet, Sequence[str] | None], None], Callable[[Path], Parts]]] = {
    ".npz": (_write_npz, _read_npz),
    ".parquet": (_write_parquet, _read_parquet),
}


def _digest(*parts: str | Sequence[str]) -> str:
    """A hash of words and texts, each with its length."""
    digest = hashlib.sha256()
    for text in _words(parts):
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def _words(parts: Sequence[str | Sequence[str]]) -> Iterator[str]:
    for part in parts:
        yield from [part] if isinstance(part, str) else part
