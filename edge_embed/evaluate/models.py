"""What can be scored: a checkpoint, a bundle, or a foreign encoder, all as one small protocol."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.errors import EncoderError, ExtraMissing, RecipeError
from edge_embed_runtimes.manifest import MANIFEST_NAME, Engine, Precision
from edge_embed_runtimes.options import list_options
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import TextCut, check_texts

if TYPE_CHECKING:
    from edge_embed.model.tiered import TieredEncoder

_CHUNK_TEXTS = 1024  # long enough for batches of like length, short enough for a bar that moves
_CHECKPOINT_NAME = "starbucks.json"  # as in edge_embed.model.checkpoint, which needs torch


class TieredModel(Protocol):
    """Anything with tiers that turns texts into vectors."""

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """The names of the tiers, smallest first."""
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


class CheckpointModel:
    """A trained ladder in torch; one pass through the encoder serves every tier."""

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
        with _cutting_quietly():
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
                _cutting_quietly(),
                Embedder.open(self._bundle, tier=tier.name, engine=self.engine, precision=self.precision) as embedder,
            ):
                for chunk in _chunks(len(texts)):
                    rows[chunk] = embedder.encode(texts[chunk])
                    progress(f"encode {tier.name}", chunk.stop, len(texts))
            vectors[tier.name] = rows
        return vectors


class ForeignModel:
    """An encoder of another project, as a ladder of the one tier `full`."""

    ladder_names: tuple[str, ...] = ("full",)

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
        return {"full": np.concatenate(parts) if parts else np.empty((0, 0), dtype=np.float32)}

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


def open_model(place: str, *, engine: Engine | None = None, precision: Precision | None = None) -> TieredModel:
    """Open whatever stands at a place.

    Args:
        place: a bundle, a checkpoint, a folder or hub id of sentence-transformers, or a packaged encoder.
        engine, precision: of a bundle; None for the first that it has and this machine runs.

    Raises:
        RecipeError: an engine or a precision for something that is no bundle.
        BundleError, EngineError: see `BundleModel`.
        CheckpointError: a damaged checkpoint.
        EncoderError: nothing that can be opened is there.
        ExtraMissing: torch or sentence-transformers is needed and isn't installed.
    """
    folder = Path(place)
    if (folder / MANIFEST_NAME).is_file():
        return BundleModel(folder, engine=engine, precision=precision)
    if engine is not None or precision is not None:
        wish = " ".join(filter(None, (engine, precision)))
        raise RecipeError(f"{place} is no bundle, so it can't run as {wish}: export it first, or name neither")
    if (folder / _CHECKPOINT_NAME).is_file():
        return CheckpointModel.open(folder)
    return _open_foreign(place)


def _open_foreign(place: str) -> ForeignModel:
    where = _locate(place)
    if find_spec("sentence_transformers") is None:
        raise ExtraMissing(
            f"{place} is neither a bundle nor a checkpoint, and sentence-transformers, which may know it, is not "
            f"installed: pip install sentence-transformers"
        )
    from sentence_transformers import SentenceTransformer

    from edge_embed.model.quiet import quiet

    try:
        with quiet():
            encoder = SentenceTransformer(where)
    except Exception as error:  # it hands on whatever its own loaders and the hub's client raise
        way_out = "check the folder" if Path(where).is_dir() else "check the name and the network, or name a folder"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(f"{place} can't be loaded by sentence-transformers ({reason}): {way_out}") from error
    return ForeignModel(encoder, name=place)


def _locate(place: str) -> str:
    """A folder or hub id that sentence-transformers may load."""
    folder = Path(place)
    if (folder / "modules.json").is_file():  # a model without a config.json of its own, such as static vectors
        return place
    if folder.exists() and not (folder / "config.json").is_file():
        raise EncoderError(
            f"{place} is no bundle ({MANIFEST_NAME}), no checkpoint ({_CHECKPOINT_NAME}) and no encoder (config.json): "
            f"name a folder that holds one of these"
        )
    from edge_embed.model.source import locate

    return locate(place)


def _chunks(texts: int) -> Iterator[slice]:
    for start in range(0, texts, _CHUNK_TEXTS):
        yield slice(start, min(start + _CHUNK_TEXTS, texts))


@contextmanager
def _cutting_quietly() -> Iterator[None]:
    """Cut long texts without a word, as every published evaluation does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextCut)
        yield
