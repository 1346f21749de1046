"""One evaluation, as JSON and as Markdown."""

import hashlib
import json

import numpy as np
import pytest

from edge_embed.evaluate.retrieval import RetrievalScores, RetrievalSet, score_retrieval
from edge_embed.evaluate.sts import ScoredPairs, score_tiers
from edge_embed.evaluate.tables import Evaluation, evaluate
from edge_embed_runtimes.errors import DataError

PAIRS = ScoredPairs("tiny", ("a", "b", "c", "d"), ("e", "f", "g", "h"), (0.0, 1.5, 3.0, 5.0))
FOUND = RetrievalSet("docs", ("x", "y", "z"), ("x?", "y?"), ({0: 1}, {1: 2, 2: 1}), (None, None))
EVALUATION = Evaluation(
    model="my|model",
    sts={"stsb": {"demi": 0.7, "short": 0.81239}},
    retrieval={"scifact": {"demi": RetrievalScores(0.1, 0.2, 0.3), "short": RetrievalScores(0.4, 0.5, 1.0)}},
    cross={"stsb": {"demi": {"demi": 0.7, "short": 0.72}, "short": {"demi": 0.71, "short": 0.81239}}},
)


class HashModel:
    ladder_names = ("demi", "short")

    def __init__(self):
        self.calls = 0

    def encode_tiers(self, texts, progress=lambda *_: None):
        self.calls += 1
        rows = np.array([np.frombuffer(hashlib.sha256(t.encode()).digest(), np.uint8) for t in texts], np.float32) - 128
        progress("encode", len(texts), len(texts))
        cut = {"demi": rows[:, :8], "short": rows}
        return {tier: part / np.linalg.norm(part, axis=1, keepdims=True) for tier, part in cut.items()}


def test_markdown():
    assert EVALUATION.to_markdown() == (
        "# my|model\n"
        "\n"
        "| tier | stsb Spearman | scifact nDCG@10 | scifact MRR@10 | scifact Recall@100 |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| demi | 0.7000 | 0.1000 | 0.2000 | 0.3000 |\n"
        "| short | 0.8124 | 0.4000 | 0.5000 | 1.0000 |\n"
        "\n"
        "## stsb: query tier (rows) against document tier (columns), Spearman\n"
        "\n"
        "| query \\ document | demi | short |\n"
        "| --- | ---: | ---: |\n"
        "| demi | 0.7000 | 0.7200 |\n"
        "| short | 0.7100 | 0.8124 |\n"
    )


def test_a_bar_in_a_name_does_not_break_the_table():
    table = Evaluation("m", {"a|b": {"demi": 0.5}}, {}, {}).to_markdown()
    assert "| tier | a&#124;b Spearman |" in table


def test_json_keeps_everything_in_order():
    read = json.loads(EVALUATION.to_json())
    assert list(read) == ["model", "sts", "retrieval", "cross"]
    assert read["sts"] == EVALUATION.sts
    assert read["cross"] == EVALUATION.cross
    assert read["retrieval"]["scifact"]["demi"] == {"ndcg_at_10": 0.1, "mrr_at_10": 0.2, "recall_at_100": 0.3}


def test_evaluate_encodes_each_set_once():
    model, stages = HashModel(), []
    scores = evaluate(
        model, name="hash", sts=[PAIRS], retrieval=[FOUND], cross=True, progress=lambda stage, *_: stages.append(stage)
    )
    assert model.calls == 2
    assert stages == ["tiny: encode", "docs: encode", "docs: search", "docs: search"]
    assert scores.model == "hash"
    assert scores.sts == {"tiny": score_tiers(HashModel(), PAIRS)}
    assert scores.retrieval == {"docs": score_retrieval(HashModel(), FOUND)}
    assert {tier: scores.cross["tiny"][tier][tier] for tier in model.ladder_names} == scores.sts["tiny"]
    json.loads(scores.to_json(), parse_constant=pytest.fail)  # no NaN


def test_cross_is_left_out_unless_asked_for():
    assert evaluate(HashModel(), name="hash", sts=[PAIRS]).cross == {}


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({}, "nothing to score on"),
        ({"retrieval": [FOUND], "cross": True}, "scored pairs"),
        ({"sts": [PAIRS, PAIRS]}, "2 sets are called 'tiny'"),
        ({"retrieval": [FOUND, FOUND]}, "2 sets are called 'docs'"),
    ],
)
def test_a_wish_without_sense_is_refused(wish, says):
    model = HashModel()
    with pytest.raises(DataError, match=says):
        evaluate(model, name="hash", **wish)
    assert model.calls == 0


def test_a_bundle_is_scored(tiny_bundle):
    from edge_embed.evaluate.models import open_model

    scores = evaluate(open_model(str(tiny_bundle)), name="tiny", sts=[PAIRS], retrieval=[FOUND], cross=True)
    assert list(scores.sts["tiny"]) == ["demi", "short", "tall"]
    assert "| short |" in scores.to_markdown()
