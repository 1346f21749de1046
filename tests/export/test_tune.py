"""Training for int8: what the rounding does, and what the training brings."""

import copy

import numpy as np
import pytest
import torch

from edge_embed.model.checkpoint import load_checkpoint
from edge_embed_export.calibrate import observe
from edge_embed_export.condition import condition
from edge_embed_export.graph import cut, export_ladder, save
from edge_embed_export.quantize import quantize
from edge_embed_export.tune import Rounding, _round_words, _rounded, find_roundings, tune
from edge_embed_runtimes.engines import open_session
from edge_embed_runtimes.progress import silent


@pytest.fixture(scope="module")
def model(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, attention="eager")[0]


@pytest.fixture(scope="module")
def batches(model, tiny_texts):
    return list(model.encoder.tokenizer().batches(tiny_texts, batch_tokens=256))


@pytest.fixture(scope="module")
def int8(model, batches, tmp_path_factory):
    """The conditioned graph in int8, and what it does to each Linear."""
    folder = tmp_path_factory.mktemp("int8")
    plain = export_ladder(model)
    before = observe(plain, batches, folder, silent)
    ready = condition(plain, before)
    after = observe(ready, batches, folder, silent)
    return quantize(ready, after), find_roundings(plain, ready, before, after)


def vectors(model, batch) -> dict[str, np.ndarray]:
    with torch.no_grad():
        found = model(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
    return {name: rows.numpy() for name, rows in found.items()}


def loss(model, roundings, batches, wanted) -> float:
    with _rounded(model, roundings):
        found = [vectors(model, batch) for batch in batches]
    cosines = [(a[name] * b[name]).sum(1) for a, b in zip(found, wanted, strict=True) for name in a]
    return float(1 - np.concatenate(cosines).mean())


def test_the_rounding_is_that_of_the_int8_graph(model, batches, int8, tmp_path):
    graph, roundings = int8
    first = model.ladder.tiers[0]
    path = save(cut(graph, first), tmp_path / "first.onnx")
    session = open_session(path, path.with_suffix(".bin"), "onnx")
    rounded = copy.deepcopy(model).eval()
    _round_words(rounded)
    for batch in batches[:3]:
        exact = vectors(model.eval(), batch)[first.name]
        with _rounded(rounded, roundings):
            simulated = vectors(rounded, batch)[first.name]
        real = session.run(batch.input_ids, batch.attention_mask)
        # a last bit may fall on the other side of a step now and then
        assert np.mean((simulated - real) ** 2) < 0.1 * np.mean((exact - real) ** 2)


def test_tuning_comes_nearer_and_leaves_the_model_alone(model, batches, int8):
    _, roundings = int8
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = [vectors(model.eval(), batch) for batch in batches]
    tuned = tune(model, roundings, batches, silent, steps=60)
    assert loss(tuned, roundings, batches, wanted) < 0.8 * loss(copy.deepcopy(model), roundings, batches, wanted)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert tuned.state_dict().keys() == before.keys()


def test_tuning_repeats(model, batches, int8):
    _, roundings = int8
    first, second = (tune(model, roundings, batches, silent, steps=3).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_gradient_passes_the_rounding():
    linear = torch.nn.Linear(2, 1, bias=False)
    torch.nn.init.constant_(linear.weight, 0.5)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Module()
            self.encoder.backbone = torch.nn.Module()
            self.encoder.backbone.only = linear

    step = torch.tensor([0.1, 0.1])
    with _rounded(Model(), {"only": Rounding(step, -10 * step, 10 * step, torch.ones(2))}):
        x = torch.tensor([[0.14, 7.0]], requires_grad=True)
        out = linear(x)
        out.sum().backward()
    assert out.item() == pytest.approx(0.5 * (0.1 + 1.0))
    np.testing.assert_allclose(x.grad, [[0.5, 0.0]])  # none beyond the range
