"""What stands at a place, and how it is opened for scoring."""

import shutil
from importlib.util import find_spec

import numpy as np
import pytest

from edge_embed.evaluate import opening
from edge_embed.evaluate.models import ForeignModel
from edge_embed.evaluate.opening import open_model
from edge_embed_runtimes.errors import BundleDamaged, CheckpointError, EncoderError, ExtraMissing, RecipeError

TEXTS = ["A bicycle leans on the wall.", "Rain falls.", ""]


def test_nothing_there_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="no encoder"):
        open_model(str(tmp_path / "gone"))
    with pytest.raises(EncoderError, match="is no bundle"):
        open_model(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(EncoderError, match="is no bundle"):
        open_model(str(tmp_path / "model.onnx"))


def test_the_manifest_and_the_ladder_decide_what_a_folder_is(tmp_path):
    (tmp_path / "separate.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"separate\.json has format None"):
        open_model(str(tmp_path))
    (tmp_path / "starbucks.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has format None, this version reads 1"):
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
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(ExtraMissing, match="pip install sentence-transformers"):
        open_model(str(tmp_path))


@pytest.mark.skipif(find_spec("sentence_transformers") is None, reason="sentence-transformers isn't installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_broken_foreign_folder_is_refused(tmp_path):
    (tmp_path / "modules.json").write_text("no json")
    with pytest.raises(EncoderError, match="check the folder"):
        open_model(str(tmp_path))


def test_the_full_tier_of_a_checkpoint_is_what_sentence_transformers_makes(tiny_checkpoint, tmp_path):
    pytest.importorskip("sentence_transformers")
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "foreign")
    (folder / "starbucks.json").unlink()
    foreign = open_model(str(folder))
    assert isinstance(foreign, ForeignModel)
    full = foreign.encode_tiers(TEXTS)["full"]
    np.testing.assert_allclose(full, open_model(str(tiny_checkpoint)).encode_tiers(TEXTS)["tall"], atol=1e-5)
