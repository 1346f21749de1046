"""Gates and grades; sessions that are wrong on purpose."""

import numpy as np
import pytest
from scipy import stats

from edge_embed.evaluate.evaluation import Evaluation, Sets
from edge_embed.evaluate.sts import ScoredPairs
from edge_embed_export import verify
from edge_embed_export.verify import Yardstick, grade_graph, main_scores, mean_cross, missed_gates, run
from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import EngineError
from edge_embed_runtimes.manifest import Gates, Grade
from edge_embed_runtimes.tiers import Tier
from edge_embed_runtimes.tokenizer import Tokenizer, pack

TIER = Tier("demi", 1, 8)


LOOSE = Gates(cosine_mean=0.995, cosine_min=0.98, invariance=1e-6)


def grade(
    tier: str = "demi",
    mean: float = 0.999,
    least: float = 0.995,
    invariance: float = 1e-7,
    engine: str = "onnx",
    **scores,
) -> Grade:
    return Grade(tier, engine, "int8", 10, mean, mean, least, invariance, scores)


def test_grades_at_the_gates_pass():
    assert missed_gates([], {}, Gates()) == []
    assert missed_gates([grade(), grade("short", 0.9985, 0.99, 1e-6)], {}, Gates()) == []


def test_each_missed_gate_is_listed_with_what_was_found_and_wanted():
    grades = [grade(), grade("short", mean=0.99432), grade("tall", least=0.9, invariance=2e-3)]
    assert missed_gates(grades, {}, LOOSE) == [
        "short on onnx int8: mean cosine 0.99432, at least 0.995",
        "tall on onnx int8: smallest cosine 0.90000, at least 0.98",
        "tall on onnx int8: invariance 2.00e-03, at most 1e-06",
    ]


@pytest.mark.parametrize("bad", [{"mean": np.nan}, {"least": np.nan}, {"invariance": np.nan}, {"a": np.nan}], ids=str)
def test_a_graph_without_numbers_misses_its_gate(bad):
    assert len(missed_gates([grade(**bad)], {"a": {"demi": 0.5}}, Gates())) == 1


def test_a_score_far_below_float_misses():
    reference = {"a": {"demi": 0.7}, "b": {"demi": 0.6}}
    assert missed_gates([grade(a=0.6971, b=0.8)], reference, Gates()) == []
    (line,) = missed_gates([grade(a=0.6969, b=0.8)], reference, Gates())
    assert line == "demi on onnx int8: a 0.6969, at least 0.6970 (0.7000 in float)"


def test_a_tier_below_a_smaller_one_misses():
    grades = [grade("demi", a=0.5), grade("short", a=0.6), grade("tall", a=0.55), grade("grande", a=0.6)]
    reference = {"a": {tier: 0.1 for tier in ("demi", "short", "tall", "grande")}}
    (line,) = missed_gates(grades, reference, Gates())
    assert line == "tall on onnx int8: a 0.5500, below the 0.6000 of short, a smaller tier (not so in float)"
    (line,) = missed_gates(grades, {"a": reference["a"] | {"tall": 0.09}}, Gates())
    assert line.endswith("(so in float, too)")
    assert missed_gates(grades, reference, Gates(monotone=False)) == []
    apart = [grade("demi", a=0.6), grade("demi", a=0.5, engine="openvino")]  # engines are not compared
    assert missed_gates(apart, reference, Gates()) == []


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint) -> Tokenizer:
    return Tokenizer.from_file(tiny_checkpoint / "tokenizer.json", max_tokens=64)


@pytest.fixture(scope="module")
def exact(tokenizer, tiny_texts) -> np.ndarray:
    """What a right session computes."""
    return run(FakeSession(TIER.dim), tokenizer.batches(tiny_texts), len(tiny_texts), TIER.dim)


