"""Whole exports: what they leave, and what they leave where something goes wrong."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import onnx_ir as ir
import pytest

from edge_embed.model.checkpoint import describe_checkpoint, load_checkpoint
from edge_embed_export import assembly, build, calibrate, compiler
from edge_embed_export.build import export_bundle
from edge_embed_export.settings import ExportSettings
from edge_embed_export.share import SharedWeights
from edge_embed_export.tune import STEPS
from edge_embed_runtimes.bundle import Bundle, sha256_of
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.errors import (
    CheckpointError,
    DataError,
    EngineError,
    GateMissed,
    OutputError,
    RecipeError,
)
from edge_embed_runtimes.manifest import ENGINES, MANIFEST_NAME, PRECISIONS, Gates, Manifest
from edge_embed_runtimes.tiers import parse_ladder

IMPOSSIBLE = Gates(cosine_mean=1.1)
LOOSE = Gates(cosine_mean=0.995, cosine_min=0.98)


@pytest.fixture
def quick(tiny_text_file) -> ExportSettings:
    return ExportSettings(calibrate=(tiny_text_file,), engines=("onnx",), precisions=("int8",), gates=LOOSE)


@pytest.fixture(scope="module")
def trace(tiny_checkpoint) -> ir.Model:
    return compiler.export_ladder(load_checkpoint(tiny_checkpoint, attention="eager")[0])


@pytest.fixture
def traced(trace, monkeypatch) -> None:
    """Spare the seconds of tracing where it is not what the test is about."""
    monkeypatch.setattr(compiler, "export_ladder", lambda model: trace.clone())


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# A sound export


def test_the_bundle_opens_and_lists_every_file(tiny_bundle):
    manifest = Bundle(tiny_bundle).manifest
    assert left(tiny_bundle) == sorted([MANIFEST_NAME, *(file.path for file in manifest.files)])
    for file in manifest.files:
        assert sha256_of(tiny_bundle / file.path) == file.sha256
        assert (tiny_bundle / file.path).stat().st_size == file.size_bytes
    graphs = {(file.tier, file.engine, file.precision) for file in manifest.by_role("graph")}
    assert graphs == {(t, e, p) for t in ("demi", "short", "tall") for e in ENGINES for p in PRECISIONS}
    assert {(file.engine, file.precision) for file in manifest.by_role("weights")} == {
        (e, p) for e in ENGINES for p in PRECISIONS
    }
    for role in ("tokenizer", "canaries", "card"):
        assert len(manifest.by_role(role)) == 1


def test_the_manifest_tells_of_the_checkpoint(tiny_bundle, tiny_checkpoint):
    manifest = Bundle(tiny_bundle).manifest
    checkpoint = describe_checkpoint(tiny_checkpoint)
    assert manifest.space == checkpoint["space"]
    assert [str(tier) for tier in manifest.ladder] == ["demi 1x8", "short 2x16", "tall 3x32"]
    assert (manifest.head, manifest.pooling, manifest.max_tokens) == ("project", "mean", 64)
    assert "/" not in manifest.base_model + manifest.name
    assert {"edge-embed", "torch", "onnxruntime", "openvino", "nncf"} <= manifest.versions.keys()


def test_the_passport_grades_every_graph(tiny_bundle):
    passport = Bundle(tiny_bundle).manifest.passport
    assert len(passport.grades) == 18
    for grade in passport.grades:
        assert grade.texts == 64
        assert passport.gates.cosine_mean <= grade.cosine_mean <= 1 + 1e-6
        assert passport.gates.cosine_min <= grade.cosine_min <= grade.cosine_mean + 1e-6
        assert 0 <= grade.invariance <= passport.gates.invariance
        assert -1 <= grade.score <= 1
        if grade.precision == "fp32":
            assert grade.cosine_min > 1 - 1e-5
            assert grade.score == pytest.approx(passport.cross[grade.tier][grade.tier], abs=1e-3)
    assert passport.scored_on == ("scored",)


def test_every_graph_runs(tiny_bundle, tiny_texts):
    for engine in ENGINES:
        for precision in PRECISIONS:
            with Embedder.open(tiny_bundle, tier="short", engine=engine, precision=precision) as embedder:
                assert embedder.encode(tiny_texts[:2]).shape == (2, 16)


def test_nothing_of_this_machine_is_in_the_bundle(tiny_bundle, tiny_checkpoint):
    places = [str(tiny_bundle.parents[1]), str(tiny_checkpoint), str(Path(__file__).parents[2])]
    for path in tiny_bundle.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert [place for place in places if place.encode() in content] == [], path


def test_the_canaries_vectors_are_those_of_every_tier(tiny_bundle):
    content = json.loads((tiny_bundle / "canaries.json").read_text())
    assert {name: len(rows[0]) for name, rows in content["vectors"].items()} == {"demi": 8, "short": 16, "tall": 32}
    assert {len(rows) for rows in content["vectors"].values()} == {len(content["texts"])}


# Repeatable


def files_of(bundle: Path) -> dict[str, str]:
    """Every file but the manifest, whose gates differ from the tiny bundle's, and the card made of it."""
    return {name: sha256_of(bundle / name) for name in left(bundle) if name not in (MANIFEST_NAME, "README.md")}


