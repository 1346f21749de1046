"""What the command line tells while a model is trained."""

import sys
import time
from collections.abc import Mapping

from edge_embed.show.bars import LINE_EVERY_S
from edge_embed.train.monitor import StepReport
from edge_embed_runtimes.progress import Progress


class TrainingLines:
    """Moves a bar at every step of a terminal; tells losses, pace and scores in a line now and then, in a log too."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._told = 0.0

    def step(self, report: StepReport) -> None:
        """See `edge_embed.train.monitor.Monitor.step`."""
        if sys.stderr.isatty():
            self._progress("train", report.step, report.steps)
        now = time.monotonic()
        if now - self._told < LINE_EVERY_S and report.step < report.steps:
            return
        self._told = now
        minutes, seconds = divmod(round(report.left_s), 60)
        _tell(
            f"step {report.step} of {report.steps}: loss {report.loss:.3f} ({_values(report.losses)}), "
            f"{report.texts_per_s:.0f} texts/s, {minutes}:{seconds:02d} left"
        )

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        """See `edge_embed.train.monitor.Monitor.scored`."""
        _tell(f"step {step}, dev: {_values(scores, digits=4)}")


def _values(values: Mapping[str, float], digits: int = 3) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # a log, above the bars
