"""Semantic textual similarity: how well cosines rank pairs of texts, within a tier and across tiers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from edge_embed.data.sources import Source, read_rows
from edge_embed.evaluate.models import TieredModel, Vectors, encode_once
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import Progress, silent

_COLUMNS = ("sentence1", "sentence2", "score")

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class ScoredPairs:
    """Pairs of texts, and how alike people found them; on whatever scale, since only the order counts.

    Raises:
        DataError: columns of different length, fewer than two pairs, a score that is no finite number, or no two
            different scores.
    """

    name: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(self.first, self.second, self.scores, where=self.name)


def read_scored_pairs(path: Path) -> ScoredPairs:
    """Read the columns sentence1, sentence2 and score of a file, such as a TSV; see `read_records` for the others.

    Further columns are ignored; the set is named after the file.

    Raises:
        DataError: a file that can't be read, a wrong row, fewer than two pairs, or no two different scores.
    """
    rows = list(read_rows(Source(str(path), "scored", columns=_COLUMNS)))
    first, second = zip(*(row.texts for row in rows), strict=True)
    scores = tuple(row.value for row in rows if row.value is not None)  # every scored row has one
    _check(first, second, scores, where=str(path))
    name = Path(path.name.removesuffix(".gz")).stem
    return ScoredPairs(name, first, second, scores)


def compare_tiers(first: Floats, second: Floats) -> NDArray[np.float64]:
    """Cosine of each row of `first` (n, dim) to the same row of `second` (n, other dim): (n,) float64.

    Vectors of two tiers are compared over the first min(dim) values, renormalised; a row of zeros gives 0.

    Raises:
        DataError: the arrays don't have the same number of rows.
    """
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise DataError(f"arrays of shapes {first.shape} and {second.shape} can't be compared: expected (n, dim) twice")
    dim = min(first.shape[1], second.shape[1])
    one, other = first[:, :dim].astype(np.float64), second[:, :dim].astype(np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines: NDArray[np.float64] = (one * other).sum(axis=1) / np.where(norms == 0, 1, norms)
    return cosines


def spearman(first: Floats, second: Floats, scores: Sequence[float]) -> float:
    """Spearman correlation, -1 to 1, of the cosines of rows (n, dim) with `scores` (n).

    A model to which all pairs are equally alike gets 0: it ranks nothing.

    Raises:
        DataError: not as many rows as scores, or a cosine that is no number.
    """
    cosines = compare_tiers(first, second)
    if len(cosines) != len(scores):
        raise DataError(f"{len(cosines)} pairs of vectors for {len(scores)} scores: expected one a score")
    if not np.isfinite(cosines).all():
        row = int(np.flatnonzero(~np.isfinite(cosines))[0])
        raise DataError(f"pair {row} has the cosine {cosines[row]}: expected vectors of finite numbers")
    if len(set(scores)) < 2 or np.ptp(cosines) == 0:
        return 0.0
    return float(stats.spearmanr(cosines, scores).statistic)


def score_vectors(vectors_first: Vectors, vectors_second: Vectors, scores: Sequence[float]) -> dict[str, float]:
    """Spearman correlation of each tier with itself, by tier name.

    Raises:
        DataError: see `spearman`.
    """
    return {tier: spearman(first, vectors_second[tier], scores) for tier, first in vectors_first.items()}


def cross_scores(
    vectors_first: Vectors, vectors_second: Vectors, scores: Sequence[float]
) -> dict[str, dict[str, float]]:
    """Spearman correlation of each query tier (outer key) with each document tier (inner key).

    The first texts take the queries' part. The diagonal is what `score_vectors` gives.

    Raises:
        DataError: see `spearman`.
    """
    return {
        query: {document: spearman(first, second, scores) for document, second in vectors_second.items()}
        for query, first in vectors_first.items()
    }


def encode_pairs(
    model: TieredModel, pairs: ScoredPairs, progress: Progress = silent
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """The vectors of the first and of the second texts, by tier, smallest first; one pass for both."""
    vectors = encode_once(model, (*pairs.first, *pairs.second), progress)
    half = len(pairs.first)
    return (
        {tier: rows[:half] for tier, rows in vectors.items()},
        {tier: rows[half:] for tier, rows in vectors.items()},
    )


def score_tiers(model: TieredModel, pairs: ScoredPairs, progress: Progress = silent) -> dict[str, float]:
    """Spearman correlation of each tier, by tier name, smallest first."""
    first, second = encode_pairs(model, pairs, progress)
    return score_vectors(first, second, pairs.scores)


def _check(first: Sequence[str], second: Sequence[str], scores: Sequence[float], *, where: str) -> None:
    if not len(first) == len(second) == len(scores):
        raise DataError(
            f"{where} has {len(first)} first texts, {len(second)} second ones and {len(scores)} scores: "
            f"expected as many of each"
        )
    if len(scores) < 2:
        raise DataError(f"{where}: {len(scores)} scored pairs are too few for a correlation, expected at least 2")
    if not all(map(math.isfinite, scores)):
        raise DataError(f"{where}: a score is no finite number, expected numbers such as 3.5")
    if len(set(scores)) < 2:
        raise DataError(f"{where}: every score is {scores[0]}, expected at least two different ones")
