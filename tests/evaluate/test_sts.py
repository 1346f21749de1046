"""Scored pairs: reading, cosines across dimensions, Spearman."""

import gzip
import hashlib

import numpy as np
import pytest

from edge_embed.evaluate.sts import (
    ScoredPairs,
    compare_tiers,
    cross_scores,
    encode_pairs,
    read_scored_pairs,
    score_tiers,
    score_vectors,
    spearman,
)
from edge_embed_runtimes.errors import DataError

HEADER = "sentence1\tsentence2\tscore\n"
PAIRS = ScoredPairs("tiny", ("a", "b", "c", "d"), ("e", "f", "g", "h"), (0.0, 1.5, 3.0, 5.0))


class HashModel:
    """Vectors made of a text's hash; counts how often it encodes."""

    ladder_names = ("demi", "short")
    one_space = True

    def __init__(self):
        self.calls = []

    def encode_tiers(self, texts, progress=lambda *_: None):
        self.calls.append(list(texts))
        rows = np.array([np.frombuffer(hashlib.sha256(t.encode()).digest(), np.uint8) for t in texts], np.float32) - 128
        progress("encode", len(texts), len(texts))
        return {  # not in the ladder's order
            "short": rows / np.linalg.norm(rows, axis=1, keepdims=True),
            "demi": rows[:, :8] / np.linalg.norm(rows[:, :8], axis=1, keepdims=True),
        }


def unit(*rows):
    array = np.array(rows, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_reads_columns_by_name_in_any_order(tmp_path):
    path = tmp_path / "set.tsv"
    path.write_text('subset\tscore\tsentence2\tsentence1\nx\t4.5\t"two\tone "quoted"\ny\t-1e0\tzwei\teins\r\n', "utf-8")
    pairs = read_scored_pairs(path)
    assert pairs == ScoredPairs("set", ('one "quoted"', "eins"), ('"two', "zwei"), (4.5, -1.0))


def test_reads_gzip(tmp_path):
    path = tmp_path / "dev.v2.tsv.gz"
    path.write_bytes(gzip.compress(f"{HEADER}é\tb\t1\nc\td\t2\n".encode()))
    assert read_scored_pairs(path).name == "dev.v2"
    assert read_scored_pairs(path).first == ("é", "c")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["line 1", "sentence1"]),
        (b"sentence1\tscore\na\t1\n", ["line 1", "sentence2"]),
        (b"a\tb\t1\nc\td\t2\n", ["line 1", "sentence1, sentence2, score"]),
        (HEADER.encode() + b"a\tb\t1\nc\td\n", ["line 3", "'score'"]),
        (HEADER.encode() + b"a\t \t1\nc\td\t2\n", ["line 2", "'sentence2'", "expected a text"]),
        (HEADER.encode() + b"a\tb\t1\n\nc\td\t2\n", ["line 3", "'sentence1'"]),
        (HEADER.encode() + b"a\tb\t1\nc\td\t3,5\n", ["line 3", "'score'", "'3,5'", "expected a number"]),
        (HEADER.encode() + b"a\tb\tnan\nc\td\t2\n", ["line 2", "'nan'"]),
        (HEADER.encode() + b"a\tb\t1\nc\td\tinf\n", ["line 3", "'inf'"]),
        (HEADER.encode() + b"a\tb\t1\nc\xff\td\t2\n", ["after line", "UTF-8"]),
        (HEADER.encode(), ["0 scored pairs"]),
        (HEADER.encode() + b"a\tb\t1\n", ["1 scored pairs", "at least 2"]),
        (HEADER.encode() + b"a\tb\t1\nc\td\t1.0\n", ["every score is 1.0"]),
    ],
)
def test_a_bad_file_is_refused(tmp_path, content, says):
    path = tmp_path / "bad.tsv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_scored_pairs(path)
    for words in (str(path), *says):
        assert words in str(caught.value)


def test_a_missing_or_cut_file_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none\.tsv can't be read"):
        read_scored_pairs(tmp_path / "none.tsv")
    path = tmp_path / "cut.tsv.gz"
    path.write_bytes(gzip.compress(HEADER.encode() + b"a\tb\t1\nc\td\t2\n" * 50)[:-10])
    with pytest.raises(DataError, match=r"cut\.tsv\.gz can't be read"):
        read_scored_pairs(path)


