"""Settings: each outside its range is refused by name."""

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import pytest

from edge_embed.data.sources import Source
from edge_embed.train.recipe import LoopSettings, LossWeights, Recipe
from edge_embed_runtimes.errors import DataError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder

TEXTS, PAIRS = Source("data/texts.txt", "texts"), Source("sub/pairs.tsv.gz", "pairs", ("a", "b"), weight=2)
RECIPE = Recipe(base="some-encoder", data=(TEXTS, PAIRS))
SETTINGS = LoopSettings(base="some-encoder", data=(TEXTS,))


@pytest.mark.parametrize("settings", [RECIPE, SETTINGS])
@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("epochs", -0.1, "0 to 1e+06"),
        ("epochs", math.inf, "0 to 1e+06"),
        ("epochs", "3", "0 to 1e+06"),
        ("batch_size", 1, "2 to 1e+06"),
        ("batch_size", True, "2 to 1e+06"),
        ("batch_size", 2.5, "a whole number"),
        ("accumulation", 0, "1 to 1e+06"),
        ("accumulation", 1.5, "a whole number"),
        ("learning_rate", -1e-9, "0 to 1"),
        ("learning_rate", 1.5, "0 to 1"),
        ("learning_rate", math.nan, "0 to 1"),
        ("learning_rate", None, "0 to 1"),
        ("warmup", -0.1, "0 to 1"),
        ("warmup", 1.1, "0 to 1"),
        ("max_tokens", 2, "3 to 1e+06"),
        ("max_tokens", 9.5, "a whole number"),
        ("dropout", -0.1, "0 to 0.9"),
        ("dropout", 1.0, "0 to 0.9"),
        ("precision", "fp16", "auto, fp32, bf16"),
        ("save_every", -1, "0 to 1e+09"),
        ("save_every", 0.5, "a whole number"),
        ("seed", -1, "0 to 4.29497e+09"),
        ("seed", 2**32, "0 to 4.29497e+09"),
        ("seed", 1.0, "a whole number"),
    ],
)
def test_a_value_outside_its_range(settings, setting, value, allowed):
    with pytest.raises(RecipeError) as caught:
        replace(settings, **{setting: value})
    message = str(caught.value)
    assert message.startswith(f"{setting} ") and repr(value) in message
    assert message.endswith((f"allowed is {allowed}", f"allowed are {allowed}"))


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("temperature", 0.0, "is 0.0: allowed is 0.0001 to 10"),
        ("temperature", 11, "is 11: allowed is 0.0001 to 10"),
        ("top_rate", 0, "is 0: allowed is 0.001 to 1"),
        ("top_rate", 1.5, "is 1.5: allowed is 0.001 to 1"),
        ("keep_start", -0.1, "is -0.1: allowed is 0 to 0.99"),
        ("keep_start", 1, "is 1: allowed is 0 to 0.99"),
        ("method", "mnrl", "'mnrl' is unknown: allowed are srl, 2dmse, mrl, separate"),
        ("head", "linear", "'linear' is unknown: allowed are project, truncate, weigh"),
        ("dev_every", -1, "is -1: allowed is 0 to 1e+09"),
        ("patience", 0.5, "is 0.5: allowed is a whole number"),
    ],
)
def test_a_value_of_fine_tuning_outside_its_range(setting, value, allowed):
    with pytest.raises(RecipeError, match=f"^{setting} {allowed}".replace("+", r"\+")):
        replace(RECIPE, **{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("epochs", 0), ("batch_size", 2), ("learning_rate", 0), ("learning_rate", 1), ("warmup", 0), ("warmup", 1),
        ("temperature", 1e-4), ("temperature", 10), ("top_rate", 1e-3), ("top_rate", 1), ("max_tokens", 3),
        ("dropout", 0), ("dropout", 0.9), ("seed", 7), ("head", "truncate"), ("accumulation", 4), ("save_every", 0),
        ("precision", "bf16"), ("method", "separate"), ("teacher", ()),
    ],
)  # fmt: skip
def test_the_bounds_are_allowed(setting, value):
    assert getattr(replace(RECIPE, **{setting: value}), setting) == value


def test_alike_rows_need_a_teacher():
    assert replace(RECIPE, alike=8).alike == 8
    with pytest.raises(RecipeError, match="alike is 8, without a teacher to say what is alike"):
        replace(RECIPE, alike=8, teacher=())


@pytest.mark.parametrize("method", ["separate", "mrl"])
def test_only_a_ladder_of_tiers_is_trained_further(method):
    with pytest.raises(RecipeError, match=f"method {method} makes a ladder of its own: leave out start"):
        replace(RECIPE, start="checkpoint", method=method, head="truncate")


def test_a_teacher_is_named_once():
    with pytest.raises(RecipeError, match="teacher names one twice in self, self: name each once"):
        replace(RECIPE, teacher=("self", "self"))


@pytest.mark.parametrize("name", [field.name for field in fields(LossWeights)])
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_weight_outside_its_range(name, value):
    with pytest.raises(RecipeError, match=f"weight {name} is {value}: allowed is 0 to inf"):
        LossWeights(**{name: value})


