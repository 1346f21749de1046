"""From texts to batches: checked input, a checked file, and a budget that is kept."""

import json
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed_runtimes import tokenizer as tokenizer_module
from edge_embed_runtimes.errors import BundleDamaged, EdgeEmbedError, TextError
from edge_embed_runtimes.tokenizer import TextCut, Tokenizer, pack, pad

CLS, SEP, UNK, PAD = 2, 3, 1, 0
sequences = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=40), max_size=90)


@pytest.fixture(scope="module")
def small(wordpiece) -> Tokenizer:
    return Tokenizer(wordpiece, max_tokens=16)


def ids_of(tokenizer: Tokenizer, *texts: str) -> list[list[int]]:
    return tokenizer.encode(texts)[0]


def test_known_text(small):
    assert ids_of(small, "A bicycle leans.", "walls") == [[CLS, 4, 5, 6, 10, SEP], [CLS, 9, 11, SEP]]
    assert small.pad_id == PAD


@pytest.mark.parametrize("text", ["", " ", "\t\n\r ", "\x00", " \x00\x01 ", "\u200b\ufeff", "\u00a0\u3000"])
def test_text_without_visible_characters_is_the_empty_text(small, text):
    assert ids_of(small, text) == [[CLS, SEP]]


def test_nul_is_dropped(small):
    assert ids_of(small, "bi\x00cycle") == ids_of(small, "bicycle")


@pytest.mark.parametrize("text", ["\U0001f6b2", "\u4e2d", "\uffff", "zebra"])
def test_unknown_characters_are_unknown_tokens(small, text):
    assert set(ids_of(small, text)[0]) <= {CLS, UNK, SEP}


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ("a bicycle", r"single text 'a bicycle': pass a list"),
        (b"a bicycle", r"single text b'a bicycle': pass a list"),
        ("\ud800", "single text"),
        (None, "NoneType: pass a list"),
        (5, "int: pass a list"),
        ((text for text in ["a"]), "generator: pass a list"),
        ({"a": 1}, "dict: pass a list"),
        (np.array(["a"]), "ndarray: pass a list"),
        (["a", None], r"item 1 is None \(NoneType\)"),
        (["a", 5], r"item 1 is 5 \(int\)"),
        ([b"a"], r"item 0 is b'a' \(bytes\)"),
        ([["a"]], r"item 0 is \['a'\] \(list\)"),
        ([float("nan")], r"item 0 is nan \(float\)"),
        (["a", "x\ud800y"], r"item 1 has a lone surrogate '\\ud800' at character 1"),
        (["\udfff"], "lone surrogate"),
    ],
)
def test_bad_input_is_named(small, texts, says):
    with pytest.raises(TextError, match=says):
        small.encode(texts)
    with pytest.raises(TextError, match=says):
        small.batches(texts)


@pytest.mark.parametrize("texts", [["a", "wall"], ("a", "wall")])
def test_any_sequence_is_taken(small, texts):
    assert ids_of(small, *texts) == [[CLS, 4, SEP], [CLS, 9, SEP]]


def test_no_texts_no_batches(small):
    assert list(small.batches([])) == []


def test_a_long_text_is_cut_and_said(small):
    with pytest.warns(TextCut, match="1 of 2 texts are longer than 16 tokens"):
        (batch,) = small.batches(["wall " * 20_000, "a"])
    assert batch.input_ids.shape == (2, 16)
    assert batch.input_ids[1].tolist() == [CLS, *[9] * 14, SEP]


def test_a_text_of_just_the_limit_is_not_cut(small):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (batch,) = small.batches(["wall " * 14])
    assert batch.input_ids.shape == (1, 16)
    assert small.encode(["wall " * 15])[1] == 1


def test_padding_and_truncation_of_the_file_do_not_count(small):
    assert ids_of(small, "a", "a a a a a") == [[CLS, 4, SEP], [CLS, 4, 4, 4, 4, 4, SEP]]


@settings(deadline=None, max_examples=80)
@given(sequences, st.integers(1, 200), st.integers(1, 64))
def test_batches_keep_rows_and_budget(ids, batch_tokens, batch_texts):
    rows, lengths = [], []
    for batch in pack(ids, pad_id=PAD, batch_tokens=batch_tokens, batch_texts=batch_texts):
        assert batch.input_ids.shape == batch.attention_mask.shape
        assert batch.input_ids.dtype == batch.attention_mask.dtype == batch.rows.dtype == np.int64
        assert len(batch.rows) <= batch_texts
        assert batch.input_ids.size <= batch_tokens or len(batch.rows) == 1
        for row, found, mask in zip(batch.rows, batch.input_ids, batch.attention_mask, strict=True):
            length = len(ids[row])
            assert found[:length].tolist() == ids[row] and (found[length:] == PAD).all()
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
            lengths.append(length)
        rows.extend(batch.rows)
    assert sorted(rows) == list(range(len(ids)))
    assert lengths == sorted(lengths)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=30), max_size=20))
