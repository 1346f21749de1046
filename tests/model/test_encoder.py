"""Every hidden state of an encoder against transformers itself, its pooling, its files."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers

from edge_embed.model.encoder import Encoder, TextSettings, load_encoder
from edge_embed_runtimes.errors import EncoderError


@pytest.fixture(scope="module")
def reference(tiny_encoder: Path) -> transformers.BertModel:
    return transformers.AutoModel.from_pretrained(tiny_encoder).eval()


@pytest.fixture
def folder(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder, to alter."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def batch(tiny_encoder: Path, tiny_texts: list[str]) -> transformers.BatchEncoding:
    """Five texts of unlike lengths, padded by transformers."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_encoder)
    batch = tokenizer(tiny_texts[:5], padding=True, return_tensors="pt")
    assert (batch["attention_mask"].sum(1) < batch["attention_mask"].shape[1]).sum() >= 3
    return batch


@torch.inference_mode()
def run(encoder: Encoder, batch: transformers.BatchEncoding) -> tuple[torch.Tensor, ...]:
    return encoder.eval()(batch["input_ids"], batch["attention_mask"])


@torch.inference_mode()
def states_of(reference: transformers.BertModel, batch: transformers.BatchEncoding) -> tuple[torch.Tensor, ...]:
    return reference(**batch, output_hidden_states=True).hidden_states


def test_hidden_states_are_those_of_transformers(tiny_encoder, reference, batch):
    found, expected = run(load_encoder(str(tiny_encoder)), batch), states_of(reference, batch)
    assert len(found) == len(expected) == 4
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32 and torch.equal(mine, theirs)


def test_eager_attention_gives_the_same(tiny_encoder, reference, batch):
    encoder = load_encoder(str(tiny_encoder), attention="eager")
    assert encoder.backbone.config._attn_implementation == "eager"
    torch.testing.assert_close(run(encoder, batch), states_of(reference, batch), atol=1e-5, rtol=0)


def test_half_precision_weights_are_run_in_float32(folder, reference):
    reference_half = transformers.AutoModel.from_pretrained(folder, dtype=torch.float16)
    reference_half.save_pretrained(folder)
    assert {p.dtype for p in load_encoder(str(folder)).parameters()} == {torch.float32}


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_equals_the_hand_computation(tiny_encoder, reference, batch, pooling):
    encoder = load_encoder(str(tiny_encoder))
    encoder.settings = TextSettings(pooling=pooling)
    for state in states_of(reference, batch):
        found = encoder.pool(state, batch["attention_mask"])
        for row, mask in enumerate(batch["attention_mask"]):
            tokens = state[row, : int(mask.sum())]
            torch.testing.assert_close(found[row], tokens[0] if pooling == "cls" else tokens.mean(0), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_cut_keeps_the_first_layers(tiny_encoder, reference, batch, layers):
    encoder = load_encoder(str(tiny_encoder))
    assert (encoder.layers, encoder.hidden) == (3, 32)
    encoder.cut(layers)
    assert encoder.layers == len(encoder.backbone.encoder.layer) == layers
    found, expected = run(encoder, batch), states_of(reference, batch)
    assert len(found) == layers + 1
    for mine, theirs in zip(found, expected, strict=False):
        assert torch.equal(mine, theirs)


def test_a_cut_encoder_comes_back_from_disk(tiny_encoder, batch, tmp_path):
    encoder = load_encoder(str(tiny_encoder))
    encoder.cut(2)
    encoder.backbone.save_pretrained(tmp_path)
    encoder.hub_tokenizer.save_pretrained(tmp_path)
    again = load_encoder(str(tmp_path))
    assert again.layers == 2
    for mine, theirs in zip(run(again, batch), run(encoder, batch), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("limit", [None, 5])
def test_the_tokenizer_makes_the_ids_of_transformers(tiny_encoder, tiny_texts, limit):
    encoder = load_encoder(str(tiny_encoder))
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_encoder)
    found, _ = encoder.tokenizer(limit).encode(tiny_texts)
    assert found == tokenizer(tiny_texts, truncation=True, max_length=limit or 64)["input_ids"]


def test_settings_of_a_plain_folder(tiny_encoder):
    encoder = load_encoder(str(tiny_encoder))
    assert encoder.settings == TextSettings("mean", 64)  # its position table ends there
    assert encoder.name == str(tiny_encoder)


@pytest.mark.parametrize(
    ("pooling", "sentence", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, {"max_seq_length": 20}, ("cls", 20)),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, {"max_seq_length": 512}, ("mean", 64)),
        ({"pooling_mode": "cls"}, {"max_seq_length": None}, ("cls", 64)),
        ({"pooling_mode": "mean"}, {}, ("mean", 64)),
    ],
)
def test_settings_of_a_sentence_transformers_folder(folder, pooling, sentence, expected):
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (folder / "sentence_bert_config.json").write_text(json.dumps(sentence))
    assert load_encoder(str(folder)).settings == TextSettings(*expected)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_settings_that_sentence_transformers_wrote(tiny_encoder, tmp_path, pooling):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    modules = [Transformer(str(tiny_encoder)), Pooling(32, pooling_mode=pooling)]
    theirs = SentenceTransformer(modules=modules, device="cpu")
    theirs.max_seq_length = 17
    theirs.save(str(tmp_path / "theirs"), create_model_card=False)
    assert load_encoder(str(tmp_path / "theirs")).settings == TextSettings(pooling, 17)


