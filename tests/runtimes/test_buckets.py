"""Fixed shapes for NPUs, run on the CPU."""

import os
from pathlib import Path

import numpy as np
import pytest

from edge_embed_runtimes.engines import open_session
from edge_embed_runtimes.engines.buckets import BucketSession, bucket_of
from edge_embed_runtimes.errors import EngineError

# what https://docs.openvino.ai lists as supported on NPU, as far as encoders may need it
ON_NPU = {
    "Add", "Broadcast", "Clamp", "Concat", "Const", "Convert", "CumSum", "Divide", "Equal", "FakeQuantize", "Gather",
    "Gelu", "Log", "LogicalNot", "MVN", "MatMul", "Maximum", "Minimum", "Multiply", "NormalizeL2", "Parameter",
    "Power", "Range", "ReLU", "ReduceL2", "ReduceSum", "Reshape", "Result", "Select", "ShapeOf", "Slice", "SoftMax",
    "Softmax", "Split", "Sqrt", "Squeeze", "StridedSlice", "Subtract", "Transpose", "Unsqueeze", "VariadicSplit",
}  # fmt: skip


def place(bundle: Path, precision: str, tier: str = "short") -> tuple[Path, Path]:
    folder = bundle / f"openvino-{precision}"
    return folder / f"{tier}.xml", folder / "weights.bin"


@pytest.mark.parametrize(
    ("tokens", "bucket"), [(1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (200, 256), (257, 512), (512, 512)]
)
def test_the_buckets(tokens, bucket):
    assert bucket_of(tokens) == bucket


@pytest.fixture(scope="module")
def texts() -> tuple[np.ndarray, np.ndarray]:
    """Texts of several lengths in one batch."""
    lengths = (1, 7, 16, 17, 31, 40, 64)
    ids, mask = np.zeros((2, len(lengths), 64), dtype=np.int64)
    for row, length in enumerate(lengths):
        ids[row, :length], mask[row, :length] = np.random.default_rng(row).integers(5, 116, length), 1
    return ids, mask


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_bucketed_vectors_are_those_of_the_graph(tiny_bundle, tmp_path, texts, precision):
    graph, weights = place(tiny_bundle, precision)
    session = BucketSession(graph, weights, device="CPU", cache=tmp_path / "cache")
    free = open_session(graph, weights, "openvino")
    off = np.abs(session.run(*texts) - free.run(*texts)).max(axis=1)
    # a fixed shape has kernels of its own, and int8 may turn the last bit of a sum into a step of the next quantizer
    assert (off <= 1e-6).mean() >= (0.8 if precision == "int8" else 1)
    assert off.max() < 1e-3


def test_what_was_compiled_is_kept_and_used_again(tiny_bundle, tmp_path, texts):
    graph, weights = place(tiny_bundle, "int8")
    first = BucketSession(graph, weights, device="CPU", cache=tmp_path / "cache").run(*texts)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == 3  # buckets 16, 32 and 64
    again = BucketSession(graph, weights, device="CPU", cache=tmp_path / "cache").run(*texts)
    np.testing.assert_array_equal(again, first)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == kept


@pytest.mark.skipif(os.name != "posix", reason="permissions are told in another way")
def test_nothing_is_kept_where_others_can_write(tiny_bundle, tmp_path, texts, monkeypatch, caplog):
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path))
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino").chmod(0o777)
    BucketSession(*place(tiny_bundle, "int8"), device="CPU").run(*texts)
    assert "others can write to it" in caplog.text
    assert not list((tmp_path / "openvino").iterdir())


def test_a_closed_session_and_a_wrong_shape(tiny_bundle, tmp_path, texts):
    session = BucketSession(*place(tiny_bundle, "int8"), device="CPU", cache=tmp_path / "cache")
    with pytest.raises(EngineError, match=r"expected \(batch, tokens\)"):
        session.run(texts[0], texts[1][:, :3])
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed"):
        session.run(*texts)


def test_no_npu_is_said_so(tiny_bundle):
    with pytest.raises(EngineError, match=r"no device 'NPU' here: it has .*CPU"):
        open_session(*place(tiny_bundle, "int8"), "openvino", device="NPU")


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
def test_every_operator_is_one_that_npus_have(tiny_bundle, precision):
    import xml.etree.ElementTree as ET

    found = {
        layer.attrib["type"] for layer in ET.parse(place(tiny_bundle, precision, "tall")[0]).iterfind("./layers/layer")
    }
    assert found <= ON_NPU
