"""Other tiers than a checkpoint was trained for."""

import warnings

from edge_embed.model.tiered import TieredEncoder
from edge_embed_runtimes.errors import LadderError
from edge_embed_runtimes.tiers import Ladder, Tier


class UntrainedTier(UserWarning):
    """A tier that a checkpoint was not trained for."""


def reshape_ladder(model: TieredEncoder, ladder: Ladder) -> tuple[str, ...]:
    """Give a model another ladder, in place; returns the names of the tiers that it was not trained for.

    A trained size may have another name. With heads, a new size takes the first columns of the head of its
    layer; with `truncate`, any layer will do.

    Raises:
        LadderError: a tier that is larger than the model, or has no head to cut.

    Warns:
        UntrainedTier: a tier that the model was not trained for.
    """
    trained = {tier.layers: tier for tier in model.ladder}
    sources = {tier.name: _source(tier, trained, model) for tier in ladder}
    sizes = {(tier.layers, tier.dim) for tier in model.ladder}
    untrained = tuple(tier.name for tier in ladder if (tier.layers, tier.dim) not in sizes)
    matrices = {
        name: model.head_of(source).weight.detach().T.clone()
        for name, source in sources.items()
        if model.heads and source
    }
    new = TieredEncoder(model.encoder, ladder, model.head)
    for tier in ladder:
        if tier.name in matrices:
            new.set_head(tier, matrices[tier.name][:, : tier.dim])
    model.ladder, model.heads = new.ladder, new.heads  # the layers weigh their tokens as before
    for name in untrained:
        tier = ladder.find(name)
        warnings.warn(
            f"{tier} was not trained: its vectors are cut from others; measure it", UntrainedTier, stacklevel=3
        )
    return untrained


def _source(tier: Tier, trained: dict[int, Tier], model: TieredEncoder) -> Tier | None:
    """The trained tier whose head a tier can be cut from; None where it needs none."""
    found = trained.get(tier.layers)
    wide_enough = found is not None and found.dim >= tier.dim
    if model.heads and not wide_enough:
        have = ", ".join(map(str, trained.values()))
        raise LadderError(
            f"{tier} can't be cut from this checkpoint, which has {have}: a tier needs a head of its layer, at least "
            f"as wide"
        )
    return found if wide_enough else None
