"""The verb that profiles, with its parts: measure, compare, simulate."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from edge_embed.cli.common import BundlePlace, EngineName, Json, PrecisionName, app, numbers, print_json, say

if TYPE_CHECKING:
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.device.profile import DeviceProfile


class _MeasureByDefault(TyperGroup):
    """`profile BUNDLE` stands for `profile measure BUNDLE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["measure", *args]
        return super().parse_args(ctx, args)


profile_app = typer.Typer(
    cls=_MeasureByDefault,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure every tier on this device; `profile BUNDLE` is short for `profile measure BUNDLE`.\n\n"
    "Example: edge-embed profile bundle -o profile.json --report report.html",
)
app.add_typer(profile_app, name="profile")


@profile_app.command()
def measure(
    place: BundlePlace,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the profile here, as JSON.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One length, fewer calls.")] = False,
    tokens: Annotated[str | None, typer.Option(help="Lengths in tokens; default: 16,64,256.")] = None,
    batches: Annotated[
        str | None, typer.Option(help="Texts a call, as far as a batch holds them; default: 1,32.")
    ] = None,
    threads: Annotated[str | None, typer.Option(help="Threads a call, such as 1,4; default: all.")] = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    report: Annotated[Path | None, typer.Option(help="Also write a page for a browser, as HTML.")] = None,
    png: Annotated[Path | None, typer.Option(help="Also draw score against latency, as a PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Measure every tier on this device, and keep the profile where the runtime finds it.

    Example: edge-embed profile bundle -o profile.json --quick
    """
    from edge_embed.show.bars import bars
    from edge_embed.show.ladder import draw_ladder, print_ladder, rungs
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.choose.options import list_options
    from edge_embed_runtimes.device.kept import keep_profile
    from edge_embed_runtimes.device.profiling import QUICK_PLAN, Plan, profile_bundle
    from edge_embed_runtimes.files import check_file

    plan = QUICK_PLAN if quick else Plan()
    given = {"tokens": tokens, "batches": batches, "threads": threads}
    named: dict[str, Any] = {name: tuple(numbers(f"--{name}", value)) for name, value in given.items() if value}
    plan = replace(plan, **named)
    for target in filter(None, (output, report, png)):
        check_file(target)
    bundle = Bundle(place)
    graphs = [option.graph for option in list_options(bundle, engine=engine, precision=precision)]
    with bars() as progress:
        measured = profile_bundle(bundle, graphs, plan=plan, progress=progress)
    kept = keep_profile(measured)
    if output:
        measured.save(output)
    if report:
        from edge_embed.report import write_report

        write_report(bundle, measured, report)
    if as_json:
        print_json(asdict(measured))
    ladders = {
        (length, count): rungs(bundle, measured.with_threads(count), tokens=length)
        for count in measured.threads
        for length in sorted({cost.tokens for cost in measured.costs})
    }
    for (length, count), ladder in ladders.items() if not as_json else []:
        print_ladder(f"{length} tokens, {count} threads, {measured.device.cpu}", ladder)
    if png:
        draw_ladder(next(iter(ladders.values())), png)
    if not measured.stable:
        typer.echo(
            f"warning: the device did not keep its pace ({measured.drift:+.0%}); profile again when it is idle",
            err=True,
        )
    for place_written in filter(None, (kept, output, report, png)):
        say(f"written: {place_written}", unless=as_json)


@profile_app.command()
def compare(
    profiles: Annotated[
        list[Path], typer.Argument(metavar="PROFILE.json...", help="Profiles, the first to compare to.")
    ],
    as_json: Json = False,
) -> None:
    """Put profiles of several devices, or of several times, beside each other.

    Example: edge-embed profile compare laptop.json kiosk.json
    """
    from edge_embed.show.comparison import print_comparison
    from edge_embed_runtimes.device.profile import DeviceProfile

    if len(profiles) < 2:
        raise typer.BadParameter(f"{len(profiles)} profile: name at least two")
    loaded = {path.stem if len({p.stem for p in profiles}) == len(profiles) else str(path): DeviceProfile.load(path)
              for path in profiles}  # fmt: skip
    if len({profile.bundle for profile in loaded.values()}) > 1:
        typer.echo("warning: these are profiles of different bundles", err=True)
    if as_json:
        print_json({name: asdict(profile) for name, profile in loaded.items()})
    else:
        print_comparison(loaded)


@profile_app.command()
def simulate(
    place: BundlePlace,
    trace: Annotated[Path, typer.Option(help="CSV: seconds, source, battery_percent, saver, throttled, pace, …")],
    profile: Annotated[Path | None, typer.Option(help="Profile of the device; default: the one kept here.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Most milliseconds for one text.")] = None,
    energy_mj: Annotated[float | None, typer.Option(help="Most millijoules for one text.")] = None,
    memory_mb: Annotated[float | None, typer.Option(help="Most memory of the process.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Least score in the passport.")] = None,
    save_below: Annotated[float, typer.Option(help="On battery, save from this charge down, in percent.")] = 100.0,
    tokens: Annotated[int, typer.Option(help="Length of the texts, in tokens.")] = 32,
    threads: Annotated[int | None, typer.Option(help="Of the profile; default: the most that were measured.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw it, as a PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Play a power trace through the policy: which tier would run when, at what cost.

    Example: edge-embed profile simulate bundle --trace samples/traces/laptop_day.csv --min-quality 0.6 --png day.png
    """
    from edge_embed.data.traces import read_trace
    from edge_embed.show.simulation import draw_simulation, print_simulation
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.choose.options import list_options, with_costs
    from edge_embed_runtimes.choose.policy import Budget
    from edge_embed_runtimes.choose.simulate import simulate as play
    from edge_embed_runtimes.files import check_file

    if png:
        check_file(png)
    budget = Budget(latency_ms, energy_mj, memory_mb, min_quality, tokens, save_below)
    bundle, moments = Bundle(place), read_trace(trace)
    costs = _profile_of(bundle, profile, threads)
    measured = {cost.graph for cost in costs.costs}
    options = [option for option in list_options(bundle) if option.graph in measured]
    spans = play(with_costs(options, costs, tokens), budget, moments)
    if as_json:
        print_json([asdict(span) for span in spans])
    else:
        print_simulation(spans, budget)
    if png:
        draw_simulation(spans, budget, png)
        say(f"written: {png}", unless=as_json)


def _profile_of(bundle: "Bundle", path: Path | None, threads: int | None) -> "DeviceProfile":
    from edge_embed_runtimes.device.kept import kept_profiles
    from edge_embed_runtimes.device.probe import usable_threads
    from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id
    from edge_embed_runtimes.errors import ProfileError

    if path is None:
        kept = next(kept_profiles(bundle, threads=threads or usable_threads()), None)
        if kept is None:
            raise ProfileError(
                "no profile of this bundle is kept here: make one with 'edge-embed profile', or name one"
            )
        return kept
    profile = DeviceProfile.load(path)
    if profile.bundle != bundle_id(bundle):
        raise ProfileError(f"{path} is of another bundle: profile {bundle.path}, or name the bundle that it is of")
    count = profile.threads[-1] if threads is None else threads
    if count not in profile.threads:
        raise ProfileError(f"{path} has no costs with {count} threads: it has {', '.join(map(str, profile.threads))}")
    return profile.with_threads(count)
