"""Check a bundle on this device: every hash, every gate, and known texts against their known vectors."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.device.probe import usable_threads
from edge_embed_runtimes.engines import Computing, is_installed
from edge_embed_runtimes.manifest import GRAPH_ROLES, GraphRole, Manifest
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.run.canaries import Canaries, read_canaries
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.run.refining import Stepper
from edge_embed_runtimes.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is as it should be, and what was found."""

    what: str
    passed: bool
    found: str


def check_bundle(bundle: Bundle, *, progress: Progress = silent) -> tuple[Finding, ...]:
    """Hash every file, compare the passport with its gates, and run the canary texts through every graph.

    Raises:
        BundleDamaged: a file's content is not what was exported; it is not run then.
    """
    manifest = bundle.manifest
    for done, entry in enumerate(manifest.files, start=1):
        bundle.file(entry)
        progress("hash", done, len(manifest.files))
    findings = [Finding("hashes", passed=True, found=f"{len(manifest.files)} files as exported")]
    findings += _check_gates(manifest)
    canaries = read_canaries(bundle, Tokenizer.from_file(bundle.tokenizer(), max_tokens=manifest.max_tokens))
    with closing(_stepper(bundle)) as stepper:
        graphs = [file for role in GRAPH_ROLES for file in manifest.by_role(role)]
        ways = {
            "graph": ("canaries of", partial(_run_graph, bundle, canaries)),
            "step": ("canaries of the steps to", partial(stepper.run_canaries, canaries)),
        }
        for done, file in enumerate(graphs, start=1):
            if file.tier and file.engine and file.precision:
                graph = (file.tier, file.engine, file.precision)
                what, run = ways[file.role]
                findings.append(_check_canaries(f"{what} {' '.join(graph)}", run, canaries, graph))
            progress("canaries", done, len(graphs))
    return tuple(findings)


def _check_gates(manifest: Manifest) -> list[Finding]:
    gates = manifest.passport.gates
    return [
        Finding(
            f"gates of {grade.tier} {grade.engine} {grade.precision}",
            passed=grade.cosine_mean >= gates.cosine_mean
            and grade.cosine_min >= gates.cosine_min
            and grade.invariance <= gates.invariance,
            found=f"cosine {grade.cosine_mean:.5f}, min {grade.cosine_min:.5f}, invariance {grade.invariance:.1e}",
        )
        for grade in manifest.passport.grades
    ]


def _check_canaries(
    what: str, run: Callable[[Graph], NDArray[np.float32]], canaries: Canaries, graph: Graph
) -> Finding:
    if not is_installed(graph[1]):
        return Finding(what, passed=True, found=f"not run: {graph[1]} isn't installed")
    lowest, least = canaries.lowest_cosine(run(graph), graph), canaries.least_cosine(graph)
    return Finding(what, passed=lowest >= least, found=f"smallest cosine {lowest:.5f}, at least {least:g}")


def _run_graph(bundle: Bundle, canaries: Canaries, graph: Graph) -> NDArray[np.float32]:
    with closing(_open(bundle, "graph", graph)) as session:
        return canaries.run(session)


def _stepper(bundle: Bundle) -> Stepper:
    ladder = bundle.manifest.ladder
    return Stepper(SessionPool(partial(_open, bundle, "step"), keep=len(ladder)), ladder, bundle.manifest.space)


def _open(bundle: Bundle, role: GraphRole, graph: Graph) -> Computing:
    name, engine, precision = graph
    tier = bundle.manifest.ladder.find(name)
    return open_graph(bundle, tier, engine, precision, threads=usable_threads(), role=role)
