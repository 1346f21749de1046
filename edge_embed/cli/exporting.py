"""The verbs between checkpoint and bundle: export, restore."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_embed.cli.common import BundlePlace, Force, Json, Output, app, print_json, say, words
from edge_embed_runtimes.manifest import Gates

_USUAL = Gates()
_GATES, _SETS = "What must hold", "What tiers are scored on, in float and in every graph"


def _gate(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=_GATES)


def _set(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel=_SETS)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Folder that 'edge-embed train' wrote.")],
    output: Output,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            help="Texts like those you will embed; files or folders. Else texts of our own.", show_default=False
        ),
    ] = None,
    engines: Annotated[str, typer.Option(help="Which engines.")] = "onnx,openvino",
    precisions: Annotated[str, typer.Option(help="Which of int8, fp16 and fp32.")] = "int8,fp32",
    tiers: Annotated[
        str | None, typer.Option(help="Other layers x dimensions than the checkpoint's.", show_default=False)
    ] = None,
    sts: Annotated[list[Path] | None, _set("TSV with sentence1, sentence2, score.")] = None,
    retrieval: Annotated[list[Path] | None, _set("Folder in BEIR layout.")] = None,
    classification: Annotated[list[Path] | None, _set("Folder of train.tsv and test.tsv: text, label.")] = None,
    gate_mean: Annotated[float, _gate("Least mean cosine to the torch encoder.")] = _USUAL.cosine_mean,
    gate_min: Annotated[float, _gate("Least cosine of any text.")] = _USUAL.cosine_min,
    gate_drop: Annotated[float, _gate("Most that a score may lie below the float encoder's.")] = _USUAL.score_drop,
    tune: Annotated[
        bool, typer.Option("--tune", help="Train the weights behind int8 for it, on the calibration texts; minutes.")
    ] = False,
    allow_below_gate: Annotated[
        bool, typer.Option("--allow-below-gate", help="Write the bundle all the same, marked.", rich_help_panel=_GATES)
    ] = False,
    name: Annotated[str | None, typer.Option(help="What to call the bundle.", show_default=False)] = None,
    notes: Annotated[
        Path | None, typer.Option(help="Markdown file to put into the card, such as licences.", show_default=False)
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Compile a checkpoint into a bundle: one graph per tier, engine and precision.

    Example: edge-embed export checkpoint -o bundle --calibrate texts.txt --sts scored.tsv --engines onnx
    """
    from edge_embed.extras import require

    require("export", "optimum", "onnx_ir", "nncf", "openvino")
    from edge_embed.cli.scoring import read_sets
    from edge_embed.data.lines import numbered_lines, text_files
    from edge_embed.show.bars import bars
    from edge_embed.show.holdings import print_grades
    from edge_embed_export.build import export_bundle
    from edge_embed_export.calibrate import sample_texts
    from edge_embed_export.settings import ExportSettings
    from edge_embed_runtimes.tiers import parse_ladder

    settings = ExportSettings(
        calibrate=text_files(calibrate or [sample_texts()]),
        engines=words(engines),
        precisions=words(precisions),
        sets=read_sets(sts, retrieval, classification),
        gates=Gates(cosine_mean=gate_mean, cosine_min=gate_min, score_drop=gate_drop),
        allow_below_gate=allow_below_gate,
        ladder=parse_ladder(tiers) if tiers else None,
        tune=tune,
        name=name,
        notes="".join(line for _, line in numbered_lines(notes)) if notes else "",
    )
    with bars() as progress:
        manifest = export_bundle(checkpoint, output, settings, replace=force, progress=progress)
    if as_json:
        print_json(json.loads(manifest.to_json()))
    else:
        print_grades(manifest)
    say(f"bundle written to {output}; next: edge-embed profile {output} -o profile.json --quick", unless=as_json)


@app.command()
def restore(
    bundle: BundlePlace,
    output: Output,
    base: Annotated[
        str | None, typer.Option(help="Encoder that it was trained in, if not found by its name.", show_default=False)
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a bundle a checkpoint again, to train it further on texts of yours.

    Example: edge-embed restore default -o checkpoint
    """
    from edge_embed.extras import require

    require("export", "optimum", "onnx_ir", "nncf", "openvino")
    from edge_embed.model.checkpoint import Origin, save_checkpoint
    from edge_embed_export import restore as restoring
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.files import check_target

    check_target(output, replace=force)
    opened = Bundle(bundle)
    model = restoring.restore(opened, base)
    origin = Origin(opened.manifest.base_model, {"restored": opened.manifest.name})
    save_checkpoint(model, output, origin, replace=force)
    if as_json:
        print_json({"checkpoint": str(output), "restored": opened.manifest.name})
    say(
        f"checkpoint written to {output}; next: edge-embed train --start {output} -o FURTHER --texts TEXTS",
        unless=as_json,
    )
