"""The runtime against what a careful user would write, and against its own lines; prints Markdown.

python samples/benchmarks/runtime.py CHECKPOINT BUNDLE --texts texts.txt --calibrate more.txt

The bundle must be the checkpoint's, with int8 and fp32 for both engines. All run on two threads; what is compared runs
in turn, on the same texts; a figure is a median over the rounds.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import numpy as np
import tokenizers
from arguments import read_arguments
from peers import THREADS, Encode, OnnxPeer, OpenVinoPeer, TextPeer, library_peers, torch_peer
from processor import product_speeds
from side_by_side import alternate, ratio

from edge_embed import Embedder
from edge_embed.data.lines import read_lines, text_files
from edge_embed.model.checkpoint import load_checkpoint
from edge_embed_export.calibrate import calibration_texts
from edge_embed_export.graph import cut, export_ladder, save
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.engines import LANES, Session
from edge_embed_runtimes.manifest import Engine
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, cutting_quietly, pack

TEXTS, SHORT_TEXTS, SHORT_CALLS = 2000, 50, 200
ENGINES: tuple[Engine, ...] = get_args(Engine)
START = "import time, sys; began = time.perf_counter(); {}; print((time.perf_counter() - began) * 1000)"
FIRST = """
import sys
from edge_embed import Embedder
embedder = Embedder.open(sys.argv[1], tier="demi", engine=sys.argv[2], precision="int8")
embedder.encode(["A bicycle leans on the wall."])
"""
PEAK = """
import sys
from edge_embed import Embedder
embedder = Embedder.open(sys.argv[1], tier=sys.argv[3], engine=sys.argv[2], precision="int8", threads=2)
texts = open(sys.argv[5]).read().splitlines()
for vectors in embedder.stream(texts[number % len(texts)] for number in range(int(sys.argv[4]))):
    pass
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def main(checkpoint: Path, folder: Path, texts: Sequence[Path], calibrate: Sequence[Path], rounds: int) -> None:
    """Measure all, and print it."""
    bundle = Bundle(folder)
    lines = list(dict.fromkeys(line for path in text_files(texts) for line in read_lines(path)))
    chosen = [lines[place] for place in np.linspace(0, len(lines) - 1, min(TEXTS, len(lines))).astype(int)]
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    lengths = [len(row) for row in tokenizer.encode(chosen)[0]]
    print(f"{len(chosen)} texts of {np.mean(lengths):.0f} tokens, {THREADS} threads")
    known = calibration_texts([text for path in text_files(calibrate) for text in read_lines(path)])
    with tempfile.TemporaryDirectory() as scratch, cutting_quietly():
        peers = dict(open_peers(checkpoint, bundle, tokenizer, known, Path(scratch)))
        short = [text for text, length in zip(chosen, lengths, strict=True) if length <= 16]
        with ExitStack() as stack:
            own = {
                f"{tier.name} {engine}": stack.enter_context(ours(bundle, tier.name, engine)).encode
                for engine in ENGINES
                for tier in bundle.manifest.ladder
            }
            print_bulk(own, peers, chosen, rounds)
            print_one(own, peers, short, rounds)
        print_overhead(bundle, chosen, rounds)
        print_start(folder)
        print_memory(folder, chosen, Path(scratch))
        print_peak_share(bundle)


def open_peers(
    checkpoint: Path, bundle: Bundle, tokenizer: Tokenizer, known: list[str], scratch: Path
) -> Iterator[tuple[str, Encode]]:
    """The whole encoder in other hands."""
    top = bundle.manifest.ladder.top
    yield "sentence-transformers", torch_peer(checkpoint)
    plain = save(cut(export_ladder(load_checkpoint(checkpoint, attention="eager")[0]), top), scratch / "plain.onnx")
    dynamic = OnnxPeer(plain, scratch)
    yield "onnxruntime, dynamic int8", TextPeer(dynamic, tokenizer).encode
    graph, weights = bundle.graph(top, "openvino", "fp32"), bundle.weights("openvino", "fp32")
    yield (
        "OpenVINO, static int8",
        TextPeer(OpenVinoPeer(graph, weights, list(tokenizer.batches(known))), tokenizer).encode,
    )
    yield from library_peers(checkpoint, dynamic.path, scratch, top.name, top.dim).items()


