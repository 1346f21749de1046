"""Timing of things that are compared: in turn, in one run, so that they share the machine's noise."""

import statistics
import time
from collections.abc import Callable, Sequence

REST_S = 0.2
Job = Callable[[], object]


def alternate(jobs: Sequence[Job], rounds: int) -> list[list[float]]:
    """The times of jobs that run in turn; the first round warms up.

    Each round begins with another job, after a rest: threads of the one before may still wait in a loop, and whoever
    stood second in every round would pay for it.
    """
    times: list[list[float]] = [[] for _ in jobs]
    for number in range(rounds + 1):
        for place in range(len(jobs)):
            turn = (number + place) % len(jobs)
            time.sleep(REST_S)
            began = time.perf_counter()
            jobs[turn]()
            if number:
                times[turn].append(time.perf_counter() - began)
    return times


def ratio(others: Sequence[float], ours: Sequence[float]) -> float:
    """Median over the rounds of how much longer the other took."""
    return statistics.median(other / own for other, own in zip(others, ours, strict=True))
