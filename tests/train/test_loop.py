"""The loop: what a run repeats exactly, what it survives, and what it tells."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_embed.model.tiered import encode_tiers
from edge_embed.train.batches import Key
from edge_embed.train.finetune import job_of, run
from edge_embed.train.loop import Dev, Job, plan_of, run_loop, use_bf16
from edge_embed.train.monitor import StepReport
from edge_embed.train.prepare import Training, prepare
from edge_embed.train.recipe import LossWeights, Recipe
from edge_embed.train.recipe_file import sources
from edge_embed.train.resume import last_state
from edge_embed.train.store import RowStore, StoredRow
from edge_embed_runtimes.errors import RecipeError


class Heard:
    """Keeps what it is told, and dies after a step where asked."""

    def __init__(self, *, die_after: int = 0) -> None:
        self.steps: list[StepReport] = []
        self.scores: list[tuple[int, dict[str, float]]] = []
        self._die_after = die_after

    def step(self, report: StepReport) -> None:
        self.steps.append(report)
        if report.step == self._die_after:
            raise KeyboardInterrupt

    def scored(self, step: int, scores: Mapping[str, float]) -> None:
        self.scores.append((step, dict(scores)))

    @property
    def losses(self) -> dict[int, tuple[float, dict[str, float]]]:
        return {report.step: (report.loss, dict(report.losses)) for report in self.steps}


@pytest.fixture
def short(recipe) -> Callable[..., Training]:
    """A maker of prepared trainings of eight steps."""

    def make(**changes: object) -> Training:
        return prepare(recipe(**{"epochs": 2, "max_tokens": 12, **changes}))

    return make


def weights_of(training: Training) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in training.model.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def heard_of(training: Training, **how: object) -> Heard:
    heard = Heard()
    run(training, monitor=heard, **how)
    return heard


# A whole training


def test_a_run_brings_the_tiers_nearer(short, tiny_texts):
    training = short(epochs=5, max_tokens=64)
    heard = heard_of(training)
    assert not training.model.training
    first, last = (np.mean([report.loss for report in part]) for part in (heard.steps[:4], heard.steps[-4:]))
    assert last < 0.9 * first
    assert all(np.isfinite(vectors).all() for vectors in encode_tiers(training.model, tiny_texts).values())


def test_the_seed_decides_the_weights(short):
    runs = []
    for seed in (1, 1, 2):
        training = short(seed=seed, epochs=0.5, dropout=0.1)
        torch.rand(3)  # what the process drew before plays no part
        run(training)
        runs.append(weights_of(training))
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_every_part_is_trained(short):
    training = short(epochs=0.5)
    before = weights_of(training)
    run(training)
    still = [name for name, tensor in training.model.state_dict().items() if torch.equal(tensor, before[name])]
    assert [name for name in still if "pooler" not in name and "position_ids" not in name] == []


def test_a_learning_rate_of_zero_changes_nothing(short):
    training = short(learning_rate=0.0, epochs=0.5)
    before = weights_of(training)
    run(training)
    assert same(weights_of(training), before)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_dropout_is_that_of_the_recipe(short, dropout):
    training = short(dropout=dropout, epochs=0.25)
    run(training)
    assert {module.p for module in training.model.modules() if isinstance(module, nn.Dropout)} == {dropout}


def test_texts_longer_than_the_recipe_allows_are_cut(short):
    training = short(max_tokens=5, epochs=0.25)
    seen = []
    training.model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    run(training)
    assert seen == [5]


def test_all_kinds_of_rows_in_one_training(short, write, tiny_texts):
    one, two, three = tiny_texts[:17], tiny_texts[17:34], tiny_texts[34:51]
    rows = {
        "texts": [(text,) for text in one],
        "pairs": list(zip(one, two, strict=True)),
        "triplets": list(zip(one, two, three, strict=True)),
        "scored": [(*pair, place) for place, pair in enumerate(zip(one, two, strict=True))],
        "labelled": [(*pair, place % 2) for place, pair in enumerate(zip(one, two, strict=True))],
        "groups": list(zip(one, two, three, strict=True)),
    }
    data = tuple(source for kind, table in rows.items() for source in sources(kind, [write(kind, table)]))
    training = short(data=data, epochs=1)
    heard = heard_of(training)
    assert len(heard.steps) == 12  # each kind has a batch of 16 rows, and one of a single row
    assert all(tensor.isfinite().all() for tensor in training.model.state_dict().values())


def test_batches_that_teach_nothing_do_no_harm(short, write, tiny_texts):
    data = sources("texts", [write("texts", [(text,) for text in tiny_texts[:16]])])
    data += sources("pairs", [write("pairs", [("a cat", "a bird"), ("the river", "the train")])])
    alone = LossWeights(task=1, kl=0, distill=0, directions=0, align=0)
    heard = heard_of(short(data=data, teacher="none", weights=alone, epochs=1))
    losses = sorted(report.loss for report in heard.steps)
    assert len(losses) == 2 and losses[0] == 0 < losses[1]


def test_a_run_says_nothing_of_its_own(short, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    training = short(epochs=0.25)
    capfd.readouterr()
    run(training)
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto"])
def test_precisions(short, precision):
    exact = heard_of(short(epochs=0.5)).steps
    found = heard_of(short(epochs=0.5, precision=precision)).steps
    assert all(one.loss == pytest.approx(other.loss, rel=0.03) for one, other in zip(exact, found, strict=True))
    assert (found[0].loss == exact[0].loss) != use_bf16(short(precision=precision).recipe)


def test_gradient_checkpointing_gives_the_same_losses(short):
    plain, heard = heard_of(short(dropout=0.2)), Heard()
    training, runs = short(gradient_checkpointing=True, dropout=0.2), []
    norm = training.model.encoder.backbone.encoder.layer[0].output.LayerNorm
    norm.register_forward_hook(lambda *_: runs.append(1))
    run(training, monitor=heard)
    assert len(runs) == 2 * len(heard.steps)
    for step, (loss, losses) in plain.losses.items():
        assert heard.losses[step][0] == pytest.approx(loss, rel=1e-4)
        assert heard.losses[step][1] == pytest.approx(losses, rel=1e-4)


# Killed and resumed


@pytest.mark.parametrize(
    ("changes", "die_after", "state"),
    [
        ({}, 5, 3),
        ({}, 7, 6),
        ({"dropout": 0.2}, 4, 3),
        ({"accumulation": 2, "epochs": 5.5, "dropout": 0.2}, 8, 6),
        ({"method": "2dmse", "head": "truncate"}, 5, 3),
    ],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(short, tmp_path, changes, die_after, state):
    whole = short(save_every=3, **changes)
    heard = heard_of(whole)
    with pytest.raises(KeyboardInterrupt):
        run(short(save_every=3, **changes), work=tmp_path, monitor=Heard(die_after=die_after))
    assert last_state(tmp_path) == tmp_path / f"checkpoint-{state}"
    resumed = short(save_every=3, **changes)
    torch.rand(7)
    again = heard_of(resumed, work=tmp_path)
    assert again.losses == {step: losses for step, losses in heard.losses.items() if step > state}
    assert same(weights_of(resumed), weights_of(whole))


def test_a_run_that_was_killed_twice(short, tmp_path):
    whole = short(save_every=2)
    heard = heard_of(whole)
    for die_after in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            run(short(save_every=2), work=tmp_path, monitor=Heard(die_after=die_after))
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()  # killed while it was written
    resumed = short(save_every=2)
    assert heard_of(resumed, work=tmp_path).losses == {s: l for s, l in heard.losses.items() if s > 2}
    assert same(weights_of(resumed), weights_of(whole))


def test_a_run_that_was_done_is_not_done_again(short, tmp_path):
    training = short(save_every=4)
    run(training, work=tmp_path)
    again = short(save_every=4)
    assert heard_of(again, work=tmp_path).steps == []
    assert same(weights_of(again), weights_of(training))


def test_few_states_are_kept(short, tmp_path):
    run(short(save_every=1), work=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-7", "checkpoint-8"}
    run(short(save_every=0), work=tmp_path / "none")
    assert last_state(tmp_path / "none") is None


# Scores while training


class Scripted:
    """Gives scores from a list, and remembers the weights that it saw."""

    def __init__(self, training: Training, means: Sequence[float]) -> None:
        self._training = training
        self._means = iter(means)
        self.seen: list[dict[str, Tensor]] = []

    def __call__(self) -> dict[str, float]:
        self.seen.append(weights_of(self._training))
        mean = next(self._means)
        return {"demi": mean - 0.1, "tall": mean + 0.1}


def scored_run(training: Training, means: Sequence[float], *, patience: int) -> tuple[Scripted, Heard]:
    scripted, heard = Scripted(training, means), Heard()
    run_loop(replace(job_of(training), dev=Dev(scripted, 1, patience)), monitor=heard)
    return scripted, heard


def test_it_stops_early_and_keeps_the_best_weights(short):
    training = short()
    scripted, heard = scored_run(training, [0.3, 0.5, 0.4, 0.45, 0.9], patience=2)
    assert [step for step, _ in heard.scores] == [1, 2, 3, 4]
    assert heard.scores[1][1] == pytest.approx({"demi": 0.4, "tall": 0.6, "mean": 0.5})
    assert same(weights_of(training), scripted.seen[1]) and not same(scripted.seen[1], scripted.seen[3])


def test_the_best_weights_may_be_the_last(short):
    training = short()
    scripted, heard = scored_run(training, [0.3, 0.2, 0.4, 0.35, 0.5, 0.45, 0.55, 0.6], patience=2)
    assert len(heard.scores) == len(heard.steps) == 8
    assert same(weights_of(training), scripted.seen[-1])


def test_without_patience_it_goes_on(short):
    training = short()
    scripted, heard = scored_run(training, [0.9, *[0.1] * 7], patience=0)
    assert len(heard.scores) == len(heard.steps) == 8
    assert same(weights_of(training), scripted.seen[-1])


def test_scores_change_nothing(short, tiny_scored_file):
    plain, scored = short(dropout=0.2), short(dropout=0.2, dev=tiny_scored_file, dev_every=3)
    run(plain)
    heard = heard_of(scored)
    assert [step for step, _ in heard.scores] == [3, 6]
    for _, scores in heard.scores:
        assert scores.keys() == {"demi", "short", "tall", "mean"}
        assert scores["mean"] == pytest.approx(sum(scores[tier] for tier in ("demi", "short", "tall")) / 3)
    assert same(weights_of(plain), weights_of(scored))


def test_patience_survives_a_kill(short, tmp_path, tiny_scored_file):
    means = [0.3, 0.5, 0.4, 0.45, 0.44, 0.43, 0.9, 0.9]

    def run_from(place: int, die_after: int) -> tuple[Training, Heard]:
        training, heard = short(), Heard(die_after=die_after)
        job = replace(job_of(training), dev=Dev(Scripted(training, means[place:]), 1, 3))
        run_loop(job, work=tmp_path / f"{die_after > 0 or place > 0}", monitor=heard)
        return training, heard

    whole, heard = run_from(0, 0)
    assert len(heard.steps) == 5
    with pytest.raises(KeyboardInterrupt):
        run_from(0, 5)
    resumed, again = run_from(4, 0)
    assert [report.step for report in again.steps] == [5]
    assert same(weights_of(resumed), weights_of(whole))


# What is no number


def spoil(training: Training) -> Training:
    with torch.no_grad():
        training.model.encoder.backbone.embeddings.word_embeddings.weight.fill_(torch.inf)
    return training


def test_a_loss_that_is_no_number(short, tiny_text_file):
    message = (
        rf"the loss is nan in step 1, with learning_rate 1: choose a smaller one, .* these rows: {tiny_text_file}, li"
    )
    with pytest.raises(RecipeError, match=message) as caught:
        run(spoil(short(learning_rate=1)))
    places = str(caught.value).partition("these rows: ")[2]
    assert places.count(f"{tiny_text_file}, line ") == 5 and places.endswith(" and 11 more")


# Objectives of one number


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


def test_the_work_folder_is_the_only_place_that_is_written(short, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    run(short(save_every=2), work=tmp_path / "work")
    assert list(Path().iterdir()) == [] and (tmp_path / "work").is_dir()
