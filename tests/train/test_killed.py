"""Trainings that are killed and resumed, scored while they run, and stopped early."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from training_runs import Heard, heard_of, same, weights_of

from edge_embed.train.finetune import fine_tune, job_of
from edge_embed.train.loop import Dev, run_loop
from edge_embed.train.prepare import Training
from edge_embed.train.resume import last_state


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
        fine_tune(short(save_every=3, **changes), work=tmp_path, monitor=Heard(die_after=die_after))
    assert last_state(tmp_path) == tmp_path / f"checkpoint-{state}"
    resumed = short(save_every=3, **changes)
    torch.rand(7)
    again = heard_of(resumed, work=tmp_path)
    assert again.losses == {step: losses for step, losses in heard.losses.items() if step > state}
    assert same(weights_of(resumed), weights_of(whole))


def test_a_run_that_was_killed_twice(short, tmp_path):
    whole = short(save_every=2)
    heard = heard_of(whole)
    for die_after in (3, 4):
        with pytest.raises(KeyboardInterrupt):
            fine_tune(short(save_every=2), work=tmp_path, monitor=Heard(die_after=die_after))
    (tmp_path / "checkpoint-4" / "trainer_state.json").unlink()  # killed while it was written
    resumed = short(save_every=2)
    assert heard_of(resumed, work=tmp_path).losses == {step: heard.losses[step] for step in range(3, 9)}
    assert same(weights_of(resumed), weights_of(whole))


def test_a_run_that_was_done_is_not_done_again(short, tmp_path):
    training = short(save_every=4)
    fine_tune(training, work=tmp_path)
    again = short(save_every=4)
    assert heard_of(again, work=tmp_path).steps == []
    assert same(weights_of(again), weights_of(training))


def test_few_states_are_kept(short, tmp_path):
    fine_tune(short(save_every=1), work=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-7", "checkpoint-8"}
    fine_tune(short(save_every=0), work=tmp_path / "none")
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


def scored_run(training: Training, means: Sequence[float], *, patience: int, every: int = 1) -> tuple[Scripted, Heard]:
    scripted, heard = Scripted(training, means), Heard()
    run_loop(replace(job_of(training), dev=Dev(scripted, every, patience)), monitor=heard)
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


def test_the_best_weights_may_be_those_of_a_last_scoring_out_of_turn(short):
    training = short()
    scripted, heard = scored_run(training, [0.3, 0.4, 0.5], patience=2, every=3)
    assert [step for step, _ in heard.scores] == [3, 6, 8]
    assert same(weights_of(training), scripted.seen[2])


def test_without_patience_it_goes_on(short):
    training = short()
    scripted, heard = scored_run(training, [0.9, *[0.1] * 7], patience=0)
    assert len(heard.scores) == len(heard.steps) == 8
    assert same(weights_of(training), scripted.seen[-1])


def test_scores_change_nothing(short, tiny_scored_file):
    plain, scored = short(dropout=0.2), short(dropout=0.2, dev=tiny_scored_file, dev_every=3)
    fine_tune(plain)
    heard = heard_of(scored)
    assert [step for step, _ in heard.scores] == [3, 6, 8]
    for _, scores in heard.scores:
        assert scores.keys() == {"demi", "short", "tall", "mean"}
        assert scores["mean"] == pytest.approx(sum(scores[tier] for tier in ("demi", "short", "tall")) / 3)
    assert same(weights_of(plain), weights_of(scored))


def test_patience_survives_a_kill(short, tmp_path):
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
    assert again.numbers == [5]
    assert same(weights_of(resumed), weights_of(whole))
