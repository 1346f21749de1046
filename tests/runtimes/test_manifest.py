"""The manifest: to JSON and back, its exact text, and everything that is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed_runtimes.errors import BundleDamaged, BundleTooNew
from edge_embed_runtimes.manifest import (
    ENGINES,
    FORMAT,
    PRECISIONS,
    BundleFile,
    Calibration,
    Gates,
    Grade,
    Manifest,
    OutputGrade,
    Passport,
)
from edge_embed_runtimes.tiers import Ladder, Tier, parse_ladder

HASH = "0123456789abcdef" * 4
GOLDEN = """{
 "base_model": "tiny-bert",
 "files": [
  {
   "engine": "onnx",
   "path": "onnx-int8/demi.onnx",
   "precision": "int8",
   "reads_bytes": 0,
   "role": "graph",
   "sha256": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
   "size_bytes": 7,
   "tier": "demi"
  }
 ],
 "format": 3,
 "head": "project",
 "ladder": {
  "tiers": [
   {
    "dim": 8,
    "layers": 1,
    "name": "demi"
   }
  ]
 },
 "max_tokens": 16,
 "name": "golden",
 "passport": {
  "calibration": {
   "files": {
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef": "texts.txt"
   },
   "texts": 8,
   "tokens": 99,
   "tuned_steps": 40
  },
  "compiled": {
   "onnx-int8": "static"
  },
  "cross": {
   "demi": {
    "demi": 0.5
   }
  },
  "gates": {
   "cosine_mean": 0.9985,
   "cosine_min": 0.99,
   "invariance": 1e-06,
   "monotone": true,
   "score_drop": 0.003
  },
  "grades": [
   {
    "cosine_mean": 0.999,
    "cosine_min": 0.99,
    "cosine_p1": 0.995,
    "engine": "onnx",
    "invariance": 0.0,
    "precision": "int8",
    "scores": {
     "pairs": 0.5
    },
    "texts": 20,
    "tier": "demi"
   }
  ],
  "kept_float": {
   "onnx-int8": [
    "encoder.layer.0.output.dense"
   ]
  },
  "missed": [
   "demi on onnx int8: much"
  ],
  "operations": {
   "demi": 12345
  },
  "outputs": [
   {
    "cosine_mean": 0.9,
    "dtype": "bits",
    "float_score": 0.6,
    "score": 0.5,
    "tier": "demi"
   }
  ],
  "reference": {
   "pairs": {
    "demi": 0.6
   }
  },
  "untrained": [
   "demi"
  ]
 },
 "pooling": "mean",
 "ranges": {
  "demi": [
   0.5,
   0.5,
   0.5,
   0.5,
   0.5,
   0.5,
   0.5,
   0.5
  ]
 },
 "space": "s1",
 "versions": {
  "edge-embed": "0.1.0"
 }
}
"""
SMALL = Manifest(
    name="golden",
    base_model="tiny-bert",
    space="s1",
    head="project",
    pooling="mean",
    max_tokens=16,
    ladder=parse_ladder("1x8"),
    files=(BundleFile("onnx-int8/demi.onnx", "graph", HASH, 7, "demi", "onnx", "int8"),),
    passport=Passport(
        grades=(Grade("demi", "onnx", "int8", 20, 0.999, 0.995, 0.99, 0.0, {"pairs": 0.5}),),
        reference={"pairs": {"demi": 0.6}},
        cross={"demi": {"demi": 0.5}},
        calibration=Calibration(8, 99, {HASH: "texts.txt"}, 40),
        operations={"demi": 12345},
        outputs=(OutputGrade("demi", "bits", 0.9, 0.5, 0.6),),
        untrained=("demi",),
        kept_float={"onnx-int8": ("encoder.layer.0.output.dense",)},
        compiled={"onnx-int8": "static"},
        missed=("demi on onnx int8: much",),
    ),
    ranges={"demi": (0.5,) * 8},
    versions={"edge-embed": "0.1.0"},
)

numbers = st.floats(-1, 1)
texts = st.lists(st.text(), max_size=2).map(tuple)
names = st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True)
engines, precisions = st.sampled_from(ENGINES), st.sampled_from(PRECISIONS)
paths = st.lists(st.from_regex(r"[\w-]+(\.[\w-]+)?", fullmatch=True), min_size=1, max_size=3).map("/".join)
files = st.builds(
    BundleFile,
    path=paths,
    role=st.sampled_from(["graph", "weights", "tokenizer", "canaries", "card"]),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    size_bytes=st.integers(0, 1 << 40),
    tier=st.none() | names,
    engine=st.none() | engines,
    precision=st.none() | precisions,
)
grades = st.builds(
    Grade, tier=names, engine=engines, precision=precisions, texts=st.integers(0, 9999), cosine_mean=numbers,
    cosine_p1=numbers, cosine_min=numbers, invariance=numbers, scores=st.dictionaries(st.text(), numbers, max_size=2),
)  # fmt: skip
ladders = st.lists(names, min_size=1, max_size=5, unique=True).map(
    lambda found: Ladder(tuple(Tier(name, i + 1, 8 * (i + 1)) for i, name in enumerate(found)))
)
manifests = ladders.flatmap(lambda ladder: st.builds(
    Manifest, name=st.text(), base_model=st.text(), space=st.text(), head=st.text(), pooling=st.text(),
    max_tokens=st.integers(1, 4096), ladder=st.just(ladder), files=st.lists(files, max_size=4).map(tuple),
    passport=st.builds(
        Passport, grades=st.lists(grades, max_size=3).map(tuple), gates=st.builds(Gates, numbers, numbers, numbers),
        cross=st.dictionaries(names, st.dictionaries(names, numbers, max_size=2), max_size=2),
        reference=st.dictionaries(st.text(), st.dictionaries(names, numbers, max_size=2), max_size=2),
        missed=texts, untrained=texts, compiled=st.dictionaries(names, st.text(), max_size=2),
        kept_float=st.dictionaries(names, texts, max_size=2),
        operations=st.dictionaries(names, st.integers(0), max_size=2),
        calibration=st.builds(Calibration, st.integers(0), st.integers(0), st.dictionaries(names, names, max_size=2)),
    ),
    versions=st.dictionaries(st.text(), st.text(), max_size=3), format=st.just(FORMAT),
    ranges=st.just({tier.name: (0.5,) * tier.dim for tier in ladder}),
))  # fmt: skip


def changed(**fields: object) -> str:
    return json.dumps({**json.loads(GOLDEN), **fields})


def with_file(**fields: object) -> str:
    return changed(files=[{**json.loads(GOLDEN)["files"][0], **fields}])


@settings(deadline=None, max_examples=60)
@given(manifests)
def test_what_is_written_is_read_again(manifest):
    text = manifest.to_json()
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


def test_golden_text():
    assert SMALL.to_json() == GOLDEN
    assert Manifest.from_json(GOLDEN) == SMALL


@pytest.mark.parametrize("found", [FORMAT + 1, 1000])
def test_a_newer_format_is_named_before_anything_else_is_read(found):
    with pytest.raises(BundleTooNew, match=rf"format {found}.*reads up to {FORMAT}.*upgrade"):
        Manifest.from_json(json.dumps({"format": found, "unheard": "of"}))


@pytest.mark.parametrize("found", [0, -1, "1", "2", None, 1.5, [1]])
def test_an_impossible_format_is_damage(found):
    with pytest.raises(BundleDamaged, match="format"):
        Manifest.from_json(changed(format=found))


@pytest.mark.parametrize("cut", range(0, len(GOLDEN) - 2, 97))
def test_a_truncated_manifest_is_damage(cut):
    with pytest.raises(BundleDamaged, match="no manifest of edge-embed"):
        Manifest.from_json(GOLDEN[:cut])


@pytest.mark.parametrize(
    "text",
    [
        *("null", "1", "[]", "{}", '"format"', '{"format": 1}', "nonsense", "[" * 100_000),
        changed(unheard="of"),
        changed(ladder=None),
        changed(ladder={"tiers": [{"name": "demi", "layers": "one", "dim": 8}]}),
        changed(ladder={"tiers": [{"name": "demi", "layers": 1}]}),
        changed(files={"a": 1}),
        changed(files=[[]]),
        changed(passport=[]),
        changed(passport={"grades": [], "gates": {}, "cross": {}}),
        changed(passport={**json.loads(GOLDEN)["passport"], "grades": [{"tier": "demi"}]}),
        changed(passport={**json.loads(GOLDEN)["passport"], "kept_float": [1]}),
    ],
)
def test_foreign_json_is_damage(text):
    with pytest.raises(BundleDamaged, match=r"no manifest of edge-embed|has format 1"):
        Manifest.from_json(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"ladder": {"tiers": []}},
        {"ladder": {"tiers": [{"name": "Demi!", "layers": 1, "dim": 8}]}},
        {"max_tokens": "many"},
        {"max_tokens": None},
        {"max_tokens": -1},
        {"max_tokens": 0},
        {"passport": {**json.loads(GOLDEN)["passport"], "cross": 5}},
        {"passport": {**json.loads(GOLDEN)["passport"], "reference": {"pairs": 5}}},
    ],
)
def test_a_field_with_an_impossible_value_is_damage(fields):
    with pytest.raises(BundleDamaged):
        Manifest.from_json(changed(**fields))


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "..", "../up", "a/../../up", "a/..", "a\\..\\up", "\\\\host\\share", "", ".", "./"]
)
def test_paths_that_leave_the_bundle_are_refused(path):
    with pytest.raises(BundleDamaged, match="only paths inside the bundle"):
        Manifest.from_json(with_file(path=path))


@pytest.mark.parametrize(
    "fields",
    [
        {"sha256": ""},
        {"sha256": HASH[:-1]},
        {"sha256": HASH + "\n"},
        {"sha256": HASH.upper()},
        {"sha256": 5},
        {"size_bytes": -1},
        {"size_bytes": "7"},
        {"role": "virus"},
        {"engine": "cuda"},
        {"precision": "int4"},
        {"path": 5},
        {"path": None},
    ],
)
def test_bad_file_entries_are_refused(fields):
    with pytest.raises(BundleDamaged):
        Manifest.from_json(with_file(**fields))


def test_graphs_roles_and_grades_are_found():
    (tier,) = SMALL.ladder
    assert SMALL.graph(tier, "onnx", "int8") == SMALL.files[0]
    assert SMALL.graph(tier, "onnx", "fp32") is None
    assert SMALL.graph(tier, "openvino", "int8") is None
    assert SMALL.by_role("graph") == SMALL.files and SMALL.by_role("card") == ()
    assert SMALL.passport.grade("demi", "onnx", "int8").score == 0.5
    assert SMALL.passport.grade("demi", "onnx", "fp32") is None
