"""Open sessions of a bundle, shared by threads; those not needed for longest are closed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.engines import Session, closed_error

S = TypeVar("S", bound=Session)


class _Entry(Generic[S]):
    """A session, and how many calls use it now."""

    def __init__(self, session: S) -> None:
        self.session = session
        self.leases = 0


class SessionPool(Generic[S]):
    """Opens each graph once, when it is first needed.

    Args:
        open_graph: opens a graph; called by one thread at a time.
        keep: how many sessions stay open; one in use is never closed.
    """

    def __init__(self, open_graph: Callable[[Graph], S], *, keep: int = 2) -> None:
        self._open_graph = open_graph
        self._keep = keep
        self._entries: OrderedDict[Graph, _Entry[S]] = OrderedDict()
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._closed = False

    @contextmanager
    def lease(self, graph: Graph) -> Iterator[S]:
        """The session of a graph, which stays open until the end of the block.

        Raises:
            EngineError: the pool is closed, or the engine can't load the graph.
        """
        entry = self._take(graph)
        if entry is None:
            with self._opening:
                entry = self._take(graph) or self._open(graph)
        try:
            yield entry.session
        finally:
            with self._lock:
                entry.leases -= 1
                self._shrink()

    def is_open(self, graph: Graph) -> bool:
        """Whether a lease of it would not wait."""
        with self._lock:
            return graph in self._entries

    def close(self) -> None:
        """Close every session as soon as nobody uses it."""
        with self._lock:
            self._closed = True
            self._shrink()

    def _take(self, graph: Graph) -> _Entry[S] | None:
        with self._lock:
            if self._closed:
                raise closed_error()
            entry = self._entries.get(graph)
            if entry is not None:
                entry.leases += 1
                self._entries.move_to_end(graph)
            return entry

    def _open(self, graph: Graph) -> _Entry[S]:
        entry = _Entry(self._open_graph(graph))
        with self._lock:
            entry.leases = 1
            self._entries[graph] = entry
            self._shrink()
        return entry

    def _shrink(self) -> None:
        """Close what is not kept, the one not used for longest first; needs the lock."""
        surplus = len(self._entries) - (0 if self._closed else self._keep)
        for graph in [graph for graph, entry in self._entries.items() if not entry.leases][: max(0, surplus)]:
            self._entries.pop(graph).session.close()
