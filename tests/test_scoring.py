"""The verb evaluate: one model, several, what is printed and written, what is refused."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge_embed.cli import app
from edge_embed.evaluate import opening
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.errors import DataError, EncoderError, RecipeError


class Hashes:
    """Vectors made of a text's hash and a seed."""

    one_space = True

    def __init__(self, seed: str, tiers: dict[str, int]):
        self.seed, self.tiers, self.ladder_names = seed, tiers, tuple(tiers)

    def encode_tiers(self, texts, progress=lambda *_: None):
        digests = [hashlib.sha256((self.seed + text).encode()).digest() for text in texts]
        rows = np.array([np.frombuffer(digest, np.uint8) for digest in digests], np.float32) - 128
        return {
            tier: rows[:, :dim] / np.linalg.norm(rows[:, :dim], axis=1, keepdims=True)
            for tier, dim in self.tiers.items()
        }


@pytest.fixture
def models(monkeypatch) -> dict[str, Hashes]:
    """Three models by their places, and a list of what was opened as `opened`."""
    known = {
        "one": Hashes("1", {"demi": 8, "short": 16}),
        "two": Hashes("2", {"demi": 8, "tall": 32}),
        "plain": Hashes("3", {"full": 32}),
        "apart": Hashes("4", {"demi": 8, "short": 16}),
    }
    known["apart"].one_space = False
    monkeypatch.setattr(opening, "open_model", lambda place, **_: known[place])
    return known


@pytest.fixture(scope="module")
def sets(tmp_path_factory, tiny_scored_file) -> dict[str, Path]:
    """One set of each kind, and another of scored pairs."""
    folder = tmp_path_factory.mktemp("sets")
    (folder / "found").mkdir()
    (folder / "found" / "corpus.jsonl").write_text("".join(f'{{"_id": "d{x}", "text": "text {x}"}}\n' for x in "abc"))
    (folder / "found" / "queries.jsonl").write_text('{"_id": "q", "text": "query"}\n')
    (folder / "found" / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq\tda\t1\n")
    (folder / "kinds").mkdir()
    (folder / "kinds" / "train.csv").write_text("text,label\na,x\nb,y\nc,x\n")
    (folder / "kinds" / "test.csv").write_text("text,label\nd,x\ne,y\n")
    other = folder / "other.tsv"
    other.write_text("sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2\ne\tf\t3\n")
    return {"sts": tiny_scored_file, "other": other, "retrieval": folder / "found", "classification": folder / "kinds"}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)], catch_exceptions=False)


def every_set(sets) -> list[object]:
    return ["--sts", sets["sts"], "--sts", sets["other"], "--retrieval", sets["retrieval"],
            "--classification", sets["classification"]]  # fmt: skip


def test_several_models(models, sets, tmp_path):
    written, picture = tmp_path / "scores.md", tmp_path / "scores.png"
    words = ["one", "two", "plain", *every_set(sets), "--cross-tier"]
    done = run(*words, "-o", written, "--picture", picture)
    assert done.exit_code == 0, done.output
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    titles = [line.removeprefix("## ") for line in written.read_text().splitlines() if line.startswith("## ")]
    assert titles[:8] == [
        "scored: Spearman",
        "other: Spearman",
        "STS mean of 2: Spearman",
        "found: nDCG@10",
        "found: MRR@10",
        "found: Recall@100",
        "kinds: accuracy",
        "kinds: macro F1",
    ]
    assert [title.split(":")[0] for title in titles[8:]] == [
        "one, scored", "one, other", "one, found", "two, scored", "two, other", "two, found",
    ]  # fmt: skip
    assert "**" in written.read_text()
    printed = done.stdout.splitlines()
    assert [title for title in titles if title not in printed] == []
    assert "**" not in done.stdout
    numbers = re.findall(r"-?\d\.\d{4}", written.read_text())
    assert re.findall(r"-?\d\.\d{4}", done.stdout) == numbers

    found = json.loads(run(*words, "--json").stdout)["models"]
    assert [model["model"] for model in found] == ["one", "two", "plain"]
    assert [list(model["sts"]["scored"]) for model in found] == [["demi", "short"], ["demi", "tall"], ["full"]]
    assert found[2]["sts_mean"].keys() == {"full"}
    assert found[1]["retrieval_cross"]["found"]["tall"].keys() == {"demi", "tall"}
    assert f"{found[0]['sts']['scored']['demi']:.4f}" in numbers


