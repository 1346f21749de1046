"""How far long work has come."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from edge_embed_runtimes.progress import Progress

LINE_EVERY_S = 30.0


@contextmanager
def bars() -> Iterator[Progress]:
    """A progress bar for each stage, on standard error; where that is no terminal, a line every half minute."""
    if not sys.stderr.isatty():
        yield _Log()
        return
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as drawn:
        tasks: dict[str, TaskID] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = drawn.add_task(stage, total=total)
            drawn.update(tasks[stage], completed=done, total=total)

        yield tell


class _Log:
    """Lines for a log file; work of less than half a minute leaves none."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told >= LINE_EVERY_S:
            self._told = now
            print(f"{stage}: {done} of {total}", file=sys.stderr, flush=True)  # noqa: T201  # a log, not a result
