"""Retrieval on data sets in the layout of BEIR (arXiv 2104.08663): exact search, scored as trec_eval does."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytrec_eval import RelevanceEvaluator

from edge_embed.data.lines import is_unicode
from edge_embed.data.records import read_records
from edge_embed.evaluate.models import TieredModel, Vectors, encode_once
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import Progress, silent

_EXAMPLE = '{"_id": "d1", "title": "", "text": "..."}'
_TOP = 100
_CUT = 10
_NDCG = "ndcg_cut_10"
_MOST_GRADE = 1000  # trec_eval's memory grows with the largest grade
_CHUNK_VALUES = 16 << 20  # 64 MiB of similarities at a time
_DECIMALS = 6  # equal texts have equal vectors to about 1e-6 only; finer differences are no ranking


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """Documents, queries, and which documents answer which query.

    Attributes:
        relevant: for each query, the place of a document in `documents` to its grade, which is above 0.
        own: for each query, the place of the document with the query's own id, which is not searched, as in BEIR;
            None where there is none, or where it is judged relevant.

    Raises:
        DataError: no query, a query without a relevant document, or fields that don't belong together.
    """

    name: str
    documents: tuple[str, ...]
    queries: tuple[str, ...]
    relevant: tuple[Mapping[int, int], ...]
    own: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if not self.queries or not len(self.queries) == len(self.relevant) == len(self.own):
            raise DataError(
                f"{self.name} has {len(self.queries)} queries, {len(self.relevant)} sets of relevant documents and "
                f"{len(self.own)} own documents: expected as many of each, at least one"
            )
        for query, grades in zip(self.queries, self.relevant, strict=True):
            if not grades or not 0 <= min(grades) <= max(grades) < len(self.documents):
                raise DataError(
                    f"{self.name}: the query {query!r:.60} has the relevant documents {dict(grades)!r:.60}, expected "
                    f"at least one place from 0 to {len(self.documents) - 1}"
                )
            if not 1 <= min(grades.values()) <= max(grades.values()) <= _MOST_GRADE:
                raise DataError(
                    f"{self.name}: the query {query!r:.60} has the grades {list(grades.values())!r:.60}, expected "
                    f"whole numbers from 1 to {_MOST_GRADE}"
                )


@dataclass(frozen=True, slots=True)
class RetrievalScores:
    """Means over the queries, each from 0 to 1.

    Attributes:
        ndcg_at_10: discounted gain of the first ten over the best possible, gains linear as in trec_eval.
        mrr_at_10: one over the rank of the first relevant document; 0 below rank ten.
        recall_at_100: share of the relevant documents among the first hundred.
    """

    ndcg_at_10: float
    mrr_at_10: float
    recall_at_100: float


def read_retrieval(folder: Path) -> RetrievalSet:
    """Read a folder of `corpus.jsonl`, `queries.jsonl` (each plain or `.gz`) and `qrels.tsv` or `qrels/test.tsv`.

    A document's text is its title and its text. Queries without a relevant document are left out.

    Raises:
        DataError: a missing file, a wrong line, an id that is used twice or unknown, or no relevant document at all.
    """
    corpus = _read_texts(_find(folder, "corpus.jsonl", "corpus.jsonl.gz"))
    queries = _read_texts(_find(folder, "queries.jsonl", "queries.jsonl.gz"))
    path = _find(folder, "qrels.tsv", "qrels/test.tsv")
    place = {name: number for number, name in enumerate(corpus)}
    relevant = _read_grades(path, queries, place)
    if not relevant:
        raise DataError(f"{path} names no relevant document: expected at least one line with a score above 0")
    chosen = [query for query in queries if query in relevant]
    return RetrievalSet(
        name=folder.resolve().name,
        documents=tuple(corpus.values()),
        queries=tuple(queries[query] for query in chosen),
        relevant=tuple(relevant[query] for query in chosen),
        own=tuple(None if place.get(query) in relevant[query] else place.get(query) for query in chosen),
    )


def score_retrieval(model: TieredModel, data: RetrievalSet, progress: Progress = silent) -> dict[str, RetrievalScores]:
    """The scores of each tier, by tier name, smallest first; one pass encodes documents and queries."""
    return score_found(*encode_retrieval(model, data, progress), data, progress)


def encode_retrieval(
    model: TieredModel, data: RetrievalSet, progress: Progress = silent
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
    """The vectors of the documents and of the queries, by tier, smallest first; one pass for both."""
    vectors = encode_once(model, (*data.documents, *data.queries), progress)
    count = len(data.documents)
    return (
        {tier: rows[:count] for tier, rows in vectors.items()},
        {tier: rows[count:] for tier, rows in vectors.items()},
    )


def score_found(
    documents: Vectors, queries: Vectors, data: RetrievalSet, progress: Progress = silent
) -> dict[str, RetrievalScores]:
    """The scores of what each tier finds among its own documents, by tier name.

    Raises:
        DataError: see `search`.
    """
    scores = {}
    for number, (tier, rows) in enumerate(documents.items(), start=1):
        scores[tier] = grade_rankings(list(search(rows, queries[tier], own=data.own)), data.relevant)
        progress("search", number, len(documents))
    return scores


def cross_found(
    documents: Vectors, queries: Vectors, data: RetrievalSet, progress: Progress = silent
) -> dict[str, dict[str, float]]:
    """nDCG@10 of each query tier (outer key) with each document tier (inner key).

    Vectors of two tiers are compared over the first min(dim) values, renormalised. The diagonal is what
    `score_found` gives.

    Raises:
        DataError: see `search`.
    """
    matrix: dict[str, dict[str, float]] = {query: {} for query in queries}
    pairs = [(query, document) for query in queries for document in documents]
    for number, (query, document) in enumerate(pairs, start=1):
        dim = min(queries[query].shape[1], documents[document].shape[1])
        found = search(_shorten(documents[document], dim), _shorten(queries[query], dim), own=data.own, top=_CUT)
        (matrix[query][document],) = _measure(list(found), data.relevant, _NDCG)
        progress("search across", number, len(pairs))
    return matrix


def search(
    documents: NDArray[np.float32], queries: NDArray[np.float32], *, own: Sequence[int | None], top: int = _TOP
) -> Iterator[NDArray[np.int64]]:
    """The places of the best `top` documents for each query, best first; ties in the order of the documents.

    Args:
        documents: (documents, dim) rows of unit length.
        queries: (queries, dim) rows of unit length.
        own: for each query, the document that is left out.

    Raises:
        DataError: a vector holds a value that is no finite number.
    """
    step = max(1, _CHUNK_VALUES // max(1, len(documents)))
    for start in range(0, len(queries), step):
        similarities = queries[start : start + step] @ documents.T
        if not np.isfinite(similarities).all():
            raise DataError(f"queries from {start} on have similarities that are no numbers: expected finite vectors")
        np.round(similarities, _DECIMALS, out=similarities)
        for row, left_out in zip(similarities, own[start : start + step], strict=True):
            if left_out is not None:
                row[left_out] = -np.inf
            yield _best(row, top)


def grade_rankings(rankings: Sequence[NDArray[np.int64]], relevant: Sequence[Mapping[int, int]]) -> RetrievalScores:
    """Score rankings of at least 100 places, or of all documents, against the relevant documents of each query.

    The measures are those of trec_eval, computed by pytrec_eval (doi 10.1145/3209978.3210065).
    """
    ndcg, mrr = _measure([ranking[:_CUT] for ranking in rankings], relevant, _NDCG, "recip_rank")
    (recall,) = _measure(rankings, relevant, f"recall_{_TOP}")
    return RetrievalScores(ndcg_at_10=ndcg, mrr_at_10=mrr, recall_at_100=recall)


def _measure(
    rankings: Sequence[NDArray[np.int64]], relevant: Sequence[Mapping[int, int]], *measures: str
) -> list[float]:
    """The means over the queries of some measures, as trec_eval calls them."""
    judged, runs = {}, {}
    for query, (ranking, grades) in enumerate(zip(rankings, relevant, strict=True)):
        judged[str(query)] = {str(document): grade for document, grade in grades.items()}
        # places stand for scores: among equal scores trec_eval would sort by the documents' names
        runs[str(query)] = {str(document): -float(place) for place, document in enumerate(ranking.tolist())}
    graded = RelevanceEvaluator(judged, measures).evaluate(runs)
    return [float(np.mean([scores[measure] for scores in graded.values()])) for measure in measures]


def _shorten(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The first `dim` values of rows of unit length, of unit length again; a row of zeros stays one."""
    if dim == vectors.shape[1]:
        return vectors
    norms = np.linalg.norm(vectors[:, :dim], axis=1, keepdims=True)
    norms[norms == 0] = 1
    rows: NDArray[np.float32] = vectors[:, :dim] / norms
    return rows


