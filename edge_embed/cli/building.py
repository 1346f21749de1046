"""The verbs that make things: train, export."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_embed.cli.common import Force, Json, Output, Pairs, Texts, app, print_json, say, words


@app.command()
def train(
    base: Annotated[str, typer.Argument(help="Encoder: a folder, all-MiniLM-L6-v2, or a hub id.")],
    output: Output,
    texts: Texts = None,
    pairs: Pairs = None,
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
    from edge_embed.rows import text_files
    from edge_embed.show import bars, print_table
    from edge_embed.train.dev import score_dev
    from edge_embed.train.loop import prepare
    from edge_embed.train.loop import run as run_training
    from edge_embed.train.recipe import Recipe
    from edge_embed_runtimes.files import check_target
    from edge_embed_runtimes.tiers import parse_ladder

    recipe = Recipe(
        base=base,
        texts=text_files(texts or ()),
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
        print_json({"checkpoint": str(output), "before": before, "after": after})
    elif scored:
        rows = [[name, f"{before[name]:.4f}", f"{after[name]:.4f}"] for name in after]
        print_table(f"Spearman on {scored.name}", ["tier", "heads fitted", "trained"], rows)
    say(f"checkpoint written to {output}; next: edge-embed export {output} -o BUNDLE --calibrate TEXTS", unless=as_json)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that 'edge-embed train' wrote.")],
    output: Output,
    calibrate: Annotated[list[Path], typer.Option(help="Texts like those you will embed; files or folders.")],
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
    from edge_embed.rows import text_files
    from edge_embed.show import bars, print_grades
    from edge_embed_export.build import ExportSettings, export_bundle
    from edge_embed_runtimes.manifest import Gates

    settings = ExportSettings(
        calibrate=text_files(calibrate),
        engines=words(engines),
        precisions=words(precisions),
        pairs=read_scored_pairs(scored) if scored else None,
        gates=Gates(cosine_mean=gate_mean, cosine_min=gate_min),
    )
    with bars() as progress:
        manifest = export_bundle(checkpoint, output, settings, replace=force, progress=progress)
    if as_json:
        print_json(json.loads(manifest.to_json()))
    else:
        print_grades(manifest)
    say(f"bundle written to {output}; next: edge-embed profile {output} -o profile.json --quick", unless=as_json)
