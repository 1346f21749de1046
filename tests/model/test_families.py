"""Every kind of encoder against transformers and sentence-transformers: one body of tests for all."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from edge_embed.model.checkpoint import Origin, load_checkpoint, save_checkpoint, space_of
from edge_embed.model.encoder import Encoder, TextSettings, load_encoder
from edge_embed.model.families import FAMILIES, family_of
from edge_embed.model.quiet import quiet
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import pad

close = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module", params=FAMILIES)
def model_type(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tiny_family, model_type) -> Path:
    return tiny_family(model_type)


@pytest.fixture(scope="module")
def ids(folder, tiny_texts) -> list[list[int]]:
    """Five texts from short to 63 tokens, so that beside the longest a short one is mostly padding."""
    texts = [*sorted(tiny_texts[:4], key=len), " and ".join(tiny_texts[:9])]
    return load_encoder(str(folder)).tokenizer(63).encode(texts)[0]


@pytest.fixture(scope="module")
def batch(folder, ids) -> tuple[Tensor, Tensor]:
    return padded(ids, load_encoder(str(folder)).tokenizer().pad_id)


def padded(ids: list[list[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    batch = pad(ids, pad_id=pad_id)
    return torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)


@torch.inference_mode()
def run(encoder: Encoder, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    return encoder.eval()(*batch)


def shorter(folder: Path, layers: int) -> transformers.PreTrainedModel:
    """What transformers makes of a folder whose config promises fewer layers; it makes no model without any."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = max(layers, 1)
    if config.model_type == "modernbert":
        config.layer_types = config.layer_types[: max(layers, 1)]
    with quiet():
        model = transformers.AutoModel.from_pretrained(folder, config=config).eval()
    if layers == 0:
        model.set_submodule(FAMILIES[config.model_type].layers, torch.nn.ModuleList())
    return model


def test_words_that_are_at_hand_give_the_same_states(folder, batch):
    encoder = load_encoder(str(folder)).eval()
    with torch.inference_mode():
        found, expected = encoder(*batch, encoder.word_embeddings(batch[0])), encoder(*batch)
        altered = encoder(*batch, encoder.word_embeddings(batch[0]).roll(1, dims=1))
    words = batch[1].bool()
    for mine, theirs, other in zip(found, expected, altered, strict=True):
        torch.testing.assert_close(mine[words], theirs[words], **close)
        assert not torch.allclose(other[words], theirs[words], atol=1e-2)


@pytest.mark.parametrize("layers", range(5))
def test_a_state_is_the_last_one_of_a_shorter_encoder(folder, batch, layers):
    states = run(load_encoder(str(folder)), batch)
    assert len(states) == 5
    with torch.inference_mode():
        expected = shorter(folder, layers)(input_ids=batch[0], attention_mask=batch[1]).last_hidden_state
    assert expected.shape == states[layers].shape == (5, 63, 32)
    real = batch[1].bool()
    torch.testing.assert_close(states[layers][real], expected[real], **close)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_cut_encoder_is_a_prefix_and_comes_back_from_disk(folder, batch, tmp_path, layers):
    encoder = load_encoder(str(folder))
    states = run(encoder, batch)
    encoder.cut(layers)
    encoder.backbone.save_pretrained(tmp_path)
    encoder.hub_tokenizer.save_pretrained(tmp_path)
    again = load_encoder(str(tmp_path))
    assert encoder.layers == again.layers == len(again.backbone.get_submodule(again.family.layers)) == layers
    for found in (run(encoder, batch), run(again, batch)):
        assert len(found) == layers + 1
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(found, states, strict=False))


@pytest.mark.parametrize("padding", ["own", 4])
def test_padding_changes_nothing(folder, ids, padding):
    encoder = load_encoder(str(folder))
    pad_id = encoder.tokenizer().pad_id if padding == "own" else padding
    together = run(encoder, padded(ids, pad_id))
    for row, sequence in enumerate(ids):
        alone = run(encoder, padded([sequence], pad_id))
        for mine, theirs in zip(alone, together, strict=True):
            torch.testing.assert_close(mine[0], theirs[row, : len(sequence)], **close)
            assert torch.isfinite(theirs).all()  # padding of no number would spoil the mean


def test_eager_is_fused_attention(folder, batch):
    encoders = {kind: load_encoder(str(folder), attention=kind) for kind in ("sdpa", "eager")}
    used = {kind: encoder.backbone.config._attn_implementation for kind, encoder in encoders.items()}
    assert used == {"sdpa": "sdpa" if encoders["sdpa"].family.sdpa else "eager", "eager": "eager"}
    real = batch[1].bool()
    for one, other in zip(*(run(encoder, batch) for encoder in encoders.values()), strict=True):
        torch.testing.assert_close(one[real], other[real], **close)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_an_additive_mask_gives_the_same(tiny_family, ids, attention, model_type):
    encoder = load_encoder(str(tiny_family(model_type)), attention=attention)
    input_ids, mask = padded(ids, encoder.tokenizer().pad_id)
    additive = (1 - mask[:, None, None].float()) * torch.finfo(torch.float32).min
    for one, other in zip(run(encoder, (input_ids, mask)), run(encoder, (input_ids, additive)), strict=True):
        torch.testing.assert_close(one[mask.bool()], other[mask.bool()], **close)


