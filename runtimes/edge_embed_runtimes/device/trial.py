"""One graph in a process of its own, which alone can tell its start and its peak memory."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.measure import Graph, example_input, peak_memory_mb
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.errors import EdgeEmbedError, ProfileError
from edge_embed_runtimes.tokenizer import Tokenizer

EXAMPLE_TEXT = "The night train left the old station a little late, and nobody on the platform seemed to mind."
_CALLS = 3


class Shape(NamedTuple):
    """The size of an input: `tokens` a text, `batch` texts a call."""

    tokens: int
    batch: int


@dataclass(frozen=True, slots=True)
class Trial:
    """What a fresh process found.

    Attributes:
        load_ms: of the graph alone.
        first_ms: from the start of the process to its first vector.
        peaks_mb: of each shape the largest resident memory, that of smaller shapes before it included; None where
            the system does not tell.
    """

    load_ms: float
    first_ms: float
    peaks_mb: dict[Shape, float | None]


def try_graph(bundle: Bundle, graph: Graph, shapes: Sequence[Shape], threads: int, runs_on: str) -> Trial:
    """Run a graph in a fresh process.

    Raises:
        ProfileError: the process failed.
    """
    job = json.dumps([time.time(), str(bundle.path), graph, shapes, threads, runs_on])
    command = [sys.executable, "-m", "edge_embed_runtimes.device.trial", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProfileError(f"measuring {' '.join(graph)} failed: {last}")
    load_ms, first_ms, peaks = json.loads(done.stdout)
    return Trial(load_ms, first_ms, {Shape(tokens, batch): peak for tokens, batch, peak in peaks})


def _work(job: str) -> str:
    began, path, (name, engine, precision), shapes, threads, runs_on = json.loads(job)
    # the parent has checked the hashes; hashing again would only warm the page cache
    bundle = Bundle(path, verify="never")
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    (ids,), _ = tokenizer.encode([EXAMPLE_TEXT])
    tier = bundle.manifest.ladder.find(name)
    started = time.perf_counter()
    with closing(open_graph(bundle, tier, engine, precision, device=runs_on, threads=threads)) as session:
        load_ms = (time.perf_counter() - started) * 1000
        session.run(*example_input(ids, len(ids), 1))
        first_ms = (time.time() - began) * 1000
        peaks = []
        for tokens, batch in sorted(shapes, key=lambda shape: shape[0] * shape[1]):
            for _ in range(_CALLS):
                session.run(*example_input(ids, tokens, batch))
            peaks.append([tokens, batch, peak_memory_mb()])
    return json.dumps([load_ms, first_ms, peaks])


if __name__ == "__main__":
    try:
        sys.stdout.write(_work(sys.argv[1]))
    except EdgeEmbedError as error:
        sys.exit(f"{type(error).__name__}: {error}")
