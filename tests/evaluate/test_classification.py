"""Classification: reading train and test files, the probe against scikit-learn called by hand."""

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

from edge_embed.evaluate import classification
from edge_embed.evaluate.classification import (
    ClassificationScores,
    ClassificationSet,
    LabelledTexts,
    ProbeUnfinished,
    probe,
    read_classification,
    score_classification,
)
from edge_embed_runtimes.errors import DataError

TRAIN = "text\tlabel\nwhere?\tplace\nwho?\tperson\nwhich town?\tplace\n"
TEST = "text\tlabel\nwhat city?\tplace\n"


def write(folder: Path, *, train: object = TRAIN, test: object = TEST, names=("train.tsv", "test.tsv")) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in zip(names, (train, test), strict=True):
        if content is not None:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_reads_a_folder(tmp_path):
    folder = write(tmp_path / "trec")
    assert read_classification(folder) == ClassificationSet(
        "trec",
        LabelledTexts(str(folder / "train.tsv"), ("where?", "who?", "which town?"), ("place", "person", "place")),
        LabelledTexts(str(folder / "test.tsv"), ("what city?",), ("place",)),
    )


def parquet(texts: list, labels: list) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"label": labels, "text": texts}), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl", ".parquet"])
def test_every_kind_of_file_spells_labels_alike(tmp_path, ending, packed):
    test = {
        ".tsv": b'label\ttext\tid\n1\t "a, b"\tx\n',
        ".csv": b'label,text\n1,"""a, b"""\n',
        ".jsonl": b'{"text": "\\"a, b\\"", "label": 1}\n',
        ".parquet": parquet(['"a, b"'], [1.0]),
    }[ending]
    name = f"test{ending}.gz" if packed else f"test{ending}"
    content = gzip.compress(test) if packed else test
    train = '{"text": "a", "label": "1"}\n{"text": "b", "label": 2.5}\n{"text": "c", "label": true}\n'
    data = read_classification(write(tmp_path / "d", train=train, test=content, names=("train.jsonl", name)))
    assert data.train.labels == ("1", "2.5", "True")
    assert (data.test.texts, data.test.labels) == (('"a, b"',), ("1",))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train": None}, ["holds no train file", "train.tsv, train.tsv.gz, train.csv"]),
        ({"test": None}, ["holds no test file"]),
        ({"train": ""}, ["train.tsv", "line 1"]),
        ({"test": "text\tlabel\n"}, ["test.tsv holds no row"]),
        ({"train": "text\tkind\na\tb\n"}, ["train.tsv, line 1", "text, label"]),
        ({"train": TRAIN + "a\n"}, ["train.tsv, line 5", "'label'"]),
        ({"train": TRAIN + " \tplace\n"}, ["train.tsv, line 5", "'text'", "expected a text"]),
        ({"train": TRAIN + "what?\t \n"}, ["train.tsv, line 5", "'label'", "a word or a number"]),
        ({"train": "text\tlabel\na\tx\nb\tx\n"}, ["train.tsv", "every label is 'x'", "two different"]),
        ({"test": TEST + "a\tthing\nb\tPlace\n"}, ["test.tsv", "'Place' (2 such in all)", "train.tsv"]),
        ({"test": b"text\tlabel\na\xff\tplace\n"}, ["test.tsv", "UTF-8"]),
    ],
)
def test_a_bad_folder_is_refused(tmp_path, change, says):
    folder = write(tmp_path / "bad", **change)
    with pytest.raises(DataError) as caught:
        read_classification(folder)
    for words in (str(folder), *says):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": "a"}, "'label' is None"),
        ({"label": "a"}, "'text' is None"),
        ({"text": 7, "label": "place"}, "'text' is 7"),
        ({"text": "a", "label": ["place"]}, "'label' is"),
        ({"text": "a", "label": float("nan")}, "'label' is nan"),
        ({"text": "a\ud800", "label": "place"}, "lone surrogate"),
    ],
)
def test_a_bad_object_is_refused(tmp_path, row, says):
    content = json.dumps({"text": "a", "label": "place"}) + "\n" + json.dumps(row) + "\n"
    folder = write(tmp_path / "bad", test=content, names=("train.tsv", "test.jsonl"))
    with pytest.raises(DataError, match=rf"test\.jsonl, line 2: .*{says}"):
        read_classification(folder)


