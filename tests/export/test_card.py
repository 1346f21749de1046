"""The model card says what the manifest holds."""

import dataclasses
import re

import pytest

from edge_embed.model.checkpoint import Origin
from edge_embed_export.card import write_card
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.manifest import Manifest


@pytest.fixture(scope="module")
def manifest(tiny_bundle) -> Manifest:
    return Bundle(tiny_bundle).manifest


def tables(text: str) -> list[list[list[str]]]:
    """Each Markdown table as rows of cells, without the line under its header."""
    found: list[list[list[str]]] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        assert set("".join(rows[1])) == {"-"}
        assert len({len(row) for row in rows}) == 1
        found.append([rows[0], *rows[2:]])
    return found


def test_the_bundles_card_holds_its_grades(tiny_bundle, manifest):
    text = (tiny_bundle / "README.md").read_text()
    tiers, grades, across, smaller = tables(text)
    assert [row[0] for row in tiers[1:]] == [tier.name for tier in manifest.ladder]
    assert [row[1] for row in tiers[1:]] == [f"{tier.layers}x{tier.dim}" for tier in manifest.ladder]
    assert len(grades) == 1 + len(manifest.passport.grades) == 19
    for row, grade in zip(grades[1:], manifest.passport.grades, strict=True):
        assert row[:3] == [grade.tier, grade.engine, grade.precision]
        graph = manifest.graph(manifest.ladder.find(grade.tier), grade.engine, grade.precision)
        assert float(row[3]) == pytest.approx((graph.size_bytes + graph.reads_bytes) / 1e6, abs=0.005) != 0
        cosines = [grade.cosine_mean, grade.cosine_p1, grade.cosine_min]
        assert list(map(float, row[4:7])) == pytest.approx(cosines, abs=1e-5)
        assert float(row[8]) == pytest.approx(grade.score, abs=1e-4)
        assert float(row[9]) == pytest.approx(manifest.passport.reference["scored"][grade.tier], abs=1e-4)
    assert across[0] == ["", "demi", "short", "tall"]
    for query, *scores in across[1:]:
        assert list(map(float, scores)) == pytest.approx(list(manifest.passport.cross[query].values()), abs=1e-4)
    assert smaller[0] == ["tier", "float16", "int8", "bits"]
    for tier, *cells in smaller[1:]:
        kept = [grade for grade in manifest.passport.outputs if grade.tier == tier]
        assert cells == [f"{grade.cosine_mean:.5f}, {grade.score:.4f}" for grade in kept]


def test_notes_stand_in_the_card(manifest, tmp_path):
    plain, noted = tmp_path / "plain.md", tmp_path / "noted.md"
    write_card(plain, manifest, Origin("tiny"))
    write_card(noted, manifest, Origin("tiny"), notes="\n## Licences\n\nAll free.\n\n")
    assert "\n\n## Licences\n\nAll free.\n\n## Tiers\n" in noted.read_text()
    assert noted.read_text().replace("\n## Licences\n\nAll free.\n", "") == plain.read_text()


def test_the_bundles_card_says_what_it_is_and_where_it_comes_from(tiny_bundle, manifest):
    text = (tiny_bundle / "README.md").read_text()
    assert text.startswith(f"# {manifest.name}\n")
    for part in (f"`{manifest.base_model}`", f"`{manifest.space}`", "`tiny.txt`", "64 tokens", "Pooling: mean.",
                 "Heads: project.", "over scored.", "calibrated on 64 texts",
                 "3 tiers", "## Limits", "licence"):  # fmt: skip
        assert part in text
    assert "None" not in text
    assert str(tiny_bundle.parent) not in text


def test_the_cards_code_runs(tiny_bundle):
    (code,) = re.findall(r"```python\n(.*?)```", (tiny_bundle / "README.md").read_text(), flags=re.DOTALL)
    names = {}
    exec(code.replace("path/to/this/folder", str(tiny_bundle)).replace("latency_ms=5", ""), names)
    assert names["vectors"].shape in {(1, tier.dim) for tier in Bundle(tiny_bundle).manifest.ladder}


def test_without_pairs_and_data(manifest, tmp_path):
    grades = tuple(dataclasses.replace(grade, scores={}) for grade in manifest.passport.grades)
    outputs = tuple(dataclasses.replace(grade, score=None) for grade in manifest.passport.outputs)
    passport = dataclasses.replace(manifest.passport, grades=grades, cross={}, reference={}, outputs=outputs)
    write_card(tmp_path / "card.md", dataclasses.replace(manifest, passport=passport), Origin("base"))
    text = (tmp_path / "card.md").read_text()
    _, found, _ = tables(text)
    assert {(row[8], row[9]) for row in found[1:]} == {("", "")}
    assert "Teachers: none. Files: none." in text
    assert "Across tiers" not in text
    assert "Score:" not in text
    assert "Below the gates" not in text
    assert "None" not in text


def test_the_teachers_are_named(manifest, tmp_path):
    origin = Origin("base", recipe={"teacher": ["self", "other"]}, data={"a.txt": "0"})
    write_card(tmp_path / "card.md", manifest, origin)
    assert (
        "Encoder: `" + manifest.base_model + "`. Teachers: `self`, `other`. Files: `a.txt`."
        in (tmp_path / "card.md").read_text()
    )


def test_what_was_missed_or_not_trained_is_marked(manifest, tmp_path):
    passport = dataclasses.replace(manifest.passport, missed=("demi on onnx int8: much",), untrained=("short",))
    write_card(tmp_path / "card.md", dataclasses.replace(manifest, passport=passport), Origin("base"))
    text = (tmp_path / "card.md").read_text()
    assert "## Below the gates\n\n- demi on onnx int8: much\n" in text
    assert [row[3] for row in tables(text)[0][1:]] == ["", "untrained", ""]
