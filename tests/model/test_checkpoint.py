"""Checkpoints: the round trip, sentence-transformers on the same folder, what is refused."""

import errno
import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from edge_embed.model.checkpoint import (
    Origin,
    describe_checkpoint,
    is_checkpoint,
    load_checkpoint,
    save_checkpoint,
    space_of,
)
from edge_embed.model.encoder import TextSettings, load_encoder
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_runtimes.errors import CheckpointError, EncoderUnsupported, OutputError
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import TextCut

WAYS = [("project", "mean"), ("project", "cls"), ("truncate", "mean"), ("truncate", "cls"), ("weigh", "mean")]
ORIGIN = Origin("tiny-é", {"epochs": 1.5, "texts": ["a.txt"]}, {"a.txt": "0" * 64}, {"torch": "2"})


def build(base: Path, spec: str = "1x8,2x16,3x32", head: str = "project", pooling: str = "mean") -> TieredEncoder:
    encoder = load_encoder(str(base))
    encoder.settings = TextSettings(pooling, 48)
    model = TieredEncoder(encoder, parse_ladder(spec), head)
    torch.manual_seed(5)
    model.set_head_weights({name: torch.randn(value.shape) for name, value in model.head_weights().items()})
    return model.eval()


@pytest.fixture
def folder(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to alter."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "altered"))


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize(("head", "pooling"), WAYS)
def test_the_round_trip_is_bit_equal(tiny_encoder, tiny_texts, tmp_path, head, pooling):
    model = build(tiny_encoder, "1x8,2x16", head, pooling)
    save_checkpoint(model, tmp_path / "out", ORIGIN)
    again, origin = load_checkpoint(tmp_path / "out")
    assert origin == ORIGIN and again.encoder.name == "tiny-é"
    assert (again.ladder, again.head, again.encoder.settings) == (model.ladder, head, TextSettings(pooling, 48))
    assert not again.training
    mine, theirs = model.state_dict(), again.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert space_of(again) == space_of(model) == describe_checkpoint(tmp_path / "out")["space"]
    before, after = encode_tiers(model, tiny_texts[:6]), encode_tiers(again, tiny_texts[:6])
    assert all(np.array_equal(before[tier.name], after[tier.name]) for tier in model.ladder)


def test_the_second_save_is_the_first(tiny_encoder, tmp_path):
    save_checkpoint(build(tiny_encoder), tmp_path / "first", ORIGIN)
    save_checkpoint(*(load_checkpoint(tmp_path / "first")[:1]), tmp_path / "second", ORIGIN)
    assert listing(tmp_path / "first") == listing(tmp_path / "second")
    for name in ("starbucks.json", "heads.safetensors", "model.safetensors", "modules.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.head_of(model.ladder.top).weight.data[0, 0].add_(1e-3),
        lambda model: model.encoder.backbone.embeddings.word_embeddings.weight.data[7, 3].add_(1e-3),
        lambda model: setattr(model.encoder, "settings", TextSettings("cls", 48)),
        lambda model: setattr(model.encoder, "settings", TextSettings("mean", 47)),
        lambda model: setattr(model, "ladder", parse_ladder("one=1x8,2x16,3x32")),
    ],
    ids=["head", "weights", "pooling", "length", "ladder"],
)
def test_another_model_is_another_space(tiny_encoder, change):
    model = build(tiny_encoder)
    before = space_of(model)
    assert len(before) == 16 and space_of(build(tiny_encoder)) == before
    change(model)
    assert space_of(model) != before


def theirs_of(folder: Path, texts: list[str]) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # sentence-transformers' own, on module names of version 5
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return model.encode(texts, batch_size=4, show_progress_bar=False)


@pytest.mark.parametrize("spec", ["1x8,3x32", "1x8,3x20", "1x8,2x32"])
@pytest.mark.parametrize(("head", "pooling"), WAYS)
def test_sentence_transformers_gives_the_vectors_of_the_top(tiny_encoder, tiny_texts, tmp_path, head, spec, pooling):
    model = build(tiny_encoder, spec, head, pooling)
    save_checkpoint(model, tmp_path / "out", ORIGIN)
    texts = [*tiny_texts[:6], " and ".join(tiny_texts[:5])]
    with pytest.warns(TextCut, match="1 of 7"):
        mine = encode_tiers(model, texts)[model.ladder.top.name]
    theirs = theirs_of(tmp_path / "out", texts)
    assert mine.shape == theirs.shape == (7, model.ladder.top.dim)
    np.testing.assert_allclose(theirs, mine, atol=1e-6)


def test_the_files_of_a_checkpoint(tiny_encoder, tmp_path):
    save_checkpoint(build(tiny_encoder), tmp_path / "new" / "out", ORIGIN)
    names = listing(tmp_path / "new")
    assert {"out/starbucks.json", "out/heads.safetensors", "out/tokenizer.json", "out/modules.json"} < set(names)
    assert {Path(name).suffix for name in names} == {"", ".json", ".safetensors"}  # nothing pickled
    written = json.loads((tmp_path / "new" / "out" / "starbucks.json").read_text())
    assert written["ladder"][0] == {"name": "demi", "layers": 1, "dim": 8}
    assert is_checkpoint(tmp_path / "new" / "out") and not is_checkpoint(tiny_encoder)