def test_weights_that_train_nothing():
    nothing = dict.fromkeys(("task", "kl", "distill", "directions", "align"), 0)
    with pytest.raises(RecipeError, match="all loss weights are 0"):
        LossWeights(**nothing)
    assert LossWeights(**{**nothing, "align": 0.1}).align == 0.1


@pytest.mark.parametrize("kind", [Recipe, LoopSettings])
def test_nothing_to_train_on(kind):
    with pytest.raises(DataError, match="name at least one file of texts or of pairs"):
        kind(base="some-encoder")


@pytest.mark.parametrize("method", ["2dmse", "mrl"])
def test_methods_that_have_no_heads(method):
    with pytest.raises(RecipeError, match=f"method {method} cuts vectors short.*: choose head truncate"):
        replace(RECIPE, method=method)
    assert replace(RECIPE, method=method, head="truncate").method == method


def test_2d_matryoshka_needs_two_layers():
    recipe = replace(RECIPE, method="2dmse", head="truncate")
    with pytest.raises(RecipeError, match=r"2dmse needs a layer below the top, demi 1x32: choose a deeper ladder"):
        replace(recipe, ladder=parse_ladder("1x32"))
    assert len(replace(recipe, ladder=parse_ladder("2x32")).ladder) == 1


def test_patience_needs_scores():
    for missing in ({"dev": Path("dev.tsv")}, {"dev_every": 10}, {}):
        with pytest.raises(RecipeError, match=r"patience is 3, without dev and dev_every"):
            replace(RECIPE, patience=3, **missing)
    assert replace(RECIPE, patience=3, dev=Path("dev.tsv"), dev_every=10).patience == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": (), "weights": LossWeights(kl=0, align=0)},
        {"weights": LossWeights(distill=0, directions=0, kl=0, align=0)},
        {"teacher": (), "method": "mrl", "head": "truncate"},
        {"teacher": (), "method": "separate"},
    ],
)
def test_texts_alone_that_teach_nothing(changes):
    with pytest.raises(RecipeError, match="plain texts alone teach nothing here: name a teacher and its weights"):
        replace(RECIPE, data=(TEXTS,), **changes)
    assert replace(RECIPE, **changes).data == (TEXTS, PAIRS)


@pytest.mark.parametrize(
    ("changes", "taught"),
    [
        ({}, True),
        ({"teacher": ("other",)}, True),
        ({"teacher": ()}, False),
        ({"weights": LossWeights(distill=0, directions=0)}, False),
        ({"weights": LossWeights(distill=0)}, True),
        ({"weights": LossWeights(directions=0)}, True),
    ],
)
def test_who_needs_a_teacher(changes, taught):
    assert replace(RECIPE, **changes).taught == taught


def test_describe_is_plain_json_with_names_alone():
    labels = Source("sub/labels.jsonl", "labelled", labels={"yes": 1.0, "no": 0.0}, limit=5)
    recipe = replace(RECIPE, data=(PAIRS, labels), dev=Path("/somewhere/dev.tsv"))
    described = recipe.describe()
    assert json.loads(json.dumps(described)) == described
    assert "/somewhere" not in json.dumps(described)
    assert described["ladder"] == [
        "demi 1x32", "short 2x64", "tall 3x128", "grande 4x192", "venti 5x256", "trenta 6x384",
    ]  # fmt: skip
    assert described["data"][0] == {
        "place": "sub/pairs.tsv.gz", "kind": "pairs", "columns": ["a", "b"], "weight": 2, "labels": {}, "limit": None,
        "folder": "",
    }  # fmt: skip
    assert described["data"][1]["labels"] == {"yes": 1.0, "no": 0.0}
    assert described["weights"] == {"task": 1.0, "kl": 1.0, "distill": 1.0, "directions": 4.0, "align": 1.0}
    assert described["dev"] == "dev.tsv" and replace(RECIPE, dev=None).describe()["dev"] is None
    assert set(described) == {field.name for field in fields(Recipe)}
    assert set(SETTINGS.describe()) == {field.name for field in fields(LoopSettings)}


def test_describe_names_files_and_folders_by_their_last_part(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "texts.txt").touch()
    monkeypatch.chdir(tmp_path / "mine")
    for base in (str(tmp_path / "mine"), f"{tmp_path}/mine/", ".", "../mine"):
        data = (Source(str(tmp_path / "texts.txt"), "texts", folder=str(tmp_path)),)
        described = replace(RECIPE, base=base, teacher=(base, "self"), data=data)
        assert described.base_name == "mine"
        assert described.describe()["base"] == "mine" and described.describe()["teacher"] == ["mine", "self"]
        assert described.describe()["data"][0]["place"] == "texts.txt"
        assert described.describe()["data"][0]["folder"] == tmp_path.name
    assert replace(RECIPE, base="org/model").describe()["base"] == "org/model"
    hub = replace(RECIPE, data=(Source("hub:owner/name", "pairs"),))
    assert hub.describe()["data"][0]["place"] == "hub:owner/name"
