"""Recipes as TOML files."""

from dataclasses import fields
from pathlib import Path

import pytest

from edge_embed.data.sources import Source
from edge_embed.train.recipe import LoopSettings, LossWeights, Recipe
from edge_embed.train.recipe_file import make_recipe, read_recipe, sources
from edge_embed_runtimes.errors import CheckpointError, DataError, EdgeEmbedError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder

WHOLE = """
base = "all-MiniLM-L6-v2"
tiers = "1x8,2x16"
method = "srl"
head = "truncate"
teacher = ["self", "org/other"]
alike = 4
top_rate = 0.5
balance = true
start = "first"
keep_start = 0.25
temperature = 0.1
dev = "dev.tsv"
dev_every = 20
patience = 2
skip_bad_rows = true
epochs = 2
batch_size = 32
accumulation = 2
learning_rate = 1e-4
warmup = 0
max_tokens = 64
dropout = 0.1
precision = "bf16"
gradient_checkpointing = true
save_every = 50
seed = 3

[weights]
kl = 2
align = 0.5

[[data]]
place = "texts.txt"
kind = "texts"

[[data]]
place = "hub:owner/name"
kind = "labelled"
columns = ["a", "b", "label"]
weight = 2
labels = { yes = 1, no = 0.25 }
limit = 100
"""

