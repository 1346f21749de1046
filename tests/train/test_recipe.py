"""Settings: each outside its range is refused by name."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from edge_embed.train.recipe import LossWeights, Recipe
from edge_embed_runtimes.errors import DataError, RecipeError

RECIPE = Recipe("some-encoder", texts=(Path("/data/texts.txt"),), pairs=(Path("sub/pairs.tsv.gz"),))


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("epochs", -0.1, "0 to 1e+06"),
        ("epochs", math.inf, "0 to 1e+06"),
        ("batch_size", 1, "2 to 1e+06"),
        ("batch_size", 0, "2 to 1e+06"),
        ("learning_rate", -1e-9, "0 to 1"),
        ("learning_rate", 1.5, "0 to 1"),
        ("learning_rate", math.nan, "0 to 1"),
        ("warmup", -0.1, "0 to 1"),
        ("warmup", 1.1, "0 to 1"),
        ("temperature", 0.0, "0.0001 to 10"),
        ("temperature", 11.0, "0.0001 to 10"),
        ("max_tokens", 2, "3 to 1e+06"),
        ("dropout", -0.1, "0 to 0.9"),
        ("dropout", 1.0, "0 to 0.9"),
        ("method", "mnrl", "srl"),
        ("head", "linear", "project, truncate"),
    ],
)
def test_a_value_outside_its_range(setting, value, allowed):
    with pytest.raises(RecipeError) as caught:
        replace(RECIPE, **{setting: value})
    message = str(caught.value)
    assert message.startswith(f"{setting} ") and str(value) in message
    assert message.endswith(f"allowed is {allowed}") or message.endswith(f"allowed are {allowed}")


@pytest.mark.parametrize(
    ("setting", "value"), [("seed", -1), ("seed", 2**32), ("batch_size", 2.5), ("max_tokens", 9.5)]
)
def test_a_value_that_the_training_could_not_take(setting, value):
    with pytest.raises(RecipeError, match=setting):
        replace(RECIPE, **{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0), ("batch_size", 2), ("learning_rate", 0), ("learning_rate", 1), ("warmup", 0), ("warmup", 1),
        ("temperature", 1e-4), ("temperature", 10), ("max_tokens", 3), ("dropout", 0), ("dropout", 0.9), ("seed", 7),
        ("head", "truncate"),
    ],
)  # fmt: skip
def test_the_bounds_are_allowed(setting, value):
    assert getattr(replace(RECIPE, **{setting: value}), setting) == value


@pytest.mark.parametrize("name", ["task", "kl", "align"])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_weight_outside_its_range(name, value):
    with pytest.raises(RecipeError, match=f"weight {name} is {value}: allowed is 0 to inf"):
        LossWeights(**{name: value})


def test_weights_that_train_nothing():
    with pytest.raises(RecipeError, match="all loss weights are 0"):
        LossWeights(task=0, kl=0, align=0)
    assert LossWeights(task=0, kl=0, align=0.1).align == 0.1


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="name at least one file of texts or of pairs"):
        Recipe("some-encoder")
    for files in ({"texts": (Path("a"),)}, {"pairs": (Path("a"),)}):
        assert Recipe("some-encoder", **files).base == "some-encoder"


def test_describe_is_plain_json_with_file_names_alone():
    described = RECIPE.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["texts"] == ["texts.txt"] and described["pairs"] == ["pairs.tsv.gz"]
    assert described["ladder"] == [
        "demi 1x32", "short 2x64", "tall 3x128", "grande 4x192", "venti 5x256", "trenta 6x384",
    ]  # fmt: skip
    assert described["weights"] == {"task": 1.0, "kl": 1.0, "align": 4.0}
    assert set(described) == set(Recipe.__dataclass_fields__)


def test_describe_names_a_base_folder_by_its_last_part(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    for base in (str(tmp_path / "mine"), f"{tmp_path}/mine/", ".", "../mine"):
        assert replace(RECIPE, base=base).describe()["base"] == "mine"
    assert replace(RECIPE, base="org/model").describe()["base"] == "org/model"
