"""A ladder on one device: what each tier scores, and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_embed.extras import require
from edge_embed.show.table import print_table
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.policy import Choice
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.tiers import Tier


@dataclass(frozen=True, slots=True)
class Rung:
    """One tier in one engine and precision, as a table of a ladder shows it."""

    tier: Tier
    engine: Engine
    precision: Precision
    size_bytes: int
    p50_ms: float
    texts_per_s: float
    score: float | None
    cosine: float | None


def rungs(bundle: Bundle, profile: DeviceProfile, *, tokens: int) -> list[Rung]:
    """What is known of every measured graph: one text at a time for the latency, the largest batch for the speed."""
    found = []
    largest = max((cost.batch for cost in profile.costs if cost.tokens == tokens), default=1)
    for file in bundle.manifest.by_role("graph"):
        if file.tier is None or file.engine is None or file.precision is None:
            continue
        graph = (file.tier, file.engine, file.precision)
        one, bulk = profile.cost(graph, tokens=tokens), profile.cost(graph, tokens=tokens, batch=largest)
        if one is None or bulk is None:
            continue
        grade = bundle.manifest.passport.grade(*graph)
        tier = bundle.manifest.ladder.find(file.tier)
        size = bundle.alone_bytes(tier, file.engine, file.precision)
        score, cosine = (grade.score, grade.cosine_mean) if grade else (None, None)
        found.append(Rung(tier, file.engine, file.precision, size, one.latency_ms.p50, bulk.texts_per_s, score, cosine))
    return found


def print_ladder(title: str, ladder: Sequence[Rung]) -> None:
    """Print the table of a ladder."""
    print_table(
        title,
        ["tier", "layers\nx dim", "graph", "file\nMB", "p50\nms", "texts/s", "score", "cosine\nto fp32"],
        [
            [
                rung.tier.name,
                f"{rung.tier.layers} x {rung.tier.dim}",
                f"{rung.engine} {rung.precision}",
                f"{rung.size_bytes / 1e6:.1f}",
                f"{rung.p50_ms:.2f}",
                f"{rung.texts_per_s:.0f}",
                "" if rung.score is None else f"{rung.score:.4f}",
                "" if rung.cosine is None else f"{rung.cosine:.5f}",
            ]
            for rung in ladder
        ],
    )


def draw_ladder(ladder: Sequence[Rung], path: Path) -> None:
    """Draw score against latency, a line for each engine and precision, as a PNG.

    Raises:
        ExtraMissing: matplotlib isn't installed.
        OutputError: the place can't be written.
    """
    require("cli", "matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FormatStrFormatter

    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.subplots()
    labelled = min(ladder, key=lambda rung: rung.p50_ms)
    for engine, precision in sorted({(rung.engine, rung.precision) for rung in ladder}):
        points = [
            (rung.p50_ms, rung.score, rung.tier.name)
            for rung in ladder
            if (rung.engine, rung.precision) == (engine, precision) and rung.score is not None
        ]
        style = "o-" if precision == "int8" else "o:"
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], style, label=f"{engine} {precision}")
        if (engine, precision) == (labelled.engine, labelled.precision):
            for x, y, name in points:
                axes.annotate(name, (x, y), xytext=(-8, 5), textcoords="offset points", ha="right")
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(FormatStrFormatter("%g"))
    axes.tick_params(axis="x", which="minor", labelsize="small")
    axes.set_xlabel("time for one text, p50, ms (log)")
    axes.set_ylabel("score (Spearman)")
    axes.set_title("What each tier scores, and what it costs here")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    with writing_file(path) as temporary:
        figure.savefig(temporary, format="png")


def describe_choice(choice: Choice) -> str:
    """A choice in words, a line for each tier that was passed over."""
    lines = [f"{choice.tier} on {choice.engine} {choice.precision}: {choice.because}"]
    return "\n".join([*lines, *(f"  not {tier}: {reason}" for tier, reason in choice.passed_over)])
