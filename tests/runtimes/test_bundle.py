"""A bundle opens only if it is exactly what was exported; every other folder gets the right error and a way out."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_embed_runtimes import bundle as bundle_module
from edge_embed_runtimes.bundle import Bundle, sha256_of
from edge_embed_runtimes.errors import BundleDamaged, BundleError, BundleNotFound, BundleTooNew
from edge_embed_runtimes.manifest import FORMAT

WAY_OUT = r"export|copy|remove|upgrade|name the folder"
GRAPH = "onnx-int8/demi.graph"
WEIGHTS = "onnx-int8/weights.bin"


def rewrite_manifest(folder: Path, **fields: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    real = path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(real)


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def use(folder: Path) -> Path:
    opened = Bundle(folder)
    return opened.graph(opened.manifest.ladder.find("demi"), "onnx", "int8")


def assert_names_path_and_way_out(error: BaseException, folder: Path) -> None:
    message = str(error)
    assert str(folder) in message, message
    assert any(word in message for word in WAY_OUT.split("|")), message


def test_a_whole_bundle_opens(bundle_folder):
    opened = Bundle(str(bundle_folder))
    demi = opened.manifest.ladder.find("demi")
    assert opened.graph(demi, "onnx", "int8") == bundle_folder / GRAPH
    assert opened.weights("onnx", "int8") == bundle_folder / WEIGHTS
    assert opened.tokenizer() == bundle_folder / "tokenizer.json"


def test_a_bundle_may_stand_behind_a_link(bundle_folder):
    way = bundle_folder.with_name("link")
    way.symlink_to(bundle_folder)
    assert use(way) == way / GRAPH


@pytest.mark.parametrize(
    ("spoil", "kind"),
    [
        (lambda b: shutil.rmtree(b), BundleNotFound),
        (lambda b: (shutil.rmtree(b), b.mkdir()), BundleNotFound),
        (lambda b: (shutil.rmtree(b), b.write_text("a file")), BundleNotFound),
        (lambda b: (b / "manifest.json").unlink(), BundleNotFound),
        (lambda b: (b / "manifest.json").rename(b / "starbucks.json"), BundleNotFound),
        (lambda b: (b / "manifest.json").write_text((b / "manifest.json").read_text()[:99]), BundleDamaged),
        (lambda b: (b / "manifest.json").write_bytes(b"\xff\xfe"), BundleDamaged),
        (lambda b: (b / "manifest.json").write_text("{}"), BundleDamaged),
        (lambda b: ((b / "manifest.json").unlink(), (b / "manifest.json").mkdir()), BundleDamaged),
        (lambda b: ((b / "manifest.json").rename(b / "m"), (b / "manifest.json").symlink_to(b / "m")), BundleDamaged),
        (lambda b: rewrite_manifest(b, format=FORMAT + 1), BundleTooNew),
        (lambda b: (b / GRAPH).write_bytes((b / GRAPH).read_bytes()[:-1]), BundleDamaged),
        (lambda b: (b / GRAPH).write_bytes(b""), BundleDamaged),
        (lambda b: (b / GRAPH).unlink(), BundleDamaged),
        (lambda b: shutil.rmtree(b / "onnx-int8"), BundleDamaged),
        (lambda b: ((b / GRAPH).unlink(), (b / GRAPH).mkdir()), BundleDamaged),
        (lambda b: (b / "extra.py").write_text(""), BundleDamaged),
        (lambda b: (b / "onnx-int8" / ".hidden").write_text(""), BundleDamaged),
        (lambda b: link(b / GRAPH), BundleDamaged),
        (lambda b: (b / "more").symlink_to(b / "onnx-int8"), BundleDamaged),
        (lambda b: (b / "dangling").symlink_to(b / "nowhere"), BundleDamaged),
        (lambda b: make_fifo(b / "README.md"), BundleDamaged),
    ],
    ids=[
        *("missing", "empty", "a-file", "no-manifest", "checkpoint", "manifest-cut", "manifest-binary"),
        *("manifest-foreign", "manifest-is-folder", "manifest-is-link", "newer-format", "graph-cut", "graph-empty"),
        *("graph-missing", "folder-missing", "graph-is-folder", "extra", "hidden-extra", "link", "folder-link"),
        *("dangling-link", "pipe"),
    ],
)
def test_anything_else_is_refused_at_the_door(bundle_folder, spoil: Callable[[Path], object], kind):
    spoil(bundle_folder)
    with pytest.raises(BundleError) as caught:
        Bundle(bundle_folder)
    assert type(caught.value) is kind
    assert_names_path_and_way_out(caught.value, bundle_folder)


def test_a_checkpoint_is_named_as_one(bundle_folder):
    (bundle_folder / "manifest.json").rename(bundle_folder / "starbucks.json")
    with pytest.raises(BundleNotFound, match=r"checkpoint.*edge-embed export"):
        Bundle(bundle_folder)


def test_a_real_checkpoint_is_named_as_one(tiny_checkpoint):
    with pytest.raises(BundleNotFound, match=r"checkpoint.*edge-embed export"):
        Bundle(tiny_checkpoint)


def test_a_manifest_too_large_is_not_read(bundle_folder, monkeypatch):
    monkeypatch.setattr(bundle_module, "_MANIFEST_LIMIT_BYTES", 100)
    with pytest.raises(BundleDamaged, match="larger"):
        Bundle(bundle_folder)


@pytest.mark.parametrize("path", [GRAPH, WEIGHTS])
def test_an_altered_byte_is_found_before_use(bundle_folder, path):
    flip_byte(bundle_folder / path)
    with pytest.raises(BundleDamaged, match="sha256") as caught:
        use(bundle_folder)
    assert_names_path_and_way_out(caught.value, bundle_folder / path)


def test_an_altered_tokenizer_is_found_before_use(bundle_folder):
    flip_byte(bundle_folder / "tokenizer.json")
    with pytest.raises(BundleDamaged, match="sha256"):
        Bundle(bundle_folder).tokenizer()


def test_an_altered_graph_does_not_stop_another(bundle_folder):
    flip_byte(bundle_folder / "onnx-fp32/demi.graph")
    assert use(bundle_folder) == bundle_folder / GRAPH


def test_never_hashes_nothing(bundle_folder, monkeypatch):
    flip_byte(bundle_folder / GRAPH)
    monkeypatch.setattr(bundle_module, "sha256_of", lambda path: pytest.fail(f"hashed {path}"))
    opened = Bundle(bundle_folder, verify="never")
    assert opened.graph(opened.manifest.ladder.find("demi"), "onnx", "int8") == bundle_folder / GRAPH
    assert opened.tokenizer() == bundle_folder / "tokenizer.json"


def test_never_still_checks_the_listing(bundle_folder):
    (bundle_folder / "extra").write_text("")
    with pytest.raises(BundleDamaged):
        Bundle(bundle_folder, verify="never")


def test_each_file_is_hashed_once(bundle_folder, monkeypatch):
    hashed = []
    monkeypatch.setattr(bundle_module, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    opened = Bundle(bundle_folder)
    assert hashed == []
    for tier in opened.manifest.ladder:
        opened.graph(tier, "onnx", "int8")
        opened.graph(tier, "onnx", "int8")
    assert len(hashed) == len(set(hashed)) == 4


def test_a_file_gone_after_opening_is_damage(bundle_folder):
    opened = Bundle(bundle_folder)
    (bundle_folder / "tokenizer.json").unlink()
    with pytest.raises(BundleDamaged):
        opened.tokenizer()


def test_unknown_verify(bundle_folder):
    with pytest.raises(BundleError, match=r"'sometimes'.*'always' and 'never'"):
        Bundle(bundle_folder, verify="sometimes")


def test_a_graph_that_is_not_there(tmp_path, write_bundle):
    opened = Bundle(write_bundle(tmp_path / "b", kinds=(("onnx", "int8"),)))
    with pytest.raises(BundleError, match=r"no openvino fp32 graph of demi 1x8: it has onnx int8"):
        opened.graph(opened.manifest.ladder.find("demi"), "openvino", "fp32")


@pytest.mark.parametrize(
    ("role", "ask"),
    [("weights", lambda b: b.weights("onnx", "int8")), ("tokenizer", lambda b: b.tokenizer())],
)
def test_a_manifest_without_a_needed_file(bundle_folder, role, ask):
    entries = json.loads((bundle_folder / "manifest.json").read_text())["files"]
    rewrite_manifest(bundle_folder, files=[{**e, "role": "card"} if e["role"] == role else e for e in entries])
    with pytest.raises(BundleDamaged, match=f"{role}.*export it again"):
        ask(Bundle(bundle_folder))
