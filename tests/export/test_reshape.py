"""Other tiers than a checkpoint was trained for."""

import numpy as np
import pytest
import torch

from edge_embed.model.checkpoint import load_checkpoint
from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.reshape import UntrainedTier, reshape_ladder
from edge_embed_runtimes.errors import LadderError
from edge_embed_runtimes.tiers import parse_ladder


@pytest.fixture
def model(tiny_checkpoint) -> TieredEncoder:
    return load_checkpoint(tiny_checkpoint)[0]


def test_some_of_the_trained_tiers_keep_their_vectors(model, tiny_texts):
    before = encode_tiers(model, tiny_texts[:4])
    assert reshape_ladder(model, parse_ladder("small=1x8,large=2x16")) == ()
    after = encode_tiers(model, tiny_texts[:4])
    assert list(after) == ["small", "large"]
    np.testing.assert_array_equal(after["small"], before["demi"])
    np.testing.assert_array_equal(after["large"], before["short"])
    assert model.encoder.layers == 2


def test_a_narrower_tier_is_cut_from_the_head_of_its_layer(model, tiny_texts):
    before = encode_tiers(model, tiny_texts[:4])["tall"][:, :20]
    with pytest.warns(UntrainedTier, match="top 3x20 was not trained"):
        assert reshape_ladder(model, parse_ladder("demi=1x8,top=3x20")) == ("top",)
    expected = before / np.linalg.norm(before, axis=1, keepdims=True)
    np.testing.assert_allclose(encode_tiers(model, tiny_texts[:4])["top"], expected, atol=1e-6)


def test_the_layers_weigh_their_tokens_as_before(tiny_encoder, tiny_texts):
    model = TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder("1x8,2x16,3x32"), "weigh")
    torch.manual_seed(0)
    model.set_head_weights({name: torch.randn(value.shape) for name, value in model.head_weights().items()})
    before = encode_tiers(model, tiny_texts[:4])
    assert reshape_ladder(model, parse_ladder("demi=1x8,top=2x16")) == ()
    after = encode_tiers(model, tiny_texts[:4])
    np.testing.assert_array_equal(after["demi"], before["demi"])
    np.testing.assert_array_equal(after["top"], before["short"])


@pytest.mark.parametrize("spec", ["1x9", "1x8,3x33"])
def test_a_wider_tier_has_no_head(model, spec):
    with pytest.raises(LadderError, match=r"can't be cut from this checkpoint, which has demi 1x8, short 2x16"):
        reshape_ladder(model, parse_ladder(spec))


def test_a_deeper_tier_is_refused(model):
    with pytest.raises(LadderError):
        reshape_ladder(model, parse_ladder("1x8,4x32"))


def test_truncation_gives_any_size(tiny_encoder, tiny_texts):
    model = TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder("1x8,3x32"), "truncate")
    with pytest.warns(UntrainedTier):
        assert reshape_ladder(model, parse_ladder("low=1x8,mid=2x20,top=3x32")) == ("mid",)
    assert encode_tiers(model, tiny_texts[:2])["mid"].shape == (2, 20)
