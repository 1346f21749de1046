"""A simulated day: a table of the tiers that ran, and a picture of it hour by hour."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from edge_embed.extras import require
from edge_embed.show.table import print_table
from edge_embed_runtimes.choose.policy import Budget
from edge_embed_runtimes.choose.simulate import Span
from edge_embed_runtimes.files import writing_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOUR_S = 3600
_LONG_S = 3 * _HOUR_S
_SHADES = {"battery": "tab:orange", "saver": "tab:green", "too hot": "tab:red"}


def print_simulation(spans: Sequence[Span], budget: Budget) -> None:
    """Print what each tier did in it."""
    total_s = spans[-1].end_s - spans[0].start_s
    rows = []
    for tier in sorted({span.choice.tier for span in spans}, key=lambda tier: tier.layers):
        own = [span for span in spans if span.choice.tier == tier]
        rows.append(
            [
                str(tier),
                f"{_seconds(own) / total_s:.1%}",
                f"{sum(span.texts for span in own):.0f}",
                _mean([(span.latency_ms, span.texts) for span in own], "{:.2f}"),
                _mean([(span.energy_mj, span.texts) for span in own], "{:.2f}"),
                _mean([(span.quality, span.texts) for span in own], "{:.3f}"),
                f"{_seconds([span for span in own if _is_late(span, budget)]) / total_s:.1%}",
            ]
        )
    columns = ["tier", "time", "texts", "p50\nms", "energy\nmJ", "score", "over the\nlimit"]
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    changes = sum(one.choice.tier != other.choice.tier for one, other in pairwise(spans))
    print_table(
        f"{_time(total_s)}, {changes} changes of tier",
        [columns[place] for place in kept],
        [[row[place] for place in kept] for row in rows],
    )


def draw_simulation(spans: Sequence[Span], budget: Budget, path: Path) -> None:
    """Draw tier, latency, energy and score over the time, as a PNG; what was not measured is left out.

    Raises:
        ExtraMissing: matplotlib isn't installed.
        OutputError: the place can't be written.
    """
    require("cli", "matplotlib")
    from matplotlib.figure import Figure

    panels: list[tuple[str, Callable[[Span], float | None]]] = [
        ("latency, ms", lambda span: span.latency_ms),
        ("energy, mJ a text", lambda span: span.energy_mj),
        ("score", lambda span: span.quality),
    ]
    panels = [(label, value) for label, value in panels if any(value(span) is not None for span in spans)]
    figure = Figure(figsize=(9, 2 + 1.6 * len(panels)), dpi=120, layout="constrained")
    tiers, *others = figure.subplots(
        1 + len(panels), sharex=True, squeeze=False, height_ratios=[1.6] + [1] * len(panels)
    )[:, 0]
    _draw_tiers(tiers, spans)
    for axes, (label, value) in zip(others, panels, strict=True):
        _draw_steps(axes, spans, value)
        axes.set_ylabel(label)
    if budget.latency_ms is not None and panels and panels[0][0].startswith("latency"):
        others[0].axhline(budget.latency_ms, color="tab:red", linestyle=":", linewidth=1)
    (others or [tiers])[-1].set_xlabel("hours" if _unit_s(spans) == _HOUR_S else "minutes")
    with writing_file(path) as temporary:
        figure.savefig(temporary, format="png")


def _draw_tiers(axes: "Axes", spans: Sequence[Span]) -> None:
    unit = _unit_s(spans)
    names = list(dict.fromkeys(s.choice.tier.name for s in sorted(spans, key=lambda s: s.choice.tier.layers)))
    _draw_steps(axes, spans, lambda span: float(names.index(span.choice.tier.name)), width=2.5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.5, len(names) - 0.5)
    shown = set[str]()
    for span in spans:
        for label in _states(span):
            axes.axvspan(
                span.start_s / unit, span.end_s / unit, color=_SHADES[label], alpha=0.15, linewidth=0,
                label=None if label in shown else label,
            )  # fmt: skip
            shown.add(label)
    if shown:
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.25), ncols=3, frameon=False, fontsize="small")


def _draw_steps(axes: "Axes", spans: Sequence[Span], value: Callable[[Span], float | None], width: float = 1.5) -> None:
    unit = _unit_s(spans)
    times = [time / unit for span in spans for time in (span.start_s, span.end_s)]
    values = [float("nan") if (v := value(span)) is None else v for span in spans for _ in range(2)]
    axes.plot(times, values, linewidth=width)
    axes.margins(x=0)
    axes.grid(visible=True, alpha=0.3)


def _states(span: Span) -> list[str]:
    power = span.moment.power
    held = {"battery": power.source == "battery", "saver": power.saver, "too hot": power.throttled}
    return [name for name, holds in held.items() if holds]


def _seconds(spans: Sequence[Span]) -> float:
    return sum(span.end_s - span.start_s for span in spans)


def _is_late(span: Span, budget: Budget) -> bool:
    return budget.latency_ms is not None and span.latency_ms is not None and span.latency_ms > budget.latency_ms


def _mean(values: Sequence[tuple[float | None, float]], form: str) -> str:
    """Of what is known, weighted by the texts; empty where nothing is, or no text was embedded."""
    known = [(value, weight) for value, weight in values if value is not None]
    texts = sum(weight for _, weight in known)
    return form.format(sum(value * weight for value, weight in known) / texts) if texts else ""


def _unit_s(spans: Sequence[Span]) -> int:
    return _HOUR_S if spans[-1].end_s - spans[0].start_s > _LONG_S else 60


def _time(seconds: float) -> str:
    return f"{seconds / _HOUR_S:.1f} hours" if seconds > _LONG_S else f"{seconds / 60:.0f} minutes"