@pytest.mark.parametrize("scores", [(1.0,), (1.0, 1.0), (1.0, float("nan")), (1.0, 2.0, 3.0)])
def test_pairs_made_by_hand_are_checked_too(scores):
    texts = tuple("ab"[: len(scores)])
    with pytest.raises(DataError, match="mine"):
        ScoredPairs("mine", texts, texts, scores)


def test_tiers_are_compared_over_the_shorter_one_renormalised():
    cosines = compare_tiers(unit([3, 4], [1, 0]), unit([3, 4, 12], [0, 2, 9]))
    assert cosines == pytest.approx([1, 0], abs=1e-7)
    assert compare_tiers(unit([3, 4, 12]), unit([1, 0])) == pytest.approx([0.6])


def test_a_row_of_zeros_is_like_nothing():
    assert compare_tiers(np.zeros((1, 2), np.float32), unit([1, 0])).tolist() == [0]


@pytest.mark.parametrize("shapes", [((2, 3), (1, 3)), ((2,), (2,))])
def test_arrays_that_do_not_match_are_refused(shapes):
    with pytest.raises(DataError, match="can't be compared"):
        compare_tiers(np.ones(shapes[0]), np.ones(shapes[1]))


def test_spearman_by_hand():
    first = unit(*[[1, 0]] * 5)
    second = unit([0, 1], [1, 3], [1, 1], [3, 1], [1, 0])  # cosines ascend
    assert spearman(first, second, [1, 2, 3, 4, 5]) == pytest.approx(1)
    assert spearman(first, second, [9, 7, 5, 3, 1]) == pytest.approx(-1)
    # squared differences of ranks 1 1 1 1 0: 1 - 6 * 4 / (5 * 24)
    assert spearman(first, second, [2, 1, 4, 3, 5]) == pytest.approx(0.8)
    # ranks 1.5 1.5 3 4.5 4.5: covariance 9.0 over sqrt(10 * 9)
    assert spearman(first, second, [1, 1, 2, 3, 3]) == pytest.approx(9 / np.sqrt(90))


def test_a_model_that_ranks_nothing_scores_zero():
    assert spearman(unit([1, 0], [1, 0]), unit([1, 0], [1, 0]), [1, 2]) == 0


def test_two_pairs_are_enough():
    assert spearman(unit([1, 0], [1, 0]), unit([1, 0], [0, 1]), [5, 0]) == pytest.approx(1)


def test_spearman_refuses_other_counts_and_nan():
    with pytest.raises(DataError, match="2 pairs of vectors for 3 scores"):
        spearman(unit([1, 0], [0, 1]), unit([1, 0], [0, 1]), [1, 2, 3])
    with pytest.raises(DataError, match="pair 1 has the cosine nan"):
        spearman(unit([1, 0], [0, 1]), np.array([[1, 0], [np.nan, 0]]), [1, 2])


def test_one_pass_gives_tiers_and_cross():
    model = HashModel()
    first, second = encode_pairs(model, PAIRS)
    assert model.calls == [[*PAIRS.first, *PAIRS.second]]
    assert list(first) == list(second) == ["demi", "short"]
    alone = score_vectors(first, second, PAIRS.scores)
    cross = cross_scores(first, second, PAIRS.scores)
    assert alone == {tier: cross[tier][tier] for tier in alone}
    assert alone == score_tiers(HashModel(), PAIRS)


def test_the_outer_key_is_the_query_tier():
    first = {"demi": unit([1, 0], [1, 0], [1, 0]), "short": unit([1, 0, 0], [1, 0, 0], [1, 0, 0])}
    second = {"demi": unit([0, 1], [1, 1], [1, 0]), "short": unit([1, 0, 9], [1, 1, 0], [0, 1, 0])}
    cross = cross_scores(first, {"short": second["short"]}, (1, 2, 3))
    assert list(cross) == ["demi", "short"]
    # demi sees the first two values alone: cosines 1, 0.71, 0; short sees 0.11, 0.71, 0
    assert cross == {"demi": {"short": pytest.approx(-1)}, "short": {"short": pytest.approx(-0.5)}}
    assert cross_scores(first, second, (1, 2, 3))["short"]["demi"] == pytest.approx(1)
