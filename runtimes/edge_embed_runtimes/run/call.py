"""One call of an app: its batches run on sessions that stay open until its end."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.tokenizer import Batch

_BULK_BATCHES = 4
"""From so many batches a stream on, it pays to run several at a time."""
Observe = Callable[[Batch, float], None]
"""Told of a batch, and the seconds that it took."""


class Stopped(Exception):
    """A call was given up, as its caller asked."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """How batches run several at once.

    Attributes:
        pool: its sessions serve `streams` batches at a time.
        threads: run them; they stay between calls, since engines keep for each thread what they need.
    """

    pool: SessionPool[Session]
    streams: int
    threads: ThreadPoolExecutor


class Call:
    """Runs the batches of one call, in pieces; used in a `with` block.

    Args:
        graph: which graph.
        dim: length of its vectors.
        pool: for a batch at a time.
        bulk: for many; None: they run one after the other.
        observe: told of each batch that ran alone.
        stop: set by another thread to give up between two batches.
    """

    def __init__(
        self,
        graph: Graph,
        dim: int,
        pool: SessionPool[Session],
        bulk: Bulk | None,
        *,
        observe: Observe | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._graph = graph
        self._dim = dim
        self._pool = pool
        self._bulk = bulk
        self._observe = observe
        self._stop = stop
        self._leases = ExitStack()
        self._one: Session | None = None
        self._many: Session | None = None

    def __enter__(self) -> "Call":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leases.close()

    def run(self, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
        """Vectors of `count` rows, (count, dim) float32.

        Raises:
            Stopped: the call was given up.
            EngineError: the engine failed, or the pool was closed before the call began.
        """
        if self._bulk is not None and (self._many or len(batches) >= _BULK_BATCHES * self._bulk.streams):
            return self._run_many(self._bulk, batches, count)
        return self._run_one(batches, count)

    def _run_one(self, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
        self._one = self._one or self._leases.enter_context(self._pool.lease(self._graph))
        vectors = np.empty((count, self._dim), dtype=np.float32)
        for batch in batches:
            self._check_going()
            began = time.perf_counter()
            found = self._one.run(batch.input_ids, batch.attention_mask)
            if self._observe is not None:
                self._observe(batch, time.perf_counter() - began)
            if count == 1:
                return found
            vectors[batch.rows] = found
        return vectors

    def _run_many(self, bulk: Bulk, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
        """The largest batches first, so that all streams end together."""
        session = self._many = self._many or self._leases.enter_context(bulk.pool.lease(self._graph))
        vectors = np.empty((count, self._dim), dtype=np.float32)

        def run(batch: Batch) -> None:
            self._check_going()
            vectors[batch.rows] = session.run(batch.input_ids, batch.attention_mask)

        work = [bulk.threads.submit(run, batch) for batch in reversed(batches)]
        try:
            for one in work:
                one.result()
        finally:
            for one in work:
                one.cancel()
            wait(work)  # nobody may use the session once its lease has ended
        return vectors

    def _check_going(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Stopped