def test_two_files_for_one_part_are_refused(tmp_path):
    folder = write(tmp_path / "twice")
    (folder / "train.csv").write_text("text,label\n")
    with pytest.raises(DataError, match=r"holds train\.tsv and train\.csv: expected one of"):
        read_classification(folder)


@pytest.mark.parametrize(("texts", "labels"), [((), ()), (("a",), ()), (("a",), ("x", "y"))])
def test_texts_made_by_hand_are_checked_too(texts, labels):
    with pytest.raises(DataError, match="mine has"):
        LabelledTexts("mine", texts, labels)


def clouds(count: int, dim: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Unit rows around three centres that overlap, and whose they are."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    rows = np.eye(3, dim)[labels] + 0.8 * random.normal(size=(count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), [f"kind {x}" for x in labels]


@pytest.mark.parametrize("dim", [3, 16])
def test_the_probe_is_scikit_learn_called_by_hand(dim):
    train, train_labels = clouds(300, dim, 0)
    test, test_labels = clouds(100, dim, 1)
    theirs = LogisticRegression(C=1.0, max_iter=1000).fit(train.astype(float), train_labels).predict(test.astype(float))
    ours = probe(train, train_labels, test, test_labels)
    assert ours.accuracy == accuracy_score(test_labels, theirs)
    assert ours.macro_f1 == f1_score(test_labels, theirs, average="macro")
    assert ours.converged
    assert 0.4 < ours.accuracy < 1
    assert ours == probe(train, train_labels, test, test_labels)


def test_the_probe_computes_in_float64(monkeypatch):
    train, labels = clouds(50, 4, 0)
    kinds = []
    for name in ("fit", "predict"):
        theirs = getattr(LogisticRegression, name)
        monkeypatch.setattr(
            LogisticRegression,
            name,
            lambda self, rows, *rest, do=theirs: kinds.append(rows.dtype) or do(self, rows, *rest),
        )
    probe(train, labels, train, labels)
    assert kinds == [np.float64, np.float64]


def test_scores_by_hand():
    train = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    test = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], np.float32)  # the probe tells a, a, a, b
    scores = probe(train, ["a", "a", "b", "b"], test, ["a", "a", "b", "b"])
    # F1 of a: precision 2/3, recall 1; of b: precision 1, recall 1/2
    assert scores == ClassificationScores(0.75, pytest.approx((4 / 5 + 2 / 3) / 2), converged=True)


def test_a_probe_that_stops_early_says_so(monkeypatch):
    monkeypatch.setattr(classification, "_MOST_STEPS", 2)
    train, labels = clouds(300, 8, 0)
    with pytest.warns(ProbeUnfinished, match="did not converge in 2 steps on 8 values"):
        scores = probe(train, labels, train, labels)
    assert not scores.converged


def test_vectors_that_are_no_numbers_are_refused():
    rows = np.eye(2, dtype=np.float32)
    for train, test in ((rows * np.nan, rows), (rows, rows + np.inf)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            with pytest.raises(DataError, match="finite"):
                probe(train, ["a", "b"], test, ["a", "b"])


class WordModel:
    """Two tiers: whether a text asks for a person; and nothing at all."""

    ladder_names = ("demi", "short")
    one_space = True

    def __init__(self):
        self.asked = []

    def encode_tiers(self, texts, progress=lambda *_: None):
        self.asked.append(texts)
        person = np.array(["who" in text for text in texts])
        return {
            "short": np.stack([person, ~person], axis=1).astype(np.float32),
            "demi": np.ones((len(texts), 1), np.float32),
        }


def test_every_tier_is_scored_in_one_pass():
    texts = ("who?", "where?", "town?", "who else?", "where?")
    train = LabelledTexts("train", texts, ("person", "place", "place", "person", "place"))
    test = LabelledTexts("test", ("who now?", "who?", "where?"), ("person", "person", "place"))
    model, told = WordModel(), []
    scores = score_classification(model, ClassificationSet("d", train, test), lambda *step: told.append(step))
    assert model.asked == [["who?", "where?", "town?", "who else?", "who now?"]]
    assert told == [("probe", 1, 2), ("probe", 2, 2)]
    assert list(scores) == ["demi", "short"]
    assert scores["short"] == ClassificationScores(1, 1, converged=True)
    assert scores["demi"].accuracy == pytest.approx(1 / 3)  # every text is a place to it
