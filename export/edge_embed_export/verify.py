"""Hold a bundle's graphs against the torch encoder: parity, invariance, scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.evaluate.evaluation import Evaluation, Sets, evaluate
from edge_embed_export.layout import graph_path, weights_path
from edge_embed_runtimes.engines import Session, open_session
from edge_embed_runtimes.manifest import Engine, Gates, Grade, Precision
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Tier
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, cutting_quietly, pack

PARITY_TEXTS = 2000
INVARIANCE_TEXTS = 256
Vectors = Mapping[str, NDArray[np.float32]]
Scores = dict[str, dict[str, float]]
"""Set to tier to score."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What every graph is held against.

    Attributes:
        texts: texts for parity.
        expected: tier name to (texts, dim) float vectors of the torch encoder.
        sets: what the task scores are found on; None for none.
    """

    texts: Sequence[str]
    expected: Vectors
    tokenizer: Tokenizer
    sets: Sets | None = None

    def batches(self, places: Sequence[int]) -> list[Batch]:
        """Some of the texts."""
        return list(self.tokenizer.batches([self.texts[place] for place in places]))


class SessionModel:
    """One tier's session as a model that can be scored."""

    one_space = True

    def __init__(self, session: Session, tier: Tier, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tier = tier
        self._tokenizer = tokenizer

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """The tier's name alone."""
        return (self._tier.name,)

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Vectors:
        """See `edge_embed.evaluate.models.TieredModel.encode_tiers`."""
        with cutting_quietly():
            batches = self._tokenizer.batches(texts)
        return {self._tier.name: run(self._session, batches, len(texts), self._tier.dim)}


def grade_graph(
    folder: Path, tier: Tier, engine: Engine, precision: Precision, yardstick: Yardstick
) -> tuple[Grade, NDArray[np.float32]]:
    """Grade one tier's graph in a bundle folder, on two threads; with the cosine to float of each text.

    Raises:
        EngineError: the engine can't load or run it.
    """
    ids, _ = yardstick.tokenizer.encode(yardstick.texts)
    pad_id = yardstick.tokenizer.pad_id
    few = sorted(ids, key=len)[:: max(1, len(ids) // INVARIANCE_TEXTS)]
    graph, weights = folder / graph_path(tier, engine, precision), folder / weights_path(engine, precision)
    session = open_session(graph, weights, engine, threads=2)
    try:
        vectors = run(session, pack(ids, pad_id=pad_id), len(ids), tier.dim)
        alone = run(session, pack(few, pad_id=pad_id, batch_texts=1), len(few), tier.dim)
        together = run(session, pack(few, pad_id=pad_id, batch_tokens=1 << 30), len(few), tier.dim)
        scores = {}
        if yardstick.sets is not None:
            model = SessionModel(session, tier, yardstick.tokenizer)
            found = main_scores(evaluate(model, yardstick.sets, name=tier.name))
            scores = {name: of_tiers[tier.name] for name, of_tiers in found.items()}
    finally:
        session.close()
    single = open_session(graph, weights, engine, threads=1)
    try:
        one_thread = run(single, pack(few, pad_id=pad_id), len(few), tier.dim)
    finally:
        single.close()
    cosines = (vectors * yardstick.expected[tier.name]).sum(1)
    grade = Grade(
        tier=tier.name,
        engine=engine,
        precision=precision,
        texts=len(ids),
        cosine_mean=float(cosines.mean()),
        cosine_p1=float(np.percentile(cosines, 1)),
        cosine_min=float(cosines.min()),
        invariance=float(max(np.abs(alone - together).max(), np.abs(alone - one_thread).max())),
        scores=scores,
    )
    return grade, cosines


def run(session: Session, batches: Iterable[Batch], count: int, dim: int) -> NDArray[np.float32]:
    """The vectors of all batches, (count, dim), each in its row."""
    vectors = np.empty((count, dim), dtype=np.float32)
    for batch in batches:
        vectors[batch.rows] = session.run(batch.input_ids, batch.attention_mask)
    return vectors


def main_scores(evaluation: Evaluation) -> Scores:
    """One score for each set: Spearman correlation, nDCG@10, or accuracy."""
    return {
        **evaluation.sts,
        **{f"{name}, nDCG@10": _each(found, "ndcg_at_10") for name, found in evaluation.retrieval.items()},
        **{f"{name}, accuracy": _each(found, "accuracy") for name, found in evaluation.classification.items()},
    }


def mean_cross(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """Query tier to document tier to the mean score over all sets; empty where tiers were not crossed."""
    matrices = [*evaluation.sts_cross.values(), *evaluation.retrieval_cross.values()]
    if not matrices:
        return {}
    return {
        query: {document: float(np.mean([matrix[query][document] for matrix in matrices])) for document in row}
        for query, row in matrices[0].items()
    }


def missed_gates(grades: Sequence[Grade], reference: Scores, gates: Gates) -> list[str]:
    """Every gate that was missed, with what was found and what is wanted.

    Args:
        grades: of each engine and precision, the smallest tier first.
        reference: scores of the torch encoder.
    """
    missed = []
    for grade in grades:
        who = f"{grade.tier} on {grade.engine} {grade.precision}"
        if not grade.cosine_mean >= gates.cosine_mean:  # said so that NaN misses, too
            missed.append(f"{who}: mean cosine {grade.cosine_mean:.5f}, at least {gates.cosine_mean:g}")
        if not grade.cosine_min >= gates.cosine_min:
            missed.append(f"{who}: smallest cosine {grade.cosine_min:.5f}, at least {gates.cosine_min:g}")
        if not grade.invariance <= gates.invariance:
            missed.append(f"{who}: invariance {grade.invariance:.2e}, at most {gates.invariance:g}")
        for name, score in grade.scores.items():
            before = reference[name][grade.tier]
            if not before - score <= gates.score_drop:
                missed.append(
                    f"{who}: {name} {score:.4f}, at least {before - gates.score_drop:.4f} ({before:.4f} in float)"
                )
    return [*missed, *(_falling(grades, reference) if gates.monotone else [])]


def _falling(grades: Sequence[Grade], reference: Scores) -> list[str]:
    """Where a tier scores below the best of the smaller ones on some set."""
    missed, best = [], dict[tuple[str, str, str], tuple[float, str]]()
    for grade in grades:
        for name, score in grade.scores.items():
            place = (grade.engine, grade.precision, name)
            highest, tier = best.get(place, (score, grade.tier))
            if score < highest:
                who = f"{grade.tier} on {grade.engine} {grade.precision}"
                so = "so in float, too" if reference[name][grade.tier] < reference[name][tier] else "not so in float"
                missed.append(f"{who}: {name} {score:.4f}, below the {highest:.4f} of {tier}, a smaller tier ({so})")
            best[place] = max((highest, tier), (score, grade.tier))
    return missed


def _each(found: Mapping[str, object], name: str) -> dict[str, float]:
    return {tier: float(getattr(scores, name)) for tier, scores in found.items()}
