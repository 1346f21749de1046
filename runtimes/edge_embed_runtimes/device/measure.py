"""Time sessions: warm up until steady, then windows of calls, spread over the whole measurement."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.device.energy import EnergyReader
from edge_embed_runtimes.manifest import Engine, Precision

_WINDOW_CALLS = 5
_MAX_WINDOWS = 20
_STEADY = 0.05

Graph = tuple[str, Engine, Precision]
"""Tier name, engine and precision: what names one graph of a bundle."""
Call = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time of one call, in milliseconds.

    Attributes:
        p50: of the quietest quarter of the windows, so that a second profile finds the same beside other neighbours.
        p90, p99: of all calls.
    """

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What one graph costs on this device.

    Attributes:
        tokens: tokens a text.
        batch: texts a call.
        energy_mj: millijoules a text above the idle device; None where nothing reports it.
        load_ms: time to load the graph, once the engine has kept what it makes of it.
        peak_mb: largest resident memory of a process that did this and nothing else; None where it was not a process
            of its own.
        threads: threads a call.
        first_ms: from the start of such a process to its first vector.
    """

    tier: str
    engine: Engine
    precision: Precision
    tokens: int
    batch: int
    latency_ms: Latency
    texts_per_s: float
    energy_mj: float | None
    load_ms: float
    peak_mb: float | None
    threads: int = 1
    first_ms: float | None = None

    @property
    def graph(self) -> Graph:
        """What was measured."""
        return (self.tier, self.engine, self.precision)

    def slowed(self, factor: float) -> "Cost":
        """What it costs where every call takes `factor` times as long."""
        times = self.latency_ms
        latency = Latency(times.p50 * factor, times.p90 * factor, times.p99 * factor)
        return replace(self, latency_ms=latency, texts_per_s=self.texts_per_s / factor)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: until both `calls` calls and `seconds` seconds are over, `max_seconds` at most.

    Attributes:
        windows: into so many parts they are split; others are measured between two of them, so that all of them share
            the device's good and bad moments.
        energy_seconds: of calls for the energy, where something reports it.
    """

    windows: int
    calls: int
    seconds: float
    max_seconds: float
    energy_seconds: float


FULL = Effort(windows=20, calls=100, seconds=1.0, max_seconds=2.5, energy_seconds=2.0)
QUICK = Effort(windows=6, calls=20, seconds=0.1, max_seconds=0.4, energy_seconds=1.0)


class Timing:
    """The times of one call, window by window.

    Args:
        call: what is timed.
        effort: how long.
    """

    def __init__(self, call: Call, effort: Effort) -> None:
        self._call = call
        self._effort = effort
        self._windows: list[list[float]] = []

    def window(self) -> None:
        """Time one more window; the first one begins with a warm-up, until two medians of five agree within 5 %."""
        if self._windows:
            self._call()  # others ran meanwhile
        else:
            self._warm_up()
        times: list[float] = []
        part = self._effort.windows
        started, spent = time.perf_counter(), 0.0
        while (
            len(times) * part < self._effort.calls or spent * part < self._effort.seconds
        ) and spent * part < self._effort.max_seconds:
            times.append(_timed(self._call))
            spent = time.perf_counter() - started
        self._windows.append(times)

    @property
    def latency(self) -> Latency:
        """Percentiles over the windows so far."""
        quiet = sorted(self._windows, key=np.median)[: -(-len(self._windows) // 4)]
        p90, p99 = np.percentile(np.concatenate(self._windows), (90, 99))
        return Latency(float(np.median(np.concatenate(quiet))) * 1000, float(p90) * 1000, float(p99) * 1000)

    @property
    def drift(self) -> float:
        """How much longer a call took in the last quarter of the windows than in the first, as a share."""
        medians = [np.median(times) for times in self._windows]
        part = -(-len(medians) // 4)
        return float(np.median(medians[-part:]) / np.median(medians[:part])) - 1

    def _warm_up(self) -> None:
        started, before = time.perf_counter(), self._median()
        for _ in range(_MAX_WINDOWS):
            now = self._median()
            if abs(now - before) <= _STEADY * before or time.perf_counter() - started > self._effort.seconds:
                return
            before = now

    def _median(self) -> float:
        return sorted(_timed(self._call) for _ in range(_WINDOW_CALLS))[_WINDOW_CALLS // 2]


def example_input(ids: list[int], tokens: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`batch` rows of `tokens` tokens, made by repeating the ids of one text."""
    row = np.resize(np.asarray(ids, dtype=np.int64), tokens)
    input_ids = np.tile(row, (batch, 1))
    return input_ids, np.ones_like(input_ids)


def idle_mw(reader: EnergyReader, seconds: float) -> float:
    """The power of the device while this process waits."""
    before, started = reader.read_mj(), time.perf_counter()
    time.sleep(seconds)
    return (reader.read_mj() - before) / (time.perf_counter() - started)


def energy_per_text_mj(call: Call, batch: int, reader: EnergyReader, *, seconds: float, idle_mw: float) -> float:
    """Energy a text above the idle device: (E_run - P_idle * t) / n."""
    before, started, calls = reader.read_mj(), time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        call()
        calls += 1
    used = reader.read_mj() - before
    return max(0.0, (used - idle_mw * (time.perf_counter() - started)) / (calls * batch))


def peak_memory_mb(status: Path = Path("/proc/self/status")) -> float | None:
    """Largest resident memory of this process so far; None where the system does not tell.

    `getrusage` would also count what the parent process held before this one began.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _timed(call: Call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
