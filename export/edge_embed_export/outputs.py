"""What the types keep that vectors can be stored in."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from edge_embed.evaluate.evaluation import Sets, evaluate
from edge_embed.evaluate.models import TieredModel, Vectors
from edge_embed_export.verify import Scores, main_scores
from edge_embed_runtimes.index.outputs import DTYPES, Dtype, convert, restore
from edge_embed_runtimes.manifest import OutputGrade
from edge_embed_runtimes.progress import Progress, silent

Ranges = Mapping[str, NDArray[np.float32]]


class Remembered:
    """A model that encodes the same texts once."""

    def __init__(self, model: TieredModel) -> None:
        self._model = model
        self._known: dict[tuple[str, ...], Vectors] = {}

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """See `TieredModel.ladder_names`."""
        return self._model.ladder_names

    @property
    def one_space(self) -> bool:
        """See `TieredModel.one_space`."""
        return self._model.one_space

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Vectors:
        """See `TieredModel.encode_tiers`."""
        key = tuple(texts)
        if key not in self._known:
            self._known[key] = self._model.encode_tiers(texts, progress)
        return self._known[key]


class Stored:
    """A model whose vectors were stored in a type and read again."""

    one_space = True

    def __init__(self, model: TieredModel, dtype: Dtype, ranges: Ranges) -> None:
        self._model = model
        self._dtype = dtype
        self._ranges = ranges

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """See `TieredModel.ladder_names`."""
        return self._model.ladder_names

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Vectors:
        """See `TieredModel.encode_tiers`."""
        found = self._model.encode_tiers(texts, progress)
        return {tier: self.store(tier, rows) for tier, rows in found.items()}

    def store(self, tier: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is read again of vectors of a tier."""
        ranges = self._ranges[tier]
        return restore(convert(rows, self._dtype, ranges), self._dtype, rows.shape[1], ranges)


def grade_outputs(
    model: TieredModel, vectors: Vectors, ranges: Ranges, reference: Scores, sets: Sets | None
) -> tuple[OutputGrade, ...]:
    """Grade each tier in each type but float32.

    Args:
        model: scored on the sets.
        vectors: of any texts, for the cosines.
        reference: its scores in float32.
    """
    found = list[OutputGrade]()
    for dtype in DTYPES[1:]:
        stored = Stored(model, dtype, ranges)
        scores = {} if sets is None else main_scores(evaluate(stored, sets, name=dtype))
        for tier, rows in vectors.items():
            found.append(
                OutputGrade(
                    tier=tier,
                    dtype=dtype,
                    cosine_mean=float((stored.store(tier, rows) * rows).sum(1).mean()),
                    score=_mean(scores, tier),
                    float_score=_mean(reference, tier),
                )
            )
    return tuple(found)


def _mean(scores: Scores, tier: str) -> float | None:
    return fmean(of_tiers[tier] for of_tiers in scores.values()) if scores else None
