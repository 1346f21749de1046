"""The command line: one function per verb. What a verb needs is imported inside it, so that `--help` is quick."""

import logging
import sys
import warnings
from typing import Annotated

import rich  # noqa: F401  # the verbs draw with it; if it is missing, say so before any of them begins
import typer

from edge_embed import __version__
from edge_embed.cli import embedding, exporting, looking, profiling, scoring, training
from edge_embed.cli.common import app
from edge_embed_runtimes.errors import EdgeEmbedError

__all__ = ["app", "exporting", "looking", "profiling", "run", "scoring", "training", "embedding"]


def run() -> None:
    """Run the command line: exit 0 done, 1 failed, 2 wrong usage."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    warnings.showwarning = lambda message, *_: typer.echo(f"warning: {message}", err=True)
    try:
        app()
    except EdgeEmbedError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Train a ladder of sentence encoders, compile a graph for each rung, embed on the device."""
    if show:
        typer.echo(f"edge-embed {__version__}")
        raise typer.Exit
