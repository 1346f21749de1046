"""Energy from a sensor that tells power: a thread samples it and sums it over time."""

import threading
import time
from collections.abc import Callable

from edge_embed_runtimes.device.energy import unreadable
from edge_embed_runtimes.errors import ProfileError

_PERIOD_S = 0.1


class SampledReader:
    """Energy as the trapezoid sum of power samples over time.

    The first `read_mj` starts a daemon thread that samples every 0.1 s; each `read_mj` adds a sample of its own. Power
    that could not be read leaves a gap whose energy nobody knows: from then on the reader only raises.

    Args:
        name: name of the reader.
        what: what it reads, in the words of an error.
        power_mw: the power now in milliwatts; raises OSError, ValueError or ProfileError where it can't be read.
        clock: seconds that never go back.
        period_s: seconds between the thread's samples.
        renews_s: how often the sensor renews its value, in seconds.
    """

    def __init__(
        self,
        name: str,
        what: str,
        power_mw: Callable[[], float],
        *,
        clock: Callable[[], float] = time.monotonic,
        period_s: float = _PERIOD_S,
        renews_s: float = _PERIOD_S,
    ) -> None:
        self.name = name
        self.renews_s = renews_s
        self._what = what
        self._power_mw = power_mw
        self._clock = clock
        self._period_s = period_s
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._last: tuple[float, float] | None = None
        self._failure: Exception | None = None
        self._total_mj = 0.0

    def read_mj(self) -> float:
        """Millijoules since the first call.

        Raises:
            ProfileError: a sample since then could not be read, or the reader is closed.
        """
        with self._lock:
            if self._closed.is_set():
                raise ProfileError(f"the energy reader {self.name} is closed: make a new one with find_reader")
            self._sample()
            if self._failure is not None:
                raise unreadable(self._what, self._failure) from self._failure
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"energy-{self.name}", daemon=True)
                self._thread.start()
            return self._total_mj

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self._failure is None and not self._closed.wait(self._period_s):
            with self._lock:
                self._sample()

    def _sample(self) -> None:
        if self._failure is not None:
            return
        try:
            now_s, power_mw = self._clock(), self._power_mw()
        except (OSError, ValueError, ProfileError) as error:
            self._failure = error
            return
        if self._last is not None:
            last_s, last_mw = self._last
            self._total_mj += (last_mw + power_mw) / 2 * (now_s - last_s)
        self._last = now_s, power_mw