def test_a_second_export_in_one_process_is_the_same(tiny_checkpoint, tiny_bundle, quick, tmp_path, traced):
    every = dataclasses.replace(quick, engines=ENGINES, precisions=PRECISIONS)
    manifests = [export_bundle(tiny_checkpoint, tmp_path / name, every) for name in ("one", "other")]
    assert manifests[0] == manifests[1]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "other") == files_of(tiny_bundle)


SCRIPT = """
import sys
from pathlib import Path
from edge_embed_export.build import export_bundle
from edge_embed_export.settings import ExportSettings
from edge_embed_runtimes.manifest import Gates
checkpoint, output, texts = map(Path, sys.argv[1:])
gates = Gates(cosine_mean=0.995, cosine_min=0.98)
settings = ExportSettings(calibrate=(texts,), precisions=("int8",), gates=gates)
export_bundle(checkpoint, output, settings)
"""


def test_an_export_in_another_process_is_the_same(tiny_checkpoint, tiny_bundle, tiny_text_file, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tiny_checkpoint), str(tmp_path / "again"), str(tiny_text_file)],
        env={**os.environ, "PYTHONHASHSEED": "12345"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    kinds = ("onnx-int8", "openvino-int8")
    before = {name: sha256 for name, sha256 in files_of(tiny_bundle).items() if name.split("/")[0] in kinds}
    assert before.items() <= files_of(tmp_path / "again").items()


# Settings and progress


@pytest.mark.usefixtures("traced")
def test_the_stages_are_told_and_each_comes_to_its_end(tiny_checkpoint, tmp_path, quick):
    steps: list[tuple[str, int, int]] = []
    manifest = export_bundle(tiny_checkpoint, tmp_path / "out", quick, progress=lambda *step: steps.append(step))
    assert manifest == Bundle(tmp_path / "out").manifest
    ends = {stage: (done, total) for stage, done, total in steps}
    assert list(ends) == ["trace", "encode", "compile onnx-int8", "calibrate", "verify onnx-int8"]
    assert all(done == total > 0 for done, total in ends.values())
    assert all(0 <= done <= total for _, done, total in steps)
    assert manifest.passport.scored_on == ()
    assert manifest.passport.cross == {}
    assert {grade.score for grade in manifest.passport.grades} == {None}


@pytest.mark.usefixtures("traced")
def test_int8_is_graded_on_texts_it_was_not_calibrated_on(tiny_checkpoint, tmp_path, quick, monkeypatch, tiny_texts):
    graded: list[list[str]] = []
    monkeypatch.setattr(calibrate, "MOST_TEXTS", 32)
    plain = assembly.Yardstick
    monkeypatch.setattr(assembly, "Yardstick", lambda texts, *rest: graded.append(list(texts)) or plain(texts, *rest))
    manifest = export_bundle(tiny_checkpoint, tmp_path / "out", quick)
    used = calibrate.calibration_texts(tiny_texts)
    assert sorted(graded[0]) == sorted(set(tiny_texts) - set(used))
    assert manifest.passport.grades[0].texts == 32


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"engines": ()}, EngineError, r"engines \[\]: allowed are one or more of onnx, openvino"),
        ({"engines": ("tflite",)}, EngineError, r"\['tflite'\]: allowed are one or more of onnx, openvino"),
        ({"engines": ("onnx", "")}, EngineError, "allowed are"),
        ({"precisions": ()}, RecipeError, r"precisions \[\]: allowed are one or more of int8, fp16, fp32"),
        ({"precisions": ("int8", "int4")}, RecipeError, "'int4'.*allowed are one or more of int8, fp16, fp32"),
        ({"tune": True, "precisions": ("fp32",)}, RecipeError, "tuning is for int8"),
        ({"calibrate": ()}, DataError, "no calibration texts: name at least one file"),
    ],
    ids=["no-engine", "engine", "empty-engine", "no-precision", "precision", "tune", "no-texts"],
)
def test_settings_out_of_range(changes, error, says):
    with pytest.raises(error, match=says):
        ExportSettings(**{"calibrate": (Path("texts.txt"),), **changes})