def test_names_stand_for_models(models, sets):
    words = ["one", "one", "--sts", sets["sts"]]
    done = run(*words, "--name", "ours, before", "--name", "ours, after")
    assert done.exit_code == 0, done.output
    assert [line.split("  ")[0] for line in done.stdout.splitlines() if line.startswith("ours")] == [
        "ours, before",
        "ours, after",
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "Missing argument"),
        (["one"], "name at least one --sts file"),
        (["one", "--sts", "{sts}", "--name", "a", "--name", "b"], "2 --name for 1 models"),
        (["one", "two", "--sts", "{sts}", "--name", "a"], "1 --name for 2 models"),
        (["one", "one", "--sts", "{sts}"], "two models are called 'one'"),
        (["one", "two", "--sts", "{sts}", "--name", "a", "--name", "a"], "two models are called 'a'"),
    ],
)
def test_wrong_usage(models, sets, words, says):
    done = run(*(word.format(**sets) for word in words))
    assert done.exit_code == 2
    assert says in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["apart", "--sts", "{sts}", "--cross-tier"], "apart holds a model for each tier"),
        (["one", "apart", "--retrieval", "{retrieval}", "--cross-tier"], "apart holds a model for each tier"),
        (["one", "--classification", "{classification}", "--cross-tier"], "on pairs or in retrieval"),
        (["one", "--sts", "{sts}", "--sts", "{sts}"], "2 sets are called 'scored'"),
        (["one", "--sts", "gone.tsv"], "gone.tsv can't be read"),
        (["one", "--classification", "{retrieval}"], "holds no train file"),
        (["one", "--retrieval", "{classification}"], "holds no corpus.jsonl"),
    ],
)
def test_what_has_no_sense_is_refused_before_anything_is_encoded(models, sets, words, says, monkeypatch):
    monkeypatch.setattr(Hashes, "encode_tiers", None)
    with pytest.raises(DataError, match=re.escape(says)):
        run(*(word.format(**sets) for word in words))


def test_a_model_that_is_not_there_ends_it_before_the_first_is_scored(monkeypatch, sets, tiny_checkpoint, tmp_path):
    monkeypatch.setattr("edge_embed.evaluate.models.CheckpointModel.encode_tiers", None)
    with pytest.raises(EncoderError, match="no encoder"):
        run(tiny_checkpoint, tmp_path, "--sts", sets["sts"])
    with pytest.raises(RecipeError, match="is no bundle"):
        run(tiny_checkpoint, "--sts", sets["sts"], "--engine", "onnx")


def test_a_bundle(tiny_bundle, tiny_scored_file, tmp_path):
    words = [tiny_bundle, "--sts", tiny_scored_file, "--cross-tier", "--engine", "onnx"]
    done = run(*words, "-o", tmp_path / "tables.md")
    assert done.exit_code == 0, done.output
    for text in (done.stdout, (tmp_path / "tables.md").read_text()):
        assert "scored Spearman" in text
        assert "query tier (rows) against document tier (columns)" in text
    (scores,) = json.loads(run(*words, "--json").stdout)["models"]
    passport = Bundle(tiny_bundle).manifest.passport
    for tier in ("demi", "short", "tall"):
        assert scores["sts"]["scored"][tier] == pytest.approx(passport.grade(tier, "onnx", "int8").score, abs=1e-6)
        assert scores["sts_cross"]["scored"][tier].keys() == {"demi", "short", "tall"}


def test_a_checkpoint(tiny_checkpoint, tiny_bundle, tiny_scored_file):
    (scores,) = json.loads(run(tiny_checkpoint, "--sts", tiny_scored_file, "--json").stdout)["models"]
    cross = Bundle(tiny_bundle).manifest.passport.cross
    assert scores["sts"]["scored"] == pytest.approx({tier: cross[tier][tier] for tier in cross}, abs=1e-6)
    assert not scores["sts_cross"]
