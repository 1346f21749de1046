"""What the report says: the frontier, the rows, the passport; and the file."""

import json
import re
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed.report import write_report
from edge_embed.report.choices import NONE
from edge_embed.report.content import describe, frontier
from edge_embed_runtimes.choose import options as options_module
from edge_embed_runtimes.errors import OutputError, ProfileError
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")


@pytest.fixture(scope="module")
def bundle(make_bundle, tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("report") / "bundle")


# The frontier


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([], ()),
        ([(1.0, 0.5)], (0,)),
        ([(2.0, 0.6), (1.0, 0.5), (3.0, 0.55)], (1, 0)),
        ([(1.0, 0.5), (1.0, 0.6), (2.0, 0.6)], (1,)),
        ([(1.0, 0.5), (1.0, 0.5)], (0, 1)),
        ([(None, 0.9), (1.0, None), (5.0, 0.1)], (2,)),
    ],
)
def test_the_frontier(points, kept):
    assert frontier(points) == kept


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), max_size=12))
def test_no_other_point_beats_one_of_the_frontier(points):
    def beaten(cost, quality):
        return any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in points)

    kept = frontier([(float(cost), float(quality)) for cost, quality in points])
    assert set(kept) == {place for place, point in enumerate(points) if not beaten(*point)}
    assert [points[place][0] for place in kept] == sorted(points[place][0] for place in kept)


# The content


def test_a_row_for_every_graph_at_every_length_and_number_of_threads(bundle, make_profile):
    profile = make_profile(bundle)
    report = describe(bundle, profile)
    assert [(view.tokens, view.threads) for view in report.views] == [(16, 1), (16, 2), (32, 1), (32, 2)]
    view = report.views[1]
    assert [(row.tier, row.engine, row.precision) for row in view.rows] == [
        (tier, *kind)
        for kind in (("onnx", "int8"), ("openvino", "int8"), ("onnx", "fp32"))
        for tier in ("demi", "short", "tall")
    ]
    row, cost = view.rows[4], profile.with_threads(2).cost(("short", "openvino", "int8"), tokens=16)
    assert (row.layers, row.dim, row.quality) == (2, 16, 0.7)
    assert (row.p50_ms, row.p90_ms, row.p99_ms) == tuple(asdict(cost.latency_ms).values())
    assert (row.load_ms, row.first_ms, row.peak_mb, row.energy_mj) == (40.0, 302.0, 82.0, None)
    assert row.size_bytes == bundle.alone_bytes(LADDER.find("short"), "openvino", "int8") > 2000
    assert (view.batch, row.texts_per_s) == (8, pytest.approx(1000 / 1.1))
    assert view.by_latency == (0, 1, 2, 8)
    assert view.by_energy == ()
    assert view.not_offered == ()
    assert (report.device, report.measured.stable, report.measured.energy_reader) == (profile.device, True, None)


def test_the_frontier_by_energy_is_another(bundle, make_profile):
    view = describe(bundle, make_profile(bundle, energy=True)).views[0]
    assert (view.by_latency, view.by_energy) == ((0, 1, 2, 8), (3, 0, 4, 1, 5, 2, 8))


def test_a_bundle_without_scores_has_no_frontier(make_bundle, make_profile, tmp_path):
    bundle = make_bundle(tmp_path / "bundle", scored=False)
    view = describe(bundle, make_profile(bundle, energy=True)).views[0]
    assert {row.quality for row in view.rows} == {None}
    assert (view.by_latency, view.by_energy, view.choices.min_quality) == ((), (), (None,))


def test_the_passport_and_its_scores(bundle, make_profile):
    passport = describe(bundle, make_profile(bundle)).passport
    assert [graded.grade for graded in passport.grades] == list(bundle.manifest.passport.grades)
    assert {graded.float_score for graded in passport.grades} == {0.7}
    assert passport.scored_on == ("pairs",)
    assert passport.cross == bundle.manifest.passport.cross


def test_graphs_that_cannot_run_here_are_shown_but_not_offered(bundle, make_profile, monkeypatch):
    monkeypatch.setattr(options_module, "is_installed", lambda engine: engine == "onnx")
    view = describe(bundle, make_profile(bundle)).views[0]
    assert "openvino" in {row.engine for row in view.rows}
    assert view.not_offered == ("openvino",)
    chosen = {row for row, *_ in view.choices.outcomes if row != NONE}
    assert {view.rows[row].engine for row in chosen} == {"onnx"}


def test_a_profile_that_does_not_speak_for_the_bundle(bundle, make_profile):
    profile = make_profile(bundle)
    with pytest.raises(ProfileError, match="is not of"):
        describe(bundle, replace(profile, bundle="other"))
    bulk = tuple(cost for cost in profile.costs if cost.batch == 8)
    with pytest.raises(ProfileError, match="no call of a single text"):
        describe(bundle, replace(profile, costs=bulk))


# The file


def test_the_file_holds_the_content_and_nothing_ends_it_early(make_bundle, make_profile, tmp_path):
    hostile = "a </script><script>alert(1)</script> <!-- name"
    bundle = make_bundle(tmp_path / "bundle", name=hostile)
    profile = make_profile(bundle)
    write_report(bundle, profile, tmp_path / "deep" / "report.html")
    page = (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")
    assert hostile not in page
    assert page.count("</script>") == 2
    (content,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', page, re.DOTALL)
    found = json.loads(content)
    assert found["bundle"]["name"] == hostile
    assert found == json.loads(json.dumps(asdict(describe(bundle, profile))))
    assert not re.search(r"/\*[A-Z]+\*/|https?://(?!www\.w3\.org/2000/svg)|innerHTML", page)


def test_a_report_that_cannot_be_written(bundle, make_profile, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"report.html can't be written"):
        write_report(bundle, make_profile(bundle), tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
