"""What can be scored: tiers, vectors, what is refused."""

import sys

import numpy as np
import pytest

from edge_embed.evaluate import models
from edge_embed.evaluate.models import BundleModel, CheckpointModel, ForeignModel, encode_once
from edge_embed.evaluate.opening import open_model
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.errors import EncoderError, TextError

TIERS = ("demi", "short", "tall")
TEXTS = ["A bicycle leans on the wall.", "Rain falls.", "", "A bicycle leans on the wall."]


class Lengths:
    """An encoder whose vectors are the number of letters and of words."""

    def encode(self, texts):
        return [[len(text), text.count(" ") + 1] for text in texts]


class Returns:
    def __init__(self, *results):
        self.results = list(results)

    def encode(self, texts):
        return self.results.pop(0)


def test_a_foreign_encoder_has_one_tier_of_unit_rows():
    model = ForeignModel(Lengths())
    assert model.ladder_names == ("full",)
    vectors = model.encode_tiers(["ab cd", "e"])["full"]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[5 / 29**0.5, 2 / 29**0.5], [0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_a_foreign_row_of_zeros_stays_one():
    assert ForeignModel(Returns(np.zeros((1, 3)))).encode_tiers(["a"])["full"].tolist() == [[0, 0, 0]]


def test_the_encoders_own_array_is_left_alone():
    own = np.array([[3, 4]], dtype=np.float32)
    ForeignModel(Returns(own)).encode_tiers(["a"])
    assert own.tolist() == [[3, 4]]


def test_a_foreign_encoder_is_asked_in_chunks(monkeypatch):
    monkeypatch.setattr(models, "_CHUNK_TEXTS", 2)
    told = []
    vectors = ForeignModel(Lengths()).encode_tiers(["a", "bc", "def"], lambda *step: told.append(step))["full"]
    assert told == [("encode", 2, 3), ("encode", 3, 3)]
    np.testing.assert_array_equal(vectors, ForeignModel(Lengths()).encode_tiers(("a", "bc", "def"))["full"])
    with pytest.raises(EncoderError, match="4 values, then 5"):
        ForeignModel(Returns(np.ones((2, 4)), np.ones((1, 5)))).encode_tiers(["a", "b", "c"])


def test_no_texts_give_no_rows():
    assert ForeignModel(Lengths()).encode_tiers([])["full"].shape[0] == 0


@pytest.mark.parametrize("result", [np.ones(2), np.ones((3, 4)), np.ones((2, 0)), np.ones((2, 3, 4)), 5.0])
def test_a_foreign_result_of_the_wrong_shape_is_refused(result):
    with pytest.raises(EncoderError, match=r"theirs returned an array of shape .* expected \(2, dim\)"):
        ForeignModel(Returns(result), name="theirs").encode_tiers(["a", "b"])


@pytest.mark.parametrize("result", [[[1, 2], [3]], "vectors", [["a"], ["b"]], None, object()])
def test_a_foreign_result_that_is_no_array_is_refused(result):
    with pytest.raises(EncoderError, match="theirs returned"):
        ForeignModel(Returns(result), name="theirs").encode_tiers(["a", "b"])


def test_a_foreign_value_that_is_no_number_is_refused():
    with pytest.raises(EncoderError, match="for the text 'b'"):
        ForeignModel(Returns([[1, 2], [3, np.nan]])).encode_tiers(["a", "b"])


@pytest.mark.parametrize("texts", ["a bare text", ["a", 7], ["\ud800"]])
def test_texts_are_checked(texts):
    with pytest.raises(TextError):
        ForeignModel(Lengths()).encode_tiers(texts)


class Tiers:
    """Two tiers, not in the ladder's order; keeps what it was asked for."""

    ladder_names = ("demi", "short")
    one_space = True

    def __init__(self):
        self.asked = []

    def encode_tiers(self, texts, progress=lambda *_: None):
        self.asked.append(texts)
        rows = np.array([[len(text), 1] for text in texts], np.float32).reshape(-1, 2)
        return {"short": rows, "demi": rows[:, :1]}


@pytest.mark.parametrize("texts", [("a", "bcd", "a", "", "bcd"), ["a", "bc"], ()])
def test_equal_texts_are_encoded_once(texts):
    model = Tiers()
    vectors = encode_once(model, texts)
    assert model.asked == [list(dict.fromkeys(texts))]
    assert list(vectors) == ["demi", "short"]
    assert vectors["demi"].ravel().tolist() == [len(text) for text in texts]


@pytest.mark.parametrize("texts", ["a bare text", ["a", ["b"]]])
def test_what_is_encoded_once_is_checked_first(texts):
    with pytest.raises(TextError):
        encode_once(Tiers(), texts)


def test_a_checkpoint_gives_every_tier(tiny_checkpoint):
    model = open_model(str(tiny_checkpoint))
    assert isinstance(model, CheckpointModel)
    assert model.ladder_names == ("demi", "short", "tall")
    told = []
    vectors = model.encode_tiers(TEXTS, lambda *step: told.append(step))
    assert set(vectors) == {"demi", "short", "tall"}
    assert told[-1][1:] == (4, 4)
    for rows in vectors.values():
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(rows[0], rows[3], atol=1e-6)
    with pytest.raises(TextError):
        model.encode_tiers("a bare text")


def test_a_bundle_gives_every_tier(tiny_bundle, monkeypatch):
    monkeypatch.setattr(models, "_CHUNK_TEXTS", 3)
    model = open_model(str(tiny_bundle))
    assert isinstance(model, BundleModel)
    assert (model.engine, model.precision) == ("onnx", "int8")
    assert model.ladder_names == ("demi", "short", "tall")
    told = []
    vectors = model.encode_tiers(TEXTS, lambda *step: told.append(step))
    assert told == [(f"encode {tier}", done, 4) for tier in ("demi", "short", "tall") for done in (3, 4)]
    for tier, rows in vectors.items():
        with Embedder.open(tiny_bundle, tier=tier, engine="onnx", precision="int8") as embedder:
            np.testing.assert_allclose(rows, embedder.encode(TEXTS), atol=1e-6)


def test_a_bundle_runs_as_it_is_told(tiny_bundle, tiny_checkpoint):
    model = open_model(str(tiny_bundle), engine="openvino", precision="fp32")
    assert isinstance(model, BundleModel)
    assert (model.engine, model.precision) == ("openvino", "fp32")
    vectors, original = model.encode_tiers(TEXTS), open_model(str(tiny_checkpoint)).encode_tiers(TEXTS)
    for tier in model.ladder_names:
        np.testing.assert_allclose(vectors[tier], original[tier], atol=1e-4)


def test_long_texts_are_cut_without_a_warning(tiny_bundle, tiny_checkpoint):
    for place in (tiny_bundle, tiny_checkpoint):
        rows = open_model(str(place)).encode_tiers(["wall " * 5000])["demi"]
        assert rows.shape[0] == 1


def test_scoring_a_bundle_needs_no_torch():
    import subprocess

    loaded = "sorted({'torch', 'transformers', 'sklearn'} & set(sys.modules))"
    code = f"import sys, edge_embed.evaluate.opening, edge_embed.evaluate.tables; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
