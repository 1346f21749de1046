"""What runs now, and what takes over when the device's state changes; never in the middle of a call."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from edge_embed_runtimes.choose.governor import DWELL_S, Governor
from edge_embed_runtimes.choose.policy import Budget, Choice, Option
from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.device.probe import PowerState, read_power
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.errors import EdgeEmbedError, EngineError, NoTierFits
from edge_embed_runtimes.run.call import Bulk, Call
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.tokenizer import Batch

log = logging.getLogger("edge_embed")

_POLL_S = 1.0
OnChoice = Callable[[Choice], None]


@dataclass
class Track:
    """One choice that is kept up to date.

    Attributes:
        governor: decides.
        running: what runs; behind the governor's choice while that is being loaded.
        looked: when the device's state was last read.
        loading: a thread brings up what the governor chose.
    """

    governor: Governor
    running: Choice
    looked: float
    loading: bool = False


class Runner:
    """Runs batches by the tier that suits the moment.

    Args:
        pool: opens sessions.
        bulk: for many batches at once; None: they run one after the other.
        budget: what one text may cost.
        profile: what calls should take; None: slowness is not noticed.
        adapt: choose again when the power state or the pace changes.
        on_choice: told what took over.
        power: reads the power state; None reads the system's.
        clock: seconds, on a clock that never stands still.
        dwell_s: see `Governor`.
    """

    def __init__(
        self,
        pool: SessionPool[Session],
        budget: Budget,
        *,
        bulk: Bulk | None = None,
        profile: DeviceProfile | None = None,
        adapt: bool = True,
        on_choice: OnChoice | None = None,
        power: Callable[[], PowerState] | None = None,
        clock: Callable[[], float] = time.monotonic,
        dwell_s: float = DWELL_S,
    ) -> None:
        self._pool = pool
        self._bulk = bulk
        self._budget = budget
        self._profile = profile
        self._adapt = adapt
        self._on_choice = on_choice
        self._power = power or read_power
        self._told: PowerState | None = None
        self._clock = clock
        self._dwell_s = dwell_s
        self._expected: dict[tuple[Graph, int, int], float | None] = {}
        self._lock = threading.RLock()

    def start(self, options: Sequence[Option]) -> Track:
        """Choose among options, and open what was chosen; what can't be opened is put aside, with a warning.

        Raises:
            NoTierFits: no option meets the budget.
            EngineError: none of those that do can run.
        """
        now = self._clock()
        governor = Governor(options, self._budget, self._state(), now=now, dwell_s=self._dwell_s)
        self._open_best(governor)
        return Track(governor, governor.choice, now)

    def choice(self, track: Track) -> Choice:
        """What runs now; looks at the device at most once a second, and never waits."""
        now = self._clock()
        if self._adapt and not 0 <= now - track.looked < _POLL_S and self._lock.acquire(blocking=False):
            try:
                track.looked = now
                wanted = track.governor.decide(self._state(), now)
                open_already = self._pool.is_open(wanted.graph)
                if not open_already and not track.loading:
                    track.loading = True
                    threading.Thread(target=self._load, args=(track,), name="edge-embed-load", daemon=True).start()
            finally:
                self._lock.release()
            if open_already:
                self._take_over(track, wanted)
        return track.running

    def reconsider(self, tracks: Iterable[Track], power: PowerState | None) -> None:
        """Choose again now, and wait until what was chosen is open.

        Args:
            power: the state from now on, whatever the system says; None listens to the system again.
        """
        self._told = power
        for track in tracks:
            with self._lock:
                track.looked = self._clock()
                track.governor.decide(self._state(), track.looked)
            self._open_best(track.governor)
            self._take_over(track, track.governor.choice)

    def call(self, choice: Choice, *, track: Track | None, stop: threading.Event | None = None) -> Call:
        """One call by what was chosen.

        Args:
            track: whose pace it tells.
            stop: set by another thread to give up between two batches.
        """
        observe = None
        if track is not None and self._profile is not None:
            observe = partial(self._observe, self._profile, track, choice.graph)
        return Call(choice.graph, choice.tier.dim, self._pool, self._bulk, observe=observe, stop=stop)

    def close(self) -> None:
        """Close all sessions, each at the end of the call that uses it."""
        self._pool.close()
        if self._bulk is not None:
            self._bulk.close()
            self._bulk = None  # its threads end with the last call that holds it

    def _state(self) -> PowerState:
        return self._told or self._power()

    def _observe(self, profile: DeviceProfile, track: Track, graph: Graph, batch: Batch, seconds: float) -> None:
        rows, tokens = batch.input_ids.shape
        shape = (graph, rows, tokens)
        if shape not in self._expected:
            self._expected[shape] = profile.expected_ms(graph, tokens=tokens, batch=rows)
        expected = self._expected[shape]
        if expected and graph == track.governor.choice.graph:
            track.governor.observe(seconds * 1000 / expected)

    def _load(self, track: Track) -> None:
        """In a thread of its own: open what the governor chose, and let it take over."""
        try:
            self._open_best(track.governor)
            self._take_over(track, track.governor.choice)
        except EdgeEmbedError as error:
            log.warning("%s runs on: %s", track.running.tier.name, error)
        finally:
            track.loading = False

    def _open_best(self, governor: Governor) -> None:
        """Open what the governor chose; what fails is put aside and the next one tried."""
        while True:
            graph = governor.choice.graph
            try:
                with self._pool.lease(graph):
                    return
            except EngineError as error:
                log.warning("%s is put aside: %s", " ".join(graph), error)
                try:
                    with self._lock:
                        governor.put_aside(graph, f"can't run here: {error}", self._state(), self._clock())
                except NoTierFits:
                    raise error from None

    def _take_over(self, track: Track, choice: Choice) -> None:
        before, track.running = track.running, choice
        if choice.graph == before.graph:
            return
        log.info("%s takes over from %s: %s", choice.tier, before.tier, choice.because)
        if self._on_choice is not None:
            try:
                self._on_choice(choice)
            except Exception:
                log.exception("on_choice failed")
