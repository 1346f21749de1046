"""The start of a training: what is loaded, who teaches, how the heads are fitted."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_embed.model.checkpoint import save_checkpoint, space_of
from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import encode_tiers, pooled_states
from edge_embed.train.finetune import fine_tune
from edge_embed.train.losses import alignment
from edge_embed.train.prepare import Training, prepare
from edge_embed.train.recipe import LossWeights
from edge_embed.train.recipe_file import sources
from edge_embed_runtimes.errors import CheckpointError, DataError, EncoderError, LadderError, RecipeError
from edge_embed_runtimes.tiers import parse_ladder


@torch.inference_mode()
def distance_of(training: Training, texts: list[str], tier: str) -> float:
    """One minus the mean cosine of a tier to its targets."""
    vectors = torch.from_numpy(encode_tiers(training.model, texts)[tier])
    return alignment(vectors, torch.from_numpy(training.teacher.get(texts)) @ training.basis).item()


def unit_vectors_of(folder: Path, texts: list[str]) -> np.ndarray:
    encoder = load_encoder(str(folder))
    base = pooled_states(encoder, texts, layers=(encoder.layers,))[encoder.layers]
    return base / np.linalg.norm(base, axis=1, keepdims=True)


def test_the_prepared_top_is_the_base_encoder_turned(recipe, tiny_encoder, tiny_texts):
    training = prepare(recipe())
    found = encode_tiers(training.model, tiny_texts)["tall"]
    base = unit_vectors_of(tiny_encoder, tiny_texts)
    np.testing.assert_allclose(training.teacher.get(tiny_texts), base, atol=1e-3)
    np.testing.assert_allclose(found, base @ training.basis.numpy(), atol=1e-5)
    np.testing.assert_allclose(found @ found.T, base @ base.T, atol=1e-5)
    assert distance_of(training, tiny_texts, "tall") < 1e-5


def test_prepared_heads_are_nearer_than_truncation(recipe, tiny_texts):
    fitted, plain = prepare(recipe()), prepare(recipe())
    for tier in plain.model.ladder:
        plain.model.set_head(tier, torch.eye(32)[:, : tier.dim])
    for tier in ("demi", "short"):
        assert distance_of(fitted, tiny_texts, tier) < 0.5 * distance_of(plain, tiny_texts, tier)


def test_a_ladder_below_the_full_model_learns_from_all_of_it(recipe, tiny_encoder, tiny_texts):
    training = prepare(recipe(ladder=parse_ladder("1x8,2x16")))
    assert training.model.encoder.layers == 2
    np.testing.assert_allclose(training.teacher.get(tiny_texts), unit_vectors_of(tiny_encoder, tiny_texts), atol=1e-3)


def test_truncate_keeps_the_directions_of_the_encoder(recipe, tiny_texts):
    training = prepare(recipe(head="truncate"))
    assert torch.equal(training.basis, torch.eye(32)) and not training.model.heads
    assert distance_of(training, tiny_texts, "tall") < 1e-5


@pytest.mark.parametrize("head", ["project", "truncate"])
def test_another_encoder_teaches(recipe, tiny_family, tiny_texts, head):
    folder = tiny_family("roberta")
    training = prepare(recipe(teacher=(str(folder),), head=head))
    expected = unit_vectors_of(folder, tiny_texts)
    np.testing.assert_allclose(training.teacher.get(tiny_texts), expected, atol=1e-3)
    energy = ((expected @ training.basis.numpy()) ** 2).sum(0)
    assert (np.diff(energy) <= 1e-4).all()  # its own leading directions
    if head == "project":
        # 64 texts, 32 values: a least-squares map is near its targets
        assert distance_of(training, tiny_texts, "tall") < 0.1


@pytest.mark.parametrize("order", [1, -1])
def test_two_teach_as_one(recipe, tiny_encoder, tiny_family, tiny_texts, order):
    folder = tiny_family("roberta")
    training = prepare(recipe(teacher=("self", str(folder))[::order]))
    found = training.teacher.get(tiny_texts)
    each = [unit_vectors_of(place, tiny_texts) for place in (tiny_encoder, folder)]
    assert found.shape == (64, 64) and found.dtype == np.float32
    np.testing.assert_allclose(found @ found.T, sum(one @ one.T for one in each) / 2, atol=2e-3)
    assert training.basis.shape == (64, 64)
    assert distance_of(training, tiny_texts, "tall") < 0.1


@pytest.mark.parametrize("changes", [{"teacher": ()}, {"weights": LossWeights(distill=0, directions=0)}])
def test_nobody_teaches(recipe, changes, tiny_texts, monkeypatch, tmp_path):
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "cache"))
    training = prepare(recipe(**changes))
    assert training.teacher is None and not (tmp_path / "cache").exists()
    fitted = prepare(recipe()).model  # the heads are fitted to the full model all the same
    for tier in fitted.ladder:
        torch.testing.assert_close(training.model.head_of(tier).weight, fitted.head_of(tier).weight)


@pytest.mark.parametrize("teacher", [("self",), ()])
def test_a_ladder_is_trained_further(recipe, tiny_texts, tmp_path, teacher):
    first = prepare(recipe(head="weigh"))
    fine_tune(first)
    save_checkpoint(first.model, tmp_path / "first", first.origin)
    again = prepare(recipe(head="weigh", start=str(tmp_path / "first"), teacher=teacher))
    assert space_of(again.model) == space_of(first.model)
    if teacher:
        assert distance_of(again, tiny_texts, "tall") <= distance_of(first, tiny_texts, "tall") + 1e-3
        np.testing.assert_allclose(again.teacher.get(tiny_texts), first.teacher.get(tiny_texts))


def test_only_the_same_ladder_is_trained_further(recipe, tmp_path):
    first = prepare(recipe())
    save_checkpoint(first.model, tmp_path / "first", first.origin)
    for changes in ({"head": "weigh"}, {"ladder": parse_ladder("1x8,3x32")}):
        with pytest.raises(RecipeError, match="needs the same, not demi 1x8,"):
            prepare(recipe(start=str(tmp_path / "first"), **changes))
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        prepare(recipe(start=str(tmp_path / "nowhere")))


def test_the_cache_may_stand_elsewhere(recipe, tmp_path):
    training = prepare(recipe(), cache=tmp_path / "mine")
    assert [path.suffix for path in (tmp_path / "mine").iterdir() if "-" not in path.suffix] == [".sqlite"]
    assert training.teacher.caches[0].path.parent == tmp_path / "mine"


def test_prepare_says_where_it_comes_from(recipe, tiny_text_file, tiny_encoder):
    origin = prepare(recipe()).origin
    assert origin.base_model == tiny_encoder.name and origin.recipe == recipe().describe()
    assert origin.data.keys() == {tiny_text_file.name}
    assert set(origin.versions) == {"edge-embed", "torch", "transformers"}
    assert str(tiny_encoder.parent) not in json.dumps([origin.recipe, origin.versions])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"base": "nonsense"}, EncoderError),
        ({"teacher": ("nonsense",)}, EncoderError),
        ({"data": sources("texts", ["/no/where.txt"])}, DataError),
        ({"ladder": parse_ladder("1x8,4x16")}, LadderError),
        ({"ladder": parse_ladder("1x8,2x33")}, LadderError),
    ],
)
def test_prepare_refuses(recipe, changes, error):
    with pytest.raises(error):
        prepare(recipe(**changes))


def test_progress_is_told(recipe, tmp_path):
    told = []
    prepare(recipe(), cache=tmp_path, progress=lambda *step: told.append(step))
    last = {stage: (done, total) for stage, done, total in told}
    assert last == {"read data": (1, 1), "teacher": (64, 64), "fit heads": (64, 64)}


def test_bad_rows_may_be_left_out(recipe, write):
    pairs = write("pairs", [("a", "b"), ("c",), ("d", "e")])
    data = sources("pairs", [pairs])
    with pytest.raises(DataError, match=r"pairs\.tsv, line 3"):
        prepare(recipe(data=data))
    assert prepare(recipe(data=data, skip_bad_rows=True)).store.left_out == {str(pairs): 1}
