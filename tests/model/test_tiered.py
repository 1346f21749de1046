"""The vectors of every tier against plain transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from edge_embed.model.encoder import TextSettings, load_encoder
from edge_embed.model.tiered import TieredEncoder, encode_tiers, pooled_states
from edge_embed_runtimes.errors import LadderError, TextError
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")


@pytest.fixture(scope="module")
def expected_states(tiny_encoder: Path, tiny_texts: list[str]) -> dict[str, torch.Tensor]:
    """What plain transformers pools, a text at a time: pooling to (layers + 1, texts, hidden)."""
    model = transformers.AutoModel.from_pretrained(tiny_encoder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_encoder)
    rows = []
    with torch.inference_mode():
        for text in tiny_texts:
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
            rows.append(torch.cat(states))
    return {
        "mean": torch.stack([row.mean(1) for row in rows], 1),
        "cls": torch.stack([row[:, 0] for row in rows], 1),
    }


def build(tiny_encoder: Path, head: str, pooling: str = "mean") -> TieredEncoder:
    encoder = load_encoder(str(tiny_encoder))
    encoder.settings = TextSettings(pooling, encoder.settings.max_tokens)
    return TieredEncoder(encoder, LADDER, head)


def normal(vectors: torch.Tensor) -> np.ndarray:
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_truncate_is_the_unit_length_start_of_the_pooled_state(tiny_encoder, tiny_texts, expected_states, pooling):
    found = encode_tiers(build(tiny_encoder, "truncate", pooling), tiny_texts)
    assert list(found) == ["demi", "short", "tall"]
    for tier in LADDER:
        expected = normal(expected_states[pooling][tier.layers][:, : tier.dim])
        assert found[tier.name].dtype == np.float32
        np.testing.assert_allclose(found[tier.name], expected, atol=2e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_project_is_the_pooled_state_times_the_matrix(tiny_encoder, tiny_texts, expected_states, pooling):
    model = build(tiny_encoder, "project", pooling)
    torch.manual_seed(3)
    matrices = {tier.name: torch.randn(32, tier.dim) for tier in LADDER}
    for tier in LADDER:
        model.set_head(tier, matrices[tier.name])
    found = encode_tiers(model, tiny_texts)
    for tier in LADDER:
        expected = normal(expected_states[pooling][tier.layers] @ matrices[tier.name])
        np.testing.assert_allclose(found[tier.name], expected, atol=2e-6)


def test_weigh_is_the_weighted_mean_times_the_matrix(tiny_encoder, tiny_texts):
    model = build(tiny_encoder, "weigh")
    assert list(model.token_weights) == ["1", "2"], "the full tier stays a plain mean, as other libraries read it"
    torch.manual_seed(3)
    model.set_head_weights({name: torch.randn(value.shape) for name, value in model.head_weights().items()})
    found = encode_tiers(model, tiny_texts)
    tokenizer = model.encoder.tokenizer()
    for row, text in enumerate(tiny_texts[:8]):
        ids = torch.tensor(tokenizer.encode([text])[0])
        states = model.encoder(ids, torch.ones_like(ids))
        for tier in LADDER:
            tokens, weights = states[tier.layers][0], torch.ones(len(ids[0]))
            if tier.layers < 3:
                weights = torch.sigmoid((tokens @ model.token_weights[str(tier.layers)])[:, 0])
            pooled = (weights[:, None] * tokens).sum(0) / weights.sum()
            expected = normal((pooled @ model.head_weights()[tier.name])[None].detach())
            np.testing.assert_allclose(found[tier.name][row], expected[0], atol=2e-6)


def test_weigh_begins_as_project(tiny_encoder, tiny_texts):
    weigh, project = (encode_tiers(build(tiny_encoder, head), tiny_texts) for head in ("weigh", "project"))
    for tier in LADDER:
        np.testing.assert_allclose(weigh[tier.name], project[tier.name], atol=1e-6)


def test_tokens_are_weighed_in_a_mean_alone(tiny_encoder):
    with pytest.raises(LadderError, match=r"head weigh needs mean pooling, .* has cls"):
        build(tiny_encoder, "weigh", "cls")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda weights: weights.pop("tokens-l1"), "they must be"),
        (lambda weights: weights.update(extra=torch.zeros(1)), "they must be"),
        (lambda weights: weights.update({"tokens-l1": torch.zeros(7, 1)}), r"tokens-l1 has the shape \(7, 1\)"),
        (lambda weights: weights.update(demi=torch.zeros(32, 9)), r"demi has the shape \(32, 9\)"),
    ],
)
def test_head_weights_that_do_not_fit(tiny_encoder, change, says):
    model = build(tiny_encoder, "weigh")
    weights = model.head_weights()
    change(weights)
    with pytest.raises(LadderError, match=says):
        model.set_head_weights(weights)


def test_project_begins_as_truncation(tiny_encoder, tiny_texts):
    project = encode_tiers(build(tiny_encoder, "project"), tiny_texts)
    truncate = encode_tiers(build(tiny_encoder, "truncate"), tiny_texts)
    for tier in LADDER:
        np.testing.assert_allclose(project[tier.name], truncate[tier.name], atol=1e-6)


def test_truncate_has_no_weights_of_its_own(tiny_encoder):
    model = build(tiny_encoder, "truncate")
    assert len(list(model.parameters())) == len(list(model.encoder.parameters()))
    assert len(list(build(tiny_encoder, "project").parameters())) == len(list(model.parameters())) + 3


def test_layers_above_the_top_are_dropped(tiny_encoder):
    model = TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder("1x8,2x16"), "truncate")
    assert model.encoder.layers == len(model.encoder.backbone.encoder.layer) == 2


def test_one_pass_serves_every_tier(tiny_encoder, tiny_texts):
    model = build(tiny_encoder, "project").eval()
    batch = next(model.encoder.tokenizer().batches(tiny_texts[:4]))
    with torch.inference_mode():
        found = model(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
    vectors = encode_tiers(model, tiny_texts[:4])
    for tier in LADDER:
        assert found[tier.name].shape == (4, tier.dim)
        np.testing.assert_allclose(found[tier.name].numpy(), vectors[tier.name][batch.rows], atol=1e-6)


@pytest.mark.parametrize("head", ["truncate", "project"])
@pytest.mark.parametrize(
    ("spec", "message"),
    [("1x8,4x16", r"short 4x16 is deeper.*3 layers"), ("1x8,2x33", r"short 2x33 is wider.*32 dim")],
)
def test_a_ladder_larger_than_the_encoder_is_refused(tiny_encoder, spec, message, head):
    with pytest.raises(LadderError, match=message):
        TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder(spec), head)


def test_an_unknown_head_is_refused(tiny_encoder):
    with pytest.raises(LadderError, match=r"head 'linear' is unknown: allowed are project, truncate, weigh"):
        TieredEncoder(load_encoder(str(tiny_encoder)), LADDER, "linear")


def test_pooled_states_of_any_layer(tiny_encoder, tiny_texts, expected_states):
    found = pooled_states(load_encoder(str(tiny_encoder)), tiny_texts, layers=(0, 2))
    assert list(found) == [0, 2]
    for layer, states in found.items():
        np.testing.assert_allclose(states, expected_states["mean"][layer].numpy(), atol=5e-6)


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> TieredEncoder:
    return build(tiny_encoder, "project")


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(5, 40, 3), [7, 7, 0]])
def test_the_order_is_the_callers(model, tiny_texts, order):
    texts = list(np.array(tiny_texts)[order])
    some, states = encode_tiers(model, texts), pooled_states(model.encoder, texts, layers=(2,))
    every, all_states = encode_tiers(model, tiny_texts), pooled_states(model.encoder, tiny_texts, layers=(2,))
    for tier in LADDER:
        np.testing.assert_allclose(some[tier.name], every[tier.name][order], atol=1e-6)
    np.testing.assert_allclose(states[2], all_states[2][order], atol=1e-6 * np.abs(all_states[2]).max())


def test_a_vector_does_not_depend_on_its_batch(model, tiny_texts):
    together = encode_tiers(model, tiny_texts)
    alone = [encode_tiers(model, [text]) for text in tiny_texts[:8]]
    for tier in LADDER:
        rows = np.concatenate([vectors[tier.name] for vectors in alone])
        np.testing.assert_allclose(rows, together[tier.name][:8], atol=1e-6)


def test_dropout_is_off_while_encoding(model, tiny_texts):
    model.train()
    first, second = encode_tiers(model, tiny_texts[:3]), encode_tiers(model, tiny_texts[:3])
    assert all(np.array_equal(first[tier.name], second[tier.name]) for tier in LADDER)
    model.train()
    again = [pooled_states(model.encoder.train(), tiny_texts[:3], layers=(3,))[3] for _ in range(2)]
    assert np.array_equal(*again)


def test_progress_is_told(model, tiny_texts):
    told = []
    pooled_states(model.encoder, tiny_texts, layers=(1,), progress=lambda *step: told.append(step), stage="look")
    assert told[-1] == ("look", 64, 64) and [step[1] for step in told] == sorted(step[1] for step in told)


def test_no_text_gives_no_row(model):
    assert {name: vectors.shape for name, vectors in encode_tiers(model, []).items()} == {
        "demi": (0, 8), "short": (0, 16), "tall": (0, 32),
    }  # fmt: skip


@pytest.mark.parametrize("texts", ["a cat", ["a cat", None]])
def test_what_is_no_list_of_texts_is_refused(model, texts):
    with pytest.raises(TextError):
        encode_tiers(model, texts)
