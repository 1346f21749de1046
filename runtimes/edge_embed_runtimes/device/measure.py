"""Time one session: warm up until steady, then enough calls for percentiles."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.device.energy import EnergyReader
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.manifest import Engine, Precision

_WINDOW_CALLS = 5
_MAX_WINDOWS = 20
_STEADY = 0.05
_IDLE_S = 0.5

Graph = tuple[str, Engine, Precision]
"""Tier name, engine and precision: what names one graph of a bundle."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles of the time of one call, in milliseconds."""

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
        load_ms: time to load the graph.
        peak_mb: largest resident memory of a process that did this and nothing else; None where it was not a process
            of its own.
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

    def slowed(self, factor: float) -> "Cost":
        """What it costs where every call takes `factor` times as long."""
        times = self.latency_ms
        latency = Latency(times.p50 * factor, times.p90 * factor, times.p99 * factor)
        return replace(self, latency_ms=latency, texts_per_s=self.texts_per_s / factor)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: until both `calls` calls and `seconds` seconds are over, `max_seconds` at most."""

    calls: int
    seconds: float
    max_seconds: float
    energy_seconds: float


FULL = Effort(calls=100, seconds=1.0, max_seconds=3.0, energy_seconds=2.0)
QUICK = Effort(calls=20, seconds=0.1, max_seconds=0.4, energy_seconds=1.0)


def example_input(ids: list[int], tokens: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`batch` rows of `tokens` tokens, made by repeating the ids of one text."""
    row = np.resize(np.asarray(ids, dtype=np.int64), tokens)
    input_ids = np.tile(row, (batch, 1))
    return input_ids, np.ones_like(input_ids)


def time_calls(call: Callable[[], object], effort: Effort) -> Latency:
    """Time `call` after a warm-up that ends when two windows agree within 5 %."""
    previous = _window(call)
    for _ in range(_MAX_WINDOWS):
        now = _window(call)
        steady, previous = abs(now - previous) <= _STEADY * previous, now
        if steady:
            break
    times: list[float] = []
    started = time.perf_counter()
    spent = 0.0
    while (len(times) < effort.calls or spent < effort.seconds) and spent < effort.max_seconds:
        times.append(_timed(call))
        spent = time.perf_counter() - started
    p50, p90, p99 = np.percentile(times, (50, 90, 99)) * 1000
    return Latency(float(p50), float(p90), float(p99))


def energy_per_text_mj(call: Callable[[], object], batch: int, reader: EnergyReader, seconds: float) -> float:
    """Energy a text above the idle device: (E_run - P_idle * t) / n."""
    started, before = time.perf_counter(), reader.read_mj()
    time.sleep(_IDLE_S)
    idle_mw = (reader.read_mj() - before) / (time.perf_counter() - started)
    started, before, calls = time.perf_counter(), reader.read_mj(), 0
    while time.perf_counter() - started < seconds:
        call()
        calls += 1
    elapsed = time.perf_counter() - started
    return max(0.0, (reader.read_mj() - before - idle_mw * elapsed) / (calls * batch))


def measure(
    session: Session,
    ids: list[int],
    *,
    tokens: int,
    batch: int,
    effort: Effort,
    reader: EnergyReader | None,
) -> tuple[Latency, float, float | None]:
    """Latency of one call, texts a second, and energy a text in millijoules (None without a reader)."""
    input_ids, attention_mask = example_input(ids, tokens, batch)

    def call() -> None:
        session.run(input_ids, attention_mask)

    latency = time_calls(call, effort)
    energy = None if reader is None else energy_per_text_mj(call, batch, reader, effort.energy_seconds)
    return latency, batch / latency.p50 * 1000, energy


def peak_memory_mb(status: Path = Path("/proc/self/status")) -> float | None:
    """Largest resident memory of this process so far; None where the system does not tell.

    `getrusage` would also count what the parent process held before this one began.
    """
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _window(call: Callable[[], object]) -> float:
    return sorted(_timed(call) for _ in range(_WINDOW_CALLS))[_WINDOW_CALLS // 2]


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
