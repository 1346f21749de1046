"""What a step of fine-tuning makes smaller: the method's losses, and how far each view is from its teachers."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_embed.model.tiered import TieredEncoder
from edge_embed.train.batches import Batch, Rows
from edge_embed.train.gather import gather, this_part
from edge_embed.train.losses import alignment, neighbours, similarity_kl
from edge_embed.train.methods import View, mrl, srl, two_d_matryoshka
from edge_embed.train.recipe import Recipe
from edge_embed.train.task import task_loss

_LEAST = 1e-3
_TOGETHER = 32
_WORTHWHILE = 0.9


@dataclass(frozen=True, slots=True)
class Taught:
    """What a teacher says of a batch.

    Attributes:
        similarities: (texts, texts) cosines, -inf for a text with itself.
        targets: (texts, width) coordinates along the teacher's directions, leading ones first.
    """

    similarities: Tensor
    targets: Tensor


class Objective(nn.Module):
    """A tiered encoder whose forward pass gives the loss of a batch.

    Args:
        basis: (width, width) leading directions of the teacher's vectors.
        bf16: run the encoder's products in bfloat16.
    """

    def __init__(self, model: TieredEncoder, recipe: Recipe, basis: Tensor, *, bf16: bool) -> None:
        super().__init__()
        self.model = model
        self._recipe = recipe
        self._bf16 = bf16
        self._method = _METHODS[recipe.method]
        self.register_buffer("_basis", basis, persistent=False)

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """The losses: `loss`, which has a gradient, and that of each view by its name.

        Args:
            step: decides what the method draws at random.
        """
        part = this_part()
        columns = batch.rows.columns
        pooled = [gather(state, columns, part) for state in self._pooled(batch)]
        rows = Rows(batch.rows.kind, columns, gather(batch.rows.ids, columns, part), gather(batch.rows.values, 1, part))
        teacher = None if batch.teacher is None else gather(batch.teacher, columns, part)
        return self.losses(pooled, rows, teacher, step)

    def losses(self, pooled: Sequence[Tensor], rows: Rows, teacher: Tensor | None, step: int) -> dict[str, Tensor]:
        """The losses from the pooled states of every layer, each (texts, hidden), and the teacher's (texts, width)."""
        views = self._method(self.model, pooled, rows, self._recipe, step)
        full = next(reversed(views.values())).vectors if self._recipe.method != "2dmse" else views["last"].vectors
        taught = None
        if teacher is not None:
            taught = Taught(neighbours(teacher), teacher @ self.get_buffer("_basis"))
        losses = {name: view.loss + self._distance(view, full, taught) for name, view in views.items()}
        shown = {name: loss.detach() for name, loss in losses.items()}
        return {"loss": _mean(torch.stack(list(losses.values())), balance=self._recipe.balance), **shown}

    def _pooled(self, batch: Batch) -> list[Tensor]:
        """The pooled states of every layer, each (texts, hidden); texts of like length go through it together."""
        encoder, ids, mask = self.model.encoder, batch.input_ids, batch.attention_mask
        lengths, order = mask.sum(1).sort(stable=True)
        parts = [(order[part], longest) for part, longest in _split_by_length(lengths.tolist())]
        words = encoder.word_embeddings(ids)  # once: the gradient of this table is as large as the table
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self._bf16):  # casts each weight once
            found = [encoder(ids[rows, :most], mask[rows, :most], words[rows, :most]) for rows, most in parts]
        pooled = [
            [self.model.pool(layer, state.float(), mask[rows, :most]) for layer, state in enumerate(states)]
            for states, (rows, most) in zip(found, parts, strict=True)
        ]
        back = order.argsort()
        return [torch.cat(layer)[back] for layer in zip(*pooled, strict=True)]

    def _distance(self, view: View, full: Tensor, taught: Taught | None) -> Tensor:
        """How far a view is from the teacher, and from the full tier."""
        weights, loss = self._recipe.weights, view.loss.new_zeros(())
        if taught is not None:
            if weights.distill:
                mine = neighbours(view.vectors)
                loss = loss + weights.distill * similarity_kl(mine, taught.similarities, self._recipe.temperature)
            if weights.directions:
                loss = loss + weights.directions * alignment(view.vectors, taught.targets)
        if weights.align and view.vectors is not full:
            loss = loss + weights.align * alignment(view.vectors, full)
        return loss


def _mean(losses: Tensor, *, balance: bool) -> Tensor:
    """The mean of (views,) losses; balanced, each weighs the inverse of its size, so that all pull alike."""
    if not balance:
        return losses.mean()
    weights = 1 / losses.detach().clamp_min(_LEAST)
    return (weights * losses).sum() / weights.sum()


def _split_by_length(lengths: Sequence[int]) -> list[tuple[slice, int]]:
    """Parts of texts whose lengths ascend, each with its longest; one part where more would save little padding."""
    count, longest = len(lengths), lengths[-1]
    ends = [min(start + _TOGETHER, count) for start in range(0, count, _TOGETHER)]
    parts = [(slice(start, end), lengths[end - 1]) for start, end in zip([0, *ends], ends, strict=False)]
    tokens = sum((part.stop - part.start) * most for part, most in parts)
    return parts if tokens < _WORTHWHILE * count * longest else [(slice(0, count), longest)]


Method = Callable[[TieredEncoder, Sequence[Tensor], Rows, Recipe, int], dict[str, View]]


def _srl(model: TieredEncoder, pooled: Sequence[Tensor], rows: Rows, recipe: Recipe, step: int) -> dict[str, View]:
    def similarities(vectors: Tensor) -> Tensor:
        first = rows.column(0, vectors)
        return neighbours(vectors) if rows.columns == 1 else first @ vectors[len(first) :].T

    return srl(
        {tier.name: model.tier_vector(tier, pooled[tier.layers]) for tier in model.ladder},
        model.ladder.top.name,
        lambda vectors: task_loss(vectors, rows, recipe.temperature),
        similarities,
        task_weight=recipe.weights.task,
        kl_weight=recipe.weights.kl,
        temperature=recipe.temperature,
    )


def _mrl(model: TieredEncoder, pooled: Sequence[Tensor], rows: Rows, recipe: Recipe, step: int) -> dict[str, View]:
    return mrl(
        pooled,
        {tier.name: tier.dim for tier in model.ladder},
        lambda vectors: task_loss(vectors, rows, recipe.temperature),
        task_weight=recipe.weights.task,
    )


def _2dmse(model: TieredEncoder, pooled: Sequence[Tensor], rows: Rows, recipe: Recipe, step: int) -> dict[str, View]:
    draw = random.Random(f"{recipe.seed} {step}")  # equal in every process
    dims = [tier.dim for tier in model.ladder]
    return two_d_matryoshka(
        pooled,
        draw.randrange(1, len(pooled) - 1),
        (draw.choice(dims), draw.choice(dims)),
        lambda vectors: task_loss(vectors, rows, recipe.temperature),
        task_weight=recipe.weights.task,
        kl_weight=recipe.weights.kl,
    )


_METHODS: Mapping[str, Method] = {"srl": _srl, "mrl": _mrl, "2dmse": _2dmse}
