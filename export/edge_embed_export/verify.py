"""Hold a bundle's graphs against the torch encoder: parity, invariance, scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.evaluate.sts import ScoredPairs, cross_scores
from edge_embed_export.layout import graph_path, weights_path
from edge_embed_runtimes.engines import Session, open_session
from edge_embed_runtimes.errors import GateMissed
from edge_embed_runtimes.manifest import Engine, Gates, Grade, Precision
from edge_embed_runtimes.tiers import Tier
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, pack

PARITY_TEXTS = 2000
INVARIANCE_TEXTS = 48
Vectors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What every graph is held against.

    Attributes:
        texts: texts for parity; the tokens of each in `ids`.
        expected: tier name to (texts, dim) float vectors of the torch encoder.
        pairs: scored pairs for the task score, or None.
    """

    texts: Sequence[str]
    expected: Vectors
    tokenizer: Tokenizer
    pairs: ScoredPairs | None


def grade_graph(folder: Path, tier: Tier, engine: Engine, precision: Precision, yardstick: Yardstick) -> Grade:
    """Grade one tier's graph in a bundle folder, on two threads.

    Raises:
        EngineError: the engine can't load or run it.
    """
    ids, _ = yardstick.tokenizer.encode(yardstick.texts)
    pad_id = yardstick.tokenizer.pad_id
    session = _open(folder, tier, engine, precision, threads=2)
    try:
        vectors = run(session, pack(ids, pad_id=pad_id), len(ids), tier.dim)
        few = sorted(ids, key=len)[:: max(1, len(ids) // INVARIANCE_TEXTS)]
        alone = run(session, pack(few, pad_id=pad_id, batch_texts=1), len(few), tier.dim)
        together = run(session, pack(few, pad_id=pad_id, batch_tokens=1 << 30), len(few), tier.dim)
        score = None if yardstick.pairs is None else _score(session, tier, yardstick.tokenizer, yardstick.pairs)
    finally:
        session.close()
    single = _open(folder, tier, engine, precision, threads=1)
    try:
        one_thread = run(single, pack(few, pad_id=pad_id), len(few), tier.dim)
    finally:
        single.close()
    cosines = (vectors * yardstick.expected[tier.name]).sum(1)
    return Grade(
        tier=tier.name,
        engine=engine,
        precision=precision,
        texts=len(ids),
        cosine_mean=float(cosines.mean()),
        cosine_min=float(cosines.min()),
        invariance=float(max(np.abs(alone - together).max(), np.abs(alone - one_thread).max())),
        score=score,
    )


def run(session: Session, batches: Iterable[Batch], count: int, dim: int) -> NDArray[np.float32]:
    """The vectors of all batches, (count, dim), each in its row."""
    vectors = np.empty((count, dim), dtype=np.float32)
    for batch in batches:
        vectors[batch.rows] = session.run(batch.input_ids, batch.attention_mask)
    return vectors


def check_gates(grades: Sequence[Grade], gates: Gates) -> None:
    """Compare grades with what they must reach.

    Raises:
        GateMissed: with every gate that was missed, and by how much.
    """
    missed = []
    for grade in grades:
        who = f"{grade.tier} on {grade.engine} {grade.precision}"
        if not grade.cosine_mean >= gates.cosine_mean:  # said so that NaN misses, too
            missed.append(f"  {who}: mean cosine {grade.cosine_mean:.5f}, at least {gates.cosine_mean:g}")
        if not grade.cosine_min >= gates.cosine_min:
            missed.append(f"  {who}: smallest cosine {grade.cosine_min:.5f}, at least {gates.cosine_min:g}")
        if not grade.invariance <= gates.invariance:
            missed.append(f"  {who}: invariance {grade.invariance:.2e}, at most {gates.invariance:g}")
    if missed:
        advice = "nothing was written; calibrate with texts nearer to yours, or lower the gate"
        raise GateMissed("\n".join([f"{len(missed)} gates were missed:", *missed, advice]))


def cross(vectors: Vectors, pairs: ScoredPairs) -> dict[str, dict[str, float]]:
    """Scores of every query tier against every document tier; rows are the first texts, then the second ones."""
    half = len(pairs.first)
    first = {name: rows[:half] for name, rows in vectors.items()}
    second = {name: rows[half:] for name, rows in vectors.items()}
    return cross_scores(first, second, pairs.scores)


def _open(folder: Path, tier: Tier, engine: Engine, precision: Precision, *, threads: int) -> Session:
    graph, weights = folder / graph_path(tier, engine, precision), folder / weights_path(engine, precision)
    return open_session(graph, weights, engine, threads=threads)


def _score(session: Session, tier: Tier, tokenizer: Tokenizer, pairs: ScoredPairs) -> float:
    texts = [*pairs.first, *pairs.second]
    vectors = {tier.name: run(session, tokenizer.batches(texts), len(texts), tier.dim)}
    return cross(vectors, pairs)[tier.name][tier.name]
