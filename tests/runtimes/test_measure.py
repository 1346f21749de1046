"""Timing and energy on a clock of our own: what is counted, and when it ends."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edge_embed_runtimes.device import measure as measure_module
from edge_embed_runtimes.device.measure import (
    Effort,
    Latency,
    Timing,
    energy_per_text_mj,
    example_input,
    idle_mw,
    peak_memory_mb,
)


class Clock:
    """Seconds that pass only in `sleep`, and millijoules at the power of what runs meanwhile."""

    name = "clock"
    renews_s = 0.1

    def __init__(self) -> None:
        self.now = self.used_mj = 0.0

    def sleep(self, seconds: float, power_mw: float = 1000) -> None:
        self.now += seconds
        self.used_mj += seconds * power_mw

    def read_mj(self) -> float:
        return self.used_mj

    def close(self) -> None:
        pass


@pytest.fixture
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(measure_module, "time", SimpleNamespace(perf_counter=lambda: made.now, sleep=made.sleep))
    return made


def effort(calls: int = 20, seconds: float = 0.0, max_seconds: float = 100.0, windows: int = 1) -> Effort:
    return Effort(windows, calls, seconds, max_seconds, energy_seconds=1.0)


def percentiles(latency: Latency) -> tuple[float, float, float]:
    return (latency.p50, latency.p90, latency.p99)


def timed(call, plan: Effort) -> Timing:
    timing = Timing(call, plan)
    for _ in range(plan.windows):
        timing.window()
    return timing


def counted(clock, durations):
    """A call that takes these seconds one after the other, and how often it was called."""
    calls = itertools.count()
    seconds = iter(durations)

    def call() -> None:
        next(calls)
        clock.sleep(next(seconds))

    return call, lambda: next(calls)


def test_percentiles_in_milliseconds(clock):
    call, _ = counted(clock, [*[0.010] * 10, *np.arange(1, 102) / 1000])
    assert percentiles(timed(call, effort(calls=101)).latency) == pytest.approx((51, 91, 100))


def test_warm_up_goes_on_until_two_windows_agree(clock):
    call, count = counted(clock, itertools.chain(*([d] * 5 for d in (0.08, 0.04, 0.0404)), itertools.repeat(0.01)))
    latency = timed(call, effort(calls=20, seconds=10, max_seconds=0.1)).latency
    assert percentiles(latency) == pytest.approx((10, 10, 10))
    assert count() == 15 + 10


def test_a_warm_up_takes_no_longer_than_the_calls(clock):
    call, count = counted(clock, itertools.chain(*([d] * 5 for d in (0.08, 0.04, 0.02)), itertools.repeat(0.01)))
    timed(call, effort(calls=20, seconds=0.1, max_seconds=0.2))
    assert count() == 10 + 15


def test_a_warm_up_that_never_settles_ends(clock):
    call, count = counted(clock, itertools.cycle([*[0.01] * 5, *[0.02] * 5]))
    timed(call, effort(calls=4, seconds=100, max_seconds=0.01))
    assert count() == 21 * 5 + 1


@pytest.mark.parametrize(
    ("plan", "count"),
    [(effort(20), 20), (effort(20, seconds=1), 100), (effort(20, seconds=0.1), 20), (effort(500, 0.1, 1.0), 100)],
)
@pytest.mark.parametrize("windows", [1, 5])
def test_both_calls_and_seconds_are_reached_up_to_the_limit(clock, plan, count, windows):
    call, calls = counted(clock, itertools.repeat(0.01))
    timed(call, replace(plan, windows=windows))
    warm = 10 + windows - 1  # and one call before each further window
    assert abs(calls() - warm - count) <= windows


def windows_of(clock, *durations: float) -> Timing:
    """Windows of ten calls each, of these seconds a call, with one long call before every further one."""
    others = itertools.chain(*([0.9, *[duration] * 10] for duration in durations[1:]))
    call, _ = counted(clock, [*[durations[0]] * 20, *others])
    return timed(call, effort(calls=10 * len(durations), windows=len(durations)))


def test_the_median_is_of_the_quietest_quarter_and_the_tail_of_all(clock):
    timing = windows_of(clock, 0.04, 0.01, 0.03, 0.02, 0.05, 0.015)
    assert percentiles(timing.latency) == pytest.approx((12.5, 50, 50))


@pytest.mark.parametrize(
    ("durations", "drift"),
    [((0.01,), 0.0), ((0.01, 0.03), 2.0), ((0.01, 0.01, 0.9, 0.01, 0.9, 0.9, 0.02, 0.02), 1.0), ((0.04, 0.03), -0.25)],
)
def test_the_drift_is_that_of_the_last_quarter_over_the_first(clock, durations, drift):
    assert windows_of(clock, *durations).drift == pytest.approx(drift)


def test_the_power_of_a_device_that_waits(clock):
    assert idle_mw(clock, 2.0) == pytest.approx(1000)


@pytest.mark.parametrize("batch", [1, 4])
def test_energy_is_what_the_call_adds_to_the_idle_device(clock, batch):
    energy = energy_per_text_mj(lambda: clock.sleep(0.01, 3000), batch, clock, seconds=1.0, idle_mw=1000)
    assert energy == pytest.approx((3000 - 1000) * 0.01 / batch)


def test_energy_below_the_idle_device_is_none_at_all(clock):
    assert energy_per_text_mj(lambda: clock.sleep(0.01, 500), 1, clock, seconds=1.0, idle_mw=1000) == 0.0


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
