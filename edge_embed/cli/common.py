"""What the verbs share: the app they belong to, their common options, how they print."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train a ladder of sentence encoders, compile a graph for each rung, embed on the device.",
)

DEFAULT = "default"
"""The word for the default bundle, wherever a bundle is named."""


def placed(place: Path) -> Path:
    """The folder that a user means; that of the default bundle for its word, unless a folder has that name."""
    if str(place) != DEFAULT or place.exists():
        return place
    from edge_embed_runtimes.bundle import default_bundle

    return default_bundle()


BundlePlace = Annotated[
    Path,
    typer.Argument(
        metavar="BUNDLE", help=f"The bundle; `{DEFAULT}` for the one that comes as a package.", callback=placed
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where to write.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what stands at the output.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
EngineName = Annotated[Literal["onnx", "openvino"] | None, typer.Option("--engine", help="Keep to one engine.")]
PrecisionName = Annotated[
    Literal["int8", "fp16", "fp32"] | None, typer.Option("--precision", help="Keep to one precision.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads a call; default: all that may be used.")]


def words(value: str) -> tuple[Any, ...]:
    """The parts of a list with commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in value.split(",") if word.strip()))


def numbers(option: str, value: str) -> list[int]:
    """The whole numbers of a list with commas; anything else is wrong usage of `option`."""
    try:
        return [int(word) for word in words(value)]
    except ValueError:
        raise typer.BadParameter(f"{option} {value!r}: allowed are whole numbers with commas, such as 16,64") from None


def print_json(content: object) -> None:
    """Print for machines."""
    typer.echo(json.dumps(content, indent=1, default=str))


def say(message: str, *, unless: bool) -> None:
    """Print for people, unless the output is for machines."""
    if not unless:
        typer.echo(message)
