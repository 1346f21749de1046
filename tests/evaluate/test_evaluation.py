"""One evaluation: every set encoded once, what is refused, JSON."""

import hashlib
import json

import numpy as np
import pytest

from edge_embed.evaluate.classification import (
    ClassificationScores,
    ClassificationSet,
    LabelledTexts,
    score_classification,
)
from edge_embed.evaluate.evaluation import Evaluation, Sets, evaluate, to_json
from edge_embed.evaluate.models import ForeignModel
from edge_embed.evaluate.opening import open_model
from edge_embed.evaluate.retrieval import RetrievalScores, RetrievalSet, score_retrieval
from edge_embed.evaluate.sts import ScoredPairs, score_tiers
from edge_embed_runtimes.errors import DataError

PAIRS = ScoredPairs("tiny", ("a", "b", "c", "d"), ("e", "f", "g", "h"), (0.0, 1.5, 3.0, 5.0))
MORE = ScoredPairs("more", ("a", "b", "c"), ("i", "j", "k"), (3.0, 2.0, 1.0))
FOUND = RetrievalSet("docs", ("x", "y", "z"), ("x?", "y?"), ({0: 1}, {1: 2, 2: 1}), (None, None))
KINDS = ClassificationSet(
    "kinds", LabelledTexts("train", tuple("abcd"), tuple("xyxy")), LabelledTexts("test", ("e", "f"), ("x", "y"))
)


class HashModel:
    ladder_names = ("demi", "short")
    one_space = True

    def __init__(self):
        self.calls = 0

    def encode_tiers(self, texts, progress=lambda *_: None):
        self.calls += 1
        rows = np.array([np.frombuffer(hashlib.sha256(t.encode()).digest(), np.uint8) for t in texts], np.float32) - 128
        progress("encode", len(texts), len(texts))
        cut = {"demi": rows[:, :8], "short": rows}
        return {tier: part / np.linalg.norm(part, axis=1, keepdims=True) for tier, part in cut.items()}


class Apart(HashModel):
    one_space = False


def test_each_set_is_encoded_once():
    model, stages = HashModel(), []
    scores = evaluate(
        model,
        Sets(sts=(PAIRS,), retrieval=(FOUND,), classification=(KINDS,)),
        name="hash",
        cross=True,
        progress=lambda stage, *_: stages.append(stage),
    )
    assert model.calls == 3
    assert list(dict.fromkeys(stages)) == [
        "tiny: encode", "docs: encode", "docs: search", "docs: search across", "kinds: encode", "kinds: probe",
    ]  # fmt: skip
    assert (scores.model, scores.tiers) == ("hash", ("demi", "short"))
    assert scores.sts == {"tiny": score_tiers(HashModel(), PAIRS)}
    assert scores.retrieval == {"docs": score_retrieval(HashModel(), FOUND)}
    assert scores.classification == {"kinds": score_classification(HashModel(), KINDS)}
    for tier in model.ladder_names:
        assert scores.sts_cross["tiny"][tier][tier] == scores.sts["tiny"][tier]
        assert scores.retrieval_cross["docs"][tier][tier] == scores.retrieval["docs"][tier].ndcg_at_10
    json.loads(to_json([scores]), parse_constant=pytest.fail)  # no NaN


def test_cross_is_left_out_unless_asked_for():
    scores = evaluate(HashModel(), Sets(sts=(PAIRS,), retrieval=(FOUND,)), name="hash")
    assert scores.sts_cross == scores.retrieval_cross == {}


def test_the_mean_is_over_two_sets_or_more():
    one = evaluate(HashModel(), Sets(sts=(PAIRS,)), name="hash")
    assert one.sts_mean == {}
    both = evaluate(HashModel(), Sets(sts=(PAIRS, MORE)), name="hash")
    assert both.sts_mean == {
        tier: pytest.approx((both.sts["tiny"][tier] + both.sts["more"][tier]) / 2) for tier in ("demi", "short")
    }


def test_json_keeps_everything_of_every_model():
    full = Evaluation(
        model="a",
        tiers=("demi", "short"),
        sts={"stsb": {"demi": 0.7, "short": 0.81239}, "sick": {"demi": 0.5, "short": 0.6}},
        retrieval={"scifact": {"demi": RetrievalScores(0.1, 0.2, 0.3)}},
        classification={"trec": {"demi": ClassificationScores(0.9, 0.8, converged=False)}},
        sts_cross={"stsb": {"demi": {"demi": 0.7, "short": 0.72}}},
        retrieval_cross={"scifact": {"demi": {"demi": 0.1}}},
    )
    read = json.loads(to_json([full, Evaluation("bé", ("full",), {"stsb": {"full": 0.5}}, {}, {}, {}, {})]))
    assert [model["model"] for model in read["models"]] == ["a", "bé"]
    first, second = read["models"]
    assert first.pop("sts_mean") == pytest.approx({"demi": 0.6, "short": 0.706195})
    assert first == {
        "model": "a",
        "tiers": ["demi", "short"],
        "sts": full.sts,
        "retrieval": {"scifact": {"demi": {"ndcg_at_10": 0.1, "mrr_at_10": 0.2, "recall_at_100": 0.3}}},
        "classification": {"trec": {"demi": {"accuracy": 0.9, "macro_f1": 0.8, "converged": False}}},
        "sts_cross": full.sts_cross,
        "retrieval_cross": full.retrieval_cross,
    }
    assert (second["sts"], second["sts_mean"]) == ({"stsb": {"full": 0.5}}, {})


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ({}, "nothing to score on"),
        ({"sts": (PAIRS, PAIRS)}, "2 sets are called 'tiny'"),
        ({"retrieval": (FOUND, FOUND)}, "2 sets are called 'docs'"),
        ({"classification": (KINDS, KINDS)}, "2 sets are called 'kinds'"),
    ],
)
def test_sets_without_sense_are_refused(sets, says):
    with pytest.raises(DataError, match=says):
        Sets(**sets)


@pytest.mark.parametrize(
    ("model", "sets", "says"),
    [
        (HashModel(), Sets(classification=(KINDS,)), "on pairs or in retrieval"),
        (Apart(), Sets(sts=(PAIRS,)), "mine holds a model for each tier, .* share no space"),
        (Apart(), Sets(retrieval=(FOUND,)), "share no space"),
    ],
)
def test_a_cross_without_sense_is_refused(model, sets, says):
    with pytest.raises(DataError, match=says):
        evaluate(model, sets, name="mine", cross=True)
    assert model.calls == 0


def test_models_apart_are_scored_tier_by_tier():
    assert evaluate(Apart(), Sets(sts=(PAIRS,)), name="apart").sts == {"tiny": score_tiers(HashModel(), PAIRS)}


def test_a_foreign_encoder_is_scored():
    class Letters:
        def encode(self, texts):
            return np.array([[len(text), ord(text[0])] for text in texts])

    scores = evaluate(ForeignModel(Letters()), Sets(sts=(PAIRS,), retrieval=(FOUND,)), name="letters", cross=True)
    assert scores.tiers == ("full",)
    assert scores.sts_cross == {"tiny": {"full": {"full": scores.sts["tiny"]["full"]}}}


def test_a_bundle_is_scored(tiny_bundle):
    model = open_model(str(tiny_bundle))
    scores = evaluate(model, Sets((PAIRS,), (FOUND,), (KINDS,)), name="tiny", cross=True)
    assert list(scores.sts["tiny"]) == list(scores.classification["kinds"]) == ["demi", "short", "tall"]
