"""Open sessions of a bundle, shared by threads; those not needed for longest are closed."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.engines import Session, closed_error

S = TypeVar("S", bound=Session)


class _Entry(Generic[S]):
    """A session, and how many calls use it now."""

    def __init__(self, session: S) -> None:
        self.session = session
        self.leases = 0


class Lease(Generic[S]):
    """A session that stays open until `end`, or until the end of a `with` block.

    Attributes:
        session: is used by its holder alone or by others, too, at the same time.
    """

    __slots__ = ("_entry", "_pool", "session")

    def __init__(self, pool: "SessionPool[S]", entry: _Entry[S]) -> None:
        self.session = entry.session
        self._pool = pool
        self._entry = entry

    def end(self) -> None:
        """Let it close; once."""
        self._pool._give_back(self._entry)

    def __enter__(self) -> S:
        return self.session

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


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

    def lease(self, graph: Graph) -> Lease[S]:
        """The session of a graph.

        Raises:
            EngineError: the pool is closed, or the engine can't load the graph.
        """
        entry = self._take(graph)
        if entry is None:
            with self._opening:
                entry = self._take(graph) or self._open(graph)
        return Lease(self, entry)

    @property
    def is_closed(self) -> bool:
        """Whether it gives no more leases."""
        return self._closed

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

    def _give_back(self, entry: _Entry[S]) -> None:
        with self._lock:
            entry.leases -= 1
            self._shrink()

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
