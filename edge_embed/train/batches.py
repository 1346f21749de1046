"""Which rows stand together in which step, and how they become tensors.

The plan is a function of the sources, the recipe and the seed alone, so every process of a training and every resumed
run sees the same batches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from edge_embed.data.sources import Kind
from edge_embed.train.alike import POOL, Alike
from edge_embed.train.store import RowStore, StoredRow
from edge_embed.train.teacher import Teachers, text_key
from edge_embed_runtimes.tokenizer import Tokenizer, pad

_WINDOW_BATCHES = 50
Key = tuple[int, int]
"""A row's id, and how often it was drawn before: which two of a group's texts are taken depends on it."""


@dataclass(frozen=True, slots=True)
class Rows:
    """How the texts of a batch belong together; they stand column by column, row after row.

    Attributes:
        kind: of all rows of the batch.
        columns: texts a row.
        ids: (columns * n,) int64, equal for equal texts.
        values: (n,) float32 scores or labels; zeros for kinds without.
    """

    kind: Kind
    columns: int
    ids: Tensor
    values: Tensor

    def column(self, number: int, of: Tensor) -> Tensor:
        """The part of (columns * n, ...) values that belongs to one column."""
        return of[number * len(self.values) : (number + 1) * len(self.values)]


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step gets.

    Attributes:
        input_ids, attention_mask: (texts, tokens) int64.
        teacher: (texts, width) float32 unit vectors; None without a teacher.
        stored: ids of the rows in their store.
    """

    input_ids: Tensor
    attention_mask: Tensor
    rows: Rows
    teacher: Tensor | None
    stored: tuple[int, ...]

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        rows = replace(self.rows, ids=self.rows.ids.to(device), values=self.rows.values.to(device))
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            rows=rows,
            teacher=None if self.teacher is None else self.teacher.to(device),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a training, and how many there are."""

    rank: int = 0
    world: int = 1


class Plan(Sampler[list[Key]]):
    """Every batch of a training, in order; each holds rows of one source, or one folder, of about the same length.

    Its rows come in a new order at each pass, of which the last batch may be smaller, so that no batch holds a row
    twice. Its batches are spread evenly over the training.

    Args:
        batch_size: rows a batch and process.
        part: which rows of each batch are this process's.
        alike: puts alike rows of a pool into one batch; None leaves that to chance.
    """

    def __init__(
        self,
        store: RowStore,
        *,
        epochs: float,
        batch_size: int,
        seed: int,
        part: Part | None = None,
        alike: Alike | None = None,
    ) -> None:
        self._store = store
        self._alike = alike
        self._part = part or Part()
        self._size = batch_size * self._part.world
        self._seed = seed
        weights = [store.sources[pool[0]].weight for pool in store.pools]
        self._rows = [round(epochs * weight * n) for weight, n in zip(weights, store.counts, strict=True)]
        generator = np.random.default_rng([seed, 1])
        batches = [sum(-(-rows // self._size) for rows in self._passes(pool)) for pool in range(len(weights))]
        places = [
            ((batch + generator.random()) / count, pool) for pool, count in enumerate(batches) for batch in range(count)
        ]
        self._order = [pool for _, pool in sorted(places)]

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[list[Key]]:
        streams = [self._batches_of(pool) for pool in range(len(self._rows))]
        for pool in self._order:
            yield _share(next(streams[pool]), self._part)

    def _batches_of(self, pool: int) -> Iterator[list[Key]]:
        """The batches of one pool: windows of its shuffled stream, sorted by length and cut."""
        ids, lengths = self._store.lengths(pool)
        generator = np.random.default_rng([self._seed, 2, pool])
        for drawn in self._windows_of(pool, len(ids)):
            groups = self._groups_of([int(ids[place]) for place, _ in drawn])
            groups.sort(key=lambda group: sum(int(lengths[drawn[one][0]]) for one in group) / len(group))
            window = [drawn[one] for group in groups for one in group]
            batches = [
                [(int(ids[place]), number) for place, number in window[start : start + self._size]]
                for start in range(0, len(window), self._size)
            ]
            last = batches.pop() if len(batches[-1]) < self._size else None
            yield from (batches[place] for place in generator.permutation(len(batches)))
            if last:
                yield last

    def _groups_of(self, rows: Sequence[int]) -> list[list[int]]:
        """Places among some rows: those that belong together, or each by itself."""
        return [[place] for place in range(len(rows))] if self._alike is None else self._alike.groups(rows)

    def _windows_of(self, pool: int, count: int) -> Iterator[list[Key]]:
        """Places among a pool's rows, with the number of the pass, a window at a time; none spans two passes."""
        # a window of all rows would put the same ones together at every pass
        most = _WINDOW_BATCHES if self._alike is None else max(1, POOL // self._size)
        size = self._size * min(most, max(1, count // (4 * self._size)))
        for number, rows in enumerate(self._passes(pool)):
            places = np.random.default_rng([self._seed, 3, pool, number]).permutation(count)[:rows]
            for start in range(0, rows, size):
                yield [(int(place), number) for place in places[start : start + size]]

    def _passes(self, pool: int) -> list[int]:
        """How many of a pool's rows each pass takes: all, the last what is left."""
        rows, count = self._rows[pool], self._store.counts[pool]
        return [min(count, rows - done) for done in range(0, rows, max(1, count))]


class RowDataset(Dataset[tuple[Key, StoredRow]]):
    """The rows of a store, by key."""

    def __init__(self, store: RowStore) -> None:
        self._store = store

    def __getitem__(self, key: Key) -> tuple[Key, StoredRow]:
        return key, self._store[key[0]]


class Collator:
    """Put rows of one pool into a batch.

    Args:
        teacher: the vectors of all texts; None for batches without.
    """

    def __init__(self, store: RowStore, tokenizer: Tokenizer, teacher: Teachers | None, *, seed: int) -> None:
        self._store = store
        self._tokenizer = tokenizer
        self._teacher = teacher
        self._seed = seed

    def __call__(self, drawn: Sequence[tuple[Key, StoredRow]]) -> Batch:
        """Tokenize the texts of rows, and look up what the teacher makes of them."""
        kind = self._store.sources[drawn[0][1].source].kind
        rows = [self._two_of(key, row.texts) if kind == "groups" else row.texts for key, row in drawn]
        columns = min(map(len, rows))
        texts = [row[column] for column in range(columns) for row in rows]
        padded = pad(self._tokenizer.encode(texts)[0], pad_id=self._tokenizer.pad_id)
        return Batch(
            input_ids=torch.from_numpy(padded.input_ids),
            attention_mask=torch.from_numpy(padded.attention_mask),
            rows=Rows(
                kind=kind,
                columns=columns,
                ids=torch.tensor([int.from_bytes(text_key(text)[:8], "big", signed=True) for text in texts]),
                values=torch.tensor([row.value or 0.0 for _, row in drawn], dtype=torch.float32),
            ),
            teacher=torch.from_numpy(self._teacher.get(texts)) if self._teacher else None,
            stored=tuple(row for (row, _), _ in drawn),
        )

    def _two_of(self, key: Key, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Two texts of a group, others at each pass."""
        chosen = np.random.default_rng([self._seed, 4, *key]).choice(len(texts), size=2, replace=False)
        return tuple(texts[place] for place in chosen)


def _share(keys: list[Key], part: Part) -> list[Key]:
    """One process's rows of a batch: as many as every other's, at least one."""
    each = max(1, len(keys) // part.world)
    return [keys[(part.rank * each + place) % len(keys)] for place in range(each)]
