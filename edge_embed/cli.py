"""The command line: one function per verb. What a verb needs is imported inside it, so that `--help` is quick."""

import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edge_embed import __version__
from edge_embed_runtimes.errors import EdgeEmbedError, TextError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train a ladder of sentence encoders, compile a graph for each rung, embed on the device.",
)

Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Files = Annotated[list[Path] | None, typer.Option(help="May be given several times.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what stands at the output.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
EngineName = Annotated[Literal["onnx", "openvino"] | None, typer.Option("--engine", help="Keep to one engine.")]
PrecisionName = Annotated[Literal["int8", "fp32"] | None, typer.Option("--precision", help="Keep to one precision.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads a call; default: all that may be used.")]


def run() -> None:
    """Run the command line: exit 0 done, 1 failed, 2 wrong usage."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.showwarning = lambda message, *_: typer.echo(f"warning: {message}", err=True)
    try:
        app()
    except EdgeEmbedError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        typer.echo("stopped; nothing half-written was left", err=True)
        sys.exit(130)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Train a ladder of sentence encoders, compile a graph for each rung, embed on the device."""
    if show:
        typer.echo(f"edge-embed {__version__}")
        raise typer.Exit


@app.command()
def train(
    base: Annotated[str, typer.Argument(help="Encoder: a folder, all-MiniLM-L6-v2, or a hub id.")],
    output: Output,
    texts: Files = None,
    pairs: Files = None,
    tiers: Annotated[str, typer.Option(help="Ladder of layers x dimensions.")] = "1x32,2x64,3x128,4x192,5x256,6x384",
    method: Annotated[Literal["srl"], typer.Option(help="srl: the task and the full model's similarities.")] = "srl",
    head: Annotated[Literal["project", "truncate"], typer.Option(help="How a tier's vector is made.")] = "project",
    epochs: Annotated[float, typer.Option(help="Passes over the data; 0 fits the heads alone.")] = 3.0,
    batch_size: Annotated[int, typer.Option(help="Rows a step.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Highest learning rate.")] = 2e-4,
    temperature: Annotated[float, typer.Option(help="Of the softmax over cosines.")] = 0.05,
    max_tokens: Annotated[int, typer.Option(help="Longest text while training, in tokens.")] = 128,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    dev: Annotated[Path | None, typer.Option(help="Scored pairs; each tier is scored before and after.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a ladder of tiers in one encoder; writes a checkpoint.

    Example: edge-embed train all-MiniLM-L6-v2 -o checkpoint --texts a.txt --pairs b.tsv --tiers 1x32,2x64,3x128
    """
    from edge_embed.evaluate.sts import read_scored_pairs
    from edge_embed.model.checkpoint import save_checkpoint
    from edge_embed.show import bars, print_table
    from edge_embed.train.dev import score_dev
    from edge_embed.train.loop import prepare
    from edge_embed.train.loop import run as run_training
    from edge_embed.train.recipe import Recipe
    from edge_embed_runtimes.files import check_target
    from edge_embed_runtimes.tiers import parse_ladder

    recipe = Recipe(
        base=base,
        texts=tuple(texts or ()),
        pairs=tuple(pairs or ()),
        ladder=parse_ladder(tiers),
        head=head,
        method=method,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
    )
    check_target(output, replace=force)
    scored = read_scored_pairs(dev) if dev else None
    with bars() as progress:
        training = prepare(recipe, progress=progress)
        before = score_dev(training.model, scored)
        model = run_training(training, progress=progress)
        after = score_dev(model, scored)
    save_checkpoint(model, output, training.origin, replace=force)
    if as_json:
        _print_json({"checkpoint": str(output), "before": before, "after": after})
    elif scored:
        rows = [[name, f"{before[name]:.4f}", f"{after[name]:.4f}"] for name in after]
        print_table(f"Spearman on {scored.name}", ["tier", "heads fitted", "trained"], rows)
    _say(as_json, f"checkpoint written to {output}; next: edge-embed export {output} -o BUNDLE --calibrate TEXTS")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that 'edge-embed train' wrote.")],
    output: Output,
    calibrate: Annotated[list[Path], typer.Option(help="Texts, one a line, like those you will embed.")],
    scored: Annotated[Path | None, typer.Option(help="Scored pairs for the passport.")] = None,
    engines: Annotated[str, typer.Option(help="Which engines.")] = "onnx,openvino",
    precisions: Annotated[str, typer.Option(help="Which precisions.")] = "int8,fp32",
    gate_mean: Annotated[float, typer.Option(help="Least mean cosine to the torch encoder.")] = 0.995,
    gate_min: Annotated[float, typer.Option(help="Least cosine of any text.")] = 0.98,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compile a checkpoint into a bundle: one graph per tier, engine and precision.

    Example: edge-embed export checkpoint -o bundle --calibrate texts.txt --engines onnx --precisions int8
    """
    from edge_embed.extras import require

    require("export", "optimum", "onnx_ir", "nncf", "openvino")
    from edge_embed.evaluate.sts import read_scored_pairs
    from edge_embed.show import bars, print_grades
    from edge_embed_export.build import ExportSettings, export_bundle
    from edge_embed_runtimes.manifest import Gates

    settings = ExportSettings(
        calibrate=tuple(calibrate),
        engines=_words(engines),
        precisions=_words(precisions),
        pairs=read_scored_pairs(scored) if scored else None,
        gates=Gates(cosine_mean=gate_mean, cosine_min=gate_min),
    )
    with bars() as progress:
        manifest = export_bundle(checkpoint, output, settings, replace=force, progress=progress)
    if as_json:
        _print_json(json.loads(manifest.to_json()))
    else:
        print_grades(manifest)
    _say(as_json, f"bundle written to {output}; next: edge-embed profile {output} -o profile.json --quick")


@app.command()
def inspect(
    place: Annotated[Path, typer.Argument(help="A bundle or a checkpoint.")],
    as_json: Json = False,
) -> None:
    """Show what a bundle or a checkpoint holds.

    Example: edge-embed inspect bundle
    """
    from edge_embed.show import print_checkpoint, print_manifest
    from edge_embed_runtimes.bundle import Bundle

    if (place / "starbucks.json").is_file():
        from edge_embed.model.checkpoint import describe_checkpoint

        description = describe_checkpoint(place)
        _print_json(description) if as_json else print_checkpoint(place, description)
        return
    manifest = Bundle(place).manifest
    _print_json(json.loads(manifest.to_json())) if as_json else print_manifest(manifest)


@app.command()
def verify(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle.")],
    as_json: Json = False,
) -> None:
    """Check a bundle here: every hash, every gate, known texts through every graph.

    Example: edge-embed verify bundle
    """
    from edge_embed.show import bars, print_table
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.check import check_bundle

    with bars() as progress:
        findings = check_bundle(Bundle(place), progress=progress)
    failed = [finding for finding in findings if not finding.passed]
    if as_json:
        _print_json({"passed": not failed, "findings": [asdict(finding) for finding in findings]})
    else:
        rows = [[finding.what, "ok" if finding.passed else "FAILED", finding.found] for finding in findings]
        print_table(f"{place}", ["check", "", "found"], rows)
    if failed:
        raise typer.Exit(1)


@app.command()
def devices(as_json: Json = False) -> None:
    """Show what there is to run on: engines, processor, power, energy readers.

    Example: edge-embed devices
    """
    from edge_embed.show import print_device
    from edge_embed_runtimes.device.energy import find_reader
    from edge_embed_runtimes.device.probe import read_device, read_power
    from edge_embed_runtimes.engines import list_engines

    device, power, engines = read_device(), read_power(), list_engines()
    reader, reason = find_reader()
    if not as_json:
        print_device(device, power, engines, reason)
        return
    _print_json(
        {
            "device": asdict(device),
            "power": asdict(power),
            "engines": {name: asdict(facts) for name, facts in engines.items()},
            "energy_reader": {"name": reader.name if reader else None, "because": reason},
        }
    )


@app.command()
def profile(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle to measure.")],
    output: Output,
    quick: Annotated[bool, typer.Option("--quick", help="One length, fewer calls.")] = False,
    tokens: Annotated[str | None, typer.Option(help="Lengths in tokens, such as 16,64,256.")] = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    threads: Threads = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw score against latency, as a PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Measure every tier on this device.

    Example: edge-embed profile bundle -o profile.json --quick
    """
    from dataclasses import replace

    from edge_embed.show import bars, draw_ladder, print_ladder, rungs
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.device.profile import QUICK_PLAN, Plan, profile_bundle
    from edge_embed_runtimes.options import list_options

    plan = QUICK_PLAN if quick else Plan()
    if tokens:
        plan = replace(plan, tokens=tuple(_numbers("--tokens", tokens)))
    bundle = Bundle(place)
    graphs = [option.graph for option in list_options(bundle, engine=engine, precision=precision)]
    with bars() as progress:
        measured = profile_bundle(bundle, graphs, plan=plan, threads=threads, progress=progress)
    measured.save(output)
    if as_json:
        _print_json(asdict(measured))
    for length in sorted({cost.tokens for cost in measured.costs}) if not as_json else []:
        print_ladder(
            f"{length} tokens, {measured.threads} threads, {measured.device.cpu}",
            rungs(bundle, measured, tokens=length),
        )
    if picture:
        draw_ladder(rungs(bundle, measured, tokens=min(cost.tokens for cost in measured.costs)), picture)
    if not measured.stable:
        typer.echo(
            "warning: the device did not keep its pace (over 10 % apart); profile again when it is idle", err=True
        )
    _say(as_json, f"profile written to {output}")


@app.command()
def embed(
    place: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle.")],
    texts: Annotated[str, typer.Argument(help="File with one text a line; - reads standard input.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy, .jsonl or .parquet file.")],
    tier: Annotated[str | None, typer.Option(help="Keep to one tier.")] = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    device: Annotated[str | None, typer.Option(help="CPU, or another device of OpenVINO.")] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Most milliseconds for one text.")] = None,
    energy_mj: Annotated[float | None, typer.Option(help="Most millijoules for one text.")] = None,
    memory_mb: Annotated[float | None, typer.Option(help="Most memory of the process.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Least score in the passport.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Profile of this device.")] = None,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Embed texts; every line gives one vector, an empty line too.

    Example: edge-embed embed bundle texts.txt -o vectors.npy --latency-ms 5
    """
    from edge_embed.show import describe_choice
    from edge_embed.vectors import check_kind, write_vectors
    from edge_embed_runtimes.embedder import Embedder
    from edge_embed_runtimes.policy import Budget

    check_kind(output)
    lines = _read_texts(texts)
    budget = Budget(latency_ms=latency_ms, energy_mj=energy_mj, memory_mb=memory_mb, min_quality=min_quality)
    with Embedder.open(
        place,
        tier=tier,
        engine=engine,
        precision=precision,
        device=device,
        budget=budget,
        profile=profile,
        threads=threads,
    ) as embedder:
        vectors = embedder.encode(lines)
        choice = embedder.choice
        write_vectors(output, lines, vectors, tier=choice.tier, space=embedder.space)
    if as_json:
        _print_json(
            {"output": str(output), "shape": list(vectors.shape), "space": embedder.space, "choice": asdict(choice)}
        )
    _say(as_json, f"{describe_choice(choice)}\n{len(vectors)} vectors of {vectors.shape[1]} values written to {output}")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A checkpoint, a bundle, or a sentence-transformers model.")],
    sts: Files = None,
    retrieval: Files = None,
    cross_tier: Annotated[bool, typer.Option("--cross-tier", help="Also score each tier against each other.")] = False,
    engine: EngineName = None,
    precision: PrecisionName = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the tables as Markdown.")] = None,
    as_json: Json = False,
) -> None:
    """Score every tier: STS by Spearman, retrieval by nDCG@10.

    Example: edge-embed evaluate bundle --sts sts.tsv --retrieval folder --cross-tier
    """
    from edge_embed.evaluate.models import open_model
    from edge_embed.evaluate.retrieval import read_retrieval
    from edge_embed.evaluate.sts import read_scored_pairs
    from edge_embed.evaluate.tables import evaluate as score
    from edge_embed.show import bars
    from edge_embed_runtimes.files import writing_file

    if not sts and not retrieval:
        raise typer.BadParameter("name at least one --sts file or --retrieval folder")
    pairs = [read_scored_pairs(path) for path in sts or ()]
    sets = [read_retrieval(path) for path in retrieval or ()]
    opened = open_model(model, engine=engine, precision=precision)
    with bars() as progress:
        scores = score(opened, name=model, sts=pairs, retrieval=sets, cross=cross_tier, progress=progress)
    typer.echo(scores.to_json() if as_json else scores.to_markdown())
    if output:
        with writing_file(output) as temporary:
            temporary.write_text(scores.to_markdown(), encoding="utf-8")


def _words(value: str) -> tuple[Any, ...]:
    return tuple(word.strip() for word in value.split(",") if word.strip())


def _numbers(option: str, value: str) -> list[int]:
    try:
        return [int(word) for word in _words(value)]
    except ValueError:
        raise typer.BadParameter(f"{option} {value!r}: allowed are whole numbers with commas, such as 16,64") from None


def _read_texts(source: str) -> list[str]:
    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return raw.decode("utf-8").splitlines()
    except OSError as error:
        raise TextError(f"{source} can't be read ({error.strerror}): name a file with one text a line, or -") from error
    except UnicodeDecodeError as error:
        raise TextError(f"{source} is no valid UTF-8 at byte {error.start}: save it as UTF-8") from error


def _print_json(content: object) -> None:
    typer.echo(json.dumps(content, indent=1, default=str))


def _say(as_json: bool, message: str) -> None:
    if not as_json:
        typer.echo(message)
