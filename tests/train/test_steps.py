"""The steps of the loop, over objectives of one number: what is accumulated, told and refused."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from training_runs import Heard

from edge_embed.train.batches import Key
from edge_embed.train.loop import Job, plan_of, run_loop
from edge_embed.train.recipe import Recipe
from edge_embed.train.store import RowStore, StoredRow
from edge_embed_runtimes.errors import RecipeError


@dataclass(frozen=True)
class Toys:
    """A batch that is known by its rows alone."""

    input_ids: Tensor
    stored: tuple[int, ...]

    def to(self, device: torch.device) -> "Toys":
        return self


class Toy(nn.Module):
    """One parameter, and a loss that is a function of it, the batch and the step."""

    def __init__(self, loss: Callable[[Tensor, Toys, int], Tensor]) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.ones(1))
        self._loss = loss
        self.seen: list[tuple[int, ...]] = []
        self.gradients: list[float] = []
        self.number.register_hook(lambda gradient: self.gradients.append(gradient.item()))

    def forward(self, batch: Toys, step: int) -> dict[str, Tensor]:
        self.seen.append(batch.stored)
        return {"loss": self._loss(self.number, batch, step).sum()}


def collate(drawn: Sequence[tuple[Key, StoredRow]]) -> Toys:
    rows = tuple(row for (row, _), _ in drawn)
    return Toys(torch.zeros(len(rows), 1), rows)


@pytest.fixture
def toy(recipe, tiny_text_file) -> Callable[..., tuple[Toy, Heard]]:
    """Run an objective of one number over the 64 texts."""

    def train(loss: Callable[[Tensor, Toys, int], Tensor], **changes: object) -> tuple[Toy, Heard]:
        settings: Recipe = recipe(**{"epochs": 2, "batch_size": 16, **changes})
        job = Job(Toy(loss), settings, RowStore(settings.data), collate)
        heard = Heard()
        run_loop(job, monitor=heard)
        assert job.objective.seen == [tuple(row for row, _ in batch) for batch in plan_of(job)]
        return job.objective, heard

    return train


def mean_row(batch: Toys) -> float:
    return sum(batch.stored) / len(batch.stored)


@pytest.mark.parametrize(("accumulation", "steps"), [(1, 8), (2, 4), (3, 3), (8, 1), (20, 1)])
def test_accumulated_batches_count_as_their_mean(toy, accumulation, steps):
    made, heard = toy(lambda number, batch, step: number * mean_row(batch), accumulation=accumulation)
    assert len(heard.steps) == steps
    for step in range(steps):
        part = slice(step * accumulation, (step + 1) * accumulation)
        expected = [sum(rows) / len(rows) for rows in made.seen[part]]
        assert sum(made.gradients[part]) == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_batches_of_one_step_draw_alike(toy):
    steps = []
    toy(lambda number, batch, step: (steps.append(step), number)[1], accumulation=3)
    assert steps == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize(("epochs", "steps"), [(0.0, 0), (0.1, 1), (1.5, 6), (3, 12)])
def test_the_number_of_steps(toy, epochs, steps):
    made, heard = toy(lambda number, batch, step: number, epochs=epochs)
    assert len(made.seen) == len(heard.steps) == steps


def test_every_step_is_told(toy):
    _, heard = toy(lambda number, batch, step: 0 * number + step, warmup=0.25, learning_rate=0.01)
    assert [(report.step, report.steps, report.loss) for report in heard.steps] == [
        (step + 1, 8, float(step)) for step in range(8)
    ]
    rates = [report.learning_rate for report in heard.steps]
    assert rates[:2] == pytest.approx([0.005, 0.01]) and rates[-1] == pytest.approx(0)
    assert sorted(rates[1:], reverse=True) == rates[1:]
    assert all(report.texts_per_s > 0 and report.left_s >= 0 for report in heard.steps)
    assert heard.steps[-1].left_s == 0


def test_a_gradient_is_cut_and_may_not_be_nan(toy):
    with pytest.raises(RecipeError, match=r"the gradient is nan in step 1, with learning_rate 0\.0005"):
        toy(lambda number, batch, step: (number - 1).abs().sqrt())


@pytest.mark.parametrize(("worth", "says"), [(torch.nan, "nan"), (torch.inf, "inf")])
def test_the_step_of_a_loss_that_is_no_number_is_named(toy, worth, says, tiny_text_file):
    with pytest.raises(
        RecipeError, match=rf"the loss is {says} in step 3, with .* these rows: {tiny_text_file}, line "
    ):
        toy(lambda number, batch, step: number * (worth if step == 2 else 1.0))


def test_the_rows_of_a_loss_that_is_no_number_are_named(toy, tiny_text_file):
    with pytest.raises(RecipeError) as caught:
        toy(lambda number, batch, step: number * (torch.nan if 7 in batch.stored else 1.0), batch_size=4)
    assert f"{tiny_text_file}, line 7" in str(caught.value) and "more" not in str(caught.value)
