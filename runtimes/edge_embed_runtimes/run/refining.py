"""A larger tier goes on from the hidden states of a smaller one, and pays for the missing layers alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.engines import Computing
from edge_embed_runtimes.errors import LadderError, TextError
from edge_embed_runtimes.index.vectors import VectorSet
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.run.canaries import Canaries
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.tiers import Ladder, Tier
from edge_embed_runtimes.tokenizer import Batch


@dataclass(frozen=True, slots=True)
class Part:
    """Texts that ran together.

    Attributes:
        batch: their tokens; `rows` are rows of the vectors.
        state: (batch, tokens, hidden) float32 at the end of the tier; None at the end of the largest.
    """

    batch: Batch
    state: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class Refinable:
    """Vectors of texts that a larger tier can go on from.

    It holds 4 bytes for each token and hidden dimension: 50 kB for a text of 32 tokens and an encoder of 384.

    Attributes:
        vectors: as `encode_documents` gives them, float32.
    """

    vectors: VectorSet
    engine: Engine
    precision: Precision
    parts: tuple[Part, ...]

    def __len__(self) -> int:
        return len(self.vectors)


class Stepper:
    """Runs the steps of a ladder one after the other.

    Args:
        pool: opens the step to a tier; its sessions are `Computing`.
        canaries: known texts, which the steps to a tier must get right before their first use; None: they are trusted.
    """

    def __init__(
        self, pool: SessionPool[Computing], ladder: Ladder, space: str, canaries: Canaries | None = None
    ) -> None:
        self._pool = pool
        self._ladder = ladder
        self._space = space
        self._canaries = canaries
        self._trusted = set[Graph]()

    def begin(self, batches: Iterable[Batch], count: int, graph: Graph) -> Refinable:
        """Run texts from their tokens to a tier.

        Args:
            count: how many texts.
            graph: the tier, engine and precision.

        Raises:
            EngineError: a step can't run, or gives known texts wrong vectors.
        """
        self._check(graph)
        return self._begin(batches, count, graph)

    def refine(self, first: Refinable, to: Tier, rows: Sequence[int] | None = None) -> Refinable:
        """Go on to a larger tier.

        Args:
            rows: which texts, in the order wanted; None for all.

        Raises:
            LadderError: the tier is not larger.
            TextError: a row that is not there.
            EngineError: see `begin`.
        """
        before = first.vectors.tier
        if to.layers <= before.layers:
            raise LadderError(f"{to} is not larger than {before}: refine goes up the ladder only")
        self._check((to.name, first.engine, first.precision))
        parts, count = (first.parts, len(first)) if rows is None else (_take(first, rows), len(rows))
        return self._run(parts, count, before, to, first.engine, first.precision)

    def run_canaries(self, canaries: Canaries, graph: Graph) -> NDArray[np.float32]:
        """Known texts from their tokens to a tier, (texts, dim) float32."""
        return np.asarray(self._begin(canaries.batches, len(canaries), graph).vectors.values, dtype=np.float32)

    def close(self) -> None:
        """Close all steps."""
        self._pool.close()

    def _check(self, graph: Graph) -> None:
        if self._canaries is not None and graph not in self._trusted:
            self._canaries.check(self.run_canaries(self._canaries, graph), graph)
            self._trusted.add(graph)

    def _begin(self, batches: Iterable[Batch], count: int, graph: Graph) -> Refinable:
        name, engine, precision = graph
        tier = self._ladder.find(name)
        return self._run([Part(batch, None) for batch in batches], count, None, tier, engine, precision)

    def _run(
        self,
        parts: Sequence[Part],
        count: int,
        before: Tier | None,
        to: Tier,
        engine: Engine,
        precision: Precision,
    ) -> Refinable:
        vectors = np.empty((count, to.dim), dtype=np.float32)
        done = list[Part]()
        for part in parts:
            state, last = part.state, before
            for tier in self._between(before, to):
                inputs: dict[str, NDArray[Any]] = {
                    "input_ids": part.batch.input_ids,
                    "attention_mask": part.batch.attention_mask,
                }
                if last is not None and state is not None:
                    inputs[last.state] = state
                with self._pool.lease((tier.name, engine, precision)) as step:
                    found, *rest = step.compute(inputs)
                state, last = (rest[0] if rest else None), tier
            vectors[part.batch.rows] = found
            done.append(Part(part.batch, state))
        return Refinable(VectorSet(vectors, to, self._space, to.dim), engine, precision, tuple(done))

    def _between(self, before: Tier | None, to: Tier) -> list[Tier]:
        least = before.layers if before else 0
        return [tier for tier in self._ladder if least < tier.layers <= to.layers]


def _take(first: Refinable, rows: Sequence[int]) -> list[Part]:
    """Some texts, renumbered in the order in which they are wanted."""
    wanted = {int(row): place for place, row in enumerate(rows)}
    if len(wanted) < len(rows) or not wanted.keys() <= set(range(len(first))):
        raise TextError(f"rows {list(rows)[:8]}: allowed are different rows of 0 to {len(first) - 1}")
    parts = list[Part]()
    for part in first.parts:
        kept = [place for place, row in enumerate(part.batch.rows) if int(row) in wanted]
        if kept:
            batch = part.batch
            tokens = int(batch.attention_mask[kept].sum(1).max())
            ids, mask = batch.input_ids[kept, :tokens], batch.attention_mask[kept, :tokens]
            places = np.array([wanted[int(row)] for row in batch.rows[kept]], dtype=np.int64)
            state = None if part.state is None else part.state[kept, :tokens]
            parts.append(replace(part, batch=Batch(places, ids, mask), state=state))
    return parts
