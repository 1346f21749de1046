"""States on disk from which a killed training goes on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_embed.train.recipe import LoopSettings
from edge_embed_runtimes.errors import OutputError, RecipeError
from edge_embed_runtimes.files import writing_file

_STATE_NAME, _RECIPE_NAME = "trainer_state.json", "recipe.json"


def work_folder(output: Path) -> Path:
    """Where a training keeps its states: beside what it will write."""
    return output.with_name(f"{output.name}.work")


@contextmanager
def working(folder: Path, settings: LoopSettings, *, resume: bool, replace: bool) -> Iterator[None]:
    """Keep a training's states in a folder while the block runs; they stay if it fails, and go when it is done.

    Raises:
        OutputError: states are there though nobody asked to resume, none though somebody did, or something else is.
        RecipeError: the states are of another recipe.
    """
    path = folder / _RECIPE_NAME
    mine = json.loads(json.dumps(settings.describe()))
    if resume:
        _check_same(folder, mine)
    elif _is_foreign(folder):
        raise OutputError(
            f"{folder}, where the states of this training would be kept, is something else: move it away, or name "
            f"another output"
        )
    elif _has_states(folder) and not replace:
        raise OutputError(
            f"{folder} holds a training that was broken off: go on with --resume, or begin anew with --force"
        )
    else:
        close_work(folder)
        with writing_file(path) as temporary:
            temporary.write_text(json.dumps(mine, indent=1) + "\n", encoding="utf-8")
    try:
        yield
    except BaseException:
        if not _has_states(folder):
            close_work(folder)
        raise
    close_work(folder)


def close_work(folder: Path) -> None:
    """Delete the folder of a training's states."""
    shutil.rmtree(folder, ignore_errors=True)


def last_state(folder: Path) -> Path | None:
    """The newest state that is whole; its own description is written last."""
    found = [(int(path.name.split("-")[1]), path) for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return max(found)[1] if found else None


def _check_same(folder: Path, mine: dict[str, object]) -> None:
    try:
        theirs = json.loads((folder / _RECIPE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{folder} holds no training to go on with: leave --resume out") from error
    other = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
    if other:
        raise RecipeError(
            f"{folder} holds a training with another {other[0]} ({theirs.get(other[0])!r:.60}, not "
            f"{mine.get(other[0])!r:.60}): give the same recipe, or --force to begin anew"
        )


def _is_foreign(folder: Path) -> bool:
    """Whether something is there that no training left."""
    if not folder.is_dir():
        return folder.exists()
    return any(folder.iterdir()) and not (folder / _RECIPE_NAME).is_file()


def _has_states(folder: Path) -> bool:
    return folder.is_dir() and any(path.is_dir() for path in folder.iterdir())


def _is_whole(folder: Path) -> bool:
    try:
        json.loads((folder / _STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