def _best(similarities: NDArray[np.float32], top: int) -> NDArray[np.int64]:
    """Places of the largest values, largest first; of equal ones the earlier first, at the cut as well."""
    cut = max(0, len(similarities) - top)
    least = np.partition(similarities, cut)[cut]
    candidates = np.flatnonzero((similarities >= least) & np.isfinite(similarities))
    return candidates[np.argsort(-similarities[candidates], kind="stable")][:top]


def _find(folder: Path, *names: str) -> Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{folder} holds no {' or '.join(names)}: name a folder in the layout of BEIR")


def _read_texts(path: Path) -> dict[str, str]:
    """Id to title and text, in the order of the file."""
    texts: dict[str, str] = {}
    for record in read_records(str(path)):
        where = f"{path}, line {record.line}"
        name, text = _entry(record.cells, where)
        if name in texts:
            raise DataError(f"{where}: the _id {name!r} stands in an earlier line as well, expected each once")
        texts[name] = text
    return texts


def _entry(cells: Mapping[str, object], where: str) -> tuple[str, str]:
    """The id of a document or a query, and its title and text."""
    values: dict[str, str] = {}
    for key in ("_id", "text", "title"):
        value = cells.get(key, "" if key == "title" else None)
        if not isinstance(value, str):
            raise DataError(f"{where}: {key} is {value!r:.60}, expected a string as in {_EXAMPLE}")
        values[key] = value
    text = f"{values['title']} {values['text']}".strip()
    if not is_unicode(text):
        raise DataError(f"{where}: the text has a lone surrogate, expected valid Unicode: write the file anew")
    return values["_id"], text


