"""From texts to vectors, within one call."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.errors import TextError
from edge_embed_runtimes.index.outputs import unit_length
from edge_embed_runtimes.run.call import Call
from edge_embed_runtimes.tokenizer import LONG_TEXTS, LongTexts, Tokenizer, check_texts, pack

_CHUNK_TEXTS = 2048
"""So many are tokenized at a time; with fewer, batches of like length are smaller and slower."""


def run_texts(
    texts: Sequence[str], tokenizer: Tokenizer, call: Call, long_texts: LongTexts
) -> tuple[NDArray[np.float32], int]:
    """Vectors, (n, dim) float32, and how many texts lost their end; tokens of one chunk at a time are in memory.

    Raises:
        TextError: texts or `long_texts` that are not allowed, before anything has run.
        EngineError, Stopped: see `Call.run`.
    """
    check_texts(texts)
    if long_texts not in LONG_TEXTS:
        raise TextError(f"long_texts={long_texts!r}: allowed are {', '.join(LONG_TEXTS)}")
    parts: list[NDArray[np.float32]] = []
    cut = 0
    for start in range(0, max(1, len(texts)), _CHUNK_TEXTS):
        tokens = tokenizer.tokenize(texts[start : start + _CHUNK_TEXTS], long_texts)
        batches = list(pack(tokens.ids, pad_id=tokenizer.pad_id, lanes=call.lanes))
        found = call.run(batches, len(tokens.ids))
        parts.append(found if tokens.texts is None else _merge(found, tokens.ids, tokens.texts))
        cut += tokens.cut
    return parts[0] if len(parts) == 1 else np.concatenate(parts), cut


def _merge(vectors: NDArray[np.float32], ids: list[list[int]], texts: list[int]) -> NDArray[np.float32]:
    """A vector a text, of those of its windows: their mean, each weighted by its length."""
    first = np.flatnonzero(np.diff(texts, prepend=-1))
    merged = vectors[first]
    for start, end in zip(first, [*first[1:], len(vectors)], strict=True):
        if end - start > 1:
            weights = np.array([[len(window)] for window in ids[start:end]], dtype=np.float32)
            merged[texts[start]] = unit_length((vectors[start:end] * weights).sum(axis=0, keepdims=True))[0]
    return merged
