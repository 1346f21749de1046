"""The samples run as they stand; the texts are what they are said to be."""

import runpy
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from edge_embed.data.lines import read_lines, text_files
from edge_embed.data.sources import KINDS, Source, read_rows
from edge_embed.evaluate.sts import read_scored_pairs
from edge_embed.train.recipe import LoopSettings, LossWeights, Recipe
from edge_embed.train.recipe_file import make_recipe, read_recipe
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.profiling import Plan, profile_bundle

SAMPLES = Path(__file__).parents[1] / "samples"
TEXTS = SAMPLES / "texts"
PAIRS = TEXTS / "pairs"
RANKED = sorted((SAMPLES / "ranked").glob("*.tsv"))
SENTENCES = sorted((SAMPLES / "sentences").glob("*.txt"))


@pytest.fixture
def run_sample(monkeypatch, capsys) -> Callable[..., str]:
    """Run a sample as the shell does; returns what it printed."""

    def run(name: str, *words: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(SAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_embed(run_sample, tiny_bundle):
    first, *rows = run_sample("embed.py", tiny_bundle).splitlines()
    tiers = {str(tier): tier.dim for tier in Bundle(tiny_bundle).manifest.ladder}
    name, told = first.split(", ", 1)
    assert told == f"3 vectors of {tiers[name]} values, float32"
    assert len(rows) == 3
    for place, row in enumerate(rows):
        assert row.split()[place] == "1.00"


@pytest.mark.filterwarnings("ignore::edge_embed_runtimes.tokenizer.TextCut")
def test_search(run_sample, tiny_bundle):
    for margin, count in ((0.0, 0), (3.0, 4)):
        first, *answers = run_sample("search.py", tiny_bundle, "--margin", margin).split("\n\n")
        assert f"; {count} queries went on to it" in first
        assert len(answers) == 4
        assert all((" by tall: " if count else " by demi: ") in answer for answer in answers)


def test_on_battery(run_sample, tiny_bundle):
    out = run_sample("on_battery.py", tiny_bundle, "--floor", 0.001)
    assert [line for line in out.splitlines() if line and not line.startswith(" ")] == [
        out.splitlines()[0],
        "mains",
        "battery at 80 %",
        "battery at 15 %",
        "mains at 15 %",
    ]
    assert out.count("  a query of ") == 4


def test_pick_a_tier(run_sample, tiny_bundle, tmp_path):
    bundle = Bundle(tiny_bundle)
    graphs = [(tier.name, "onnx", "int8") for tier in bundle.manifest.ladder]
    plan = Plan(tokens=(32,), batches=(1,), quick=True, isolate=False)
    profile_bundle(bundle, graphs, plan=plan).save(tmp_path / "profile.json")
    out = run_sample("pick_a_tier.py", tiny_bundle, tmp_path / "profile.json")
    answers = dict(part.split("\n", 1) for part in out.strip().split("\n\n"))
    assert len(answers) == 5
    assert "on onnx int8: best quality within the budget" in answers[next(key for key in answers if "=2," in key)]
    memory = next(text for key, text in answers.items() if "memory_mb=400" in key)
    assert "NoTierFits: no tier fits this budget" in memory  # measured in this process: no memory of its own
    assert "memory was not measured here" in memory
    best = next(text for key, text in answers.items() if key.count("None") == 4)
    assert " on " in best
    assert "best quality" in best
    assert best.count("    not ") == 2


@pytest.mark.filterwarnings("ignore:.*texts are longer than:edge_embed_runtimes.tokenizer.TextCut")
def test_train_and_export(tiny_encoder, tmp_path, tmp_path_factory, capsys):
    main = runpy.run_path(str(SAMPLES / "train_and_export.py"))["main"]
    fewer = tmp_path_factory.mktemp("texts")  # the same files, cut short: all of them would take ten seconds
    (fewer / "pairs").mkdir()
    for path in (*TEXTS.glob("*.txt"), *PAIRS.glob("*.tsv")):
        first = path.read_text(encoding="utf-8").splitlines(keepends=True)[:60]
        (fewer / path.relative_to(TEXTS)).write_text("".join(first), encoding="utf-8")
    main.__globals__["TEXTS"] = fewer
    main(str(tiny_encoder), str(tmp_path / "bundle"), "1x8,2x16", "0.1")
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out] == ["demi", "short"]
    assert all(float(line.rsplit(maxsplit=1)[1]) > 0.99 for line in out)
    manifest = Bundle(tmp_path / "bundle").manifest
    assert [str(tier) for tier in manifest.ladder] == ["demi 1x8", "short 2x16"]
    assert {(file.engine, file.precision) for file in manifest.by_role("weights")} == {("onnx", "int8")}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_the_demo_names_what_there_is():
    demo = runpy.run_path(str(SAMPLES / "demo.py"))
    for path in (*demo["TEXTS"], *demo["CORPUS"], demo["SCORED"]):
        assert path.is_file(), path
    places = [Path(source.place).resolve() for source in demo["RECIPE"].data]
    assert places == sorted(path.resolve() for path in demo["TEXTS"])
    assert len(demo["TEXTS"]) == len(list(TEXTS.glob("*.txt")))


@pytest.mark.parametrize("path", sorted((SAMPLES / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_are_sound_and_their_files_are_there(path):
    kind = LoopSettings if path.stem == "pretrain" else Recipe
    recipe = make_recipe(kind, read_recipe(path))
    elsewhere = path.stem.startswith("starbucks-minilm-l6")  # whose texts are too many to stand here
    assert elsewhere or all(Path(source.place).is_file() for source in recipe.data)


def test_the_page_on_recipes_names_every_key():
    page = (SAMPLES / "recipes" / "README.md").read_text(encoding="utf-8")
    named = {word for line in page.splitlines() if line.startswith("|") for word in line.split("`")[1::2]}
    keys = {"tiers" if entry.name == "ladder" else entry.name for entry in fields(Recipe)} - {"data"}
    assert keys | {entry.name for entry in fields(LossWeights)} | set(KINDS) <= named
    assert {path.name for path in (SAMPLES / "recipes").glob("*.toml")} <= named


def test_the_arms_of_the_comparison_are_sound_recipes(tmp_path):
    run = runpy.run_path(str(SAMPLES / "experiments" / "run.py"))
    rows = {}
    for arm in run["ARMS"]:
        values = run["values_of"](arm, tmp_path)
        recipe = make_recipe(Recipe, {key: value for key, value in values.items() if key != "smae"})
        assert recipe.taught == ("+" in arm or arm == "200k texts")
        rows[arm] = recipe.data
        assert "/" not in run["slug"](arm) and " " not in run["slug"](arm)
    assert rows["200k texts + pairs"] == (*rows["200k texts"], *rows["srl-project"])


# The texts


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    return [line for path in text_files([TEXTS]) for line in read_lines(path)]


@pytest.fixture(scope="module")
def paraphrases() -> list[tuple[str, ...]]:
    return [row.texts for row in read_rows(Source(str(PAIRS / "paraphrases.tsv"), "pairs"))]


def plain(text: str) -> str:
    """Without what does not make it another sentence."""
    return " ".join("".join(letter if letter.isalnum() else " " for letter in text.lower()).split())


def test_there_are_two_thousand_different_sentences(sentences):
    assert len({plain(sentence) for sentence in sentences}) >= 2000
    assert len(sentences) == len(set(sentences))


def test_every_line_is_one_clean_sentence():
    for path in TEXTS.glob("*.txt"):
        content = path.read_text(encoding="utf-8")
        assert content.endswith("\n"), path
        for line in content.splitlines():
            assert line == line.strip() != "", path
            assert line.isprintable(), (path, line)
            assert "\t" not in line


def test_there_are_two_hundred_scored_pairs():
    pairs = read_scored_pairs(PAIRS / "scored.tsv")
    assert len(pairs.scores) == 200
    assert len(set(zip(pairs.first, pairs.second, strict=True))) == 200
    assert 0 <= min(pairs.scores) < 1
    assert 4 < max(pairs.scores) <= 5
    assert len(set(pairs.scores)) >= 5
    assert all(one != other for one, other in zip(pairs.first, pairs.second, strict=True))


def test_no_scored_sentence_is_trained_on(sentences, paraphrases):
    pairs = read_scored_pairs(PAIRS / "scored.tsv")
    trained = {plain(text) for text in (*sentences, *(text for row in paraphrases for text in row))}
    assert [text for text in (*pairs.first, *pairs.second) if plain(text) in trained] == []


def test_paraphrases_are_two_different_texts(paraphrases):
    assert len(paraphrases) >= 100
    assert len(set(paraphrases)) == len(paraphrases)
    assert [row for row in paraphrases if plain(row[0]) == plain(row[1])] == []


def test_ranked_texts_are_five_different_ones():
    rows = [row.texts for path in RANKED for row in read_rows(Source(str(path), "ranked"))]
    assert len(rows) >= 3000
    assert [row for row in rows if len({plain(text) for text in row}) != 5] == []
    anchors = [plain(row[0]) for row in rows]
    assert sorted(anchors) == sorted(set(anchors))


def test_every_file_of_ranked_texts_is_explained():
    page = (SAMPLES / "ranked" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RANKED if f"`{path.name}`" not in page] == []


def test_sentences_to_distil_from_are_clean_and_different():
    lines = [line for path in SENTENCES for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(lines) >= 33_000
    assert [line for line in lines if line != line.strip() or not line or not line.isprintable()] == []
    assert len({plain(line) for line in lines}) > 0.99 * len(lines)


def test_every_file_of_sentences_is_explained():
    page = (SAMPLES / "sentences" / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in SENTENCES if f"| `{path.stem.split('-')[0]}*.txt` |" not in page] == []
