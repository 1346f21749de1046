"""Going on from a smaller tier: the larger tier's own vectors, for the missing layers alone."""

import numpy as np
import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.engines.buckets import BucketSession
from edge_embed_runtimes.errors import EngineError, LadderError, SpaceMismatch, TextError
from edge_embed_runtimes.manifest import ENGINES, PRECISIONS
from edge_embed_runtimes.run import setup
from edge_embed_runtimes.tokenizer import TextCut, Tokenizer, pad


@pytest.fixture(scope="module", params=[(e, p) for e in ENGINES for p in PRECISIONS], ids="-".join)
def embedder(request, tiny_bundle):
    engine, precision = request.param
    with Embedder.open(tiny_bundle, engine=engine, precision=precision) as one:
        yield one


def own(embedder, texts, tier):
    return embedder.encode_documents(texts, tier=tier).values


@pytest.mark.parametrize("tier", ["demi", "short", "tall"])
def test_it_begins_with_the_tiers_own_vectors(embedder, tiny_texts, tier):
    first = embedder.begin(tiny_texts, tier=tier)
    assert len(first) == len(tiny_texts) and first.vectors.tier.name == tier
    assert np.abs(first.vectors.values - own(embedder, tiny_texts, tier)).max() <= 1e-6


def test_a_larger_tier_goes_on_exactly(embedder, tiny_texts):
    first = embedder.begin(tiny_texts, tier="demi")
    at_once = embedder.refine(first, to="tall")
    in_steps = embedder.refine(embedder.refine(first, to="short"), to="tall")
    expected = own(embedder, tiny_texts, "tall")
    for found in (at_once, in_steps):
        assert found.vectors.tier.name == "tall"
        assert np.abs(found.vectors.values - expected).max() <= 1e-6


def test_some_rows_in_any_order(embedder, tiny_texts):
    first = embedder.begin(tiny_texts, tier="demi")
    rows = [40, 3, 17]
    some = embedder.refine(first, to="short", rows=rows)
    assert np.abs(some.vectors.values - own(embedder, [tiny_texts[row] for row in rows], "short")).max() <= 1e-6
    one = embedder.refine(some, to="tall", rows=[1])
    assert np.abs(one.vectors.values - own(embedder, [tiny_texts[3]], "tall")).max() <= 1e-6
    assert len(embedder.refine(first, to="short", rows=[])) == 0


@pytest.fixture(scope="module")
def one(tiny_bundle):
    with Embedder.open(tiny_bundle, engine="onnx", precision="int8") as embedder:
        yield embedder


@pytest.mark.parametrize("to", ["demi", "short"])
def test_only_up(one, tiny_texts, to):
    with pytest.raises(LadderError, match="is not larger than short 2x16"):
        one.refine(one.begin(tiny_texts[:2], tier="short"), to=to)


@pytest.mark.parametrize("rows", [[2], [-1], [0, 0]])
def test_rows_that_are_not_there(one, tiny_texts, rows):
    with pytest.raises(TextError, match="allowed are different rows of 0 to 1"):
        one.refine(one.begin(tiny_texts[:2], tier="demi"), to="tall", rows=rows)


def test_only_the_missing_layers_run(one, tiny_texts, monkeypatch):
    first = one.begin(tiny_texts[:2], tier="short")
    one.refine(first, to="tall")  # known texts have run through all steps now
    leased = []
    real = one._stepper._pool.lease
    monkeypatch.setattr(one._stepper._pool, "lease", lambda graph: leased.append(graph[0]) or real(graph))
    one.refine(first, to="tall")
    assert set(leased) == {"tall"}


def test_steps_that_compute_wrongly_are_not_used(tiny_bundle, tiny_texts, monkeypatch):
    real = setup.open_graph

    def open_graph(bundle, tier, *given, role, **named):
        session = real(bundle, tier, *given, role=role, **named)
        if role == "step" and tier.name == "tall":
            compute = session.compute
            session.compute = lambda inputs: [-part for part in compute(inputs)]
        return session

    monkeypatch.setattr(setup, "open_graph", open_graph)
    with Embedder.open(tiny_bundle, engine="onnx", precision="int8") as embedder:
        first = embedder.begin(tiny_texts[:2], tier="demi")
        assert len(embedder.refine(first, to="short")) == 2
        with pytest.raises(EngineError, match="wrong vectors on this device: cosine -0"):
            embedder.refine(first, to="tall")
    with Embedder.open(tiny_bundle, engine="onnx", precision="int8", verify="never") as embedder:
        assert len(embedder.refine(embedder.begin(tiny_texts[:2], tier="demi"), to="tall")) == 2


def test_no_texts(one):
    assert one.refine(one.begin([], tier="demi"), to="tall").vectors.values.shape == (0, 32)


def test_a_cut_text_warns_at_the_callers_line(one):
    with pytest.warns(TextCut) as caught:
        one.begin(["the old man " * 400])
    assert caught[0].filename == __file__


def test_another_space_or_a_closed_embedder(tiny_bundle, one, tiny_texts):
    from dataclasses import replace

    first = one.begin(tiny_texts[:2], tier="demi")
    with pytest.raises(SpaceMismatch):
        one.refine(replace(first, vectors=replace(first.vectors, space="other")), to="tall")
    with Embedder.open(tiny_bundle, engine="onnx", precision="int8") as other:
        assert len(other.begin(tiny_texts[:2])) == 2
    with pytest.raises(EngineError, match="closed"):
        other.begin(tiny_texts[:2])
    with pytest.raises(EngineError, match="closed"):
        other.refine(first, to="tall")


def test_buckets_go_on_too(tiny_bundle, tmp_path, tiny_texts):
    """What an NPU would do, on the CPU."""
    bundle = Bundle(tiny_bundle)
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    ids, _ = tokenizer.encode(tiny_texts[:6])
    batch = pad(ids, pad_id=tokenizer.pad_id)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    for tier in bundle.manifest.ladder:
        weights = bundle.weights("openvino", "fp32")
        graphs = [bundle.graph(tier, "openvino", "fp32", role) for role in ("graph", "step")]
        whole, step = (BucketSession(path, weights, device="CPU", cache=tmp_path) for path in graphs)
        expected = whole.run(batch.input_ids, batch.attention_mask)
        vectors, *state = step.compute(inputs)
        assert np.abs(vectors - expected).max() <= 1e-5
        if state:
            inputs[f"{tier.name}.state"] = state[0]
        whole.close()
        step.close()