class Wrong:
    """Right, but for what a test asks: sessions by number of threads, and which of them were closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened: list[tuple[int, str, str]] = []
        self.closed = 0
        self.negated: tuple[int, ...] = ()
        self.in_batch = 0.0
        self.on_one_thread = 0.0
        self.breaks = False
        monkeypatch.setattr(verify, "open_session", self._open)

    def _open(self, graph, weights, engine, *, device="CPU", threads=1):
        self.opened.append((threads, graph.name, weights.parent.name))
        outer, right = self, FakeSession(TIER.dim)

        class Session:
            def run(self, input_ids, attention_mask):
                if outer.breaks:
                    raise EngineError("broken")
                vectors = right.run(input_ids, attention_mask)
                for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
                    vectors[row] *= -1 if tuple(ids[mask == 1]) == outer.negated else 1
                vectors[:, 0] += outer.in_batch * (len(input_ids) > 1 and threads == 2)
                vectors[:, 1] += outer.on_one_thread * (threads == 1)
                return vectors

            def close(self):
                outer.closed += 1

        return Session()


@pytest.fixture
def wrong(monkeypatch) -> Wrong:
    return Wrong(monkeypatch)


def grade_of(tmp_path, tiny_texts, exact, tokenizer, pairs=None) -> Grade:
    return measure(tmp_path, tiny_texts, exact, tokenizer, pairs)[0]


def measure(tmp_path, tiny_texts, exact, tokenizer, pairs=None) -> tuple[Grade, np.ndarray]:
    sets = None if pairs is None else Sets(sts=(pairs,))
    return grade_graph(tmp_path, TIER, "onnx", "int8", Yardstick(tiny_texts, {"demi": exact}, tokenizer, sets))


def test_a_right_session(wrong, tmp_path, tiny_texts, exact, tokenizer):
    found = grade_of(tmp_path, tiny_texts, exact, tokenizer)
    assert (found.tier, found.engine, found.precision, found.texts) == ("demi", "onnx", "int8", 64)
    assert found.cosine_mean == pytest.approx(1, abs=1e-6)
    assert found.cosine_min == pytest.approx(1, abs=1e-6)
    assert found.invariance == 0
    assert found.score is None
    assert wrong.opened == [(2, "demi.onnx", "onnx-int8"), (1, "demi.onnx", "onnx-int8")]
    assert wrong.closed == 2


def test_one_text_turned_around(wrong, tmp_path, tiny_texts, exact, tokenizer):
    (wrong.negated,) = map(tuple, tokenizer.encode(tiny_texts[:1])[0])
    found, cosines = measure(tmp_path, tiny_texts, exact, tokenizer)
    assert cosines.shape == (64,)
    assert cosines.argmin() == 0
    assert found.cosine_min == pytest.approx(-1, abs=1e-6)
    assert -1 < found.cosine_p1 < found.cosine_mean
    assert found.cosine_mean == pytest.approx((63 - 1) / 64, abs=1e-6)
    assert found.invariance == 0


def test_a_vector_that_depends_on_its_batch(wrong, tmp_path, tiny_texts, exact, tokenizer):
    wrong.in_batch = 0.01
    assert grade_of(tmp_path, tiny_texts, exact, tokenizer).invariance == pytest.approx(0.01, rel=1e-3)


def test_a_vector_that_depends_on_the_threads(wrong, tmp_path, tiny_texts, exact, tokenizer):
    wrong.on_one_thread = 0.02
    assert grade_of(tmp_path, tiny_texts, exact, tokenizer).invariance == pytest.approx(0.02, rel=1e-3)


def test_a_session_that_breaks_is_closed(wrong, tmp_path, tiny_texts, exact, tokenizer):
    wrong.breaks = True
    with pytest.raises(EngineError, match="broken"):
        grade_of(tmp_path, tiny_texts, exact, tokenizer)
    assert wrong.closed == len(wrong.opened) == 1


@pytest.mark.usefixtures("wrong")
def test_the_score_is_spearmans(tmp_path, tiny_texts, exact, tokenizer):
    first, second, scores = tuple(tiny_texts[:12]), tuple(tiny_texts[12:24]), tuple(map(float, range(12)))
    found = grade_of(tmp_path, tiny_texts, exact, tokenizer, ScoredPairs("few", first, second, scores))
    cosines = (exact[:12] * exact[12:24]).sum(1)
    assert found.scores == {"few": pytest.approx(stats.spearmanr(cosines, scores).statistic)}
    assert found.score == found.scores["few"]


def test_run_puts_each_vector_in_its_row(tokenizer, tiny_texts, exact):
    ids, _ = tokenizer.encode(tiny_texts)
    for limits in ({}, {"batch_texts": 1}, {"batch_tokens": 1 << 30}):
        batches = pack(ids, pad_id=tokenizer.pad_id, **limits)
        np.testing.assert_array_equal(run(FakeSession(TIER.dim), batches, len(ids), TIER.dim), exact)


def test_the_main_scores_and_the_mean_matrix():
    from edge_embed.evaluate.classification import ClassificationScores
    from edge_embed.evaluate.retrieval import RetrievalScores

    one, other = (
        {"a": {"a": 0.2, "b": 0.4}, "b": {"a": 0.6, "b": 0.8}},
        {"a": {"a": 0.4, "b": 0.6}, "b": {"a": 0, "b": 1}},
    )
    evaluation = Evaluation(
        model="m",
        tiers=("a", "b"),
        sts={"s": {"a": 0.1, "b": 0.2}},
        retrieval={"r": {tier: RetrievalScores(0.3, 0.9, 0.9) for tier in "ab"}},
        classification={"c": {tier: ClassificationScores(0.4, 0.9, converged=True) for tier in "ab"}},
        sts_cross={"s": one},
        retrieval_cross={"r": other},
    )
    assert main_scores(evaluation) == {
        "s": {"a": 0.1, "b": 0.2}, "r, nDCG@10": {"a": 0.3, "b": 0.3}, "c, accuracy": {"a": 0.4, "b": 0.4},
    }  # fmt: skip
    found = mean_cross(evaluation)
    assert found["a"] == pytest.approx({"a": 0.3, "b": 0.5})
    assert found["b"] == pytest.approx({"a": 0.3, "b": 0.9})
