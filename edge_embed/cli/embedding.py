"""The verb that embeds."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from edge_embed.cli.common import BundlePlace, EngineName, Json, PrecisionName, Threads, app, print_json, say
from edge_embed_runtimes.errors import TextError

DtypeName = Literal["float32", "float16", "int8", "bits"]
LongTextsName = Literal["truncate", "error", "split"]


@app.command()
def embed(
    place: BundlePlace,
    texts: Annotated[str, typer.Argument(help="File with one text a line; - reads standard input.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A .npy, .npz, .jsonl or .parquet file.")],
    tier: Annotated[str | None, typer.Option(help="Keep to one tier.")] = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="CPU, or another that 'edge-embed devices' lists; several with commas: the first that works."
        ),
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Most milliseconds for one text.")] = None,
    energy_mj: Annotated[float | None, typer.Option(help="Most millijoules for one text.")] = None,
    memory_mb: Annotated[float | None, typer.Option(help="Most memory of the process.")] = None,
    min_quality: Annotated[float | None, typer.Option(help="Least score in the passport.")] = None,
    profile: Annotated[Path | None, typer.Option(help="Profile of this device.")] = None,
    dtype: Annotated[DtypeName, typer.Option(help="What a vector's values are kept in.")] = "float32",
    long_texts: Annotated[LongTextsName, typer.Option(help="What to do with texts that are too long.")] = "truncate",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Embed texts; every line gives one vector, an empty line too.

    Example: edge-embed embed bundle texts.txt -o vectors.npy --latency-ms 5
    """
    from edge_embed.show.ladder import describe_choice
    from edge_embed.vectors import check_kind, write_vectors
    from edge_embed_runtimes.choose.policy import Budget
    from edge_embed_runtimes.embedder import Embedder

    check_kind(output)
    lines = _read_lines(texts)
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
        vectors = embedder.encode_documents(lines, dtype=dtype, long_texts=long_texts)
        choice = embedder.choice
        write_vectors(output, lines, vectors)
    if as_json:
        shape = list(vectors.values.shape)
        print_json({"output": str(output), "shape": shape, "space": vectors.space, "choice": asdict(choice)})
    say(
        f"{describe_choice(choice)}\n{len(vectors)} vectors of {vectors.dim} dimensions written to {output}",
        unless=as_json,
    )


def _read_lines(source: str) -> list[str]:
    """Every line of a file or, for `-`, of standard input; empty ones too, so that rows keep their numbers."""
    try:
        raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        lines = raw.decode("utf-8").split("\n")
    except OSError as error:
        raise TextError(f"{source} can't be read ({error.strerror}): name a file with one text a line, or -") from error
    except UnicodeDecodeError as error:
        raise TextError(f"{source} is no valid UTF-8 at byte {error.start}: save it as UTF-8") from error
    return [line.removesuffix("\r") for line in (lines if lines[-1] else lines[:-1])]
