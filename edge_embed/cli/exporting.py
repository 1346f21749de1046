"""The verb that compiles: export."""

import json
from pathlib import Path
from typing import Annotated

import typer

from edge_embed.cli.common import Force, Json, Output, app, print_json, say, words


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
    from edge_embed.data.lines import text_files
    from edge_embed.evaluate.sts import read_scored_pairs
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
