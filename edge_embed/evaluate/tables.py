"""The scores of one model or of several, as tables: as plain data, and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_embed.evaluate.evaluation import Evaluation
from edge_embed.evaluate.models import FULL
from edge_embed_runtimes.errors import DataError

MAIN_MEASURES = ("Spearman", "nDCG@10", "accuracy")
"""Of each kind of set, the one measure by which models are compared first."""
_RETRIEVAL = {"nDCG@10": "ndcg_at_10", "MRR@10": "mrr_at_10", "Recall@100": "recall_at_100"}
_CLASSIFICATION = {"accuracy": "accuracy", "macro F1": "macro_f1"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure on one set: model to tier to score."""

    of: str
    measure: str
    scores: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """A table of scores.

    Attributes:
        corner: what the rows are.
        rows: a name, and a score for each column; None where there is none.
        ranked: whether the rows compete, so that the best of each column is marked.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    ranked: bool = False

    def cell(self, row: int, column: int) -> str:
        """A score with four decimals; empty where there is none."""
        score = self.rows[row][1][column]
        return "" if score is None else f"{score:.4f}"

    def is_best(self, row: int, column: int) -> bool:
        """Whether a score is the highest of two or more in its column, or looks like it."""
        others = [scores[column] for _, scores in self.rows]
        known = [score for score in others if score is not None]
        return self.ranked and len(known) > 1 and self.cell(row, column) == f"{max(known):.4f}"


def score_tables(evaluations: Sequence[Evaluation]) -> list[ScoreTable]:
    """One model: a table of measures by tiers. Several: a table of models by tiers for each measure on each set.

    Tables of query tiers by document tiers stand last, for models of at least two tiers.

    Raises:
        DataError: no evaluation, or two of models with the same name.
    """
    found, tiers = measured(evaluations), tier_names(evaluations)
    if len(evaluations) > 1:
        tables = [_table(f"{one.of}: {one.measure}", "model", tiers, one.scores, ranked=True) for one in found]
    else:
        rows = {f"{one.of} {one.measure}": next(iter(one.scores.values())) for one in found}
        tables = [_table(evaluations[0].model, "set", tiers, rows)]
    for evaluation in evaluations:
        whose = f"{evaluation.model}, " if len(evaluations) > 1 else ""
        tables += [_across(f"{whose}{of}", measure, matrix) for of, measure, matrix in _matrices(evaluation)]
    return tables


def measured(evaluations: Sequence[Evaluation]) -> list[Measured]:
    """Everything that was measured, set by set; the mean over the STS sets, where these are several, behind them.

    Raises:
        DataError: see `score_tables`.
    """
    names = [evaluation.model for evaluation in evaluations]
    if not names or len(set(names)) < len(names):
        raise DataError(f"the models are called {names}: expected at least one, and for each a name of its own")
    scores: dict[tuple[str, str], dict[str, Mapping[str, float]]] = {}
    for evaluation in evaluations:
        for of, measure, tiers in _measures(evaluation):
            scores.setdefault((of, measure), {})[evaluation.model] = tiers
    return [Measured(of, measure, models) for (of, measure), models in scores.items()]


def tier_names(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """The tiers of all models, smallest first as each has them; that of models without a ladder last."""
    merged: list[str] = []
    for evaluation in evaluations:
        place = 0
        for tier in evaluation.tiers:
            if tier not in merged:
                merged.insert(place, tier)
            place = merged.index(tier) + 1
    return tuple(sorted(merged, key=lambda tier: tier == FULL))


def to_markdown(tables: Sequence[ScoreTable]) -> str:
    """Tables below each other, each with its title as a heading; the best of a column in bold."""
    return "\n\n".join(f"## {table.title}\n\n{_markdown(table)}" for table in tables) + "\n"


def _measures(evaluation: Evaluation) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Set, measure, and tier to score."""
    for of, tiers in evaluation.sts.items():
        yield of, "Spearman", tiers
    if evaluation.sts_mean:
        yield f"STS mean of {len(evaluation.sts)}", "Spearman", evaluation.sts_mean
    for of, found in evaluation.retrieval.items():
        for measure, field in _RETRIEVAL.items():
            yield of, measure, {tier: getattr(scores, field) for tier, scores in found.items()}
    for of, told in evaluation.classification.items():
        for measure, field in _CLASSIFICATION.items():
            yield of, measure, {tier: getattr(scores, field) for tier, scores in told.items()}


def _matrices(evaluation: Evaluation) -> Iterator[tuple[str, str, Mapping[str, Mapping[str, float]]]]:
    """Set, measure, and query tier to document tier to score, of a model that has two tiers or more."""
    if len(evaluation.tiers) > 1:
        for of, matrix in evaluation.sts_cross.items():
            yield of, "Spearman", matrix
        for of, matrix in evaluation.retrieval_cross.items():
            yield of, "nDCG@10", matrix


def _across(of: str, measure: str, matrix: Mapping[str, Mapping[str, float]]) -> ScoreTable:
    title = f"{of}: query tier (rows) against document tier (columns), {measure}"
    return _table(title, "query \\ document", tuple(matrix), matrix)


def _table(
    title: str,
    corner: str,
    columns: tuple[str, ...],
    rows: Mapping[str, Mapping[str, float]],
    *,
    ranked: bool = False,
) -> ScoreTable:
    cells = tuple((name, tuple(scores.get(column) for column in columns)) for name, scores in rows.items())
    return ScoreTable(title, corner, columns, cells, ranked)


def _markdown(table: ScoreTable) -> str:
    lines = [[table.corner, *table.columns], ["---", *("---:" for _ in table.columns)]]
    for row, (name, _) in enumerate(table.rows):
        cells = [table.cell(row, column) for column in range(len(table.columns))]
        marked = [f"**{cell}**" if table.is_best(row, column) else cell for column, cell in enumerate(cells)]
        lines.append([name, *marked])
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
