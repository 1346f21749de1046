"""Hold a bundle against the usual int8 recipes, against torch, and against the lines it must reach; prints Markdown.

python samples/benchmarks/export.py CHECKPOINT BUNDLE --texts texts.txt --calibrate more.txt

The bundle must be the checkpoint's, with int8 and fp32 for both engines. Every pair that is compared runs in turn, on
the same texts, with two threads; a figure is the median ratio over the rounds.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import onnx_ir as ir
from arguments import read_arguments
from peers import BATCH, THREADS, OnnxPeer, OpenVinoPeer, torch_peer
from processor import MATRIX, product_speeds
from side_by_side import Job, alternate, ratio

from edge_embed import Embedder
from edge_embed.data.lines import read_lines, text_files
from edge_embed.model.checkpoint import load_checkpoint
from edge_embed_export.calibrate import calibration_texts
from edge_embed_export.graph import cut, export_ladder, save
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.manifest import GRAPH_ROLES, Engine, GraphRole
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, pack

TEXTS = 2000
ENGINES: tuple[Engine, ...] = get_args(Engine)
Runner = Session | OnnxPeer | OpenVinoPeer
PRIVATE = """
import sys
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.tokenizer import pad
path, engine, names, role = sys.argv[1:]
bundle, batch = Bundle(path), pad([list(range(999, 1031))], pad_id=0)
inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
sessions = []
for name in names.split(","):
    sessions.append(open_graph(bundle, bundle.manifest.ladder.find(name), engine, "int8", threads=2, role=role))
    outputs = sessions[-1].compute(inputs)
    inputs |= {f"{name}.state": state for state in outputs[1:]}
