"""Checking a bundle where it will run."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_embed_runtimes import check
from edge_embed_runtimes.bundle import Bundle, sha256_of
from edge_embed_runtimes.check import Finding, check_bundle
from edge_embed_runtimes.errors import BundleDamaged
from edge_embed_runtimes.manifest import MANIFEST_NAME, BundleFile, Gates, Manifest

GRAPHS = [
    f"{tier} {engine} {precision}"
    for precision in ("int8", "fp16", "fp32")
    for engine in ("onnx", "openvino")
    for tier in ("demi", "short", "tall")
]
CANARIES = [*(f"canaries of {graph}" for graph in GRAPHS), *(f"canaries of the steps to {graph}" for graph in GRAPHS)]


@pytest.fixture
def copied(tiny_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def rewrite(folder: Path, change: Callable[[Manifest], Manifest]) -> None:
    manifest = change(Manifest.from_json((folder / MANIFEST_NAME).read_text()))
    (folder / MANIFEST_NAME).write_text(manifest.to_json())


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file's content, and what the manifest says of it."""
    path = folder / name
    path.write_bytes(content)

    def change(manifest: Manifest) -> Manifest:
        def entry(file: BundleFile) -> BundleFile:
            if file.path != name:
                return file
            return dataclasses.replace(file, sha256=sha256_of(path), size_bytes=len(content))

        return dataclasses.replace(manifest, files=tuple(map(entry, manifest.files)))

    rewrite(folder, change)


def failed(folder: Path) -> list[Finding]:
    return [finding for finding in check_bundle(Bundle(folder)) if not finding.passed]


def test_a_sound_bundle_passes(tiny_bundle):
    steps: list[tuple[str, int, int]] = []
    bundle = Bundle(tiny_bundle)
    findings = check_bundle(bundle, progress=lambda *step: steps.append(step))
    assert [finding for finding in findings if not finding.passed] == []
    assert findings[0] == Finding("hashes", passed=True, found=f"{len(bundle.manifest.files)} files as exported")
    assert [finding.what for finding in findings[1:19]] == [f"gates of {graph}" for graph in GRAPHS]
    assert [finding.what for finding in findings[19:]] == CANARIES
    assert all("smallest cosine 0.9" in f.found or "smallest cosine 1.0" in f.found for f in findings[19:])
    assert steps == [
        *(("hash", done, len(bundle.manifest.files)) for done in range(1, len(bundle.manifest.files) + 1)),
        *(("canaries", done, 36) for done in range(1, 37)),
    ]


@pytest.mark.parametrize(
    "name", ["onnx-int8/weights.bin", "openvino-fp32/demi.xml", "onnx-fp32/tall.onnx", "README.md", "canaries.json"]
)
def test_an_altered_byte_is_found_and_nothing_is_run(name, copied, monkeypatch):
    monkeypatch.setattr(check, "open_graph", lambda *_, **__: pytest.fail("an altered bundle was run"))
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(BundleDamaged, match=f"{name} was altered"):
        check_bundle(Bundle(copied))


def test_wrong_canaries_fail_for_their_tier_alone(copied):
    content = json.loads((copied / "canaries.json").read_text())
    content["vectors"]["short"] = [[-value for value in row] for row in content["vectors"]["short"]]
    forge(copied, "canaries.json", json.dumps(content).encode())
    found = failed(copied)
    assert [finding.what for finding in found] == [what for what in CANARIES if "short" in what]
    assert all(finding.found.startswith("smallest cosine -") and ", at least 0.9" in finding.found for finding in found)


def test_a_single_wrong_canary_is_enough(copied):
    content = json.loads((copied / "canaries.json").read_text())
    rows = content["vectors"]["tall"]
    rows[1], rows[2] = rows[2], rows[1]
    forge(copied, "canaries.json", json.dumps(content).encode())
    assert [finding.what for finding in failed(copied)] == [what for what in CANARIES if "tall" in what]


@pytest.mark.parametrize(
    ("gates", "what"),
    [
        (Gates(cosine_mean=0.9999999), "int8"),
        (Gates(cosine_min=0.9999999), "int8"),
        (Gates(invariance=-1.0), ""),
    ],
    ids=["mean", "min", "invariance"],
)
def test_raised_gates_fail(gates, what, copied):
    rewrite(copied, lambda m: dataclasses.replace(m, passport=dataclasses.replace(m.passport, gates=gates)))
    found = {finding.what for finding in failed(copied) if finding.what.startswith("gates")}
    assert {f"gates of {graph}" for graph in GRAPHS if what in graph} <= found


def test_a_worse_grade_in_the_manifest_fails(copied):
    def worsen(manifest: Manifest) -> Manifest:
        first, *others = manifest.passport.grades
        grades = (dataclasses.replace(first, cosine_mean=float("nan")), *others)
        return dataclasses.replace(manifest, passport=dataclasses.replace(manifest.passport, grades=grades))

    rewrite(copied, worsen)
    (found,) = failed(copied)
    assert found.what == f"gates of {GRAPHS[0]}"
    assert found.found.startswith("cosine nan, min 0.9")


def test_an_engine_that_is_missing_is_passed_over_and_said_so(tiny_bundle, monkeypatch):
    monkeypatch.setattr(check, "is_installed", lambda engine: engine == "onnx")
    findings = check_bundle(Bundle(tiny_bundle))
    assert all(finding.passed for finding in findings)
    skipped = [finding.what for finding in findings if finding.found == "not run: openvino isn't installed"]
    assert skipped == [what for what in CANARIES if "openvino" in what]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"texts": ["a"]}', b'{"texts": 1, "vectors": {}}', b"\xff"])
def test_unreadable_canaries(content, copied):
    forge(copied, "canaries.json", content)
    with pytest.raises(BundleDamaged, match="no readable canaries"):
        check_bundle(Bundle(copied))


@pytest.mark.parametrize(
    "vectors",
    [{}, {"demi": [], "short": [], "tall": []}, {"demi": [[1.0]], "short": [[1.0]], "tall": [[1.0]]}, {"demi": "a"}],
    ids=["no-tier", "no-row", "short-rows", "no-array"],
)
def test_canaries_that_do_not_fit_the_tiers(vectors, copied):
    forge(copied, "canaries.json", json.dumps({"texts": ["a cat"], "vectors": vectors}).encode())
    with pytest.raises(BundleDamaged):
        check_bundle(Bundle(copied))
