"""How long work tells how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called as work goes on; a caller draws a bar from it, or ignores it."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of `stage` are finished."""


def silent(stage: str, done: int, total: int) -> None:
    """Say nothing: the default."""
