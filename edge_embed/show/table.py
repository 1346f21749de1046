"""Tables on standard output."""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_PIPE_WIDTH = 120


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table to standard output; numbers stand at the right."""
    table = Table(
        title=title,
        title_justify="left",
        show_header=any(columns),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for place, name in enumerate(columns):
        numeric = all(_is_number(row[place]) for row in rows)
        last = place == len(columns) - 1  # the only one that may be long
        table.add_column(name, justify="right" if numeric else "left", overflow="fold", no_wrap=not last)
    for row in rows:
        table.add_row(*map(escape, row))  # square brackets are no markup here
    console().print(table)


def console() -> Console:
    """Standard output; a pipe gets lines of a fixed width instead of a terminal's."""
    return Console() if sys.stdout.isatty() else Console(width=_PIPE_WIDTH, soft_wrap=False)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(".", "", 1).replace(" x ", "", 1).replace("e-", "", 1).isdigit()
