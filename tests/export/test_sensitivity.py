"""The product that int8 hurts most comes first."""

import itertools
from itertools import pairwise

import numpy as np
import pytest

from edge_embed_export import compiler
from edge_embed_export.calibrate import observe
from edge_embed_export.compiler import STATIC, Compiler, Int8
from edge_embed_export.linear import find_linears
from edge_embed_export.sensitivity import rank
from edge_embed_runtimes.progress import silent
from edge_embed_runtimes.tokenizer import Batch, Tokenizer

FRAGILE = "encoder.layer.1.attention.output.dense"


@pytest.fixture(scope="module")
def batches(tiny_checkpoint, tiny_texts) -> list[Batch]:
    return list(Tokenizer.from_file(tiny_checkpoint / "tokenizer.json", max_tokens=64).batches(tiny_texts))


@pytest.fixture
def fragile(traced_tall):
    """A graph with one product whose output depends on small differences of large, even inputs."""
    model = traced_tall.clone()
    for linear in find_linears(model.graph):
        if linear.name == FRAGILE:
            weight = linear.weight.copy()
            weight[0] *= 200  # no other weight of a column has a digit left
            linear.replace(model.graph, weight)
    return model


def test_the_fragile_product_is_the_first(fragile, batches, tmp_path):
    steps = []
    names = rank(fragile, observe(fragile, batches, tmp_path, silent), batches, tmp_path, lambda *s: steps.append(s))
    assert sorted(itertools.chain(*names)) == sorted(linear.name for linear in find_linears(fragile.graph))
    assert names[0] == (FRAGILE,)
    assert steps[-1][1] == steps[-1][2] == 12  # groups: four a layer


def groups_of(ways: list[Int8]) -> list[int]:
    """How many inputs are not rounded; query, key and value read one."""
    return [len({name.replace("query", "key").replace("value", "key") for name in way.keep}) for way in ways]


def test_the_ways_to_int8_end_with_everything_in_float(monkeypatch, batches, tiny_checkpoint, tmp_path, traced_tall):
    from edge_embed.model.checkpoint import load_checkpoint

    monkeypatch.setattr(compiler, "export_ladder", lambda model: traced_tall)
    model, _ = load_checkpoint(tiny_checkpoint, attention="eager")
    made = Compiler(model, batches, tmp_path, silent)
    onnx, openvino = (list(made.ways(engine, hardest=lambda: batches)) for engine in ("onnx", "openvino"))
    assert onnx[0] == openvino[0] == STATIC
    assert openvino[3] == Int8("dynamic")
    assert groups_of(onnx) == [0, 1, 2, 4, 8, 12]
    assert groups_of(openvino) == [0, 1, 2, 0, 4, 8, 12]
    assert all(set(low.keep) < set(high.keep) for low, high in pairwise(onnx))
    assert np.all([way.form == "static" for way in onnx])
