"""From texts to token ids: checked input, a checked tokenizer file, batches of a token budget."""

import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import tokenizers
from numpy.typing import NDArray

from edge_embed_runtimes.errors import BundleDamaged, TextError

_FILE_LIMIT_BYTES = 64 << 20
_MODEL_TYPES = ("WordPiece", "BPE", "Unigram", "WordLevel")
BATCH_TOKENS = 512
"""Larger batches take more memory and are no faster on any engine."""
_BATCH_TEXTS = 64
_FEW_TEXTS = 8


LongTexts = Literal["truncate", "error", "split"]
LONG_TEXTS: tuple[LongTexts, ...] = get_args(LongTexts)


class TextCut(UserWarning):
    """A text was longer than the encoder reads; what stands beyond its last token is not in the vector."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts of like length.

    Attributes:
        rows: (batch,) int64, where in the caller's list each text stands.
        input_ids: (batch, tokens) int64.
        attention_mask: (batch, tokens) int64, 1 for a token and 0 for padding.
    """

    rows: NDArray[np.int64]
    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token sequences of texts.

    Attributes:
        ids: of each text or, where long ones are split, of each window.
        texts: which text each sequence is of, in ascending order; None where each text has one.
        cut: how many texts lost their end.
    """

    ids: list[list[int]]
    texts: list[int] | None
    cut: int


@contextmanager
def cutting_quietly() -> Iterator[None]:
    """Cut long texts without a word, as training and every published evaluation do."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TextCut)
        yield


class Tokenizer:
    """A tokenizer file, cut at `max_tokens`; one object may serve many threads.

    Args:
        text: the content of a `tokenizer.json`.
        max_tokens: longest sequence, special tokens included.
        origin: what an error calls this tokenizer.

    Raises:
        BundleDamaged: the content is no tokenizer that can be trusted.
    """

    def __init__(self, text: str, *, max_tokens: int, origin: str = "tokenizer.json") -> None:
        self.max_tokens = max_tokens
        self._tokenizer = _load(text, origin)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)
        self.pad_id = _pad_id(self._tokenizer)

    @classmethod
    def from_file(cls, path: Path, *, max_tokens: int) -> "Tokenizer":
        """Read a `tokenizer.json`.

        Raises:
            BundleDamaged: the file can't be read or trusted.
        """
        try:
            if path.stat().st_size > _FILE_LIMIT_BYTES:
                raise BundleDamaged(f"{path} is larger than {_FILE_LIMIT_BYTES >> 20} MB: no tokenizer is")
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise BundleDamaged(f"{path} can't be read ({error}): copy or export the bundle again") from error
        return cls(text, max_tokens=max_tokens, origin=str(path))

    def encode(self, texts: Sequence[str]) -> tuple[list[list[int]], int]:
        """The token ids of each text, and how many texts were cut; see `tokenize`."""
        tokens = self.tokenize(texts)
        return tokens.ids, tokens.cut

    def tokenize(self, texts: Sequence[str], long_texts: LongTexts = "truncate") -> Tokens:
        """The token ids of texts.

        White space alone gives the special tokens alone; control characters, NUL among them, are dropped by the
        usual encoders' own normalizers.

        Args:
            long_texts: of texts longer than `max_tokens`: leave their end out, raise, or split them into windows of
                that length, each with the special tokens.

        Raises:
            TextError: not a sequence of strings, a string that is no valid Unicode, a text that is too long.
            BundleDamaged: the tokenizer file lacks what it needs for these texts.
        """
        check_texts(texts)
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        except Exception as error:  # the library raises nothing more exact
            raise BundleDamaged(f"the tokenizer can't encode ({error}): copy or export the bundle again") from error
        longer = [row for row, encoding in enumerate(encodings) if encoding.overflowing]
        if long_texts == "error" and longer:
            raise TextError(
                f"item {longer[0]} is longer than the {self.max_tokens} tokens that are read: shorten it, "
                f"or pass long_texts='split' or 'truncate'"
            )
        if long_texts == "split" and longer:
            windows = [(row, part) for row, whole in enumerate(encodings) for part in (whole, *whole.overflowing)]
            return Tokens([part.ids for _, part in windows], [row for row, _ in windows], 0)
        return Tokens([encoding.ids for encoding in encodings], None, len(longer))

    def batches(self, texts: Sequence[str], *, batch_tokens: int = BATCH_TOKENS) -> Iterator[Batch]:
        """Batches in order of length, each of at most `batch_tokens` tokens, padding included.

        Warns:
            TextCut: texts were longer than `max_tokens`.

        Raises:
            TextError: see `encode`.
        """
        ids, cut = self.encode(texts)
        if cut:
            warnings.warn(
                f"{cut} of {len(ids)} texts are longer than {self.max_tokens} tokens: the rest of each was left out; "
                f"split long texts before embedding them",
                TextCut,
                stacklevel=3,
            )
        return pack(ids, pad_id=self.pad_id, batch_tokens=batch_tokens)


