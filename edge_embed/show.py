"""What the command line draws: bars, tables, the picture of a ladder."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from edge_embed.extras import require
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.policy import Choice
from edge_embed_runtimes.device.probe import Device, PowerState
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.engines import EngineFacts
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.manifest import Engine, Manifest, Precision
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tiers import Tier

_PIPE_WIDTH = 120
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
    largest = max(cost.batch for cost in profile.costs)
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


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(".", "", 1).replace(" x ", "", 1).replace("e-", "", 1).isdigit()


def print_grades(manifest: Manifest) -> None:
    """Print a bundle's grades, and what it missed."""
    passport = manifest.passport
    print_table(
        f"cosine to the torch encoder over {passport.grades[0].texts} texts",
        ["tier", "graph", "mean", "1st per-\ncentile", "min", "invari-\nance", "score"],
        [
            [
                grade.tier,
                f"{grade.engine} {grade.precision}",
                f"{grade.cosine_mean:.5f}",
                f"{grade.cosine_p1:.5f}",
                f"{grade.cosine_min:.5f}",
                f"{grade.invariance:.1e}",
                "" if grade.score is None else f"{grade.score:.4f}",
            ]
            for grade in passport.grades
        ],
    )
    if passport.missed:
        print_table("gates that were missed, and allowed to be", [""], [[line] for line in passport.missed])


def print_manifest(manifest: Manifest) -> None:
    """Print what a bundle holds."""
    total = sum(file.size_bytes for file in manifest.files)
    rows = [
        ["name", manifest.name],
        ["base model", manifest.base_model],
        ["space", manifest.space],
        ["ladder", ", ".join(map(str, manifest.ladder))],
        ["head", manifest.head],
        ["pooling", f"{manifest.pooling}, up to {manifest.max_tokens} tokens"],
        ["files", f"{len(manifest.files)}, {total / 1e6:.1f} MB"],
        ["calibrated on", str(manifest.passport.calibration)],
        *([["untrained", ", ".join(manifest.passport.untrained)]] if manifest.passport.untrained else []),
        ["written by", ", ".join(f"{library} {version}" for library, version in manifest.versions.items())],
    ]
    print_table("bundle", ["", ""], rows)
    print_grades(manifest)
    cross = manifest.passport.cross
    if cross:
        names = [tier.name for tier in manifest.ladder]
        rows = [[query, *(f"{cross[query][document]:.4f}" for document in names)] for query in names]
        print_table(f"query tier against document tier, {', '.join(manifest.passport.scored_on)}", ["", *names], rows)


def print_checkpoint(place: Path, description: Mapping[str, Any]) -> None:
    """Print what a checkpoint holds, from its description."""
    origin = description["origin"]
    rows = [
        ["base model", str(origin["base_model"])],
        ["space", str(description["space"])],
        ["ladder", ", ".join(f"{tier['name']} {tier['layers']}x{tier['dim']}" for tier in description["ladder"])],
        ["head", str(description["head"])],
        *([f"recipe: {key}", _value_words(value)] for key, value in origin["recipe"].items()),
        *([f"data: {name}", f"sha256 {sha256[:12]}…"] for name, sha256 in origin["data"].items()),
        ["written by", ", ".join(f"{library} {version}" for library, version in origin["versions"].items())],
    ]
    print_table(f"checkpoint {place}", ["", ""], rows)


def print_device(device: Device, power: PowerState, engines: Mapping[str, EngineFacts], energy: str) -> None:
    """Print what there is to run on."""
    memory = "unknown" if device.memory_mb is None else f"{device.memory_mb / 1024:.1f} GB"
    battery = "none" if power.battery_percent is None else f"{power.battery_percent:.0f} %"
    rows = [
        ["processor", device.cpu],
        ["system", device.system],
        ["features", ", ".join(device.features) or "none known"],
        ["threads", f"{device.threads} may be used of {device.cores} cores"],
        ["memory", memory],
        ["power", power.source],
        ["battery", battery],
        ["saver, throttled", f"{_yes(power.saver)}, {_yes(power.throttled)}"],
        ["energy", energy],
        *([f"engine {name}", _engine_words(facts)] for name, facts in engines.items()),
    ]
    print_table("this device", ["", ""], rows)


def _engine_words(facts: EngineFacts) -> str:
    if facts.version is None:
        return f"not installed: {facts.hint}"
    return f"{facts.version} on {', '.join(facts.devices)}"


def _value_words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    return str(value)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
