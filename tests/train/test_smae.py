"""Masked autoencoding: which words are hidden, and the loss written out."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.masked import load_masked_words
from edge_embed.train.recipe_file import sources
from edge_embed.train.smae import MaskedAutoencoder, MaskedBatch, MaskingCollator, hide_words
from edge_embed.train.store import RowStore, StoredRow
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.tiers import parse_ladder

KINDS = {"bert": "word pieces", "mpnet": "word pieces", "roberta": "byte pairs", "modernbert": "byte pairs",
         "xlm-roberta": "unigrams"}  # fmt: skip
STRANGE = ("the zebra quacks", "a xylophone and today", "bright jazz follows my friend")


@pytest.fixture(scope="module", params=KINDS)
def encoder(request, tiny_family) -> Encoder:
    return load_encoder(str(tiny_family(request.param)))


@pytest.fixture(scope="module")
def texts(tiny_texts) -> list[str]:
    """Texts of whole words, and of words in pieces."""
    return [f"{text} and {STRANGE[place % 3]}" for place, text in enumerate(tiny_texts)]


def collated(encoder: Encoder, texts: Sequence[str], *, number: int = 0, seed: int = 0, limit: int = 64) -> MaskedBatch:
    """The texts, each a row of its own, at one pass."""
    drawn = [((row, number), StoredRow((text,), None, 0, row)) for row, text in enumerate(texts)]
    return MaskingCollator(encoder, max_tokens=limit, seed=seed)(drawn)


def words_of(encoder: Encoder, text: str, limit: int = 64) -> list[int | None]:
    """For each token the number of the word, between white space, that it ends in; None for special tokens."""
    tokenizer = tokenizers.Tokenizer.from_str(encoder.tokenizer_json)
    tokenizer.enable_truncation(limit)
    encoding = tokenizer.encode(text)
    special = encoding.special_tokens_mask
    ends = [end for _, end in encoding.offsets]
    return [None if special[place] else text[: ends[place]].count(" ") for place in range(len(ends))]


# Which words


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 1.0])
def test_whole_words_until_the_share_is_reached(share):
    words = [None, 0, 1, 1, 2, 3, 3, 3, 4, 5, None]
    sizes = Counter(word for word in words if word is not None)
    goal = max(1, round(share * 9))
    hidden = [hide_words(words, share, np.random.default_rng(seed)) for seed in range(50)]
    for found in hidden:
        assert not found[0] and not found[-1] and goal <= found.sum() < goal + max(sizes.values())
        chosen = {word for word, is_hidden in zip(words, found, strict=True) if is_hidden}
        assert sum(sizes[word] for word in chosen) == found.sum()
    assert (len({found.tobytes() for found in hidden}) > 5) == (share < 1)
    assert np.stack(hidden)[:, 1:-1].any(0).all()


def test_a_text_without_words_hides_nothing():
    assert not hide_words([None, None], 0.4, np.random.default_rng(0)).any()


def test_only_whole_words_are_hidden(encoder, texts):
    batch = collated(encoder, texts)
    pieces = 0
    for row, text in enumerate(texts):
        words = words_of(encoder, text)
        for hidden in (batch.hidden[row].tolist(), batch.decoder_hidden[row].tolist()):
            assert not any(hidden[len(words) :])
            assert not any(hidden[place] for place, word in enumerate(words) if word is None)
            for word in {*words} - {None}:
                found = [hidden[place] for place, other in enumerate(words) if other == word]
                assert len(set(found)) == 1
                pieces += len(found) > 1 and found[0]
    assert pieces > 20  # words of several pieces were among them


def test_how_much_is_hidden(encoder, texts):
    batch = collated(encoder, texts)
    tokens = batch.attention_mask.sum(1) - 2
    for hidden, share in ((batch.hidden, 0.2), (batch.decoder_hidden, 0.4)):
        count = hidden.sum(1)
        assert (count >= (share * tokens).round().clamp(min=1)).all()
        assert share <= (count.sum() / tokens.sum()).item() < share + 0.1  # the last word may go beyond


def test_what_is_seen_and_what_is_asked(encoder, texts):
    batch = collated(encoder, texts)
    tokenizer = tokenizers.Tokenizer.from_str(encoder.tokenizer_json)
    mask = encoder.hub_tokenizer.mask_token_id
    for row, text in enumerate(texts):
        ids = tokenizer.encode(text).ids
        assert batch.labels[row].tolist() == ids + [encoder.tokenizer().pad_id] * (batch.labels.shape[1] - len(ids))
        assert batch.attention_mask[row].sum() == len(ids)
    for seen, hidden in ((batch.input_ids, batch.hidden), (batch.decoder_ids, batch.decoder_hidden)):
        assert torch.equal(seen[~hidden], batch.labels[~hidden])
        assert (seen[hidden] == mask).float().mean() > 0.5
    assert batch.stored == tuple(range(64))


def test_of_hidden_words_few_are_left_or_replaced(encoder, texts):
    mask, kinds = encoder.hub_tokenizer.mask_token_id, Counter()
    for number in range(6):
        batch = collated(encoder, texts, number=number)
        seen, labels = batch.decoder_ids[batch.decoder_hidden], batch.labels[batch.decoder_hidden]
        kinds["mask"] += int((seen == mask).sum())
        kinds["kept"] += int((seen == labels).sum())
        kinds["other"] += int(((seen != mask) & (seen != labels)).sum())
    assert kinds["mask"] / kinds.total() == pytest.approx(0.8, abs=0.03)
    assert kinds["kept"] / kinds.total() == pytest.approx(0.1, abs=0.03)
    assert kinds["other"] / kinds.total() == pytest.approx(0.1, abs=0.03)


def test_the_seed_and_the_pass_decide(encoder, texts):
    batch = collated(encoder, texts)
    again, later, other = (collated(encoder, texts, **how) for how in ({}, {"number": 1}, {"seed": 1}))
    for name in ("input_ids", "decoder_ids", "hidden", "decoder_hidden"):
        assert torch.equal(getattr(batch, name), getattr(again, name))
        assert not torch.equal(getattr(batch, name), getattr(later, name))
        assert not torch.equal(getattr(batch, name), getattr(other, name))
    assert not torch.equal(batch.hidden & batch.decoder_hidden, batch.hidden)  # each is drawn for itself


def test_a_text_is_hidden_alike_in_every_batch(encoder, texts):
    whole, part = collated(encoder, texts), collated(encoder, texts[:3])
    length = part.labels.shape[1]
    assert torch.equal(part.hidden, whole.hidden[:3, :length])
    assert torch.equal(part.input_ids, whole.input_ids[:3, :length])


def test_long_texts_are_cut(encoder, texts):
    batch = collated(encoder, texts, limit=7)
    assert batch.labels.shape == (64, 7) and batch.attention_mask.all()
    ends = {int(batch.labels[row, -1]) for row in range(64)}
    assert len(ends) == 1  # the special token stays


@pytest.fixture
def tiny(tiny_encoder: Path) -> Encoder:
    return load_encoder(str(tiny_encoder)).eval()


def test_every_text_of_a_row_counts(write, tiny):
    store = RowStore(sources("pairs", [write("pairs", [("a cat", "the river"), ("a bird", "the old man")])]))
    drawn = [((row, 0), store[row]) for row in (2, 1)]
    batch = MaskingCollator(tiny, max_tokens=64, seed=0)(drawn)
    expected = tiny.tokenizer().encode(["a bird", "the old man", "a cat", "the river"])[0]
    assert [batch.labels[row, : len(ids)].tolist() for row, ids in enumerate(expected)] == expected
    assert len(batch.labels) == 4 and batch.stored == (2, 1)


def test_an_encoder_without_a_mask_token(tiny):
    tiny.hub_tokenizer.mask_token = None
    with pytest.raises(EncoderError, match="has no mask token: pre-training needs one; choose another encoder"):
        MaskingCollator(tiny, max_tokens=64, seed=0)


def test_a_masked_batch_on_a_device(tiny, tiny_texts):
    batch = collated(tiny, tiny_texts[:2]).to(torch.device("meta"))
    tensors = [value for value in (getattr(batch, name) for name in batch.__slots__) if isinstance(value, Tensor)]
    assert len(tensors) == 6 and {tensor.device.type for tensor in tensors} == {"meta"}
    assert batch.stored == (0, 1)


# The loss


@pytest.fixture
def objective(tiny: Encoder) -> MaskedAutoencoder:
    """Over tiers of 8, 16 and 32 values, with a new head and a new decoder, their biases among what is random."""
    torch.manual_seed(0)
    head, _ = load_masked_words(tiny)
    made = MaskedAutoencoder(tiny, head, parse_ladder("1x8,2x16,3x32"), max_tokens=64, bf16=False)
    with torch.no_grad():
        for part in (made.head, made.decoder):
            for parameter in part.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made.eval()


def cross_entropy(model: MaskedAutoencoder, state: Tensor, word: int) -> float:
    """How surprising a word is, guessed from the first values of a state."""
    head, table = model.head, model.encoder.word_embeddings.weight
    mapped = torch.stack([(head.dense.weight[out, : len(state)] * state).sum() for out in range(32)]) + head.dense.bias
    mapped = functional.gelu(mapped)
    normed = (mapped - mapped.mean()) / (mapped.var(correction=0) + head.norm.eps).sqrt()
    scores = table @ (normed * head.norm.weight + head.norm.bias) + head.bias
    return math.log(scores.double().exp().sum()) - float(scores[word])


def rebuilt(model: MaskedAutoencoder, ids: Tensor, pooled: Tensor) -> Tensor:
    """What the decoder makes of one text without padding: its pooled state in the first place, then the words."""
    decoder = model.decoder
    states = model.encoder.word_embeddings.weight[ids].clone()
    states[0] = 0
    states[0, : len(pooled)] = pooled
    states = states + decoder.positions[: len(ids)]
    normed = functional.layer_norm(states, (32,), decoder.norm.weight, decoder.norm.bias, decoder.norm.eps)
    layer = decoder.layer
    attended, _ = layer.self_attn(normed[None], normed[None], normed[None], need_weights=False)
    middle = layer.norm1(normed + attended[0])
    return layer.norm2(middle + layer.linear2(functional.gelu(layer.linear1(middle))))


def written_out(model: MaskedAutoencoder, batch: MaskedBatch) -> dict[str, float]:
    """Half the mean surprise at the words hidden from the encoder, and half that at those hidden from the decoder."""
    losses = {}
    for name, layers, dim in (("demi", 1, 8), ("short", 2, 16), ("tall", 3, 32)):
        guessed, rebuild = [], []
        for row, length in enumerate(batch.attention_mask.sum(1).tolist()):
            ids = batch.input_ids[row : row + 1, :length]
            state = model.encoder(ids, torch.ones_like(ids))[layers][0, :, :dim]
            decoded = rebuilt(model, batch.decoder_ids[row, :length], state.mean(0))
            for place in range(length):
                word = int(batch.labels[row, place])
                if batch.hidden[row, place]:
                    guessed.append(cross_entropy(model, state[place], word))
                if batch.decoder_hidden[row, place]:
                    rebuild.append(cross_entropy(model, decoded[place], word))
        losses[name] = (sum(guessed) / len(guessed) + sum(rebuild) / len(rebuild)) / 2
    return losses


@torch.no_grad()
def test_the_loss_is_its_formula(objective, tiny, tiny_texts):
    batch = collated(tiny, tiny_texts[:5])
    assert len(set(batch.attention_mask.sum(1).tolist())) > 1  # with padding
    found = {name: loss.item() for name, loss in objective(batch, 0).items()}
    expected = written_out(objective, batch)
    assert found == pytest.approx({"loss": sum(expected.values()) / 3, **expected}, abs=1e-4)
    assert len({round(loss, 2) for loss in found.values()}) > 1


def test_every_part_learns(objective, tiny, tiny_texts):
    objective(collated(tiny, tiny_texts[:5]), 0)["loss"].backward()
    still = [name for name, parameter in objective.named_parameters() if parameter.grad is None]
    assert all(".pooler." in name for name in still)
    longest = max(map(len, tiny.tokenizer().encode(tiny_texts[:5])[0]))
    assert objective.decoder.positions.grad[:longest].abs().sum(1).all()


def test_layers_above_the_ladder_take_no_part(objective, tiny, tiny_texts):
    shallow = MaskedAutoencoder(tiny, objective.head, parse_ladder("1x8,2x16"), max_tokens=64, bf16=False)
    shallow(collated(tiny, tiny_texts[:5]), 0)["loss"].backward()
    trained = {name for name, parameter in shallow.named_parameters() if parameter.requires_grad}
    assert {name for name, parameter in shallow.named_parameters() if parameter.grad is not None} == {
        name for name in trained if ".pooler." not in name
    }
    assert not any(".layer.2." in name for name in trained) and any(".layer.1." in name for name in trained)


@torch.no_grad()
def test_bf16_gives_about_the_same(objective, tiny, tiny_texts):
    batch = collated(tiny, tiny_texts[:5])
    half = MaskedAutoencoder(tiny, objective.head, parse_ladder("1x8,2x16,3x32"), max_tokens=64, bf16=True).eval()
    half.decoder.load_state_dict(objective.decoder.state_dict())
    fp32, bf16 = objective(batch, 0)["loss"], half(batch, 0)["loss"]
    assert bf16.dtype == torch.float32 and bf16 != fp32
    assert bf16.item() == pytest.approx(fp32.item(), rel=0.02)


def test_a_batch_without_words_can_be_trained(objective, tiny):
    batch = collated(tiny, ["\u200b"])
    assert not batch.hidden.any() and batch.labels.shape == (1, 2)
    loss = objective(batch, 0)["loss"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())
