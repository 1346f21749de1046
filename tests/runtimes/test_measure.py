"""Timing and energy on a clock of our own: what is counted, and when it ends."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from edge_embed_runtimes.device import measure as measure_module
from edge_embed_runtimes.device.measure import (
    Effort,
    Latency,
    energy_per_text_mj,
    example_input,
    measure,
    peak_memory_mb,
    time_calls,
)


class Clock:
    """Seconds that pass only in `sleep`, and millijoules at the power of what runs meanwhile."""

    name = "clock"

    def __init__(self) -> None:
        self.now = self.used_mj = 0.0

    def sleep(self, seconds: float, power_mw: float = 1000) -> None:
        self.now += seconds
        self.used_mj += seconds * power_mw

    def read_mj(self) -> float:
        return self.used_mj


class TimedSession:
    def __init__(self, clock: Clock, power_mw: float) -> None:
        self.clock, self.power_mw, self.shapes = clock, power_mw, set()

    def run(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> None:
        self.shapes |= {input_ids.shape, attention_mask.shape}
        self.clock.sleep(0.01, self.power_mw)


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(measure_module, "time", SimpleNamespace(perf_counter=lambda: made.now, sleep=made.sleep))
    return made


def effort(calls: int = 20, seconds: float = 0.0, max_seconds: float = 100.0) -> Effort:
    return Effort(calls, seconds, max_seconds, energy_seconds=1.0)


def percentiles(latency: Latency) -> tuple[float, float, float]:
    return (latency.p50, latency.p90, latency.p99)


def test_percentiles_in_milliseconds(clock):
    durations = iter([*[0.010] * 10, *np.arange(1, 102) / 1000])
    latency = time_calls(lambda: clock.sleep(next(durations)), effort(calls=101))
    assert percentiles(latency) == pytest.approx((51, 91, 100))


def test_warm_up_goes_on_until_two_windows_agree(clock):
    durations = itertools.chain(*([d] * 5 for d in (0.08, 0.04, 0.02, 0.0101)), itertools.repeat(0.01))
    calls = itertools.count()

    def call() -> None:
        next(calls)
        clock.sleep(next(durations))

    assert percentiles(time_calls(call, effort(calls=20))) == pytest.approx((10, 10, 10))
    assert next(calls) == 5 * 5 + 20


def test_a_warm_up_that_never_settles_ends(clock):
    durations = itertools.cycle([*[0.01] * 5, *[0.02] * 5])
    calls = itertools.count()

    def call() -> None:
        next(calls)
        clock.sleep(next(durations))

    time_calls(call, effort(calls=4))
    assert next(calls) == 21 * 5 + 4


@pytest.mark.parametrize(
    ("plan", "count"),
    [(effort(20), 20), (effort(20, seconds=1), 100), (effort(20, seconds=0.1), 20), (effort(500, 0.1, 1.0), 100)],
)
def test_both_calls_and_seconds_are_reached_up_to_the_limit(clock, plan, count):
    calls = itertools.count()

    def call() -> None:
        next(calls)
        clock.sleep(0.01)

    time_calls(call, plan)
    assert abs(next(calls) - 10 - count) <= 1


@pytest.mark.parametrize("batch", [1, 4])
def test_energy_is_what_the_call_adds_to_the_idle_device(clock, batch):
    energy = energy_per_text_mj(lambda: clock.sleep(0.01, 3000), batch, clock, seconds=1.0)
    assert energy == pytest.approx((3000 - 1000) * 0.01 / batch)


def test_energy_below_the_idle_device_is_none_at_all(clock):
    assert energy_per_text_mj(lambda: clock.sleep(0.01, 500), 1, clock, seconds=1.0) == 0.0


def test_measure_puts_them_together(clock):
    session = TimedSession(clock, 2000)
    latency, texts_per_s, energy = measure(session, [2, 5, 3], tokens=8, batch=4, effort=effort(), reader=clock)
    assert percentiles(latency) == pytest.approx((10, 10, 10))
    assert texts_per_s == pytest.approx(400)
    assert energy == pytest.approx(1000 * 0.01 / 4)
    assert session.shapes == {(4, 8)}


def test_without_a_reader_energy_is_not_measured(clock):
    *_, energy = measure(TimedSession(clock, 2000), [2, 3], tokens=4, batch=1, effort=effort(), reader=None)
    assert energy is None


@pytest.mark.parametrize("tokens", [1, 3, 7])
def test_example_input(tokens):
    input_ids, mask = example_input([2, 5, 3], tokens, 2)
    assert input_ids.tolist() == [[2, 5, 3, 2, 5, 3, 2][:tokens]] * 2
    assert mask.tolist() == [[1] * tokens] * 2
    assert input_ids.dtype == mask.dtype == np.int64


@pytest.mark.parametrize(("text", "expected"), [("VmPeak: 9 kB\nVmHWM:\t 2048 kB\n", 2.0), ("VmPeak: 9 kB\n", None)])
def test_peak_memory(tmp_path, text, expected):
    (tmp_path / "status").write_text(text)
    assert peak_memory_mb(tmp_path / "status") == expected


def test_peak_memory_where_the_system_does_not_tell(tmp_path):
    assert peak_memory_mb(tmp_path / "status") is None


def test_peak_memory_of_this_process_is_plausible():
    peak = peak_memory_mb()
    assert peak is None or 5 < peak < 100_000
