"""The verbs that look at things: inspect, verify, devices."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edge_embed.cli.common import BundlePlace, Json, app, placed, print_json


@app.command()
def inspect(
    place: Annotated[Path, typer.Argument(help="A bundle, `default`, or a checkpoint.", callback=placed)],
    as_json: Json = False,
) -> None:
    """Show what a bundle or a checkpoint holds.

    Example: edge-embed inspect bundle
    """
    from edge_embed.show.holdings import print_checkpoint, print_manifest
    from edge_embed_runtimes.bundle import Bundle

    if (place / "starbucks.json").is_file():
        from edge_embed.model.checkpoint import describe_checkpoint

        description = describe_checkpoint(place)
        print_json(description) if as_json else print_checkpoint(place, description)
        return
    manifest = Bundle(place).manifest
    print_json(json.loads(manifest.to_json())) if as_json else print_manifest(manifest)


@app.command()
def verify(
    place: BundlePlace,
    as_json: Json = False,
) -> None:
    """Check a bundle here: every hash, every gate, known texts through every graph.

    Example: edge-embed verify bundle
    """
    from edge_embed.show.bars import bars
    from edge_embed.show.table import print_table
    from edge_embed_runtimes.bundle import Bundle
    from edge_embed_runtimes.check import check_bundle

    with bars() as progress:
        findings = check_bundle(Bundle(place), progress=progress)
    failed = [finding for finding in findings if not finding.passed]
    if as_json:
        print_json({"passed": not failed, "findings": [asdict(finding) for finding in findings]})
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
    from edge_embed.show.device import print_device
    from edge_embed_runtimes.device.energy import find_readers
    from edge_embed_runtimes.device.probe import read_device, read_power, read_temperature_c
    from edge_embed_runtimes.engines import list_engines

    device, power, temperature = read_device(), read_power(), read_temperature_c()
    engines, readers = list_engines(), find_readers()
    if not as_json:
        print_device(device, power, temperature, engines, readers)
        return
    print_json(
        {
            "device": asdict(device),
            "power": asdict(power),
            "temperature_c": temperature,
            "engines": {name: asdict(facts) for name, facts in engines.items()},
            "energy_readers": [
                {"name": found.name, "works": found.reader is not None, "because": found.because} for found in readers
            ],
        }
    )