def _read_grades(path: Path, queries: Mapping[str, str], place: Mapping[str, int]) -> dict[str, dict[int, int]]:
    """Query id to the places of its relevant documents, with their grades."""
    relevant: dict[str, dict[int, int]] = {}
    seen: set[tuple[str, str]] = set()
    columns = ("query-id", "corpus-id", "score")
    for record in read_records(str(path), columns=columns):
        query, document, score = (str(record.cells[name]).strip() for name in columns)
        where = f"{path}, line {record.line}"
        if query not in queries:
            raise DataError(f"{where}: query-id {query!r} is unknown, expected the _id of a query")
        if document not in place:
            raise DataError(f"{where}: corpus-id {document!r} is unknown, expected the _id of a document")
        if (query, document) in seen:
            raise DataError(f"{where}: {query!r} and {document!r} are judged in an earlier line as well, expected once")
        seen.add((query, document))
        grade = _grade(score, where)
        if grade > 0:
            relevant.setdefault(query, {})[place[document]] = grade
    return relevant


def _grade(cell: str, where: str) -> int:
    grade = int(cell) if re.fullmatch(r"[+-]?\d{1,9}", cell) else None
    if grade is None or grade > _MOST_GRADE:
        allowed = f"a whole number such as 1, up to {_MOST_GRADE}"
        raise DataError(f"{where}: column 'score' is {cell!r:.60}, expected {allowed}")
    return grade