def test_any_text_is_tokenized_alike_alone_and_among_others(small, texts):
    assert ids_of(small, *texts) == [ids_of(small, text)[0] for text in texts]


def test_pad_without_rows_numbers_them():
    batch = pad([[7], [8, 9]], pad_id=5)
    assert batch.rows.tolist() == [0, 1]
    assert batch.input_ids.tolist() == [[7, 5], [8, 9]] and batch.attention_mask.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("token", "expected"), [("[PAD]", 0), ("<pad>", 0), ("<|padding|>", 0), ("other", 0), ("wall=[PAD]", 9)]
)
def test_the_padding_token_is_found(wordpiece, token, expected):
    if token == "wall=[PAD]":
        text = wordpiece.replace('"[PAD]"', '"[NOPAD]"').replace('"wall"', '"[PAD]"')
    else:
        text = wordpiece.replace('"[PAD]"', json.dumps(token))
    assert Tokenizer(text, max_tokens=16).pad_id == expected


def model(**fields: object) -> str:
    return json.dumps({"version": "1.0", "added_tokens": [], "model": fields})


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", '"text"', '{"model": {}}', '{"model": []}', '{"model": {"type": null}}'),
        *("[" * 100_000, '{"a":' * 100_000, "\x00", "PK\x03\x04"),
        model(type="Pickle"),
        model(type=["BPE"]),
        model(type="WordPiece"),
        model(type="WordPiece", vocab=5),
        model(type="WordPiece", vocab={"a": -1}),
        model(type="WordPiece", vocab={"a": "\ud800"}),
        model(type="BPE", vocab={"a": 0}, merges=[["b", "c"]]),
        model(type="Unigram", vocab=[], unk_id=7),
        model(type="Unigram", vocab=[["a", 0.0]], unk_id=7),
        model(type="WordLevel", vocab={"a": 0}),
    ],
)
def test_a_foreign_or_crafted_file_is_damage(text):
    with pytest.raises(BundleDamaged, match=r"here\.json.*"):
        Tokenizer(text, max_tokens=16, origin="here.json")


@pytest.mark.parametrize("field", ["normalizer", "pre_tokenizer", "post_processor"])
def test_an_unknown_part_is_damage(wordpiece, field):
    text = json.dumps({**json.loads(wordpiece), field: {"type": "Unheard"}})
    with pytest.raises(BundleDamaged, match="can't be loaded"):
        Tokenizer(text, max_tokens=16)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": {"a": 0}}),
        ("model", {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"a": 0}}),
    ],
)  # fmt: skip
def test_a_file_that_fails_in_use_fails_as_ours(wordpiece, field, value):
    text = json.dumps({**json.loads(wordpiece), field: value})
    with pytest.raises(EdgeEmbedError):
        Tokenizer(text, max_tokens=16).encode(["zebra"])


def test_from_file(tmp_path, wordpiece, small):
    path = tmp_path / "tokenizer.json"
    path.write_text(wordpiece)
    assert ids_of(Tokenizer.from_file(path, max_tokens=16), "the wall") == ids_of(small, "the wall")


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"{}", None])
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BundleDamaged, match=re.escape(str(path))):
        Tokenizer.from_file(path, max_tokens=16)


def test_a_file_too_large_is_not_read(tmp_path, wordpiece, monkeypatch):
    path = tmp_path / "tokenizer.json"
    path.write_text(wordpiece)
    monkeypatch.setattr(tokenizer_module, "_FILE_LIMIT_BYTES", 10)
    with pytest.raises(BundleDamaged, match="larger"):
        Tokenizer.from_file(path, max_tokens=16)


def test_batches_for_lanes_hold_like_lengths_and_powers_of_two():
    lengths = [1 + number * 7 % 40 for number in range(700)]
    seen = []
    for batch in pack([[5] * length for length in lengths], pad_id=0, lanes=4):
        found = batch.attention_mask.sum(1)
        assert len(set(found // 4)) == 1
        assert len(found) <= 8 or len(found).bit_count() == 1
        assert batch.input_ids.size <= 1024
        seen += batch.rows.tolist()
    assert sorted(seen) == list(range(700))
