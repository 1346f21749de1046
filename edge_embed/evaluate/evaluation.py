"""Score one model on every set, and keep all that was found in one object."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean

from edge_embed.evaluate.classification import ClassificationScores, ClassificationSet, score_classification
from edge_embed.evaluate.models import TieredModel
from edge_embed.evaluate.retrieval import RetrievalScores, RetrievalSet, cross_found, encode_retrieval, score_found
from edge_embed.evaluate.sts import ScoredPairs, cross_scores, encode_pairs, score_vectors
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import Progress, silent

Matrix = dict[str, dict[str, float]]
"""Query tier to document tier to score."""


@dataclass(frozen=True, slots=True)
class Sets:
    """What to score on.

    Raises:
        DataError: no set at all, or two of one kind with the same name.
    """

    sts: tuple[ScoredPairs, ...] = ()
    retrieval: tuple[RetrievalSet, ...] = ()
    classification: tuple[ClassificationSet, ...] = ()

    def __post_init__(self) -> None:
        kinds = [[data.name for data in sets] for sets in (self.sts, self.retrieval, self.classification)]
        if not any(kinds):
            raise DataError(
                "nothing to score on: name at least one file of scored pairs, or one folder for retrieval or "
                "classification"
            )
        for name, count in (item for names in kinds for item in Counter(names).items()):
            if count > 1:
                raise DataError(f"{count} sets are called {name!r}: rename files or folders so that each has its own")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one model.

    Attributes:
        model: what the user called it.
        tiers: smallest first.
        sts: set name to tier to Spearman correlation, -1 to 1.
        retrieval, classification: set name to tier to scores.
        sts_cross: set name to the Spearman correlation of each query tier with each document tier; empty where it was
            not asked for.
        retrieval_cross: likewise, nDCG@10.
    """

    model: str
    tiers: tuple[str, ...]
    sts: dict[str, dict[str, float]]
    retrieval: dict[str, dict[str, RetrievalScores]]
    classification: dict[str, dict[str, ClassificationScores]]
    sts_cross: dict[str, Matrix]
    retrieval_cross: dict[str, Matrix]

    @property
    def sts_mean(self) -> dict[str, float]:
        """Tier to the mean of its Spearman correlations over the sets; empty where these are not two or more."""
        if len(self.sts) < 2:
            return {}
        return {tier: fmean(scores[tier] for scores in self.sts.values()) for tier in self.tiers}


def evaluate(
    model: TieredModel, sets: Sets, *, name: str, cross: bool = False, progress: Progress = silent
) -> Evaluation:
    """Score every tier of a model on every set; each set is encoded once.

    Args:
        name: what to call the model.
        cross: also score each query tier against each document tier, on the pairs and in retrieval; costs no more
            encoding.
        progress: told of each set's encoding and search, with the set's name before the stage.

    Raises:
        DataError: see `check_cross`; also a model whose vectors are no finite numbers.
        TextError: a set with an item that is no valid string.
    """
    if cross:
        check_cross(model, sets, name=name)
    scores: dict[str, dict[str, float]] = {}
    graded: dict[str, dict[str, RetrievalScores]] = {}
    sts_cross, retrieval_cross = {}, {}
    for pairs in sets.sts:
        first, second = encode_pairs(model, pairs, _labelled(progress, pairs.name))
        scores[pairs.name] = score_vectors(first, second, pairs.scores)
        if cross:
            sts_cross[pairs.name] = cross_scores(first, second, pairs.scores)
    for data in sets.retrieval:
        told = _labelled(progress, data.name)
        documents, queries = encode_retrieval(model, data, told)
        graded[data.name] = score_found(documents, queries, data, told)
        if cross:
            retrieval_cross[data.name] = cross_found(documents, queries, data, told)
    labelled = {
        data.name: score_classification(model, data, _labelled(progress, data.name)) for data in sets.classification
    }
    return Evaluation(name, tuple(model.ladder_names), scores, graded, labelled, sts_cross, retrieval_cross)


def check_cross(model: TieredModel, sets: Sets, *, name: str) -> None:
    """Check that a model's tiers can be scored across.

    Raises:
        DataError: only sets for classification, where nothing is compared, or a model whose tiers share no space.
    """
    if not sets.sts and not sets.retrieval:
        raise DataError(
            "tiers are scored across on pairs or in retrieval: name a set of these, or leave cross-tier out"
        )
    if not model.one_space:
        raise DataError(
            f"{name} holds a model for each tier, trained apart: their vectors share no space, so no tier can be "
            f"scored across with another; leave cross-tier out, or score {name} by itself"
        )


def to_json(evaluations: Sequence[Evaluation]) -> str:
    """All scores of some models as text, in full precision."""
    models = [{**asdict(evaluation), "sts_mean": evaluation.sts_mean} for evaluation in evaluations]
    return json.dumps({"models": models}, indent=1, ensure_ascii=False) + "\n"


def _labelled(progress: Progress, name: str) -> Progress:
    def report(stage: str, done: int, total: int) -> None:
        progress(f"{name}: {stage}", done, total)

    return report
