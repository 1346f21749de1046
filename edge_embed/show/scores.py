"""What the command line draws of an evaluation: tables that fit the terminal, and a picture of all models."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from edge_embed.evaluate.evaluation import Evaluation
from edge_embed.evaluate.models import FULL
from edge_embed.evaluate.tables import MAIN_MEASURES, Measured, ScoreTable, measured, tier_names
from edge_embed.extras import require
from edge_embed.show.table import console
from edge_embed_runtimes.files import writing_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GAP = 2
_NAME_WIDTH = 24  # leaves room for seven tiers in a terminal of 80 columns
_MARKERS = "osD^vPX*<>"
_DASHES = ("--", "-.", ":")
_FIGURE_INCHES = 8.0  # with letters of 9 points still readable at 800 pixels
_PANEL_INCHES = {1: 4.0, 2: 2.8}  # the height of a panel, by how many stand abreast
_LETTERS = {1: 110, 2: 50}  # that fit below or above a panel
_LEGEND_LETTERS = 100
_MANY_TIERS = 12


def print_scores(tables: Sequence[ScoreTable]) -> None:
    """Print tables to standard output, the best of each column in bold; a table that is too wide in parts."""
    screen = console()
    for table in tables:
        for columns in _parts(table, screen.width):
            screen.print(Text(table.title), _draw(table, columns), "")


def draw_scores(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Draw score against tier as a PNG: a panel for each set, a line for each model.

    Where others have a ladder, a model without one is a level line across.

    Raises:
        DataError: no evaluation, or two of models with the same name.
        ExtraMissing: matplotlib isn't installed.
        OutputError: the place can't be written.
    """
    require("cli", "matplotlib")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [one for one in measured(evaluations) if one.measure in MAIN_MEASURES]
    tiers = tier_names(_laddered(evaluations))
    abreast = 2 if len(panels) > 1 and len(tiers) <= _MANY_TIERS else 1
    below = math.ceil(len(panels) / abreast)
    styles = _styles(evaluations)
    with rc_context({"text.parse_math": False, "font.size": 9}):  # a $ in a name is no formula
        figure = Figure(dpi=150, layout="constrained")
        for axes, panel in zip(figure.subplots(below, abreast, squeeze=False).flat, panels, strict=False):
            _draw_panel(axes, panel, tiers, styles, letters=_LETTERS[abreast])
        for axes in figure.axes[len(panels) :]:
            axes.set_axis_off()
        legend_lines = _add_legend(figure, styles)
        figure.set_size_inches(_FIGURE_INCHES, _PANEL_INCHES[abreast] * below + 0.22 * legend_lines)
        with writing_file(path) as temporary:
            figure.savefig(temporary, format="png")


def _parts(table: ScoreTable, width: int) -> Iterator[range]:
    """The columns of a table, as many at a time as stand abreast in so many letters."""
    room = width - min(_NAME_WIDTH, max(len(name) for name in (table.corner, *(name for name, _ in table.rows))))
    rows = range(len(table.rows))
    start, used = 0, 0
    for column, name in enumerate(table.columns):
        wanted = _GAP + max(len(name), *(len(table.cell(row, column)) for row in rows))
        if used + wanted > room and column > start:
            yield range(start, column)
            start, used = column, 0
        used += wanted
    yield range(start, len(table.columns))


def _draw(table: ScoreTable, columns: range) -> Table:
    drawn = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    drawn.add_column(Text(table.corner), overflow="fold", max_width=_NAME_WIDTH)
    for column in columns:
        drawn.add_column(Text(table.columns[column]), justify="right", no_wrap=True)
    for row, (name, _) in enumerate(table.rows):
        cells = [Text(table.cell(row, column), "bold" if table.is_best(row, column) else "") for column in columns]
        drawn.add_row(Text(name), *cells)
    return drawn


def _laddered(evaluations: Sequence[Evaluation]) -> Sequence[Evaluation]:
    """The models that have a ladder; all of them where none has."""
    return [evaluation for evaluation in evaluations if evaluation.tiers != (FULL,)] or evaluations


def _styles(evaluations: Sequence[Evaluation]) -> dict[str, Mapping[str, Any]]:
    """How the line of each model looks; a dashed one, without points, is level across the tiers of the others."""
    laddered = _laddered(evaluations)
    styles: dict[str, Mapping[str, Any]] = {}
    for place, evaluation in enumerate(evaluations):
        color = f"C{place % 10}"  # matplotlib has ten; what returns gets another marker or other dashes
        if evaluation in laddered:
            marker = _MARKERS[(place + place // 10) % len(_MARKERS)]
            styles[evaluation.model] = {"color": color, "marker": marker, "markersize": 4.5}
        else:
            styles[evaluation.model] = {"color": color, "linestyle": _DASHES[(place + place // 10) % len(_DASHES)]}
    return styles


def _draw_panel(
    axes: "Axes", panel: Measured, tiers: Sequence[str], styles: Mapping[str, Mapping[str, Any]], *, letters: int
) -> None:
    for model, scores in panel.scores.items():
        if "marker" in styles[model]:
            known = [tier for tier in tiers if tier in scores]
            axes.plot([tiers.index(tier) for tier in known], [scores[tier] for tier in known], **styles[model])
        else:
            axes.axhline(scores[FULL], **styles[model])
    axes.set_xticks(range(len(tiers)), tiers)
    if (max(map(len, tiers)) + 2) * len(tiers) > letters:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right")
    axes.set_xlim(-0.4, len(tiers) - 0.6)
    axes.set_ylabel(panel.measure)
    axes.set_title(_clip(panel.of, letters), fontsize="medium")
    axes.grid(visible=True, alpha=0.3)


def _add_legend(figure: "Figure", styles: Mapping[str, Mapping[str, Any]]) -> int:
    """Name the lines below all panels; returns how many lines of text that takes."""
    from matplotlib.lines import Line2D

    names = [_clip(model, _LEGEND_LETTERS - 8) for model in styles]
    columns = max(1, min(len(names), _LEGEND_LETTERS // (max(map(len, names)) + 8)))
    lines = [Line2D([], [], **style) for style in styles.values()]
    figure.legend(lines, names, loc="outside lower center", ncols=columns, frameon=False)
    return math.ceil(len(names) / columns)


def _clip(name: str, letters: int) -> str:
    """A name of at most so many letters; the end says more than the beginning, as in paths."""
    return name if len(name) <= letters else f"…{name[1 - letters :]}"
