"""Score a model that is being trained."""

from edge_embed.evaluate.sts import ScoredPairs, score_vectors
from edge_embed.model.tiered import TieredEncoder, encode_tiers


def score_dev(model: TieredEncoder, pairs: ScoredPairs | None) -> dict[str, float]:
    """Spearman correlation of each tier on scored pairs; nothing without pairs."""
    if pairs is None:
        return {}
    return score_vectors(encode_tiers(model, pairs.first), encode_tiers(model, pairs.second), pairs.scores)