lines = open("/proc/self/smaps_rollup").read().splitlines()
print(sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")))
"""


@dataclass(frozen=True)
class Batched:
    """The same texts in batches as the runtime makes them, and as a peer gets them: 32 in order of length."""

    count: int
    ours: Sequence[Batch]
    theirs: Sequence[Batch]


def main(checkpoint: Path, folder: Path, texts: Sequence[Path], calibrate: Sequence[Path], rounds: int) -> None:
    """Measure all, and print it."""
    bundle = Bundle(folder)
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    lines = list(dict.fromkeys(line for path in text_files(texts) for line in read_lines(path)))
    chosen = [lines[place] for place in np.linspace(0, len(lines) - 1, min(TEXTS, len(lines))).astype(int)]
    ids, _ = tokenizer.encode(chosen)
    ours, theirs = pack(ids, pad_id=tokenizer.pad_id), pack(ids, pad_id=tokenizer.pad_id, batch_texts=BATCH)
    batched = Batched(len(ids), list(ours), list(theirs))
    known = calibration_texts([text for path in text_files(calibrate) for text in read_lines(path)])
    print(f"{len(chosen)} texts, {np.mean([len(row) for row in ids]):.0f} tokens each, {THREADS} threads\n")
    with tempfile.TemporaryDirectory() as scratch:
        plain = export_ladder(load_checkpoint(checkpoint, attention="eager")[0])
        print_onnx(bundle, plain, batched, Path(scratch), rounds)
    print_openvino(bundle, list(tokenizer.batches(known)), batched, rounds)
    print_against_torch(checkpoint, folder, chosen, rounds)
    print_processor(rounds)
    print_passport(bundle)
    print_sizes(bundle)
    print("\n| private memory | the largest open, MiB | all open, MiB | ratio |\n|---|---|---|---|")
    for engine in ENGINES:
        print_memory(bundle, engine)


def print_onnx(bundle: Bundle, plain: ir.Model, texts: Batched, scratch: Path, rounds: int) -> None:
    """Each tier in ONNX Runtime against dynamic int8: of the plain float graph, and of the one that we made of it."""
    print("| ONNX Runtime | texts/s | over dynamic int8 | over dynamic int8 of our float graph | over the largest |")
    print("|---|---|---|---|---|")
    full = opened(bundle, bundle.manifest.ladder.top.name, "onnx")
    for tier in bundle.manifest.ladder:
        ours = opened(bundle, tier.name, "onnx")
        peers = [OnnxPeer(save(cut(plain, tier), scratch / f"{tier.name}.onnx"), scratch)]
        peers += [OnnxPeer(bundle.graph(tier, "onnx", "fp32"), scratch)]
        print_row(tier.name, texts, [ours, full], peers, rounds)


def print_openvino(bundle: Bundle, known: Sequence[Batch], texts: Batched, rounds: int) -> None:
    """Each tier in OpenVINO against NNCF's static int8."""
    print("\n| OpenVINO | texts/s | over NNCF's static int8 | over the largest |\n|---|---|---|---|")
    full = opened(bundle, bundle.manifest.ladder.top.name, "openvino")
    for tier in bundle.manifest.ladder:
        ours = opened(bundle, tier.name, "openvino")
        peer = OpenVinoPeer(bundle.graph(tier, "openvino", "fp32"), bundle.weights("openvino", "fp32"), known)
        print_row(tier.name, texts, [ours, full], [peer], rounds)


def print_row(name: str, texts: Batched, ours: Sequence[Runner], peers: Sequence[Runner], n: int) -> None:
    """Texts a second of the first, and the others' times over its own."""
    jobs = [*(over(texts.ours, session) for session in ours), *(over(texts.theirs, peer) for peer in peers)]
    one, full, *usual = alternate(jobs, n)
    ratios = [f"{ratio(times, one):.2f}" for times in (*usual, full)]
    print(f"| {name} | {texts.count / statistics.median(one):.0f} | {' | '.join(ratios)} |", flush=True)


def print_against_torch(checkpoint: Path, folder: Path, texts: list[str], rounds: int) -> None:
    """The largest tier, texts to vectors, against sentence-transformers in float32."""
    peer = torch_peer(checkpoint)
    name = Bundle(folder).manifest.ladder.top.name
    print("\n| engine | texts/s | sentence-transformers | ratio |\n|---|---|---|---|")
    for engine in ENGINES:
        with Embedder.open(folder, tier=name, engine=engine, precision="int8", threads=THREADS) as embedder:
            jobs = [lambda embedder=embedder: embedder.encode(texts), lambda: peer(texts)]
            one, other = alternate(jobs, rounds)
        speeds = " | ".join(f"{len(texts) / statistics.median(times):.0f}" for times in (one, other))
        print(f"| {engine} | {speeds} | {ratio(other, one):.2f} |", flush=True)


def print_processor(rounds: int) -> None:
    """How much faster this processor multiplies matrices in int8 than in float32: the most that int8 can gain."""
    int8, float32 = product_speeds(rounds)
    print("\n| product of matrices | int8, Gop/s | float32, Gop/s | ratio |\n|---|---|---|---|")
    print(f"| {' x '.join(map(str, MATRIX))} | {int8:.0f} | {float32:.0f} | {int8 / float32:.2f} |")


def print_passport(bundle: Bundle) -> None:
    """The least cosines, and the largest difference a text's company makes."""
    grades = [grade for grade in bundle.manifest.passport.grades if grade.precision == "int8"]
    print("\n| engine, int8 | least mean cosine | least cosine | largest invariance |\n|---|---|---|---|")
    for engine in ENGINES:
        own = [grade for grade in grades if grade.engine == engine]
        mean, least = min(grade.cosine_mean for grade in own), min(grade.cosine_min for grade in own)
        print(f"| {engine} | {mean:.5f} | {least:.4f} | {max(grade.invariance for grade in own):.1e} |")


def print_sizes(bundle: Bundle) -> None:
    """All tiers on disk over the largest alone."""
    print("\n| graphs | all tiers, MB | the largest alone, MB | ratio |\n|---|---|---|---|")
    files = [file for file in bundle.manifest.files if file.engine is not None]
    for engine, precision in dict.fromkeys((file.engine, file.precision) for file in files):
        every = sum(file.size_bytes for file in files if (file.engine, file.precision) == (engine, precision))
        alone = bundle.alone_bytes(bundle.manifest.ladder.top, engine, precision)
        print(f"| {engine} {precision} | {every / 1e6:.1f} | {alone / 1e6:.1f} | {every / alone:.3f} |")


def print_memory(bundle: Bundle, engine: Engine) -> None:
    """Private memory of a process with int8 tiers open: all of them, each whole or as steps, over the largest alone.

    Counted is what the process wrote: pages of a mapped file are every process's, and the system drops them at need.
    """
    names = [tier.name for tier in bundle.manifest.ladder]
    private_kib(bundle, engine, names, "graph")  # packs weights, once for good
    one = private_kib(bundle, engine, names[-1:], "graph")
    for role in GRAPH_ROLES:
        six = private_kib(bundle, engine, names, role)
        print(f"| {engine}, {role}s | {one / 1024:.1f} | {six / 1024:.1f} | {six / one:.2f} |", flush=True)


def private_kib(bundle: Bundle, engine: Engine, names: Sequence[str], role: GraphRole) -> int:
    """Of a process of its own, with these tiers open."""
    command = [sys.executable, "-c", PRIVATE, str(bundle.path), engine, ",".join(names), role]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def opened(bundle: Bundle, tier: str, engine: Engine) -> Session:
    """A tier's int8 session."""
    return open_graph(bundle, bundle.manifest.ladder.find(tier), engine, "int8", threads=THREADS)


def over(batches: Sequence[Batch], session: Runner) -> Job:
    """A pass over all batches."""
    return lambda: [session.run(batch.input_ids, batch.attention_mask) for batch in batches]


if __name__ == "__main__":
    given = read_arguments(__doc__, rounds=7)
    main(given.checkpoint, given.bundle, given.texts, given.calibrate, given.rounds)