def ours(bundle: Bundle, tier: str, engine: Engine) -> Embedder:
    """An embedder of one graph."""
    return Embedder.open(bundle, tier=tier, engine=engine, precision="int8", threads=THREADS)


def print_bulk(own: Mapping[str, Encode], peers: Mapping[str, Encode], texts: list[str], rounds: int) -> None:
    """Many texts at once: every tier against every peer."""
    jobs = {name: lambda encode=encode: encode(texts) for name, encode in (own | peers).items()}
    times = dict(zip(jobs, alternate(list(jobs.values()), rounds), strict=True))
    print(f"\n| bulk | texts/s | over {' | over '.join(peers)} |\n|---|---|{'---|' * len(peers)}")
    for name in jobs:
        speeds = " | ".join(f"{ratio(times[peer], times[name]):.2f}" for peer in peers)
        print(f"| {name} | {len(texts) / statistics.median(times[name]):.0f} | {speeds} |", flush=True)


def print_one(own: Mapping[str, Encode], peers: Mapping[str, Encode], texts: list[str], rounds: int) -> None:
    """One short text a call: the median time, and that of the peers."""
    jobs = own | peers
    times = dict(zip(jobs, p50s(list(jobs.values()), texts[:SHORT_TEXTS], rounds), strict=True))
    print(
        f"\n| one text of up to 16 tokens | p50, ms | over {' | over '.join(peers)} |\n|---|---|{'---|' * len(peers)}"
    )
    for name in jobs:
        shares = " | ".join(f"{times[name] / times[peer]:.2f}" for peer in peers)
        print(f"| {name} | {times[name]:.2f} | {shares} |", flush=True)


def p50s(encoders: Sequence[Encode], texts: Sequence[str], rounds: int) -> list[float]:
    """The median milliseconds of a call with one text, the encoders in turn."""
    times: list[list[float]] = [[] for _ in encoders]

    def pass_over(encode: Encode, own: list[float]) -> None:
        for number in range(SHORT_CALLS):
            began = time.perf_counter()
            encode([texts[number % len(texts)]])
            own.append((time.perf_counter() - began) * 1000)

    alternate([lambda e=e, own=own: pass_over(e, own) for e, own in zip(encoders, times, strict=True)], rounds)
    return [statistics.median(own[SHORT_CALLS:]) for own in times]  # the first pass warms up


