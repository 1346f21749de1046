"""Everything that is known of one model, in one object: as JSON for machines, as tables for people."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from edge_embed.evaluate.models import TieredModel
from edge_embed.evaluate.retrieval import RetrievalScores, RetrievalSet, score_retrieval
from edge_embed.evaluate.sts import ScoredPairs, cross_scores, encode_pairs, score_vectors
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import Progress, silent

_MEASURES = {"nDCG@10": "ndcg_at_10", "MRR@10": "mrr_at_10", "Recall@100": "recall_at_100"}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one model; tiers stand smallest first.

    Attributes:
        model: what the user called it.
        sts: set name to tier to Spearman correlation, -1 to 1.
        retrieval: set name to tier to scores.
        cross: set name to query tier to document tier to Spearman correlation; empty where it was not asked for.
    """

    model: str
    sts: dict[str, dict[str, float]]
    retrieval: dict[str, dict[str, RetrievalScores]]
    cross: dict[str, dict[str, dict[str, float]]]

    def to_json(self) -> str:
        """As text, in full precision."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    def to_markdown(self) -> str:
        """A table of tiers by sets, and for each cross-tier set a table of query tiers by document tiers."""
        columns: dict[str, Mapping[str, float]] = {f"{name} Spearman": tiers for name, tiers in self.sts.items()}
        for name, graded in self.retrieval.items():
            for measure, attribute in _MEASURES.items():
                columns[f"{name} {measure}"] = {tier: getattr(scores, attribute) for tier, scores in graded.items()}
        blocks = [f"# {self.model}", _table("tier", columns)]
        for name, matrix in self.cross.items():
            documents = next(iter(matrix.values()))
            by_document = {tier: {query: row[tier] for query, row in matrix.items()} for tier in documents}
            blocks += [
                f"## {name}: query tier (rows) against document tier (columns), Spearman",
                _table("query \\ document", by_document),
            ]
        return "\n\n".join(blocks) + "\n"


def evaluate(
    model: TieredModel,
    *,
    name: str,
    sts: Sequence[ScoredPairs] = (),
    retrieval: Sequence[RetrievalSet] = (),
    cross: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Score every tier of a model on every set.

    Args:
        name: what to call the model.
        cross: also score each query tier against each document tier, on the pairs of `sts`; costs no more encoding.
        progress: told of each set's encoding and search, with the set's name before the stage.

    Raises:
        DataError: no set, two sets of one name, or `cross` without pairs.
    """
    _check_sets([pairs.name for pairs in sts], [data.name for data in retrieval], cross=cross)
    scores: dict[str, dict[str, float]] = {}
    matrices: dict[str, dict[str, dict[str, float]]] = {}
    for pairs in sts:
        first, second = encode_pairs(model, pairs, _labelled(progress, pairs.name))
        scores[pairs.name] = score_vectors(first, second, pairs.scores)
        if cross:
            matrices[pairs.name] = cross_scores(first, second, pairs.scores)
    graded = {data.name: score_retrieval(model, data, _labelled(progress, data.name)) for data in retrieval}
    return Evaluation(model=name, sts=scores, retrieval=graded, cross=matrices)


def _check_sets(sts: Sequence[str], retrieval: Sequence[str], *, cross: bool) -> None:
    if not sts and not retrieval:
        raise DataError("nothing to score on: name at least one file of scored pairs or one retrieval folder")
    if cross and not sts:
        raise DataError("tiers are scored across on scored pairs, and there are none: name a file of them, or no cross")
    for names in (sts, retrieval):
        for name, count in Counter(names).items():
            if count > 1:
                raise DataError(f"{count} sets are called {name!r}: rename files or folders so that each has its own")


def _labelled(progress: Progress, name: str) -> Progress:
    def report(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    return report


def _table(corner: str, columns: Mapping[str, Mapping[str, float]]) -> str:
    """A Markdown table of columns that all have the same rows."""
    rows = list(next(iter(columns.values())))
    lines = [[corner, *columns], ["---", *("---:" for _ in columns)]]
    lines += [[row, *(f"{column[row]:.4f}" for column in columns.values())] for row in rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
