"""A short training of an encoder that feels how int8 will round it (quantization-aware training)."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from edge_embed.model.tiered import TieredEncoder
from edge_embed_export.calibrate import ChannelRange
from edge_embed_export.linear import find_linears
from edge_embed_export.quantize import TABLE_ROWS, affine, symmetric
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tokenizer import Batch

STEPS = 200
LEARNING_RATE = 1e-5
BATCH_TOKENS = 1024
"""Padding included; steps of one cost each, whatever the lengths of the texts."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What int8 does to a Linear; each is (inputs,) float32.

    Attributes:
        step, low, high: an input becomes a multiple of its step from low to high.
        factors: the weights that an input is multiplied with are multiplied by this before they are rounded.
    """

    step: Tensor
    low: Tensor
    high: Tensor
    factors: Tensor


def find_roundings(
    plain: ir.Model, ready: ir.Model, before: Mapping[str, ChannelRange], after: Mapping[str, ChannelRange]
) -> dict[str, Rounding]:
    """What int8 will do to each Linear of a ladder's float graph, by its name.

    Args:
        plain: the float graph.
        ready: the same, conditioned.
        before, after: the ranges observed in each.
    """
    conditioned = {linear.name: after[linear.x.name or ""] for linear in find_linears(ready.graph)}
    found = {}
    for linear in find_linears(plain.graph):
        first, last = before[linear.x.name or ""], conditioned[linear.name]
        params = affine(last)
        zero, stacked = int(params.zero_point), len(last.high) > len(first.high)
        # a stack adds channels and scales none; without one, what the ranges differ by is the smoothing
        factors = torch.ones(len(first.high)) if stacked else torch.from_numpy(first.largest / last.largest)
        step = factors * float(params.scale)
        high = (255 - zero) * step
        high = torch.maximum(high, torch.from_numpy(first.high)) if stacked else high
        found[linear.name] = Rounding(step, -zero * step, high, factors)
    return found


def tune(
    model: TieredEncoder,
    roundings: Mapping[str, Rounding],
    batches: Sequence[Batch],
    progress: Progress,
    *,
    steps: int = STEPS,
    seed: int = 0,
) -> TieredEncoder:
    """A copy of a model, trained to give this model's vectors though its Linears are rounded.

    The loss is one minus the cosine to the float vector, averaged over the texts of a batch and the tiers.
    """
    tuned = copy.deepcopy(model).eval()
    with torch.no_grad():
        wanted = [tuned(*_tensors(batch)) for batch in batches]
    _round_words(tuned)
    with _rounded(tuned, roundings):
        trained = [weight for weight in tuned.encoder.backbone.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
        for step, place in enumerate(_order(len(batches), steps, seed)):
            found = tuned(*_tensors(batches[place]))
            loss = torch.stack([1 - (rows * wanted[place][name]).sum(1).mean() for name, rows in found.items()]).mean()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            progress("tune", step + 1, steps)
    return tuned


class _RoundedWeight(nn.Module):
    """A weight (outputs, inputs) as int8 has it: symmetric, with a step for each output."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, weight: Tensor) -> Tensor:
        scaled = weight * self.factors
        step = scaled.detach().abs().amax(1, keepdim=True).clamp_min(1e-9) / 127
        return _round(scaled, step) / self.factors


class _RoundedInput:
    """A hook that rounds what a Linear reads."""

    def __init__(self, rounding: Rounding) -> None:
        self._rounding = rounding

    def __call__(self, linear: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        cut = torch.minimum(torch.maximum(inputs[0], self._rounding.low), self._rounding.high)
        return (_round(cut, self._rounding.step),)


def _round(values: Tensor, step: Tensor) -> Tensor:
    """To multiples of a step; the gradient passes as if nothing were done (Bengio et al. 2013, arXiv 1308.3432)."""
    return values + (torch.round(values.detach() / step) * step - values.detach())


def _round_words(model: TieredEncoder) -> None:
    """Give the table of words the values that it will have in int8, and keep it so."""
    table = model.encoder.backbone.get_input_embeddings().weight.requires_grad_(False)
    if len(table) >= TABLE_ROWS:
        rows, scale = symmetric(table.detach().numpy(), axis=1)
        table.data.copy_(torch.from_numpy(rows * scale))


@contextmanager
def _rounded(model: TieredEncoder, roundings: Mapping[str, Rounding]) -> Iterator[None]:
    """Round every Linear named here; afterwards the weights are floats again, as training left them."""
    linears = {name: model.encoder.backbone.get_submodule(name) for name in roundings}
    hooks = []
    for name, linear in linears.items():
        parametrize.register_parametrization(linear, "weight", _RoundedWeight(roundings[name].factors))
        hooks.append(linear.register_forward_pre_hook(_RoundedInput(roundings[name])))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for linear in linears.values():
            parametrize.remove_parametrizations(linear, "weight", leave_parametrized=False)


def _order(count: int, steps: int, seed: int) -> Iterator[int]:
    """Places of so many batches, each pass in an order of its own."""
    source = torch.Generator().manual_seed(seed)
    passes = -(-steps // count)
    places = torch.cat([torch.randperm(count, generator=source) for _ in range(passes)])
    yield from places[:steps].tolist()


def _tensors(batch: Batch) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
