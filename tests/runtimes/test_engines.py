"""One contract for every session: shape, unit length, the same vector however it is batched, an end after `close`."""

import importlib.util
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.engines import check_engine, is_installed, open_session
from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import EngineError, EngineMissing
from edge_embed_runtimes.tokenizer import pad

DIM = 16
TOLERANCE = 1e-6
KINDS = ["fake", "onnx-int8", "onnx-fp32", "openvino-int8", "openvino-fp32"]


def graph_and_weights(folder, kind: str, tier: str = "short"):
    bundle = Bundle(folder)
    engine, precision = kind.split("-")
    return bundle.graph(bundle.manifest.ladder.find(tier), engine, precision), bundle.weights(engine, precision), engine


@pytest.fixture(params=KINDS)
def session(request):
    if request.param == "fake":
        opened = FakeSession(DIM)
    else:
        opened = open_session(*graph_and_weights(request.getfixturevalue("tiny_bundle"), request.param), threads=2)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ids() -> list[list[int]]:
    generator = np.random.default_rng(7)
    return [generator.integers(5, 100, length).tolist() for length in (2, 3, 3, 5, 8, 13, 16, 16)]


def run(session, ids: list[list[int]]) -> np.ndarray:
    batch = pad(ids, pad_id=0)
    return session.run(batch.input_ids, batch.attention_mask)


def test_shape_type_and_length(session, ids):
    vectors = run(session, ids)
    assert vectors.shape == (len(ids), DIM)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_the_same_text_alone_and_in_a_padded_batch(session, ids):
    together = run(session, ids)
    alone = np.concatenate([run(session, [one]) for one in ids])
    assert np.abs(together - alone).max() <= TOLERANCE


def test_what_stands_in_the_padding_does_not_count(session, ids):
    batch = pad(ids, pad_id=0)
    other = np.where(batch.attention_mask == 1, batch.input_ids, 42)
    assert np.abs(session.run(other, batch.attention_mask) - run(session, ids)).max() <= TOLERANCE


def test_order_does_not_count(session, ids):
    assert np.abs(run(session, ids[::-1])[::-1] - run(session, ids)).max() <= TOLERANCE


def test_other_texts_get_other_vectors(session, ids):
    vectors = run(session, ids)
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    assert distances[~np.eye(len(ids), dtype=bool)].min() > 1e-4


def test_results_are_the_callers_own(session, ids):
    first = run(session, ids)
    kept = first.copy()
    run(session, ids[::-1])
    assert (first == kept).all() and first.flags.writeable


def test_close_twice_and_no_run_after(session, ids):
    run(session, ids)
    session.close()
    session.close()
    with pytest.raises(EngineError, match="closed: open the bundle again"):
        run(session, ids)


def test_several_threads_get_equal_results(session, ids):
    expected = run(session, ids)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: run(session, ids), range(24)):
            assert np.abs(vectors - expected).max() <= TOLERANCE


def test_an_input_that_fits_no_graph_is_an_engine_error(session):
    with pytest.raises(EngineError):
        session.run(np.ones((2, 4), np.int64), np.ones((2, 3), np.int64))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_number_of_threads_does_not_count(tiny_bundle, kind, ids):
    opened = [open_session(*graph_and_weights(tiny_bundle, kind), threads=threads) for threads in (1, 2)]
    one, two = (run(session, ids) for session in opened)
    assert np.abs(one - two).max() <= TOLERANCE
    for session in opened:
        session.close()


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("tier", ["demi", "short", "tall"])
def test_two_engines_one_meaning(tiny_bundle, ids, tier, precision):
    opened = [
        open_session(*graph_and_weights(tiny_bundle, f"{engine}-{precision}", tier)) for engine in ("onnx", "openvino")
    ]
    left, right = (run(session, ids) for session in opened)
    cosines = (left * right).sum(axis=1)
    assert cosines.min() >= (0.999999 if precision == "fp32" else 0.92)
    for session in opened:
        session.close()


@pytest.mark.parametrize(("low", "high"), [([5], [5, 0]), ([5, 6], [6, 5]), ([5], [5, 5])])
def test_the_fake_session_tells_texts_apart(low, high):
    session = FakeSession()
    assert np.abs(run(session, [low]) - run(session, [high])).max() > 1e-3


@pytest.mark.parametrize("engine", ["cuda", "", "ONNX", None])
def test_an_unknown_engine_lists_the_known_ones(tmp_path, engine):
    with pytest.raises(EngineError, match="is unknown: allowed are onnx, openvino"):
        open_session(tmp_path / "g", tmp_path / "w", engine)


@pytest.mark.parametrize(
    ("engine", "module", "line"),
    [("onnx", "onnxruntime", "pip install edge-embed"), ("openvino", "openvino", r"pip install 'edge-embed\[openvino")],
)
def test_a_missing_engine_says_what_to_install(monkeypatch, tmp_path, engine, module, line):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find_spec(name))
    assert not is_installed(engine)
    with pytest.raises(EngineMissing, match=line):
        check_engine(engine)
    with pytest.raises(EngineMissing, match=line):
        open_session(tmp_path / "g", tmp_path / "w", engine)


@pytest.mark.parametrize(
    ("kind", "device", "says"),
    [
        ("onnx-int8", "GPU", "runs on CPU.* here, not on 'GPU'"),
        ("openvino-int8", "TOASTER", "no device 'TOASTER' here: it has .*CPU"),
        ("openvino-int8", "", "no device '' here"),
    ],
)
def test_an_unknown_device(tmp_path, kind, device, says):
    with pytest.raises(EngineError, match=says):
        open_session(tmp_path / "g", tmp_path / "w", kind.split("-")[0], device=device)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense", b"<net></net>"])
def test_a_graph_that_can_not_be_loaded(tmp_path, engine, content):
    graph, weights = tmp_path / ("g.onnx" if engine == "onnx" else "g.xml"), tmp_path / "w.bin"
    if content is not None:
        graph.write_bytes(content)
        weights.write_bytes(b"")
    with pytest.raises(EngineError, match="can't load"):
        open_session(graph, weights, engine)