def test_the_longest_text_fills_the_positions(folder):
    encoder = load_encoder(str(folder))
    assert encoder.settings == TextSettings("mean", 80)
    texts = torch.full((1, 80), 20)
    assert all(torch.isfinite(state).all() for state in run(encoder, (texts, torch.ones_like(texts))))
    if not hasattr(encoder.backbone, "rotary_emb"):  # else there is no table to run out of
        with pytest.raises((IndexError, RuntimeError)):
            run(encoder, (torch.full((1, 81), 20), torch.ones(1, 81, dtype=torch.int64)))


@pytest.mark.parametrize("limit", [None, 7])
def test_the_tokenizer_makes_the_ids_of_transformers(folder, tiny_texts, limit):
    texts = [
        *tiny_texts,
        "",
        "Zebra \u00e9t\u00e9 \u4e2d \U0001f6b2!",
        "two  spaces\nand a line",
        "a [MASK] <mask> </s>",
    ]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    found, _ = load_encoder(str(folder)).tokenizer(limit).encode(texts)
    assert found == theirs(texts, truncation=True, max_length=limit or 64)["input_ids"]
    assert load_encoder(str(folder)).tokenizer().pad_id == theirs.pad_token_id


def gradients(encoder: Encoder, batch: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """All states in train mode, dropout and all, and the gradients of a loss that needs each of them."""
    torch.manual_seed(3)
    states = encoder.train()(*batch)
    encoder.zero_grad()
    sum(encoder.pool(state, batch[1]).square().sum() / (layer + 1) for layer, state in enumerate(states)).backward()
    return states, {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


def enable_checkpointing(encoder: Encoder, *, reentrant: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers gives it another name in version 6
        encoder.backbone.gradient_checkpointing_enable({"use_reentrant": reentrant})


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_changes_nothing(folder, batch, reentrant):
    encoder = load_encoder(str(folder))
    states, plain = gradients(encoder, batch)
    assert {name for name, _ in encoder.named_parameters() if ".pooler." not in name} == set(plain)
    assert all(torch.isfinite(gradient).all() for gradient in plain.values())
    enable_checkpointing(encoder, reentrant=reentrant)
    again, found = gradients(encoder, batch)
    torch.testing.assert_close(again, states, **close)
    assert found.keys() == plain.keys()
    scale = max(float(gradient.abs().max()) for gradient in plain.values())
    for name, gradient in plain.items():
        torch.testing.assert_close(found[name] / scale, gradient / scale, **close, msg=name)


def test_gradient_checkpointing_makes_each_layer_again(folder, batch):
    encoder = load_encoder(str(folder))
    runs: list[str] = []
    for number, layer in encoder.backbone.get_submodule(encoder.family.layers).named_children():
        norm = next(module for module in layer.modules() if isinstance(module, torch.nn.LayerNorm))
        norm.register_forward_hook(lambda *_, number=number: runs.append(number))
    gradients(encoder, batch)
    assert runs == ["0", "1", "2", "3"]
    enable_checkpointing(encoder, reentrant=False)
    gradients(encoder, batch)
    assert runs[4:] == ["0", "1", "2", "3", "3", "2", "1", "0"]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("spec", ["1x8,2x16,4x32", "1x8,3x20"])
def test_the_round_trip_and_sentence_transformers(folder, tiny_texts, tmp_path, spec, pooling):
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(str(folder))
    encoder.settings = TextSettings(pooling, 64)
    model = TieredEncoder(encoder, parse_ladder(spec), "truncate")
    save_checkpoint(model, tmp_path / "out", Origin("tiny"))
    again, _ = load_checkpoint(tmp_path / "out")
    assert space_of(again) == space_of(model) and again.encoder.settings == encoder.settings
    texts = sorted(tiny_texts[:12], key=len, reverse=True)
    before, after = encode_tiers(model, texts), encode_tiers(again, texts)
    assert all(np.array_equal(before[tier.name], after[tier.name]) for tier in model.ladder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # sentence-transformers' own, on module names of version 5
        theirs = SentenceTransformer(str(tmp_path / "out"), device="cpu", local_files_only=True)
    found = theirs.encode(texts, batch_size=5, show_progress_bar=False)
    np.testing.assert_allclose(before[model.ladder.top.name], found, atol=1e-5)


def test_the_masked_head_is_where_the_table_says(folder, model_type, batch):
    whole = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    head = family_of(model_type).head
    key = head.activation_key
    activation = transformers.activations.ACT2FN[getattr(whole.config, key) if key else "gelu"]
    decoder = whole.get_submodule(head.decoder)
    assert decoder.weight is whole.get_submodule(head.backbone).get_input_embeddings().weight
    assert whole.get_parameter(head.bias) is decoder.bias
    with torch.inference_mode():
        state = whole.get_submodule(head.backbone)(input_ids=batch[0], attention_mask=batch[1]).last_hidden_state
        found = decoder(whole.get_submodule(head.norm)(activation(whole.get_submodule(head.dense)(state))))
        expected = whole(input_ids=batch[0], attention_mask=batch[1]).logits
    torch.testing.assert_close(found, expected, **close)


def test_the_word_embeddings(folder, batch):
    encoder = load_encoder(str(folder))
    table = encoder.word_embeddings
    assert table.weight.shape == (encoder.backbone.config.vocab_size, encoder.hidden)
    before = run(encoder, batch)[0]
    with torch.no_grad():
        table.weight += 1.0
        table.weight[batch[0][0, 1]] *= 2.0
    assert not torch.equal(run(encoder, batch)[0], before)


def test_an_unsupported_type_names_the_supported():
    assert family_of("bert") is FAMILIES["bert"]
    with pytest.raises(EncoderError, match=r"'gpt2' are not supported: allowed are bert, roberta, xlm-roberta, dist"):
        family_of("gpt2")