def pack(
    ids: Sequence[Sequence[int]],
    *,
    pad_id: int,
    batch_tokens: int = BATCH_TOKENS,
    batch_texts: int = _BATCH_TEXTS,
    lanes: int = 1,
) -> Iterator[Batch]:
    """Pack token sequences in order of length into batches of at most `batch_tokens` tokens, padding included.

    Args:
        lanes: texts of one batch have the same number of whole lanes, each of so many tokens, and there are a power of
            two of them if they are many; see `edge_embed_runtimes.engines.LANES`.
    """
    if len(ids) == 1:
        yield pad(ids, pad_id=pad_id)
        return
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    start = 0
    while start < len(order):
        end, limit = start + 1, min(len(order), start + batch_texts)
        whole = len(ids[order[start]]) // lanes
        while end < limit and (end - start + 1) * (length := len(ids[order[end]])) <= batch_tokens:
            if lanes > 1 and length // lanes != whole:
                break
            end += 1
        if lanes > 1 and end - start > _FEW_TEXTS:  # an engine with lanes counts rows in powers of two
            end = start + (1 << (end - start).bit_length() - 1)
        yield pad([ids[row] for row in order[start:end]], rows=order[start:end], pad_id=pad_id)
        start = end


def pad(ids: Sequence[Sequence[int]], *, pad_id: int, rows: Sequence[int] | None = None) -> Batch:
    """One batch of token sequences, filled up at the right to the longest one."""
    places = np.arange(len(ids)) if rows is None else np.array(rows, dtype=np.int64)
    if len(ids) == 1:
        input_ids = np.array(ids, dtype=np.int64)
        return Batch(places, input_ids, np.ones_like(input_ids))
    input_ids = np.full((len(ids), max(map(len, ids))), pad_id, dtype=np.int64)
    attention_mask = np.zeros_like(input_ids)
    for row, sequence in enumerate(ids):
        input_ids[row, : len(sequence)] = sequence
        attention_mask[row, : len(sequence)] = 1
    return Batch(places, input_ids, attention_mask)


def check_texts(texts: Sequence[str]) -> None:
    """Check that `texts` is a sequence of valid Unicode strings.

    Raises:
        TextError: a bare string, a thing that is no sequence, an item that is no string, a lone surrogate.
    """
    if isinstance(texts, str | bytes):
        raise TextError(f"got the single text {texts[:40]!r}: pass a list, as in encode([text])")
    if not isinstance(texts, Sequence):
        raise TextError(f"got {type(texts).__name__}: pass a list of strings, as in encode(list(texts))")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise TextError(f"item {row} is {text!r:.60} ({type(text).__name__}): every item must be a string")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TextError(
                f"item {row} has a lone surrogate {text[error.start]!a} at character {error.start}, which is no text: "
                f"read the file with the right encoding, or replace it"
            ) from None


def _load(text: str, origin: str) -> tokenizers.Tokenizer:
    """Parse a tokenizer file; a crafted one can make the library panic, so the outline is checked first."""
    try:
        kind = json.loads(text)["model"]["type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleDamaged(f"{origin} is no tokenizer file: copy or export the bundle again") from error
    if kind not in _MODEL_TYPES:
        raise BundleDamaged(f"{origin} has a model of type {kind!r}: allowed are {', '.join(_MODEL_TYPES)}")
    try:
        return tokenizers.Tokenizer.from_str(text)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        # a panic of the Rust code is a BaseException of no public type
        raise BundleDamaged(f"{origin} can't be loaded ({error}): copy or export the bundle again") from error


def _pad_id(tokenizer: tokenizers.Tokenizer) -> int:
    for token in ("[PAD]", "<pad>", "<|padding|>"):
        found = tokenizer.token_to_id(token)
        if found is not None:
            return int(found)
    return 0