def fill_up(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_nothing(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors.torch, "save_file", fill_up)
    with pytest.raises(OutputError, match=r"no room left on the disk of .*out"):
        save_checkpoint(build(tiny_encoder), tmp_path / "out", ORIGIN)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_break_at_the_last_file_leaves_nothing(tiny_encoder, tmp_path, monkeypatch, error):
    def fail(_: object) -> str:
        assert listing(tmp_path)  # the other files stand in a temporary folder
        raise error

    monkeypatch.setattr("edge_embed.model.checkpoint.space_of", fail)
    with pytest.raises(error):
        save_checkpoint(build(tiny_encoder), tmp_path / "out", ORIGIN)
    assert listing(tmp_path) == []


def test_a_full_disk_keeps_the_old_checkpoint(tiny_encoder, folder, monkeypatch):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(safetensors.torch, "save_file", fill_up)
    with pytest.raises(OutputError, match="no room left"):
        save_checkpoint(build(tiny_encoder), folder, ORIGIN, replace=True)
    assert {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()} == before


def test_what_stands_there_is_replaced_only_when_asked(tiny_encoder, tmp_path):
    model = build(tiny_encoder, "1x8,2x16")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="out exists already"):
        save_checkpoint(model, tmp_path / "out", ORIGIN)
    assert listing(tmp_path) == ["out", "out/notes.txt"]
    save_checkpoint(model, tmp_path / "out", ORIGIN, replace=True)
    assert space_of(load_checkpoint(tmp_path / "out")[0]) == space_of(model)
    assert not (tmp_path / "out" / "notes.txt").exists() and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match=f"no checkpoint at {tmp_path}/none: name the folder"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        load_checkpoint(tmp_path)


def test_an_encoder_without_a_ladder(tiny_encoder):
    with pytest.raises(CheckpointError, match=f"{tiny_encoder} is an encoder without a ladder: run 'edge-embed train'"):
        load_checkpoint(tiny_encoder)


@pytest.mark.parametrize("stated", [2, "1", None])
def test_another_format(folder, stated):
    rewrite(folder, lambda content: {**content, "format": stated})
    with pytest.raises(CheckpointError, match=f"{folder} has format {stated!r}, this version reads 1: upgrade"):
        load_checkpoint(folder)


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "starbucks.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def tiers(*sizes: tuple[str, object, object]) -> Callable[[dict], dict]:
    ladder = [{"name": name, "layers": layers, "dim": dim} for name, layers, dim in sizes]
    return lambda content: {**content, "ladder": ladder}


@pytest.mark.parametrize(
    "change",
    [
        lambda content: list(content),
        lambda content: 1,
        lambda content: {"format": 1},
        lambda content: {**content, "ladder": None},
        lambda content: {**content, "ladder": []},
        lambda content: {**content, "ladder": [{"name": "demi"}]},
        tiers(("demi", 1, 0), ("short", 2, 16), ("tall", 3, 32)),
        tiers(("demi", "1", 8), ("short", 2, 16), ("tall", 3, 32)),
        tiers(("demi", 1, 8), ("short", 2, 16), ("tall", 4, 32)),
        tiers(("demi", 1, 8), ("short", 2, 16)),
        tiers(("demi", 1, 8), ("short", 2, 20), ("tall", 3, 32)),
        lambda content: {**content, "head": "linear"},
        lambda content: {**content, "head": "truncate"},
        lambda content: {**content, "origin": {}},
        lambda content: {**content, "origin": {**content["origin"], "more": 1}},
    ],
    ids=["list", "number", "format-alone", "ladder-null", "no-tier", "tier-cut", "dim-0", "layers-text", "deeper",
         "tier-less", "other-dim", "head-unknown", "head-other", "origin-empty", "origin-more"],
)  # fmt: skip
def test_a_damaged_description(folder, change):
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=str(folder)):
        load_checkpoint(folder)


def test_an_unreadable_description(folder):
    for content in (b"", b"{", b"\xff"):
        (folder / "starbucks.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{folder}/starbucks.json can't be read"):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("heads.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-50])),
        ("heads.safetensors", lambda path: path.write_bytes(b"")),
        ("heads.safetensors", Path.unlink),
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:-50])),
        ("model.safetensors", Path.unlink),
        ("config.json", Path.unlink),
        ("tokenizer.json", Path.unlink),
    ],
    ids=["heads-cut", "heads-empty", "no-heads", "weights-cut", "no-weights", "no-config", "no-tokenizer"],
)
def test_a_damaged_or_missing_file(folder, name, damage):
    damage(folder / name)
    with pytest.raises(CheckpointError, match=str(folder)):
        load_checkpoint(folder)


def test_an_encoder_of_another_family_is_no_damage(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "electra"}))
    with pytest.raises(
        EncoderUnsupported, match=r"'electra' are not supported: allowed are .*; to add one, describe it"
    ):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "spec", ["1x8,2x16", "1x8,2x16,one=3x32", "1x8,2x20,3x32", "1x8,2x16,3x31", "1x1,2x16,3x32"]
)  # fmt: skip
def test_heads_of_another_ladder(tiny_encoder, folder, tmp_path, spec):
    save_checkpoint(build(tiny_encoder, spec), tmp_path / "other", ORIGIN)
    shutil.copy(tmp_path / "other" / "heads.safetensors", folder)
    with pytest.raises(CheckpointError, match=str(folder)):
        load_checkpoint(folder)
