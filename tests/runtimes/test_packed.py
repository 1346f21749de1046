"""Weights packed for the processor, kept in the user's cache folder."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from edge_embed_runtimes.engines import open_session
from edge_embed_runtimes.engines.packed import packed_graph


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def graph(tiny_bundle) -> Path:
    return tiny_bundle / "onnx-int8" / "tall.onnx"


def vectors(graph: Path, key: str | None) -> np.ndarray:
    session = open_session(graph, graph.with_name("weights.bin"), "onnx", key=key)
    ids = np.random.default_rng(0).integers(5, 116, (3, 20))
    return session.run(ids, np.ones_like(ids))


def test_packed_weights_give_the_same_vectors(cache, graph):
    plain = vectors(graph, None)
    assert not cache.exists()
    for _ in range(2):
        np.testing.assert_array_equal(vectors(graph, "one"), plain)
    (folder,) = (cache / "packed").iterdir()
    assert {path.name for path in folder.iterdir()} == {"graph.onnx", "weights.bin", "sha256.json"}
    assert (cache / "packed").stat().st_mode & 0o077 == 0


def test_what_is_there_is_used(cache, graph):
    first = packed_graph(graph, "one")
    made = first.stat().st_mtime_ns
    assert packed_graph(graph, "one") == first
    assert first.stat().st_mtime_ns == made
    assert packed_graph(graph, "another") != first


@pytest.mark.parametrize("name", ["graph.onnx", "weights.bin"])
def test_altered_bytes_are_never_loaded(cache, graph, name, caplog):
    packed = packed_graph(graph, "one")
    content = bytearray((packed.parent / name).read_bytes())
    content[len(content) // 2] ^= 1
    (packed.parent / name).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert packed_graph(graph, "one") == graph
    assert f"{name} was altered; it is deleted" in caplog.text
    assert packed_graph(graph, "one") == packed  # made anew


@pytest.mark.parametrize("spoil", ["unlink", "write"])
def test_a_damaged_list_of_hashes(cache, graph, spoil):
    packed = packed_graph(graph, "one")
    hashes = packed.parent / "sha256.json"
    hashes.unlink() if spoil == "unlink" else hashes.write_text("{")
    assert packed_graph(graph, "one") == graph


@pytest.mark.skipif(os.name != "posix", reason="permissions are told in another way")
def test_a_folder_that_others_can_write_to_is_not_trusted(cache, graph, caplog):
    (cache / "packed").mkdir(parents=True)
    (cache / "packed").chmod(0o777)
    assert packed_graph(graph, "one") == graph
    assert "others can write to it" in caplog.text


def test_a_cache_that_can_not_be_made(graph, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "file"))
    assert packed_graph(graph, "one") == graph
    assert "weights are packed anew" in caplog.text


def test_a_graph_that_can_not_be_loaded_says_so_itself(cache, tmp_path):
    (tmp_path / "bad.onnx").write_text("no graph")
    assert packed_graph(tmp_path / "bad.onnx", "one") == tmp_path / "bad.onnx"
