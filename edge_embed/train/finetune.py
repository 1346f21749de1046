"""Fine-tune a prepared ladder."""

from pathlib import Path

import torch

from edge_embed.evaluate.sts import ScoredPairs, read_scored_pairs, score_vectors
from edge_embed.model.encoder import Encoder
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed.train.alike import Alike
from edge_embed.train.batches import Collator
from edge_embed.train.hardware import use_bf16
from edge_embed.train.loop import Dev, Job, run_loop
from edge_embed.train.monitor import Monitor
from edge_embed.train.objective import Objective
from edge_embed.train.prepare import Training


def fine_tune(training: Training, *, work: Path | None = None, monitor: Monitor | None = None) -> TieredEncoder:
    """Train the prepared model in place, and return it, mixed with what it was before as far as the recipe says.

    Args:
        work: folder of the states from which a killed training goes on; None: nothing is saved.

    Raises:
        RecipeError: the loss, or a gradient, is no number any more.
    """
    model, share = training.model, training.recipe.keep_start
    before = {name: value.detach().clone() for name, value in model.named_parameters()} if share else {}
    run_loop(job_of(training), work=work, monitor=monitor)
    with torch.no_grad():
        for name, value in before.items():
            model.get_parameter(name).mul_(1 - share).add_(value, alpha=share)
    return model


def job_of(training: Training) -> Job:
    """The loop's job for a training."""
    recipe, model = training.recipe, training.model
    pairs = read_scored_pairs(recipe.dev) if recipe.dev and recipe.dev_every else None
    teacher = training.teacher
    alike = Alike(training.store, teacher, recipe.alike) if teacher and recipe.alike > 1 else None
    return Job(
        objective=Objective(model, recipe, training.basis, bf16=use_bf16(recipe)),
        settings=recipe,
        store=training.store,
        collate=Collator(
            training.store, model.encoder.tokenizer(recipe.max_tokens), training.teacher, seed=recipe.seed
        ),
        dev=_dev(training, pairs) if pairs else None,
        alike=alike,
        rates=layer_rates(model.encoder, recipe.top_rate),
    )


def layer_rates(encoder: Encoder, top: float) -> dict[str, float]:
    """The start of each layer's parameters' names in the objective, to its share of the learning rate."""
    steps = max(1, encoder.layers - 1)
    start = f"model.encoder.backbone.{encoder.family.layers}"
    return {f"{start}.{layer}.": top ** (layer / steps) for layer in range(encoder.layers)}


def score_dev(model: TieredEncoder, pairs: ScoredPairs | None) -> dict[str, float]:
    """Spearman correlation of each tier on scored pairs; nothing without pairs."""
    if pairs is None:
        return {}
    return score_vectors(encode_tiers(model, pairs.first), encode_tiers(model, pairs.second), pairs.scores)


def _dev(training: Training, pairs: ScoredPairs) -> Dev:
    recipe = training.recipe
    return Dev(lambda: score_dev(training.model, pairs), recipe.dev_every, recipe.patience)
