"""Texts and pairs, from files to batches."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed.model.encoder import load_encoder
from edge_embed.train.data import Collator, Corpus, RowDataset, read_corpus
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.tokenizer import Tokenizer


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    texts = write(tmp_path / "texts.txt", "a cat\n\n the river \na cat\nthe old man sees the house\n")
    pairs = write(
        tmp_path / "pairs.tsv.gz", "one\ttwo\tthree\na cat\ta bird\tx\nthe train\ta cat\ty\na cat\ta bird\tz\n"
    )
    return read_corpus((texts,), (pairs,))


def test_texts_and_pairs_are_read_once_each(corpus):
    assert corpus.texts == ("a cat", "the river", "the old man sees the house", "a bird", "the train")
    assert corpus.rows == ((0, None), (1, None), (2, None), (0, 3), (4, 0))


def test_files_are_known_by_their_hashes(corpus, tmp_path):
    assert dict(corpus.hashes) == {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("texts.txt", "pairs.tsv.gz")
    }


def test_two_files_of_one_name_keep_both_hashes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    files = [write(tmp_path / "a" / "texts.txt", "a cat\n"), write(tmp_path / "b" / "texts.txt", "a bird\n")]
    found = set(read_corpus(files, ()).hashes.values())
    assert found == {hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_pairs_alone_and_several_files(tmp_path):
    one = write(tmp_path / "one.tsv", "x\ty\na\tb\n")
    two = write(tmp_path / "two.tsv", "x\ty\r\nb\ta\r\n")
    assert read_corpus((), (one, two)).rows == ((0, 1), (1, 0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x\ty\na\tb\nc\n", r"pairs.tsv, line 3: column 'y' is empty"),
        ("x\ty\na\tb\nc\t \n", r"pairs.tsv, line 3: column 'y' is empty"),
        ("x\ty\n\tb\n", r"pairs.tsv, line 2: column 'x' is empty"),
        ("x\ty\na\tb\n\nc\td\n", r"pairs.tsv, line 3: column 'x' is empty"),
        ("x\na\n", r"pairs.tsv, line 1: the header is \['x'\], expected .* 2 columns"),
        ("", r"pairs.tsv, line 1: the header is \[\]"),
        ("x\ty\n", r"0 texts are too few"),
        ("x\ty\na\ta\n", r"1 texts are too few"),
    ],
)
def test_a_wrong_row_names_its_place(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_corpus((), (write(tmp_path / "pairs.tsv", content),))


def test_too_few_texts(tmp_path):
    with pytest.raises(DataError, match="1 texts are too few to train on"):
        read_corpus((write(tmp_path / "texts.txt", "a cat\na cat \n"),), ())


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(DataError, match=r"none\.txt can't be read"):
        read_corpus((tmp_path / "none.txt",), ())
    with pytest.raises(DataError, match=r"blank\.txt holds no text"):
        read_corpus((write(tmp_path / "blank.txt", "\n \n"),), ())


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> Tokenizer:
    return load_encoder(str(tiny_encoder)).tokenizer(6)


def test_the_dataset_holds_ids_cut_at_the_limit(corpus, tokenizer):
    dataset = RowDataset(corpus, tokenizer)
    assert len(dataset) == 5 and [len(ids) for ids in dataset.ids] == [4, 4, 6, 4, 4]
    assert dataset[3] == {"input_ids": tokenizer.encode(["a cat"])[0][0], "text": 0, "partner": 3}
    assert dataset[1]["partner"] is None


def test_partners_stand_after_the_texts(corpus, tokenizer):
    dataset = RowDataset(corpus, tokenizer)
    batch = Collator(dataset.ids, tokenizer.pad_id)([dataset[row] for row in (4, 2, 3)])
    assert batch["texts"].tolist() == [4, 2, 0, 0, 3]
    assert batch["pairs"].tolist() == [[0, 3], [2, 4]]
    for first, second in batch["pairs"].tolist():
        assert (int(batch["texts"][first]), int(batch["texts"][second])) in corpus.rows


def test_padding_stands_at_the_right(corpus, tokenizer):
    dataset = RowDataset(corpus, tokenizer)
    batch = Collator(dataset.ids, 99)([dataset[row] for row in (3, 2)])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (3, 6)
    for row, text in enumerate(batch["texts"].tolist()):
        ids = dataset.ids[text]
        assert batch["input_ids"][row].tolist() == ids + [99] * (6 - len(ids))
        assert batch["attention_mask"][row].tolist() == [1] * len(ids) + [0] * (6 - len(ids))
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_batch_without_pairs(corpus, tokenizer):
    dataset = RowDataset(corpus, tokenizer)
    batch = Collator(dataset.ids, 0)([dataset[0], dataset[1]])
    assert batch["pairs"].shape == (0, 2) and batch["pairs"].dtype == torch.int64
    np.testing.assert_array_equal(batch["texts"], [0, 1])
