"""What can be scored, and how it is opened."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from edge_embed.evaluate import models
from edge_embed.evaluate.models import BundleModel, CheckpointModel, ForeignModel, open_model
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.errors import (
    BundleDamaged,
    CheckpointError,
    EncoderError,
    ExtraMissing,
    RecipeError,
    TextError,
)

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


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="no encoder"):
        open_model(str(tmp_path / "gone"))
    with pytest.raises(EncoderError, match="is no bundle"):
        open_model(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(EncoderError, match="is no bundle"):
        open_model(str(tmp_path / "model.onnx"))


def test_the_manifest_and_the_ladder_decide_what_a_folder_is(tmp_path):
    (tmp_path / "starbucks.json").write_text("{}")
    with pytest.raises(CheckpointError):
        open_model(str(tmp_path))
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(BundleDamaged):
        open_model(str(tmp_path))


@pytest.mark.parametrize("wish", [{"engine": "onnx"}, {"precision": "int8"}])
def test_only_a_bundle_has_engines_and_precisions(tmp_path, wish):
    (tmp_path / "starbucks.json").write_text("{}")
    with pytest.raises(RecipeError, match="is no bundle"):
        open_model(str(tmp_path), **wish)


def test_a_foreign_folder_needs_sentence_transformers(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match="pip install sentence-transformers"):
        open_model(str(tmp_path))


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers isn't installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_broken_foreign_folder_is_refused(tmp_path):
    (tmp_path / "modules.json").write_text("no json")
    with pytest.raises(EncoderError, match="check the folder"):
        open_model(str(tmp_path))


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


def test_the_full_tier_of_a_checkpoint_is_what_sentence_transformers_makes(tiny_checkpoint, tmp_path):
    pytest.importorskip("sentence_transformers")
    import shutil

    folder = shutil.copytree(tiny_checkpoint, tmp_path / "foreign")
    (folder / "starbucks.json").unlink()
    foreign = open_model(str(folder))
    assert isinstance(foreign, ForeignModel)
    full = foreign.encode_tiers(TEXTS)["full"]
    np.testing.assert_allclose(full, open_model(str(tiny_checkpoint)).encode_tiers(TEXTS)["tall"], atol=1e-5)


def test_scoring_a_bundle_needs_no_torch():
    import subprocess

    code = "import sys, edge_embed.evaluate.tables; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
