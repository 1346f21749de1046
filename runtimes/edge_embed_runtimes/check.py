"""Check a bundle on this device: every hash, every gate, and known texts against their known vectors."""

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.engines import is_installed
from edge_embed_runtimes.errors import BundleDamaged
from edge_embed_runtimes.manifest import Engine, Manifest, Precision
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Tier


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
    texts, expected = _read_canaries(bundle)
    graphs = [entry for entry in manifest.by_role("graph") if entry.tier and entry.engine and entry.precision]
    for done, entry in enumerate(graphs, start=1):
        if entry.tier and entry.engine and entry.precision:
            tier = manifest.ladder.find(entry.tier)
            findings.append(_check_canaries(bundle, tier, entry.engine, entry.precision, texts, expected[tier.name]))
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
    bundle: Bundle, tier: Tier, engine: Engine, precision: Precision, texts: list[str], expected: NDArray[np.float32]
) -> Finding:
    what = f"canaries of {tier.name} {engine} {precision}"
    if not is_installed(engine):
        return Finding(what, passed=True, found=f"not run: {engine} isn't installed")
    with Embedder.open(bundle, tier=tier.name, engine=engine, precision=precision) as embedder:
        lowest = float((embedder.encode(texts) * expected).sum(1).min())
    gate = bundle.manifest.passport.gates.cosine_min
    return Finding(what, passed=lowest >= gate, found=f"smallest cosine {lowest:.5f}, at least {gate:g}")


def _read_canaries(bundle: Bundle) -> tuple[list[str], dict[str, NDArray[np.float32]]]:
    try:
        content = json.loads(bundle.only("canaries").read_text(encoding="utf-8"))
        texts = [str(text) for text in content["texts"]]
        vectors = {
            tier.name: np.asarray(content["vectors"][tier.name], dtype=np.float32).reshape(len(texts), tier.dim)
            for tier in bundle.manifest.ladder
        }
        if not texts:
            raise ValueError("no texts")
        return texts, vectors
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleDamaged(f"{bundle.path} has no readable canaries ({error}): export it again") from error
