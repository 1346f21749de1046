"""Texts and pairs: read from files, tokenized once, put into batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset

from edge_embed.rows import read_lines, read_table
from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.tokenizer import Tokenizer, pad


@dataclass(frozen=True, slots=True)
class Corpus:
    """What to train on.

    Attributes:
        texts: every text, each once.
        rows: what an epoch goes through: (text, None), or (text, its partner), as places in `texts`.
        hashes: file name to sha256.
    """

    texts: tuple[str, ...]
    rows: tuple[tuple[int, int | None], ...]
    hashes: Mapping[str, str]


class Row(TypedDict):
    """One row of an epoch; `input_ids` decides which rows stand in one batch."""

    input_ids: list[int]
    text: int
    partner: int | None


class Batch(TypedDict):
    """What one training step gets.

    Attributes:
        input_ids, attention_mask: (texts, tokens) int64.
        texts: (texts,) int64, places in the corpus.
        pairs: (pairs, 2) int64, places in this batch.
    """

    input_ids: Tensor
    attention_mask: Tensor
    texts: Tensor
    pairs: Tensor


def read_corpus(text_files: Sequence[Path], pair_files: Sequence[Path]) -> Corpus:
    """Read files of texts (one a line) and of pairs (TSV with a header; the first two columns).

    Raises:
        DataError: a file that can't be read, has a wrong row, or leaves less than two texts.
    """
    place: dict[str, int] = {}
    rows: dict[tuple[int, int | None], None] = {}
    for path in text_files:
        for text in read_lines(path):
            rows[(place.setdefault(text, len(place)), None)] = None
    for path in pair_files:
        for first, second in read_table(path, 2):
            rows[(place.setdefault(first, len(place)), place.setdefault(second, len(place)))] = None
    if len(place) < 2:
        raise DataError(f"{len(place)} texts are too few to train on: name files with at least two")
    hashes: dict[str, str] = {}
    for path in (*text_files, *pair_files):
        name = path.name if path.name not in hashes else f"{path.parent.name}/{path.name}"
        hashes[name] = sha256_of(path)
    return Corpus(tuple(place), tuple(rows), hashes)


class RowDataset(Dataset[Row]):
    """The rows of a corpus, tokenized."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer) -> None:
        self.ids, _ = tokenizer.encode(corpus.texts)
        self._rows = corpus.rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        text, partner = self._rows[index]
        return {"input_ids": self.ids[text], "text": text, "partner": partner}


class Collator:
    """Put rows into one batch: all texts first, then the partners of those that have one."""

    def __init__(self, ids: Sequence[Sequence[int]], pad_id: int) -> None:
        self._ids = ids
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """Pad the texts of `rows` to the longest of them."""
        texts = [row["text"] for row in rows]
        pairs = []
        for place, row in enumerate(rows):
            if row["partner"] is not None:
                pairs.append((place, len(texts)))
                texts.append(row["partner"])
        padded = pad([self._ids[text] for text in texts], pad_id=self._pad_id)
        return {
            "input_ids": torch.from_numpy(padded.input_ids),
            "attention_mask": torch.from_numpy(padded.attention_mask),
            "texts": torch.tensor(texts),
            "pairs": torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        }