FIRST = """
{"format": 1, "ladder": [{"layers": 1, "dim": 8, "name": "demi"}, {"layers": 4, "dim": 32, "name": "short"}],
 "head": "weigh", "origin": {"base_model": "some"}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(WHOLE)
    (tmp_path / "dev.tsv").touch()
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "starbucks.json").write_text(FIRST)
    return tmp_path


def made(folder: Path, kind: type = Recipe, **where: Path) -> LoopSettings:
    return make_recipe(kind, read_recipe(folder / "recipe.toml", **where))


def test_a_recipe_with_every_setting(folder):
    labels = {"yes": 1.0, "no": 0.25}
    expected = Recipe(
        base="all-MiniLM-L6-v2",
        data=(
            Source(str(folder / "texts.txt"), "texts"),
            Source("hub:owner/name", "labelled", ("a", "b", "label"), weight=2.0, labels=labels, limit=100),
        ),
        skip_bad_rows=True,
        ladder=parse_ladder("1x8,2x16"),
        epochs=2.0,
        batch_size=32,
        accumulation=2,
        learning_rate=1e-4,
        warmup=0.0,
        max_tokens=64,
        dropout=0.1,
        precision="bf16",
        gradient_checkpointing=True,
        save_every=50,
        seed=3,
        head="truncate",
        method="srl",
        teacher=("self", "org/other"),
        alike=4,
        top_rate=0.5,
        balance=True,
        start=str(folder / "first"),
        keep_start=0.25,
        temperature=0.1,
        weights=LossWeights(kl=2.0, align=0.5),
        dev=folder / "dev.tsv",
        dev_every=20,
        patience=2,
    )
    found = made(folder)
    assert found == expected
    assert type(found.epochs) is float and type(found.weights.kl) is float and type(found.data[1].weight) is float
    plain = Recipe(base=found.base, data=found.data)
    same = [field.name for field in fields(Recipe) if getattr(found, field.name) == getattr(plain, field.name)]
    assert same == ["base", "data", "method"]  # so that each of the others was read


@pytest.mark.parametrize(
    ("written", "teachers"),
    [
        ('"none"', ()),
        ("[]", ()),
        ('"self"', ("self",)),
        ('["self"]', ("self",)),
        ('["self", "other"]', ("self", "other")),
    ],
)
def test_one_teacher_or_several(tmp_path, written, teachers):
    lines = f'base = "some"\nteacher = {written}\n[[data]]\nplace = "a.tsv"\nkind = "pairs"\n'
    (tmp_path / "recipe.toml").write_text(lines)
    assert made(tmp_path).teacher == teachers


@pytest.mark.parametrize("teacher", [7, ["self", 7]])
def test_a_teacher_is_a_word(teacher):
    with pytest.raises(RecipeError, match="teacher is 7: allowed is a word in quotes"):
        make_recipe(Recipe, {"base": "some", "teacher": teacher, "data": [Source("a.tsv", "pairs")]})


def test_what_a_recipe_leaves_out_is_the_default(tmp_path):
    (tmp_path / "recipe.toml").write_text('base = "some"\n[[data]]\nplace = "a.tsv"\nkind = "pairs"\n')
    data = (Source(str(tmp_path / "a.tsv"), "pairs"),)
    assert made(tmp_path) == Recipe(base="some", data=data)
    assert made(tmp_path, LoopSettings) == LoopSettings(base="some", data=data)


def test_a_checkpoint_to_start_from_says_the_rest(folder):
    data = list(sources("texts", ["a.txt"]))
    found = make_recipe(Recipe, {"start": str(folder / "first"), "data": data})
    assert (found.base, found.ladder, found.head) == ("some", parse_ladder("1x8,4x32"), "weigh")
    assert make_recipe(Recipe, {"start": str(folder / "first"), "base": "mine", "data": data}).base == "mine"
    with pytest.raises(CheckpointError, match="no checkpoint at nowhere"):
        make_recipe(Recipe, {"start": "nowhere", "data": data})
    (folder / "first" / "starbucks.json").write_text('{"format": 1}')
    with pytest.raises(CheckpointError, match=r"first is damaged \('ladder' is missing\)"):
        make_recipe(Recipe, {"start": str(folder / "first"), "data": data})
    (folder / "first" / "starbucks.json").rename(folder / "first" / "manifest.json")
    with pytest.raises(CheckpointError, match="first is a bundle: run 'edge-embed restore' on it first"):
        make_recipe(Recipe, {"start": str(folder / "first"), "data": data})


# Where files stand


def test_files_are_relative_to_the_recipe(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    for name in ("base", "teacher"):
        (tmp_path / "recipes" / name).mkdir()
    (tmp_path / "recipes" / "dev.tsv").touch()
    lines = 'base = "base"\nteacher = "teacher"\ndev = "dev.tsv"\n[[data]]\nplace = "../a.tsv"\nkind = "pairs"\n'
    (tmp_path / "recipes" / "recipe.toml").write_text(lines)
    monkeypatch.chdir(tmp_path)
    recipe = make_recipe(Recipe, read_recipe(Path("recipes/recipe.toml")))
    assert (recipe.base, recipe.dev) == ("recipes/base", Path("recipes/dev.tsv"))
    assert recipe.teacher == ("recipes/teacher",)
    assert Path(recipe.data[0].place) == Path("recipes/../a.tsv")


def test_files_are_relative_to_the_data_folder(folder, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (data / "dev.tsv").touch()
    (folder / "first").rename(data / "first")
    recipe = made(folder, data_folder=data)
    assert recipe.start == str(data / "first")
    assert [source.place for source in recipe.data] == [str(data / "texts.txt"), "hub:owner/name"]
    assert recipe.dev == data / "dev.tsv"
    (data / "dev.tsv").unlink()
    assert made(folder, data_folder=data).dev == Path("dev.tsv")  # nothing there: as it is written


def test_an_absolute_place_stays(tmp_path):
    place = tmp_path / "elsewhere" / "a.tsv"
    (tmp_path / "recipe.toml").write_text(f'base = "some"\n[[data]]\nplace = "{place}"\nkind = "pairs"\n')
    assert made(tmp_path, data_folder=Path("other")).data[0].place == str(place)


def test_a_folder_stands_for_the_texts_in_it(tmp_path):
    for name in ("b.txt", "a.txt.gz", "c.md"):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / name).touch()
    lines = '[[data]]\nplace = "texts"\nkind = "texts"\nweight = 0.5\nlimit = 3\n'
    (tmp_path / "recipe.toml").write_text(f'base = "some"\n{lines}')
    expected = tuple(
        Source(str(tmp_path / "texts" / name), "texts", weight=0.5, limit=3, folder=str(tmp_path / "texts"))
        for name in ("a.txt.gz", "b.txt")
    )
    assert made(tmp_path).data == expected
    assert [source.place for source in sources("texts", [tmp_path / "texts", "more.txt"])] == [
        *(source.place for source in expected),
        "more.txt",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \.txt or \.txt\.gz files"):
        sources("texts", [tmp_path / "empty"])


def test_a_folder_stands_for_the_tables_in_it(tmp_path):
    for name in ("b.tsv", "a.tsv.gz", "c.txt"):
        (tmp_path / name).touch()
    assert [Path(source.place).name for source in sources("ranked", [tmp_path])] == ["a.tsv.gz", "b.tsv"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no \.tsv or \.tsv\.gz files"):
        sources("pairs", [tmp_path / "empty"])


def test_what_the_data_folder_lacks_may_stand_beside_the_recipe(folder, tmp_path_factory):
    data = tmp_path_factory.mktemp("data")
    (folder / "texts.txt").touch()
    values = {"start": str(folder / "first")}
    found = make_recipe(Recipe, read_recipe(folder / "recipe.toml", data_folder=data) | values)
    assert found.data[0].place == str(folder / "texts.txt")
    (data / "texts.txt").touch()
    found = make_recipe(Recipe, read_recipe(folder / "recipe.toml", data_folder=data) | values)
    assert found.data[0].place == str(data / "texts.txt")


# What is wrong


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch = 3", r"the recipe has the unknown key 'epoch'; the nearest known one is 'epochs' \(known are acc"),
        ("lr = 1", r"the recipe has the unknown key 'lr'; the nearest known one is '\w+' \(known are"),
        ("zzz = 1", r"the recipe has the unknown key 'zzz'; the nearest known one is '\w+' \(known are"),
        ("ladder = '1x8'", "the recipe has the unknown key 'ladder'"),
        ("weights = { dir = 1 }", r"weights has the unknown key 'dir'; the nearest known one is 'directions' \(known"),
        ("data = [{ place = 'a', knd = 'texts' }]", "data has the unknown key 'knd'; the nearest known one is 'kind'"),
        ("epochs = 'three'", "epochs is 'three': allowed is a number"),
        ("epochs = true", "epochs is True: allowed is a number"),
        ("batch_size = 32.0", r"batch_size is 32\.0: allowed is a whole number"),
        ("batch_size = 1", r"batch_size is 1: allowed is 2 to 1e\+06"),
        ("seed = false", "seed is False: allowed is a whole number"),
        ("head = 1", "head is 1: allowed is a word in quotes"),
        ("head = 'linear'", "head 'linear' is unknown: allowed are project, truncate"),
        ("base = ['x']", r"base is \['x'\]: allowed is a word in quotes"),
        ("dev = 1", "dev is 1: allowed is a word in quotes"),
        ("skip_bad_rows = 1", "skip_bad_rows is 1: allowed is true or false"),
        ("gradient_checkpointing = 'yes'", "gradient_checkpointing is 'yes': allowed is true or false"),
        ("tiers = [1, 2]", r"tiers is \[1, 2\]: allowed is a word in quotes"),
        ("tiers = '1x8,3'", "'3' is no tier: write layers x dimensions"),
        ("weights = 3", "weights is 3: allowed is a table"),
        ("weights = { kl = 'much' }", r"weights\.kl is 'much': allowed is a number"),
        ("weights = { kl = -1 }", r"weight kl is -1\.0: allowed is 0 to inf"),
        ("data = 3", "data is 3: allowed is a list"),
        ("data = 'a.txt'", "data is 'a.txt': allowed is a list"),
        ("data = ['a.txt']", "data is 'a.txt': allowed is a table"),
        ("data = []", "nothing to train on: name at least one file"),
        ("data = [{ kind = 'texts' }]", r"data\.place is None: allowed is a word in quotes"),
        ("data = [{ place = 'a' }]", r"data\.kind is None: allowed is a word in quotes"),
        ("data = [{ place = 1, kind = 'texts' }]", r"data\.place is 1: allowed is a word in quotes"),
        (
            "data = [{ place = 'a', kind = 'text' }]",
            "a: kind 'text' is unknown: allowed are texts, pairs, triplets, ranked",
        ),
        ("data = [{ place = 'a', kind = 'pairs', columns = 'x' }]", r"data\.columns is 'x': allowed is a list"),
        ("data = [{ place = 'a', kind = 'pairs', columns = [1, 2] }]", r"data\.columns is 1: allowed is a word in q"),
        ("data = [{ place = 'a', kind = 'pairs', weight = 'x' }]", r"data\.weight is 'x': allowed is a number"),
        ("data = [{ place = 'a', kind = 'pairs', weight = 0 }]", r"a: weight is 0\.0, expected a finite number above"),
        ("data = [{ place = 'a', kind = 'pairs', limit = 1.5 }]", r"data\.limit is 1\.5: allowed is a whole number"),
        ("data = [{ place = 'a', kind = 'labelled', labels = 'x' }]", r"data\.labels is 'x': allowed is a table"),
        (
            "data = [{ place = 'a', kind = 'labelled', labels = { x = '1' } }]",
            r"data\.labels\.x is '1': allowed is a",
        ),
    ],
)
def test_a_wrong_line(tmp_path, line, message):
    rest = {"base": 'base = "some"', "data": 'data = [{ place = "a.tsv", kind = "pairs" }]'}
    lines = [line, *(other for key, other in rest.items() if not line.startswith(f"{key} ="))]
    (tmp_path / "recipe.toml").write_text("\n".join(lines))
    with pytest.raises(EdgeEmbedError, match=message):
        made(tmp_path)


def test_settings_of_fine_tuning_are_none_of_pretraining(folder):
    with pytest.raises(RecipeError, match=r"unknown key '\w+'; the nearest") as caught:
        made(folder, LoopSettings)
    assert "temperature" not in str(caught.value).partition("known are")[2]


def test_no_base():
    with pytest.raises(RecipeError, match='no base encoder: name one, such as base = "all-MiniLM-L6-v2"'):
        make_recipe(Recipe, {"data": [Source("a", "texts")]})


def test_sources_may_be_made_already():
    source = Source("a.tsv", "pairs")
    data = [source, {"place": "b.tsv", "kind": "pairs"}]
    assert make_recipe(Recipe, {"base": "some", "data": data}).data == (source, Source("b.tsv", "pairs"))


@pytest.mark.parametrize("content", [b"base = ", b"base = '\xff'", None])
def test_a_file_that_is_no_recipe(tmp_path, content):
    if content is not None:
        (tmp_path / "recipe.toml").write_bytes(content)
    with pytest.raises(RecipeError, match=r"recipe\.toml can't be read \(.+\): name a TOML file, as in samples"):
        made(tmp_path)
