"""Recipes as TOML files: plain values in, checked settings out."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from edge_embed.data.lines import text_files
from edge_embed.data.sources import Source
from edge_embed.model.checkpoint import describe_checkpoint
from edge_embed.train.recipe import LoopSettings, LossWeights
from edge_embed_runtimes.errors import CheckpointError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder

NOBODY = "none"
"""The word for no teacher."""
Settings = TypeVar("Settings", bound=LoopSettings)
_WORDS: dict[type, str] = {
    int: "a whole number", float: "a number", str: "a word in quotes", bool: "true or false", list: "a list",
    dict: "a table",
}  # fmt: skip


def read_recipe(path: Path, *, data_folder: Path | None = None) -> dict[str, Any]:
    """The values of a recipe file, for `make_recipe`.

    Args:
        data_folder: what the recipe's files and folders are relative to, where they stand there; else, or with None,
            the folder of the recipe.

    Raises:
        RecipeError: the file can't be read, is no TOML, or has something else where tables belong.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} can't be read ({error}): name a TOML file, as in samples/recipes") from error
    folder = data_folder or path.parent
    _typed("weights", values.get("weights", {}), dict)
    for entry in _typed("data", values.get("data", []), list):
        if isinstance(entry, dict) and isinstance(entry.get("place"), str):
            entry["place"] = _place(entry["place"], folder, path.parent)
    for name in ("base", "dev", "start"):
        if isinstance(values.get(name), str):
            values[name] = _local(values[name], folder)
    if "teacher" in values:
        values["teacher"] = [_local(name, folder) for name in _teachers(values["teacher"])]
    return values


def make_recipe(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Settings from plain values, as a TOML file or the flags of a command line have them.

    Raises:
        RecipeError: an unknown key, which names the nearest known one; a value of another type or outside its range.
        DataError: no data, or a folder without texts.
        CheckpointError: no checkpoint to start from.
    """
    names = {"tiers" if entry.name == "ladder" else entry.name for entry in fields(kind)}
    _check_keys(values, names, "the recipe")
    values = {**_started_from(values.get("start")), **values}
    if "base" not in values:
        raise RecipeError('no base encoder: name one, such as base = "all-MiniLM-L6-v2"')
    made = {name: _convert(kind, name, value) for name, value in values.items()}
    if "tiers" in made:
        made["ladder"] = made.pop("tiers")
    return kind(**made)


def sources(kind: str, places: Iterable[str | Path]) -> tuple[Source, ...]:
    """A source for each place; a folder stands for the texts in it."""
    return tuple(source for place in places for source in _spread({"kind": kind, "place": str(place)}))


def _started_from(start: object) -> Mapping[str, Any]:
    """What a training takes from the checkpoint that it starts from, unless told otherwise."""
    if not isinstance(start, str):
        return {}
    description = describe_checkpoint(Path(start))
    try:
        tiers = ",".join(f"{tier['layers']}x{tier['dim']}" for tier in description["ladder"])
        return {"base": description["origin"]["base_model"], "tiers": tiers, "head": description["head"]}
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{start} is damaged ({error} is missing): copy or train it again") from error


def _convert(kind: type[LoopSettings], name: str, value: Any) -> Any:
    match name:
        case "tiers":
            return parse_ladder(_typed(name, value, str))
        case "data":
            return tuple(
                source
                for entry in _typed(name, value, list)
                for source in (_spread(entry) if not isinstance(entry, Source) else (entry,))
            )
        case "weights":
            known = {entry.name for entry in fields(LossWeights)}
            _check_keys(_typed(name, value, dict), known, "weights")
            return LossWeights(**{key: _typed(f"weights.{key}", number, float) for key, number in value.items()})
        case "teacher":
            return tuple(_teachers(value))
        case "dev":
            return Path(_typed(name, value, str))
    default = next(entry.default for entry in fields(kind) if entry.name == name)
    return _typed(name, value, type(default) if isinstance(default, int | float | str) else str)


def _spread(entry: object) -> tuple[Source, ...]:
    """The sources that one `[[data]]` table stands for: a folder gives one for each of its files, drawn as one."""
    table = _typed("data", entry, dict)
    _check_keys(table, {field.name for field in fields(Source)} - {"folder"}, "data")
    for key in ("place", "kind"):
        _typed(f"data.{key}", table.get(key), str)
    if not Path(table["place"]).is_dir():
        return (_source(table),)
    files = text_files([Path(table["place"])], ".txt" if table["kind"] == "texts" else ".tsv")
    return tuple(replace(_source({**table, "place": str(path)}), folder=table["place"]) for path in files)


def _source(table: Mapping[str, Any]) -> Source:
    values = dict(table)
    if "columns" in values:
        columns = _typed("data.columns", values["columns"], list)
        values["columns"] = tuple(_typed("data.columns", column, str) for column in columns)
    if "weight" in values:
        values["weight"] = _typed("data.weight", values["weight"], float)
    if "labels" in values:
        labels = _typed("data.labels", values["labels"], dict)
        values["labels"] = {label: _typed(f"data.labels.{label}", value, float) for label, value in labels.items()}
    if "limit" in values:
        values["limit"] = _typed("data.limit", values["limit"], int)
    return Source(**values)


def _teachers(value: object) -> list[str]:
    """The names in a list of them, in a single one, or in the word for nobody."""
    names = [_typed("teacher", name, str) for name in (value if isinstance(value, list) else [value])]
    return [] if names == [NOBODY] else names


def _local(name: str, folder: Path) -> str:
    """A file or folder beside the recipe, where there is one of that name."""
    return str(folder / name) if (folder / name).exists() else name


def _place(place: str, folder: Path, other: Path) -> str:
    """Something on the hub, or a file in one folder, or in another if it stands there alone."""
    if place.startswith("hub:"):
        return place
    return str((other if (other / place).exists() and not (folder / place).exists() else folder) / place)


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise RecipeError(f"{name} is {value!r:.60}: allowed is {_WORDS[kind]}")
    return value


def _check_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            nearest = get_close_matches(key, known, n=1, cutoff=0.0)
            raise RecipeError(
                f"{where} has the unknown key {key!r}; the nearest known one is {nearest[0]!r} "
                f"(known are {', '.join(sorted(known))})"
            )
