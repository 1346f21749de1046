"""Checkpoints that were trained apart, as one model."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edge_embed.evaluate.models import CheckpointModel
from edge_embed.evaluate.opening import open_model
from edge_embed.evaluate.separate import SeparateModel
from edge_embed_runtimes.errors import CheckpointError, RecipeError

TEXTS = ["a cat sees the house", "the river", "a cat sees the house"]


@pytest.fixture(scope="module")
def separate(tmp_path_factory, tiny_encoder) -> Path:
    """Two checkpoints of one tier each: demi 1x8, tall 3x32."""
    from edge_embed.model.checkpoint import Origin, save_checkpoint
    from edge_embed.model.encoder import load_encoder
    from edge_embed.model.tiered import TieredEncoder
    from edge_embed_runtimes.tiers import parse_ladder

    folder = tmp_path_factory.mktemp("separate") / "apart"
    for name, spec in (("demi", "demi=1x8"), ("tall", "tall=3x32")):
        model = TieredEncoder(load_encoder(str(tiny_encoder)), parse_ladder(spec), "project")
        save_checkpoint(model, folder / name, Origin(str(tiny_encoder)))
    (folder / "separate.json").write_text('{"format": 1, "tiers": ["demi", "tall"]}')
    return folder


def test_each_tier_comes_from_its_own_checkpoint(separate):
    model = open_model(str(separate))
    assert isinstance(model, SeparateModel)
    assert model.ladder_names == ("demi", "tall")
    assert not model.one_space
    told = []
    vectors = model.encode_tiers(TEXTS, lambda *step: told.append(step))
    assert list(dict.fromkeys(told)) == [("encode demi", 3, 3), ("encode tall", 3, 3)]
    assert {tier: rows.shape for tier, rows in vectors.items()} == {"demi": (3, 8), "tall": (3, 32)}
    for tier, rows in vectors.items():
        np.testing.assert_array_equal(rows, CheckpointModel.open(separate / tier).encode_tiers(TEXTS)[tier])


def test_it_is_no_bundle(separate):
    with pytest.raises(RecipeError, match="is no bundle"):
        open_model(str(separate), engine="onnx")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no json", "can't be read"),
        ("[" * 100_000, "can't be read"),
        ("[]", "has format None, this version reads 1"),
        ('{"format": 2, "tiers": ["demi"]}', "has format 2, this version reads 1"),
        ('{"format": 1}', "lists the tiers None"),
        ('{"format": 1, "tiers": []}', "at least one name"),
        ('{"format": 1, "tiers": "demi"}', "lists the tiers 'demi'"),
        ('{"format": 1, "tiers": ["demi", "demi"]}', "each once"),
        ('{"format": 1, "tiers": ["demi", {}]}', "lists the tiers"),
        ('{"format": 1, "tiers": ["../apart/demi"]}', "lists the tiers"),
        ('{"format": 1, "tiers": ["demi", "short"]}', "no checkpoint at"),
    ],
)
def test_a_bad_list_is_refused(separate, tmp_path, content, says):
    folder = shutil.copytree(separate, tmp_path / "apart")
    (folder / "separate.json").write_text(content)
    with pytest.raises(CheckpointError, match=says):
        open_model(str(folder))


def test_a_checkpoint_of_other_tiers_is_refused(separate, tiny_checkpoint, tmp_path):
    folder = tmp_path / "apart"
    shutil.copytree(tiny_checkpoint, folder / "demi")
    (folder / "separate.json").write_text(json.dumps({"format": 1, "tiers": ["demi"]}))
    with pytest.raises(CheckpointError, match="demi holds the tiers demi, short, tall: expected demi alone"):
        open_model(str(folder))
    shutil.copytree(separate / "demi", folder / "venti")
    (folder / "separate.json").write_text(json.dumps({"format": 1, "tiers": ["venti"]}))
    with pytest.raises(CheckpointError, match="venti holds the tiers demi: expected venti alone"):
        open_model(str(folder))
