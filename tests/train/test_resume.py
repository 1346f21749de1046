"""States on disk: which one a training goes on from, and whose they are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edge_embed.data.sources import Source
from edge_embed.train.recipe import LossWeights, Recipe
from edge_embed.train.resume import last_state, work_folder, working
from edge_embed_runtimes.errors import OutputError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder

RECIPE = Recipe(base="some", data=(Source("a.tsv", "pairs"),))


def save_state(folder: Path, step: int, content: str = "{}") -> Path:
    """What the loop leaves after a step."""
    state = folder / f"checkpoint-{step}"
    state.mkdir(parents=True)
    (state / "model.safetensors").touch()
    (state / "trainer_state.json").write_text(content)
    return state


@contextmanager
def broken_off(folder: Path, recipe: Recipe = RECIPE, **how: bool) -> Iterator[None]:
    """Work that ends with an error after the block."""
    with pytest.raises(ZeroDivisionError), working(folder, recipe, **{"resume": False, "replace": False, **how}):
        yield
        raise ZeroDivisionError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The states of a training that was broken off after step 5."""
    work = work_folder(tmp_path / "model")
    with broken_off(work):
        save_state(work, 5)
    return work


# States


def test_the_newest_state_is_the_last_by_number(tmp_path):
    assert last_state(tmp_path) is None and last_state(tmp_path / "none") is None
    for step in (10, 9, 100, 20):
        save_state(tmp_path, step)
    assert last_state(tmp_path) == tmp_path / "checkpoint-100"


@pytest.mark.parametrize("content", ["", '{"global_step": 2', None])
def test_a_half_written_state_is_left_alone(tmp_path, content):
    whole = save_state(tmp_path, 10)
    half = save_state(tmp_path, 20, content or "")
    if content is None:
        (half / "trainer_state.json").unlink()
    assert last_state(tmp_path) == whole


# The folder


def test_states_stand_beside_the_output(tmp_path):
    assert work_folder(tmp_path / "model.v2") == tmp_path / "model.v2.work"


def test_work_that_is_done_leaves_nothing(tmp_path):
    work = tmp_path / "deep" / "work"
    with working(work, RECIPE, resume=False, replace=False):
        assert json.loads((work / "recipe.json").read_text()) == RECIPE.describe()
        save_state(work, 5)
    assert not work.exists()


def test_work_that_fails_before_the_first_state_leaves_nothing(tmp_path):
    with broken_off(tmp_path / "work"):
        pass
    assert not (tmp_path / "work").exists()


def test_work_that_fails_later_keeps_its_states(folder):
    assert last_state(folder) == folder / "checkpoint-5"
    with broken_off(folder, resume=True):
        assert last_state(folder) == folder / "checkpoint-5"
        save_state(folder, 10)
    assert last_state(folder) == folder / "checkpoint-10"


def test_work_that_was_killed_before_the_first_state(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "recipe.json").write_text(json.dumps(RECIPE.describe()))
    for how in ({"resume": True}, {"resume": False}):
        with broken_off(work, **how):
            save_state(work, 1)
        (work / "checkpoint-1" / "trainer_state.json").unlink()
        (work / "checkpoint-1" / "model.safetensors").unlink()
        (work / "checkpoint-1").rmdir()


def test_states_that_nobody_asked_for(folder):
    with (
        pytest.raises(OutputError, match=r"model\.work holds a training that was broken off: go on with --resume, or"),
        working(folder, RECIPE, resume=False, replace=False),
    ):
        pass
    assert last_state(folder)


def test_force_begins_anew(folder):
    other = replace(RECIPE, seed=1)
    with broken_off(folder, other, replace=True):
        assert last_state(folder) is None
        save_state(folder, 1)
    assert json.loads((folder / "recipe.json").read_text()) == other.describe()


def test_nothing_to_resume(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("none", "empty"):
        with (
            pytest.raises(OutputError, match=f"{name} holds no training to go on with: leave --resume out"),
            working(tmp_path / name, RECIPE, resume=True, replace=False),
        ):
            pass


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": 1}, r"another seed \(0, not 1\)"),
        ({"ladder": parse_ladder("1x8")}, r"another ladder \(\['demi 1x32', .*, not \['demi 1x8'\]\)"),
        ({"weights": LossWeights(kl=0.5)}, r"another weights"),
        ({"data": (Source("b.tsv", "pairs"),)}, "another data"),
    ],
)
def test_states_of_another_recipe(folder, changes, says):
    with (
        pytest.raises(RecipeError, match=rf"model\.work holds a training with {says}.*: give the same recipe, or --f"),
        working(folder, replace(RECIPE, **changes), resume=True, replace=False),
    ):
        pass
    assert last_state(folder)


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("kind", ["file", "file in it", "folder in it"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, kind, replaced):
    work = tmp_path / "model.work"
    mine = work if kind == "file" else work / "mine"
    mine.parent.mkdir(exist_ok=True)
    mine.mkdir() if kind == "folder in it" else mine.touch()
    with (
        pytest.raises(OutputError, match=r"model\.work, where the states of this training would be kept, is something"),
        working(work, RECIPE, resume=False, replace=replaced),
    ):
        pass
    assert mine.exists()