# Where something goes wrong


@pytest.fixture
def fails(tiny_checkpoint, tmp_path, tiny_text_file) -> Iterator[Callable[..., str]]:
    """Run an export that must raise; afterwards nothing may be left, hidden files included."""

    def run(error: type[BaseException], **changes) -> str:
        kinds = {"calibrate": (tiny_text_file,), "engines": ("onnx",), "precisions": ("int8",), "gates": LOOSE}
        with pytest.raises(error) as caught:
            export_bundle(tiny_checkpoint, tmp_path / "deep" / "out", ExportSettings(**{**kinds, **changes}))
        return str(caught.value)

    yield run
    assert left(tmp_path) == []
    assert [path.name for path in tmp_path.rglob("*") if path.name != "deep"] == []


@pytest.mark.usefixtures("traced")
def test_a_missed_gate_writes_nothing(fails):
    message = fails(GateMissed, gates=IMPOSSIBLE)
    assert message.startswith("3 gates were missed:")
    assert "--allow-below-gate" in message
    for tier in ("demi", "short", "tall"):
        assert f"{tier} on onnx int8: mean cosine" in message


# Ways around a missed gate


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("engine", ENGINES)
def test_products_stay_in_float_until_the_gates_are_met(tiny_checkpoint, tmp_path, tiny_text_file, engine):
    strict = Gates(cosine_mean=0.99995, cosine_min=0.9999)
    settings = ExportSettings((tiny_text_file,), (engine,), ("int8",), gates=strict)
    passport = export_bundle(tiny_checkpoint, tmp_path / "out", settings).passport
    assert passport.missed == ()
    assert passport.compiled == {f"{engine}-int8": "static"}
    assert len(passport.kept_float[f"{engine}-int8"]) >= 4
    assert min(grade.cosine_min for grade in passport.grades) >= 0.9999


@pytest.mark.usefixtures("traced")
def test_openvino_quantizes_while_it_runs_where_two_products_in_float_miss(
    tiny_checkpoint, tmp_path, tiny_text_file, monkeypatch
):
    first = assembly.grade_graph
    graded = []

    def spoil_the_first_way(folder, tier, *rest):
        graded.append(tier.name)
        found, cosines = first(folder, tier, *rest)
        return dataclasses.replace(found, cosine_mean=0.5) if len(graded) <= 9 else found, cosines

    monkeypatch.setattr(assembly, "grade_graph", spoil_the_first_way)
    settings = ExportSettings((tiny_text_file,), ("openvino",), ("int8",), gates=LOOSE)
    passport = export_bundle(tiny_checkpoint, tmp_path / "out", settings).passport
    assert passport.compiled == {"openvino-int8": "dynamic"}
    assert passport.kept_float == {"openvino-int8": ()}
    assert len(graded) == 12  # all static, one and two products in float, then this