@pytest.mark.parametrize("stated", [{"pooling_mode": "max"}, {"pooling_mode_max_tokens": True}])
def test_a_pooling_that_is_not_supported_is_refused(folder, stated):
    (folder / "1_Pooling").mkdir()
    others = dict.fromkeys(("pooling_mode_cls_token", "pooling_mode_mean_tokens"), False)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(others | stated))
    with pytest.raises(EncoderError, match="allowed are mean, cls"):
        load_encoder(str(folder))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "max"}, r"pooling 'max' is unknown: allowed are mean, cls"),
        ({"max_tokens": 2}, r"max_tokens is 2: it must leave room"),
        ({"max_tokens": -1}, r"max_tokens is -1"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(EncoderError, match=message):
        TextSettings(**settings)


def test_the_shortest_limit_is_allowed():
    assert TextSettings(max_tokens=3).max_tokens == 3


def test_a_folder_of_an_unsupported_type_is_refused(tmp_path):
    transformers.GPT2Config().save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match=r"'gpt2' are not supported: allowed are bert, roberta, "):
        load_encoder(str(tmp_path))


def test_texts_are_padded_and_cut_at_the_right(folder, tiny_texts):
    stated = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(
        json.dumps({**stated, "padding_side": "left", "truncation_side": "left"})
    )
    encoder = load_encoder(str(folder))
    longest = max(tiny_texts, key=len)
    found = encoder.hub_tokenizer(["the cat", longest], padding=True, truncation=True, max_length=8)["input_ids"]
    ids, _ = encoder.tokenizer(8).encode(["the cat", longest])
    assert found == [[*ids[0], *[encoder.hub_tokenizer.pad_token_id] * 4], ids[1]]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def shorten(path: Path) -> None:
    """Take the last layer out of the weights, while the config still promises it."""
    import safetensors.torch

    tensors = safetensors.torch.load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if "layer.2." not in name}
    assert len(kept) < len(tensors)
    safetensors.torch.save_file(kept, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.json", lambda path: path.write_text("{")),
        ("config.json", lambda path: path.write_text("{}")),
        ("model.safetensors", Path.unlink),
        ("model.safetensors", truncate),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("model.safetensors", shorten),
        ("tokenizer.json", lambda path: path.write_text("{")),
        ("tokenizer.json", Path.unlink),
    ],
    ids=["config-cut", "config-empty", "no-weights", "weights-cut", "weights-empty", "weights-lack-a-layer",
         "tokenizer-cut", "no-tokenizer"],
)  # fmt: skip
def test_a_damaged_folder_is_an_encoder_error(folder, name, damage):
    damage(folder / name)
    with pytest.raises(EncoderError, match="copy"):
        load_encoder(str(folder))
