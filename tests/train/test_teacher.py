"""A teacher's vectors on disk."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed.model.encoder import Encoder, TextSettings, load_encoder
from edge_embed.model.tiered import pooled_states
from edge_embed.train import store as stores
from edge_embed.train import teacher as module
from edge_embed.train.recipe_file import sources
from edge_embed.train.store import RowStore
from edge_embed.train.teacher import VectorCache, cache_folder, fingerprint, teach, unit_vectors
from edge_embed_runtimes.errors import DataError, OutputError


@pytest.fixture
def encoder(tiny_encoder: Path) -> Encoder:
    return load_encoder(str(tiny_encoder))


@pytest.fixture
def store(write, tiny_texts, monkeypatch) -> RowStore:
    """63 pairs, read in chunks of ten, in which all texts but two come twice."""
    monkeypatch.setattr(stores, "_CHUNK_ROWS", 10)
    return RowStore(sources("pairs", [write("pairs", list(pairwise(tiny_texts)))]))


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """Every text that the encoder was asked for."""
    texts: list[str] = []

    def ask(encoder, part, **how):
        texts.extend(part)
        return unit_vectors(encoder, part, **how)

    monkeypatch.setattr(module, "unit_vectors", ask)
    return texts


def test_each_text_is_asked_once(encoder, store, asked, tiny_texts, tmp_path):
    cache = teach(encoder, store, max_tokens=64, folder=tmp_path / "deep" / "er")
    assert asked == tiny_texts
    assert cache.path.parent == tmp_path / "deep" / "er"
    cache.close()
    teach(encoder, store, max_tokens=64, folder=tmp_path / "deep" / "er")
    assert len(asked) == 64


def test_the_vectors_are_those_of_the_encoder(encoder, store, tiny_texts, tmp_path):
    cache = teach(encoder, store, max_tokens=64, folder=tmp_path)
    texts = [tiny_texts[place] for place in (5, 0, 63, 5)]
    found = cache.get(texts)
    expected = pooled_states(encoder, texts, layers=(3,))[3]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert found.shape == (4, 32) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_allclose(unit_vectors(encoder, texts, max_tokens=64), expected, atol=1e-6)


def test_in_bfloat16_they_are_nearly_the_same_and_kept_apart(encoder, store, tiny_texts, tmp_path):
    exact, rough = (teach(encoder, store, max_tokens=64, bf16=bf16, folder=tmp_path) for bf16 in (False, True))
    assert rough.path.stem == f"{exact.path.stem}-bf16"
    difference = abs(rough.get(tiny_texts) - exact.get(tiny_texts)).max()
    assert 1e-3 < difference < 0.03


def test_the_teacher_sees_no_more_of_a_text_than_its_students(encoder, store, tiny_texts, tmp_path):
    longest = max(tiny_texts, key=len)
    whole, cut = (teach(encoder, store, max_tokens=limit, folder=tmp_path) for limit in (64, 7))
    start = " ".join(longest.split()[:5])  # and two special tokens
    np.testing.assert_allclose(cut.get([longest]), unit_vectors(encoder, [start], max_tokens=64), atol=1e-3)
    assert whole.path != cut.path and abs(whole.get([longest]) - cut.get([longest])).max() > 0.01


def test_a_killed_run_goes_on(encoder, store, asked, tiny_texts, tmp_path, monkeypatch):
    ask = module.unit_vectors

    def die(encoder, part, **how):
        if len(asked) > 30:
            raise KeyboardInterrupt
        return ask(encoder, part, **how)

    monkeypatch.setattr(module, "unit_vectors", die)
    with pytest.raises(KeyboardInterrupt):
        teach(encoder, store, max_tokens=64, folder=tmp_path)
    done = len(asked)
    assert 30 < done < 64
    monkeypatch.setattr(module, "unit_vectors", ask)
    cache = teach(encoder, store, max_tokens=64, folder=tmp_path)
    assert asked == tiny_texts and cache.missing(tiny_texts) == []


def test_progress_counts_what_was_there_too(encoder, store, tmp_path):
    expected = [("teacher", done, 126) for done in (*range(20, 121, 20), 126)]
    for told in ([], []):
        teach(encoder, store, max_tokens=64, folder=tmp_path, progress=lambda *step, told=told: told.append(step))
        assert told == expected


def test_the_cache_stands_where_the_environment_says(encoder, store, monkeypatch, tmp_path, own_cache):
    assert cache_folder() == own_cache
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "mine"))
    cache = teach(encoder, store, max_tokens=64)
    assert cache.path == tmp_path / "mine" / f"teacher-{fingerprint(encoder, 64)}.sqlite"
    monkeypatch.delenv("EDGE_EMBED_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "all"))
    assert cache_folder() == tmp_path / "all" / "edge-embed"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "edge-embed"


def test_another_encoder_has_another_file(tiny_encoder, encoder):
    known = {fingerprint(encoder, 64)}
    assert fingerprint(load_encoder(str(tiny_encoder), attention="eager"), 64) in known
    with torch.no_grad():
        encoder.backbone.pooler.dense.weight += 1  # takes no part in the vectors
    assert fingerprint(encoder, 64) in known and fingerprint(encoder, 99) in known  # no text is longer
    known.add(fingerprint(encoder, 63))
    encoder.settings = TextSettings("cls", encoder.settings.max_tokens)
    known.add(fingerprint(encoder, 64))
    encoder.settings = TextSettings("cls", 12)
    known.add(fingerprint(encoder, 64))
    with torch.no_grad():
        encoder.backbone.embeddings.word_embeddings.weight[7, 7] += 1e-3
    known.add(fingerprint(encoder, 64))
    encoder.cut(2)
    known.add(fingerprint(encoder, 64))
    encoder.hub_tokenizer.add_tokens(["zebra"])
    known.add(fingerprint(encoder, 64))
    assert len(known) == 7


def test_a_vector_that_is_not_there(tmp_path):
    cache = VectorCache(tmp_path / "a.sqlite")
    cache.put(["a", "b"], np.eye(2, dtype=np.float32))
    assert cache.missing(["c", "a", "d", "c"]) == ["c", "d"]
    with pytest.raises(DataError, match=r"a\.sqlite lacks the vector of 'c': start the training again"):
        cache.get(["a", "c"])


def test_more_texts_than_fit_into_one_query(tmp_path):
    texts = [f"text {number}" for number in range(1203)]
    cache = VectorCache(tmp_path / "a.sqlite")
    vectors = np.arange(1203, dtype=np.float32)[:, None] * [[1, -1]]
    cache.put(texts, vectors)
    np.testing.assert_array_equal(cache.get(texts[::-1]), vectors[::-1])


def test_a_file_that_is_no_cache(tmp_path):
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(OutputError, match=r"a\.sqlite can't be used to keep vectors \(.*\): delete it, or set EDGE_EM"):
        VectorCache(path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="set EDGE_EMBED_CACHE to another folder"):
        VectorCache(tmp_path / "file" / "a.sqlite")


def test_a_damaged_cache(tmp_path):
    path = tmp_path / "a.sqlite"
    texts = [f"text {number}" for number in range(500)]
    cache = VectorCache(path)
    cache.put(texts, np.ones((500, 64), np.float32))
    cache.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    cache = VectorCache(path)
    for use in (cache.get, cache.missing):
        with pytest.raises(OutputError, match=r"a\.sqlite is damaged \(.*\): delete it, and start again"):
            use(texts)


def test_a_cache_that_can_not_be_written(tmp_path):
    cache = VectorCache(tmp_path / "a.sqlite")
    cache._file.execute("PRAGMA query_only = ON")
    with pytest.raises(OutputError, match=r"a\.sqlite can't be written \(.*\): free some space, or set EDGE_EMBED"):
        cache.put(["a"], np.ones((1, 2), np.float32))