@pytest.mark.usefixtures("traced")
def test_where_no_way_passes_the_nearest_is_kept(tiny_checkpoint, tmp_path, tiny_text_file):
    settings = ExportSettings((tiny_text_file,), ("onnx",), ("int8",), gates=IMPOSSIBLE, allow_below_gate=True)
    passport = export_bundle(tiny_checkpoint, tmp_path / "out", settings).passport
    assert passport.kept_float == {"onnx-int8": ()}  # products in float come no nearer to a cosine of 1.1
    assert len(passport.missed) == 3
    assert max(grade.cosine_min for grade in passport.grades) < 1 - 1e-6


def test_tuned_for_int8_while_float_stays_as_it_was(tiny_checkpoint, tmp_path, tiny_text_file, monkeypatch):
    monkeypatch.setattr(compiler, "tune", partial(compiler.tune, steps=STEPS // 4))  # enough for so small an encoder
    kinds = ((tiny_text_file,), ("onnx",), ("int8", "fp32"))
    plain, tuned = (
        export_bundle(tiny_checkpoint, tmp_path / name, ExportSettings(*kinds, gates=LOOSE, tune=name == "tuned"))
        for name in ("plain", "tuned")
    )
    assert (plain.passport.calibration.tuned_steps, tuned.passport.calibration.tuned_steps) == (0, STEPS)
    assert f"tuned on them in {STEPS} steps" in (tmp_path / "tuned" / "README.md").read_text(encoding="utf-8")
    assert tuned.space == plain.space
    for grade in tuned.passport.grades:
        before = plain.passport.grade(grade.tier, grade.engine, grade.precision)
        if grade.precision == "fp32":
            assert grade == before
        else:
            assert 1 - grade.cosine_mean < 0.9 * (1 - before.cosine_mean)


@pytest.mark.usefixtures("traced")
def test_below_a_gate_by_permission_is_marked(tiny_checkpoint, tmp_path, tiny_text_file):
    settings = ExportSettings((tiny_text_file,), ("onnx",), ("fp32",), gates=IMPOSSIBLE, allow_below_gate=True)
    manifest = export_bundle(tiny_checkpoint, tmp_path / "out", settings)
    assert [line.split(":")[0] for line in manifest.passport.missed] == [
        f"{tier} on onnx fp32" for tier in ("demi", "short", "tall")
    ]
    assert "## Below the gates" in (tmp_path / "out" / "README.md").read_text()
    assert Bundle(tmp_path / "out").manifest == manifest


def test_other_tiers_than_were_trained(tiny_checkpoint, tmp_path, tiny_text_file):
    ladder = parse_ladder("low=1x4,high=2x16")
    settings = ExportSettings((tiny_text_file,), ("onnx",), ("fp32",), gates=LOOSE, ladder=ladder)
    with pytest.warns(UserWarning, match="low 1x4 was not trained"):
        manifest = export_bundle(tiny_checkpoint, tmp_path / "out", settings)
    assert manifest.ladder == ladder
    assert manifest.passport.untrained == ("low",)
    with Embedder.open(tmp_path / "out", tier="low") as embedder:
        assert embedder.encode(["a cat"]).shape == (1, 4)


@pytest.mark.usefixtures("traced")
def test_a_stop_midway_leaves_nothing(fails, monkeypatch):
    def stop(*_, notes):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "write_card", stop)
    fails(KeyboardInterrupt)


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("write failed: No space left on device"),
    ],
    ids=["disk", "quota", "wrapped"],
)
def test_a_full_disk_is_named_and_leaves_nothing(fails, monkeypatch, error):
    place, calls = SharedWeights.place, []

    def full(self, content):
        calls.append(1)
        if len(calls) > 3:
            raise error
        return place(self, content)

    monkeypatch.setattr(SharedWeights, "place", full)
    message = fails(OutputError)
    assert "no room left on the disk" in message
    assert len(calls) == 4


