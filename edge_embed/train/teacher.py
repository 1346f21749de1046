"""A teacher's vectors: computed once, kept on disk under a hash of each text."""

import hashlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_embed.model.encoder import Encoder
from edge_embed.model.tiered import pooled_states
from edge_embed.train.store import RowStore
from edge_embed_runtimes.cache import cache_folder
from edge_embed_runtimes.errors import DataError, OutputError
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import cutting_quietly

_AT_ONCE = 500  # SQLite's older limit of values in one query is 999


class VectorCache:
    """Unit vectors (float16) by the content of their texts, in an SQLite file that a killed run leaves usable.

    Raises:
        OutputError: the file can't be made or is no such cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=60)
            self._file.execute("PRAGMA journal_mode = WAL")  # processes of one training read while another writes
            with self._file:
                self._file.execute("CREATE TABLE IF NOT EXISTS vectors (text BLOB PRIMARY KEY, vector BLOB)")
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"{path} can't be used to keep vectors ({error}): delete it, or set EDGE_EMBED_CACHE to another folder"
            ) from error

    def get(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts: (n, width) float32.

        Raises:
            DataError: a text whose vector is not there.
            OutputError: the file is damaged.
        """
        found = self._find(texts)
        missing = [text for text in texts if text_key(text) not in found]
        if missing:
            raise DataError(f"{self.path} lacks the vector of {missing[0]!r:.60}: start the training again")
        return np.stack([np.frombuffer(found[text_key(text)], np.float16) for text in texts]).astype(np.float32)

    def missing(self, texts: Sequence[str]) -> list[str]:
        """The texts without a vector, each once."""
        found = self._find(texts)
        return [text for text in dict.fromkeys(texts) if text_key(text) not in found]

    def put(self, texts: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep (n, width) vectors; all of them or, if the process dies, none."""
        rows = [
            (text_key(text), vector.astype(np.float16).tobytes()) for text, vector in zip(texts, vectors, strict=True)
        ]
        try:
            with self._file:
                self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise OutputError(
                f"{self.path} can't be written ({error}): free some space, or set EDGE_EMBED_CACHE to another folder"
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _find(self, texts: Sequence[str]) -> dict[bytes, bytes]:
        keys = list({text_key(text) for text in texts})
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(part))
            try:
                found.update(self._file.execute(f"SELECT text, vector FROM vectors WHERE text IN ({marks})", part))
            except sqlite3.Error as error:
                raise OutputError(f"{self.path} is damaged ({error}): delete it, and start again") from error
        return found


class Teachers:
    """The vectors of several teachers side by side, of unit length, so that a cosine is the mean of theirs.

    Args:
        caches: at least one; where each teacher's own vectors are kept.
    """

    def __init__(self, caches: Sequence[VectorCache]) -> None:
        self.caches = tuple(caches)

    def get(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts: (n, sum of the widths) float32.

        Raises:
            DataError, OutputError: see `VectorCache.get`.
        """
        found: NDArray[np.float32] = np.concatenate([cache.get(texts) for cache in self.caches], axis=1)
        found /= np.sqrt(len(self.caches))
        return found


def text_key(text: str) -> bytes:
    """A hash of a text: 16 bytes."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def fingerprint(encoder: Encoder, max_tokens: int, *, bf16: bool = False) -> str:
    """What decides an encoder's vectors: a hash of weights, tokenizer, pooling and length, and the precision."""
    length = min(max_tokens, encoder.settings.max_tokens)
    digest = hashlib.sha256(f"{encoder.settings.pooling} {length}\n{encoder.tokenizer_json}".encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        if ".pooler." not in name:
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16] + ("-bf16" if bf16 else "")


def teach(
    encoder: Encoder,
    store: RowStore,
    *,
    max_tokens: int,
    bf16: bool = False,
    folder: Path | None = None,
    progress: Progress = silent,
) -> VectorCache:
    """Compute what the cache lacks of the unit vectors of a store's texts.

    Args:
        max_tokens: texts are cut here, so that the teacher sees no more of a long one than its students.
        bf16: run the encoder's products in bfloat16.
        folder: of the cache; None for `cache_folder()`.
    """
    cache = VectorCache((folder or cache_folder()) / f"teacher-{fingerprint(encoder, max_tokens, bf16=bf16)}.sqlite")
    done, total = 0, store.count_texts()
    for chunk in store.text_chunks():
        missing = cache.missing(chunk)
        if missing:
            cache.put(missing, unit_vectors(encoder, missing, max_tokens=max_tokens, bf16=bf16))
        done += len(chunk)
        progress("teacher", done, total)
    return cache


def unit_vectors(encoder: Encoder, texts: Sequence[str], *, max_tokens: int, bf16: bool = False) -> NDArray[np.float32]:
    """The full model's vectors: (n, hidden) float32, unit length."""
    device = next(encoder.parameters()).device
    with cutting_quietly(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        pooled = pooled_states(encoder, texts, layers=(encoder.layers,), max_tokens=max_tokens)
    vectors = pooled[encoder.layers]
    unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit
