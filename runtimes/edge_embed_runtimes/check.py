"""Check a bundle on this device: every hash, every gate, and known texts against their known vectors."""

from dataclasses import dataclass

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.device.probe import usable_threads
from edge_embed_runtimes.engines import is_installed
from edge_embed_runtimes.manifest import Engine, Manifest, Precision
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.run.canaries import Canaries, least_cosine, read_canaries
from edge_embed_runtimes.tiers import Tier
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
    graphs = [entry for entry in manifest.by_role("graph") if entry.tier and entry.engine and entry.precision]
    for done, entry in enumerate(graphs, start=1):
        if entry.tier and entry.engine and entry.precision:
            tier = manifest.ladder.find(entry.tier)
            findings.append(_check_canaries(bundle, tier, entry.engine, entry.precision, canaries))
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


def _check_canaries(bundle: Bundle, tier: Tier, engine: Engine, precision: Precision, canaries: Canaries) -> Finding:
    what = f"canaries of {tier.name} {engine} {precision}"
    if not is_installed(engine):
        return Finding(what, passed=True, found=f"not run: {engine} isn't installed")
    session = open_graph(bundle, tier, engine, precision, threads=usable_threads())
    try:
        found = canaries.lowest_cosine(session, tier)
    finally:
        session.close()
    least = least_cosine(bundle, tier, engine, precision)
    return Finding(what, passed=found >= least, found=f"smallest cosine {found:.5f}, at least {least:g}")