@pytest.mark.usefixtures("traced")
def test_another_error_of_the_system_is_handed_on(fails, monkeypatch):
    def broken(*_, notes):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(build, "write_card", broken)
    assert "Input/output error" in fails(OSError)


def test_texts_that_are_missing_empty_or_too_few(fails, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    (folder / "empty.txt").write_text("\n \n")
    (folder / "few.txt").write_text("".join(f"text {number}\n" for number in range(31)) * 2)
    assert "gone.txt can't be read (No such file or directory)" in fails(DataError, calibrate=(folder / "gone.txt",))
    assert "empty.txt holds no text" in fails(DataError, calibrate=(folder / "empty.txt",))
    assert "31 calibration texts are too few" in fails(DataError, calibrate=(folder / "few.txt",))


@pytest.fixture
def no_work(monkeypatch) -> None:
    def work(*_, **__):
        pytest.fail("long work was begun")

    monkeypatch.setattr(build, "load_checkpoint", work)
    monkeypatch.setattr(compiler, "export_ladder", work)


@pytest.mark.usefixtures("no_work")
def test_a_taken_output_is_refused_before_any_work(tiny_checkpoint, tmp_path, quick):
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    file.write_text("mine, too")
    with pytest.raises(OutputError, match="folder exists already: name another place, or pass --force"):
        export_bundle(tiny_checkpoint, folder, quick)
    for replace in (False, True):
        with pytest.raises(OutputError, match="file exists already"):
            export_bundle(tiny_checkpoint, file, quick, replace=replace)
    assert left(tmp_path) == ["file", "folder/mine.txt"]


def test_a_failed_replacement_keeps_the_old_bundle(tiny_checkpoint, tmp_path, tiny_text_file, traced):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    settings = ExportSettings((tiny_text_file,), ("onnx",), ("int8",), gates=IMPOSSIBLE)
    with pytest.raises(GateMissed):
        export_bundle(tiny_checkpoint, tmp_path / "out", settings, replace=True)
    assert left(tmp_path) == ["out/old.txt"]


def test_replace_leaves_the_new_bundle_alone(tiny_checkpoint, tmp_path, quick, traced):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    manifest = export_bundle(tiny_checkpoint, tmp_path / "out", quick, replace=True)
    assert not (tmp_path / "out" / "old.txt").exists()
    assert Bundle(tmp_path / "out").manifest == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert Manifest.from_json((tmp_path / "out" / MANIFEST_NAME).read_text()) == manifest


def test_an_empty_folder_is_taken(tiny_checkpoint, tmp_path, quick, traced):
    (tmp_path / "out").mkdir()
    export_bundle(tiny_checkpoint, tmp_path / "out", quick)
    assert Bundle(tmp_path / "out").manifest.files


@pytest.mark.parametrize(
    ("source", "says"),
    [("gone", "no checkpoint at .*gone"), ("empty", "no checkpoint at"), ("encoder", "is an encoder without a ladder")],
)
def test_no_checkpoint(source, says, tiny_encoder, tmp_path, quick):
    (tmp_path / "empty").mkdir()
    place = tiny_encoder if source == "encoder" else tmp_path / source
    with pytest.raises(CheckpointError, match=says):
        export_bundle(place, tmp_path / "out", quick)
    assert not (tmp_path / "out").exists()


def test_a_bundle_is_no_checkpoint(tiny_bundle, tmp_path, quick):
    with pytest.raises(CheckpointError, match="is a bundle: run 'edge-embed restore' on it first"):
        export_bundle(tiny_bundle, tmp_path / "out", quick)