def print_overhead(bundle: Bundle, texts: list[str], rounds: int) -> None:
    """What encode takes beyond its tokenizer and its engine, at the tier where it counts most."""
    raw = tokenizers.Tokenizer.from_file(str(bundle.tokenizer()))
    raw.enable_truncation(bundle.manifest.max_tokens)
    raw.no_padding()
    tier = bundle.manifest.ladder.tiers[0]
    print("\n| overhead | bulk | one text, microseconds |\n|---|---|---|")
    for engine in ENGINES:
        streams = open_graph(bundle, tier, engine, "int8", threads=THREADS, streams=THREADS)
        with ours(bundle, tier.name, engine) as embedder, ThreadPoolExecutor(THREADS) as threads:
            # the embedder's own session, since the threads of another one would wait in a loop beside its threads
            alone = embedder._runner._pool.lease((tier.name, engine, "int8")).session

            def many(batches: Iterable[Batch], threads: Executor = threads, session: Session = streams) -> None:
                list(threads.map(lambda batch: session.run(batch.input_ids, batch.attention_mask), batches))

            def one(batches: Iterable[Batch], session: Session = alone) -> None:
                for batch in batches:
                    session.run(batch.input_ids, batch.attention_mask)

            bulk = [beyond(embedder, raw, many, texts, texts, LANES[engine]) for _ in range(rounds * 3)]
            short = [[text] for text in texts[:SHORT_TEXTS]]
            # not the same text: an engine that is given the same shape twice is quicker at the second time
            half = len(short) // 2
            pairs = list(zip(short, short[half:] + short[:half], strict=True)) * (SHORT_CALLS // 10)
            single = [beyond(embedder, raw, one, *pair, 1) for pair in pairs]
        share = statistics.median(whole / inner for whole, inner in bulk[1:]) - 1
        added = np.subtract(*np.median(single[SHORT_TEXTS:], axis=0))
        print(f"| {tier.name} {engine} | {share:.1%} | {added * 1e6:.0f} |", flush=True)
        streams.close()


def beyond(
    embedder: Embedder,
    raw: tokenizers.Tokenizer,
    run: Callable[[Iterable[Batch]], None],
    texts: list[str],
    others: list[str],
    lanes: int,
) -> tuple[float, float]:
    """Seconds of encode on texts, and of its tokenizer and its engine alone on the others."""
    began = time.perf_counter()
    embedder.encode(texts)
    whole = time.perf_counter() - began
    began = time.perf_counter()
    encodings = raw.encode_batch_fast(others)
    tokenized = time.perf_counter() - began
    batches = list(pack([encoding.ids for encoding in encodings], pad_id=0, lanes=lanes))[::-1]
    began = time.perf_counter()
    run(batches)
    return whole, tokenized + time.perf_counter() - began


def print_start(folder: Path) -> None:
    """The import, and from the start of a process to its first vector."""
    print("\n| start | ms |\n|---|---|")
    imports = [float(fresh(START.format("import edge_embed"))) for _ in range(7)]
    print(f"| import edge_embed | {statistics.median(imports):.0f} |")
    for engine in ENGINES:
        times = []
        for _ in range(7):
            began = time.perf_counter()
            fresh(FIRST, str(folder), engine)
            times.append((time.perf_counter() - began) * 1000)
        print(f"| process to first vector, demi, {engine} | {statistics.median(times[1:]):.0f} |", flush=True)


def print_memory(folder: Path, texts: list[str], scratch: Path) -> None:
    """The largest resident memory of a process that opens Demi, after 1,000 and after 100,000 texts."""
    print("\n| peak memory, MB | 1 text | 1,000 | 100,000 | ratio |\n|---|---|---|---|---|")
    path = scratch / "texts.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    for engine in ENGINES:
        one, few, many = (
            float(fresh(PEAK, str(folder), engine, "demi", str(n), str(path))) for n in (1, 1000, 100_000)
        )
        print(f"| demi {engine} | {one:.0f} | {few:.0f} | {many:.0f} | {many / few:.2f} |", flush=True)


def print_peak_share(bundle: Bundle) -> None:
    """How much of the processor's int8 speed the largest tier reaches at 32 texts of 128 tokens."""
    top = bundle.manifest.ladder.top
    ids = np.random.default_rng(0).integers(1000, 20_000, (32, 128))
    mask = np.ones_like(ids)
    operations = bundle.manifest.passport.operations[top.name] / 32 * ids.size
    print("\n| 32 x 128 tokens | Gop/s | of the processor's |\n|---|---|---|")
    peak, _ = product_speeds(5)
    for engine in ENGINES:
        session = open_graph(bundle, top, engine, "int8", threads=THREADS)
        (times,) = alternate([lambda session=session: session.run(ids, mask)], 9)
        speed = operations / statistics.median(times) / 1e9
        print(f"| {top.name} {engine} | {speed:.0f} | {speed / peak:.2f} |", flush=True)
        session.close()


def fresh(script: str, *arguments: str) -> str:
    """What a script prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    given = read_arguments(__doc__, rounds=5)
    main(given.checkpoint, given.bundle, given.texts, given.calibrate, given.rounds)
