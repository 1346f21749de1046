"""What can be scored: a checkpoint, a bundle, or a foreign encoder, all as one small protocol."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.options import list_options
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import check_texts, cutting_quietly

if TYPE_CHECKING:
    from edge_embed.model.tiered import TieredEncoder

_CHUNK_TEXTS = 1024  # long enough for batches of like length, short enough for a bar that moves
Vectors = Mapping[str, NDArray[np.float32]]
"""Tier name to (n, dim) rows of unit length."""
FULL = "full"
"""The tier of an encoder that has no ladder."""


class TieredModel(Protocol):
    """Anything with tiers that turns texts into vectors."""

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """The names of the tiers, smallest first."""
        ...

    @property
    def one_space(self) -> bool:
        """Whether the vectors of two tiers can be compared."""
        ...

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Mapping[str, NDArray[np.float32]]:
        """Tier name to the texts' (n, dim) float32 rows of unit length; texts that are too long are cut.

        Raises:
            TextError: a bare string, or an item that is no valid string.
        """
        ...


class ForeignEncoder(Protocol):
    """What sentence-transformers, model2vec and others have in common."""

    def encode(self, texts: list[str], /) -> Any:
        """An array (n, dim) of numbers."""
        ...


def encode_once(
    model: TieredModel, texts: Sequence[str], progress: Progress = silent
) -> dict[str, NDArray[np.float32]]:
    """Tier name, smallest first, to the texts' (n, dim) rows; of equal texts only one is encoded.

    Raises:
        TextError: a bare string, or an item that is no valid string.
    """
    check_texts(texts)
    place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    vectors = model.encode_tiers(list(place), progress)
    rows = slice(None) if len(place) == len(texts) else [place[text] for text in texts]
    return {tier: vectors[tier][rows] for tier in model.ladder_names}


class CheckpointModel:
    """A trained ladder in torch; one pass through the encoder serves every tier."""

    one_space = True

    def __init__(self, model: "TieredEncoder") -> None:
        self._model = model

    @classmethod
    def open(cls, folder: Path) -> "CheckpointModel":
        """Load what `edge-embed train` wrote.

        Raises:
            ExtraMissing: torch or transformers isn't installed.
            CheckpointError: no usable checkpoint there.
        """
        from edge_embed.model.checkpoint import load_checkpoint

        return cls(load_checkpoint(folder)[0])

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """The names of the tiers, smallest first."""
        return tuple(tier.name for tier in self._model.ladder)

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Mapping[str, NDArray[np.float32]]:
        """See `TieredModel.encode_tiers`."""
        from edge_embed.model.tiered import encode_tiers

        check_texts(texts)
        with cutting_quietly():
            return encode_tiers(self._model, texts, progress=progress)


class BundleModel:
    """The graphs of a bundle on one engine in one precision; a tier is open only while it encodes.

    Args:
        folder: what `edge-embed export` wrote.
        engine, precision: None for the first that the bundle has and this machine runs, the same for all tiers.

    Raises:
        BundleError: no usable bundle there, or none of the named engine and precision.
        EngineError: the engine is unknown or isn't installed.
    """

    one_space = True

    def __init__(self, folder: Path, *, engine: Engine | None = None, precision: Precision | None = None) -> None:
        self._bundle = Bundle(folder)
        first = list_options(self._bundle, engine=engine, precision=precision)[0]
        self.engine: Engine = first.engine
        self.precision: Precision = first.precision

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """The names of the tiers, smallest first."""
        return tuple(tier.name for tier in self._bundle.manifest.ladder)

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Mapping[str, NDArray[np.float32]]:
        """See `TieredModel.encode_tiers`."""
        check_texts(texts)
        vectors = {}
        for tier in self._bundle.manifest.ladder:
            rows = np.empty((len(texts), tier.dim), dtype=np.float32)
            with (
                cutting_quietly(),
                Embedder.open(self._bundle, tier=tier.name, engine=self.engine, precision=self.precision) as embedder,
            ):
                for chunk in _chunks(len(texts)):
                    rows[chunk] = embedder.encode(texts[chunk])
                    progress(f"encode {tier.name}", chunk.stop, len(texts))
            vectors[tier.name] = rows
        return vectors


class ForeignModel:
    """An encoder of another project, as a ladder of the one tier `FULL`."""

    ladder_names: tuple[str, ...] = (FULL,)
    one_space = True

    def __init__(self, encoder: ForeignEncoder, *, name: str = "the encoder") -> None:
        self._encoder = encoder
        self._name = name

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Mapping[str, NDArray[np.float32]]:
        """See `TieredModel.encode_tiers`; a row of zeros stays one.

        Raises:
            TextError: a bare string, or an item that is no valid string.
            EncoderError: the encoder returned anything but one row of finite numbers a text.
        """
        check_texts(texts)
        parts = []
        for chunk in _chunks(len(texts)):
            parts.append(self._rows(list(texts[chunk])))
            if parts[-1].shape[1] != parts[0].shape[1]:
                widths = f"{parts[0].shape[1]} values, then {parts[-1].shape[1]}"
                raise EncoderError(f"{self._name} returned rows of {widths}: every vector must have the same length")
            progress("encode", chunk.stop, len(texts))
        return {FULL: np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)}

    def _rows(self, texts: list[str]) -> NDArray[np.float32]:
        result = self._encoder.encode(texts)
        try:
            rows: NDArray[np.float32] = np.asarray(result, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise EncoderError(
                f"{self._name} returned a {type(result).__name__} that is no array of numbers ({error}): "
                f"wrap it so that encode(list) returns a numpy array (texts, dim)"
            ) from error
        if rows.ndim != 2 or len(rows) != len(texts) or rows.shape[1] == 0:
            raise EncoderError(
                f"{self._name} returned an array of shape {rows.shape} for {len(texts)} texts: "
                f"expected ({len(texts)}, dim), one row a text"
            )
        if not np.isfinite(rows).all():
            row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise EncoderError(
                f"{self._name} returned a value that is no finite number for the text {texts[row]!r:.60}: "
                f"only finite vectors can be scored"
            )
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        norms[norms == 0] = 1
        rows = rows / norms
        return rows


def _chunks(texts: int) -> Iterator[slice]:
    for start in range(0, texts, _CHUNK_TEXTS):
        yield slice(start, min(start + _CHUNK_TEXTS, texts))
