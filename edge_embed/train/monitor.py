"""What a training tells while it runs."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StepReport:
    """How far a training is.

    Attributes:
        losses: view (of Starbucks training a tier) to its loss in this step.
        texts_per_s: since this run began.
        left_s: seconds until the last step, at the pace of this run.
    """

    step: int
    steps: int
    loss: float
    losses: Mapping[str, float]
    learning_rate: float
    texts_per_s: float
    left_s: float


class Monitor(Protocol):
    """Told of every step, and of every scoring."""

    def step(self, report: StepReport) -> None:
        """A step is done."""

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        """The tiers were scored on the dev set after `step` steps: tier to Spearman correlation."""


class Quiet:
    """Says nothing: the default."""

    def step(self, report: StepReport) -> None:
        """See `Monitor.step`."""

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        """See `Monitor.scored`."""


class Clock:
    """Counts texts and time since it was made."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._texts = 0
        self._first_step: int | None = None

    def count(self, texts: int) -> None:
        """Texts were trained on."""
        self._texts += texts

    def report(self, step: int, steps: int, losses: Mapping[str, float], learning_rate: float) -> StepReport:
        """The state of a training after `step` of `steps`."""
        if self._first_step is None:
            self._first_step = step - 1
        spent = time.perf_counter() - self._began
        return StepReport(
            step=step,
            steps=steps,
            loss=losses["loss"],
            losses={name: loss for name, loss in losses.items() if name != "loss"},
            learning_rate=learning_rate,
            texts_per_s=self._texts / spent,
            left_s=spent / (step - self._first_step) * (steps - step),
        )


class Several:
    """Tells several monitors."""

    def __init__(self, *monitors: Monitor) -> None:
        self._monitors = monitors

    def step(self, report: StepReport) -> None:
        """See `Monitor.step`."""
        for monitor in self._monitors:
            monitor.step(report)

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        """See `Monitor.scored`."""
        for monitor in self._monitors:
            monitor.scored(step, scores)
