"""The head that guesses masked words, against transformers'."""

import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.families import FAMILIES
from edge_embed.model.masked import HEAD_NAME, MaskedWords, load_masked_words, save_masked_words
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.tokenizer import pad

close = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tiny_family) -> Path:
    return tiny_family(request.param)


@pytest.fixture
def copied(tiny_encoder, tmp_path) -> Path:
    """The tiny encoder, which has no head, where one may be put beside it."""
    return shutil.copytree(tiny_encoder, tmp_path / "copied")


def batch_of(encoder: Encoder, texts: list[str]) -> tuple[Tensor, Tensor]:
    padded = pad(encoder.tokenizer().encode(texts)[0], pad_id=encoder.tokenizer().pad_id)
    return torch.from_numpy(padded.input_ids), torch.from_numpy(padded.attention_mask)


@torch.inference_mode()
def test_a_saved_head_gives_the_scores_of_transformers(folder, tiny_texts):
    encoder = load_encoder(str(folder)).eval()
    head, found = load_masked_words(encoder)
    assert found
    ids, mask = batch_of(encoder, tiny_texts[:6])
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()(input_ids=ids, attention_mask=mask).logits
    real = mask.bool()
    assert theirs[real].std() > 0.1
    torch.testing.assert_close(head(encoder(ids, mask)[-1])[real], theirs[real], **close)


def test_the_word_embeddings_are_the_encoders_own(folder):
    encoder = load_encoder(str(folder))
    head, _ = load_masked_words(encoder)
    assert set(head.state_dict()) == {"dense.weight", "dense.bias", "norm.weight", "norm.bias", "bias"}
    state = torch.ones(1, encoder.hidden)
    scores = head(state)
    scores.sum().backward()
    assert encoder.word_embeddings.weight.grad.abs().sum() > 0
    with torch.no_grad():
        encoder.word_embeddings.weight[3] += 1.0
    changed = (head(state) != scores).flatten().nonzero().flatten().tolist()
    assert changed == [3]


def test_an_encoder_without_a_head_gets_a_new_one(copied):
    encoder = load_encoder(str(copied))
    head, found = load_masked_words(encoder)
    assert not found
    assert head.dense.weight.std().item() == pytest.approx(encoder.backbone.config.initializer_range, rel=0.1)
    assert not head.dense.bias.any() and not head.bias.any() and not head.norm.bias.any()
    assert head.norm.eps == encoder.backbone.config.layer_norm_eps


def test_the_round_trip(copied):
    encoder = load_encoder(str(copied))
    head, _ = load_masked_words(encoder)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn_like(parameter))
    save_masked_words(head, copied)
    again, found = load_masked_words(encoder)
    assert found
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in head.state_dict().items())
    state = torch.randn(3, encoder.hidden)
    assert torch.equal(again(state), head(state))


def test_our_own_head_counts_before_that_of_transformers(tiny_family, tmp_path):
    folder = shutil.copytree(tiny_family("bert"), tmp_path / "copied")
    encoder = load_encoder(str(folder))
    head, _ = load_masked_words(encoder)
    with torch.no_grad():
        head.bias += 1.0
    save_masked_words(head, folder)
    assert torch.equal(load_masked_words(encoder)[0].bias, head.bias)


def damaged(path: Path) -> None:
    path.write_bytes(b"nothing of use")


def of_another_size(path: Path) -> None:
    save_masked_words(MaskedWords(torch.nn.Embedding(7, 32), "gelu", norm_eps=1e-5), path.parent)


def with_a_part_missing(path: Path) -> None:
    safetensors.torch.save_file({"bias": torch.zeros(3)}, path)


@pytest.mark.parametrize("spoil", [damaged, of_another_size, with_a_part_missing])
def test_a_head_that_can_not_be_loaded(copied, spoil):
    spoil(copied / HEAD_NAME)
    with pytest.raises(EncoderError, match=r"the masked-language head of .*copied can't be loaded \("):
        load_masked_words(load_encoder(str(copied)))


@pytest.mark.parametrize("dim", [1, 8, 32])
def test_short_states_go_through_the_first_columns(dim):
    torch.manual_seed(0)
    table = torch.nn.Embedding(11, 32)
    head = MaskedWords(table, "gelu", norm_eps=1e-5)
    with torch.no_grad():
        head.bias.copy_(torch.randn(11))
    state = torch.randn(5, dim)
    mapped = functional.gelu(state @ head.dense.weight[:, :dim].T + head.dense.bias)
    expected = functional.layer_norm(mapped, (32,), head.norm.weight, head.norm.bias, 1e-5) @ table.weight.T + head.bias
    torch.testing.assert_close(head(state), expected, **close)
    zeros = torch.zeros(5, 32 - dim)
    torch.testing.assert_close(head(state), head(torch.cat([state, zeros], dim=1)), **close)
