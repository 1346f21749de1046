"""The scores of one model and of several, as tables and as Markdown."""

import pytest

from edge_embed.evaluate.classification import ClassificationScores
from edge_embed.evaluate.evaluation import Evaluation
from edge_embed.evaluate.retrieval import RetrievalScores
from edge_embed.evaluate.tables import ScoreTable, measured, score_tables, tier_names, to_markdown
from edge_embed_runtimes.errors import DataError

OURS = Evaluation(
    model="my|model",
    tiers=("demi", "short"),
    sts={"stsb": {"demi": 0.7, "short": 0.81239}, "sick": {"demi": -0.5, "short": 0.6}},
    retrieval={"scifact": {"demi": RetrievalScores(0.1, 0.2, 0.3), "short": RetrievalScores(0.4, 0.5, 1.0)}},
    classification={
        "trec": {"demi": ClassificationScores(0.8, 0.7, True), "short": ClassificationScores(0.9, 0.85, True)}
    },
    sts_cross={"stsb": {"demi": {"demi": 0.7, "short": 0.72}, "short": {"demi": 0.71, "short": 0.81239}}},
    retrieval_cross={"scifact": {"demi": {"demi": 0.1, "short": 0.2}, "short": {"demi": 0.3, "short": 0.4}}},
)


def sts(model: str, **scores: float) -> Evaluation:
    return Evaluation(model, tuple(scores), {"stsb": scores}, {}, {}, {"stsb": {"full": {"full": 0.5}}}, {})


def test_markdown_of_one_model():
    assert to_markdown(score_tables([OURS])) == (
        "## my|model\n"
        "\n"
        "| set | demi | short |\n"
        "| --- | ---: | ---: |\n"
        "| stsb Spearman | 0.7000 | 0.8124 |\n"
        "| sick Spearman | -0.5000 | 0.6000 |\n"
        "| STS mean of 2 Spearman | 0.1000 | 0.7062 |\n"
        "| scifact nDCG@10 | 0.1000 | 0.4000 |\n"
        "| scifact MRR@10 | 0.2000 | 0.5000 |\n"
        "| scifact Recall@100 | 0.3000 | 1.0000 |\n"
        "| trec accuracy | 0.8000 | 0.9000 |\n"
        "| trec macro F1 | 0.7000 | 0.8500 |\n"
        "\n"
        "## stsb: query tier (rows) against document tier (columns), Spearman\n"
        "\n"
        "| query \\ document | demi | short |\n"
        "| --- | ---: | ---: |\n"
        "| demi | 0.7000 | 0.7200 |\n"
        "| short | 0.7100 | 0.8124 |\n"
        "\n"
        "## scifact: query tier (rows) against document tier (columns), nDCG@10\n"
        "\n"
        "| query \\ document | demi | short |\n"
        "| --- | ---: | ---: |\n"
        "| demi | 0.1000 | 0.2000 |\n"
        "| short | 0.3000 | 0.4000 |\n"
    )


def test_markdown_of_several_models():
    other = Evaluation(
        "other", ("demi", "full"), {"stsb": {"demi": 0.70001, "full": 0.9}, "sick": {"demi": 0.1, "full": 0.2}},
        {}, {}, {}, {},
    )  # fmt: skip
    text = to_markdown(score_tables([OURS, other]))
    assert text.startswith(
        "## stsb: Spearman\n"
        "\n"
        "| model | demi | short | full |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| my&#124;model | **0.7000** | 0.8124 |  |\n"
        "| other | **0.7000** |  | 0.9000 |\n"
        "\n"
        "## sick: Spearman\n"
        "\n"
        "| model | demi | short | full |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| my&#124;model | -0.5000 | 0.6000 |  |\n"
        "| other | **0.1000** |  | 0.2000 |\n"
        "\n"
        "## STS mean of 2: Spearman\n"
        "\n"
        "| model | demi | short | full |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| my&#124;model | 0.1000 | 0.7062 |  |\n"
        "| other | **0.4000** |  | 0.5500 |\n"
        "\n"
        "## scifact: nDCG@10\n"
    )
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[3:] == [
        "## scifact: nDCG@10",
        "## scifact: MRR@10",
        "## scifact: Recall@100",
        "## trec: accuracy",
        "## trec: macro F1",
        "## my|model, stsb: query tier (rows) against document tier (columns), Spearman",
        "## my|model, scifact: query tier (rows) against document tier (columns), nDCG@10",
    ]


def test_one_tier_alone_has_nothing_across():
    assert [table.title for table in score_tables([sts("a", full=0.5)])] == ["a"]


def test_the_best_of_a_column_is_what_looks_best():
    rows = (("a", (0.5, None, None)), ("b", (0.50004, 0.1, None)), ("c", (0.4, None, None)))
    table = ScoreTable("t", "model", ("x", "y", "z"), rows, ranked=True)
    best = [(row, column) for row in range(3) for column in range(3) if table.is_best(row, column)]
    assert best == [(0, 0), (1, 0)]
    unranked = ScoreTable("t", "model", ("x", "y", "z"), rows)
    assert not any(unranked.is_best(row, column) for row in range(3) for column in range(3))


@pytest.mark.parametrize(
    ("ladders", "merged"),
    [
        (["a b c"], "a b c"),
        (["a c", "a b c"], "a b c"),
        (["b c", "a c", "c d"], "a b c d"),
        (["full", "a b"], "a b full"),
        (["a b", "full", "b c"], "a b c full"),
        (["full", "full"], "full"),
    ],
)
def test_ladders_are_merged_in_their_order(ladders, merged):
    models = [Evaluation(str(place), tuple(ladder.split()), {}, {}, {}, {}, {}) for place, ladder in enumerate(ladders)]
    assert tier_names(models) == tuple(merged.split())


def test_measured_is_set_by_set_model_by_model():
    first, second = measured([sts("a", demi=0.1), sts("b", full=0.2), OURS])[:2]
    assert (first.of, first.measure) == ("stsb", "Spearman")
    assert first.scores == {"a": {"demi": 0.1}, "b": {"full": 0.2}, "my|model": OURS.sts["stsb"]}
    assert (second.of, list(second.scores)) == ("sick", ["my|model"])


@pytest.mark.parametrize("models", [[], [sts("a", full=0.5), sts("a", full=0.6)]])
def test_models_without_a_name_of_their_own_are_refused(models):
    with pytest.raises(DataError, match="a name of its own"):
        score_tables(models)
