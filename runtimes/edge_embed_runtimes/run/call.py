"""One call of an app: its batches run on sessions that stay open until its end."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import overload

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.engines import LANES, Session
from edge_embed_runtimes.errors import EngineError
from edge_embed_runtimes.run.pool import Lease, SessionPool
from edge_embed_runtimes.tokenizer import Batch

log = logging.getLogger("edge_embed")

_BULK_BATCHES = 4
"""From so many batches a stream on, it pays to run several at a time."""
Observe = Callable[[Batch, float], None]
"""Told of a batch, and the seconds that it took."""


class Stopped(Exception):
    """A call was given up, as its caller asked."""


class Bulk:
    """How batches run several at once.

    Args:
        pool: its sessions serve `streams` batches at a time.
        threads: run them; they stay between calls, since engines keep for each thread what they need.
    """

    def __init__(self, pool: SessionPool[Session], streams: int, threads: ThreadPoolExecutor) -> None:
        self.streams = streams
        self.threads = threads
        self._pool = pool
        self._refused = set[Graph]()

    def lease(self, graph: Graph) -> Lease[Session] | None:
        """A session of a graph; None where it can't run this way, which is said once.

        Raises:
            EngineError: it is closed.
        """
        if graph in self._refused:
            return None
        try:
            return self._pool.lease(graph)
        except EngineError as error:
            if self._pool.is_closed:
                raise
            self._refused.add(graph)
            log.warning("%s runs a batch at a time: %s", " ".join(graph), error)
            return None

    def close(self) -> None:
        """Close its sessions, each at the end of the call that uses it."""
        self._pool.close()


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
        self._leases = list[Lease[Session]]()
        self._one: Session | None = None
        self._many: Session | None = None

    @property
    def lanes(self) -> int:
        """See `edge_embed_runtimes.engines.LANES`."""
        return LANES[self._graph[1]]

    def __enter__(self) -> "Call":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for lease in self._leases:
            lease.end()

    def run(self, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
        """Vectors of `count` rows, (count, dim) float32.

        Raises:
            Stopped: the call was given up.
            EngineError: the engine failed, or the pool was closed before the call began.
        """
        bulk = self._bulk
        if bulk is not None and (self._many or len(batches) >= _BULK_BATCHES * bulk.streams):
            self._many = self._many or self._keep(bulk.lease(self._graph))
            if self._many is not None:
                return self._run_many(self._many, bulk, batches, count)
        self._one = self._one or self._keep(self._pool.lease(self._graph))
        return self._run_one(self._one, batches, count)

    @overload
    def _keep(self, lease: Lease[Session]) -> Session: ...
    @overload
    def _keep(self, lease: Lease[Session] | None) -> Session | None: ...
    def _keep(self, lease: Lease[Session] | None) -> Session | None:
        if lease is None:
            return None
        self._leases.append(lease)
        return lease.session

    def _run_one(self, session: Session, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
        vectors = np.empty((count, self._dim), dtype=np.float32)
        for batch in batches:
            self._check_going()
            began = time.perf_counter()
            found = session.run(batch.input_ids, batch.attention_mask)
            if self._observe is not None:
                self._observe(batch, time.perf_counter() - began)
            if count == 1:
                return found
            vectors[batch.rows] = found
        return vectors

    def _run_many(self, session: Session, bulk: Bulk, batches: Sequence[Batch], count: int) -> NDArray[np.float32]:
        """The largest batches first, so that all streams end together."""
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
