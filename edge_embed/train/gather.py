"""Batches that span the processes of a training: every process sees the vectors of all of them.

Each process then computes the same loss of the global batch. The gradients of its own part, summed over the copies of
that loss and averaged by the data-parallel wrapper, are those that one process would get from the global batch.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import accelerate
import torch
from torch import Tensor, distributed

from edge_embed.train.batches import Part

_PATIENCE = timedelta(days=2)  # while one process asks the teacher, the others wait for it


def join_processes() -> None:
    """Meet the other processes that `torchrun` started; without it there are none."""
    if "RANK" in os.environ:
        accelerate.PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)


def is_main_process() -> bool:
    """Whether this process writes and speaks for all."""
    return this_part().rank == 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if this_part().world > 1:
        distributed.barrier()


@contextmanager
def main_process_first() -> Iterator[None]:
    """The main process goes through the block alone, then the others do."""
    if not is_main_process():
        wait_for_all()
    yield
    if is_main_process():
        wait_for_all()


def this_part() -> Part:
    """Which process this is, among those of the training."""
    if not distributed.is_available() or not distributed.is_initialized():
        return Part()
    return Part(distributed.get_rank(), distributed.get_world_size())


def gather(values: Tensor, columns: int, part: Part) -> Tensor:
    """The values of all processes, column by column: (columns * n, ...) to (columns * n * world, ...).

    Gradients flow back to every process.
    """
    if part.world == 1:
        return values
    parts: Tensor = _Gather.apply(values.contiguous(), part)  # type: ignore[no-untyped-call]
    shape = values.shape[1:]
    return parts.view(part.world, columns, -1, *shape).transpose(0, 1).reshape(-1, *shape)


class _Gather(torch.autograd.Function):
    """All processes' values in one tensor (world, ...); back, the sum of their gradients for this process's part."""

    @staticmethod
    def forward(context: Any, values: Tensor, part: Part) -> Tensor:
        context.part = part
        parts = [torch.empty_like(values) for _ in range(part.world)]
        distributed.all_gather(parts, values)
        return torch.stack(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].clone()
        distributed.all_reduce(whole)
        return whole[context.part.rank], None
