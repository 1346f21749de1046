"""What smaller types of vectors keep, as the passport says it."""

import numpy as np
import pytest

from edge_embed.evaluate.evaluation import Sets
from edge_embed.evaluate.sts import ScoredPairs
from edge_embed_export.outputs import Remembered, Stored, grade_outputs
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.index.outputs import DTYPES, find_ranges, unit_length


class Model:
    """Two tiers of random vectors, the same for the same text."""

    ladder_names = ("demi", "short")
    one_space = True

    def __init__(self):
        self.calls = 0

    def encode_tiers(self, texts, progress=None):
        self.calls += 1
        rows = [np.random.default_rng(len(text)).standard_normal(16) for text in texts]
        whole = np.array(rows, dtype=np.float32).reshape(len(texts), 16)
        return {"demi": unit_length(whole[:, :8]), "short": unit_length(whole)}


TEXTS = ["a" * number for number in range(1, 40)]
PAIRS = ScoredPairs("pairs", tuple(TEXTS[:20]), tuple(TEXTS[19:]), tuple(float(n % 7) for n in range(20)))


def test_the_same_texts_are_encoded_once():
    model = Model()
    known = Remembered(model)
    first = known.encode_tiers(TEXTS)
    assert known.encode_tiers(list(TEXTS)) is first and model.calls == 1
    known.encode_tiers(TEXTS[:3])
    assert model.calls == 2


def test_a_smaller_type_keeps_less():
    vectors = Model().encode_tiers(TEXTS)
    ranges = {tier: find_ranges(rows) for tier, rows in vectors.items()}
    reference = {"pairs": {"demi": 0.5, "short": 0.6}}
    found = grade_outputs(Model(), vectors, ranges, reference, Sets(sts=(PAIRS,)))
    assert [(grade.dtype, grade.tier) for grade in found] == [(d, t) for d in DTYPES[1:] for t in ("demi", "short")]
    cosines = {grade.dtype: grade.cosine_mean for grade in found if grade.tier == "short"}
    assert 1.001 > cosines["float16"] > cosines["int8"] > 0.999 > 0.95 > cosines["bits"] > 0.6
    assert [grade.float_score for grade in found[:2]] == [0.5, 0.6]
    assert found[-1].score != found[0].score


def test_without_sets_there_are_no_scores():
    vectors = Model().encode_tiers(TEXTS)
    ranges = {tier: find_ranges(rows) for tier, rows in vectors.items()}
    assert all(grade.score is grade.float_score is None for grade in grade_outputs(Model(), vectors, ranges, {}, None))


def test_what_is_stored_is_what_is_read():
    vectors = Model().encode_tiers(TEXTS)
    ranges = {tier: find_ranges(rows) for tier, rows in vectors.items()}
    stored = Stored(Model(), "bits", ranges).encode_tiers(TEXTS)
    assert (np.sign(stored["demi"]) == np.sign(vectors["demi"])).all()


def test_a_bundle_holds_ranges_and_grades(tiny_bundle):
    manifest = Bundle(tiny_bundle).manifest
    assert {(g.tier, g.dtype) for g in manifest.passport.outputs} == {
        (tier.name, dtype) for tier in manifest.ladder for dtype in DTYPES[1:]
    }
    for tier in manifest.ladder:
        assert len(manifest.ranges[tier.name]) == tier.dim and min(manifest.ranges[tier.name]) > 0
    assert "## Smaller vectors" in (tiny_bundle / "README.md").read_text()


@pytest.mark.parametrize("dtype", DTYPES[1:])
def test_a_bundles_grades_are_near_one_or_of_signs(tiny_bundle, dtype):
    for grade in Bundle(tiny_bundle).manifest.passport.outputs:
        if grade.dtype == dtype:
            assert grade.cosine_mean > (0.3 if dtype == "bits" else 0.999)
            assert grade.score is not None and grade.float_score is not None
