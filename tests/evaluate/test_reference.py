"""Our scores are those of sentence-transformers' own evaluators, on the same vectors."""

import numpy as np
import pytest

from edge_embed.evaluate.models import ForeignModel
from edge_embed.evaluate.retrieval import RetrievalSet, score_retrieval
from edge_embed.evaluate.sts import ScoredPairs, score_tiers

evaluation = pytest.importorskip("sentence_transformers.sentence_transformer.evaluation")

DIM = 16


class Known:
    """Vectors from a table, with what the evaluators want to know of a SentenceTransformer."""

    similarity_fn_name = "cosine"

    class model_card_data:
        @staticmethod
        def set_evaluation_metrics(*_, **__): ...

    def __init__(self, texts: list[str], vectors: np.ndarray):
        self.table = dict(zip(texts, vectors, strict=True))

    def encode(self, texts, **_) -> np.ndarray:
        return np.array([self.table[text] for text in texts])

    encode_query = encode_document = encode

    @staticmethod
    def similarity(first, second):
        from sentence_transformers.util import cos_sim

        return cos_sim(first, second)


def numbered(word: str, count: int) -> list[str]:
    return [f"{word} {number}" for number in range(count)]


def test_spearman():
    random = np.random.default_rng(0)
    first, second = numbered("first", 200), numbered("second", 200)
    known = Known([*first, *second], random.normal(size=(400, DIM)).astype(np.float32))
    likeness = np.sum(known.encode(first) * known.encode(second), axis=1) + 4 * random.normal(size=200)
    scores = np.clip(np.round(likeness), -5, 5).tolist()  # with many ties, as people's scores have
    theirs = evaluation.EmbeddingSimilarityEvaluator(first, second, scores, main_similarity="cosine")(known)
    ours = score_tiers(ForeignModel(known), ScoredPairs("s", tuple(first), tuple(second), tuple(scores)))
    assert 0.3 < ours["full"] < 0.9
    assert ours["full"] == pytest.approx(theirs["spearman_cosine"], abs=1e-6)


@pytest.mark.parametrize("documents", [40, 400])
def test_retrieval(documents):
    random = np.random.default_rng(1)
    texts, queries = numbered("document", documents), numbered("query", 60)
    relevant = [set(random.choice(documents, size=1 + number % 12, replace=False).tolist()) for number in range(60)]
    vectors = random.normal(size=(documents + 60, DIM)).astype(np.float32)
    for query, places in enumerate(relevant):  # near some of what answers it
        vectors[documents + query] += 2 * vectors[sorted(places)[0]]
    known = Known([*texts, *queries], vectors)
    theirs = evaluation.InformationRetrievalEvaluator(
        queries=dict(zip(queries, queries, strict=True)),
        corpus=dict(zip(texts, texts, strict=True)),
        relevant_docs={queries[query]: {texts[place] for place in places} for query, places in enumerate(relevant)},
        ndcg_at_k=[10],
        mrr_at_k=[10],
        precision_recall_at_k=[100],
    )(known)
    data = RetrievalSet(
        "r", tuple(texts), tuple(queries), tuple(dict.fromkeys(places, 1) for places in relevant), (None,) * 60
    )
    ours = score_retrieval(ForeignModel(known), data)["full"]
    assert 0.2 < ours.ndcg_at_10 < 0.9
    assert ours.ndcg_at_10 == pytest.approx(theirs["cosine_ndcg@10"], abs=1e-6)
    assert ours.mrr_at_10 == pytest.approx(theirs["cosine_mrr@10"], abs=1e-6)
    assert ours.recall_at_100 == pytest.approx(theirs["cosine_recall@100"], abs=1e-6)
