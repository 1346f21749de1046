"""The command line: every verb on the tiny data, exit codes, messages."""

import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from edge_embed import VectorSet, __version__
from edge_embed.__main__ import main
from edge_embed.cli import app
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.kept import kept_profiles
from edge_embed_runtimes.device.probe import usable_threads
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.manifest import MANIFEST_NAME
from edge_embed_runtimes.run import setup
from edge_embed_runtimes.tiers import STARBUCKS

VERBS = ("train", "pretrain", "export", "restore", "inspect", "verify", "devices", "profile", "embed", "evaluate")
PNG = b"\x89PNG\r\n\x1a\n"
SAMPLES = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        return json.loads(self.out)


@pytest.fixture
def edge_embed(monkeypatch, capsys) -> Callable[..., Done]:
    """The command as the shell calls it, in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets its own

    def call(*words: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["edge-embed", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        captured = capsys.readouterr()
        code = caught.value.code
        return Done(code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)

    return call


def error_line(done: Done) -> str:
    """The one line of a failure."""
    assert done.code == 1, done
    assert "Traceback" not in done.err
    (line,) = done.err.splitlines()
    assert line.startswith("error: ")
    return line


# Help, version, wrong usage


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_verb_has_help_with_an_example(verb, option):
    done = CliRunner().invoke(app, [verb, option])
    assert done.exit_code == 0
    assert f"Example: edge-embed {verb} " in " ".join(done.output.split()) + " "


def test_the_help_of_train_names_the_recipes_defaults():
    from edge_embed.train.recipe import Recipe

    told = " ".join(CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}).output.split())
    for entry in fields(Recipe):
        default = ",".join(entry.default) if entry.name == "teacher" else entry.default
        if entry.name == "ladder":
            default = ",".join(str(tier).split()[1] for tier in STARBUCKS)
        if default not in (MISSING, None, False, ()):
            flag = "tiers" if entry.name == "ladder" else entry.name.replace("_", "-")
            (line,) = re.findall(rf"--{flag} <[^>]*> ([^│]*)", told)
            assert re.search(rf"\({re.escape(f'{default:g}' if isinstance(default, float) else str(default))}\b", line)


def test_the_list_of_verbs():
    done = CliRunner().invoke(app, ["--help"])
    assert done.exit_code == 0
    single = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert single | {group.name for group in app.registered_groups} == set(VERBS)
    assert all(verb in done.output for verb in VERBS)


def test_version(edge_embed):
    assert edge_embed("--version") == Done(0, f"edge-embed {__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["fly"],
        ["inspect"],
        ["inspect", "bundle", "--colour"],
        ["train", "encoder"],
        ["train", "encoder", "-o", "out", "--epochs", "many"],
        ["train", "encoder", "-o", "out", "--head", "round"],
        ["export", "checkpoint"],
        ["restore", "bundle"],
        ["embed", "bundle", "texts.txt", "-o", "out.npy", "--engine", "tflite"],
        ["embed", "bundle", "texts.txt", "-o", "out.npy", "--threads", "0"],
        ["profile", "bundle", "-o", "out.json", "--tokens", "16,long"],
        ["profile", "compare"],
        ["profile", "simulate", "bundle"],
        ["evaluate", "bundle"],
    ],
    ids=" ".join,
)
def test_wrong_usage(edge_embed, words):
    done = edge_embed(*words)
    assert done.code == 2
    assert "Usage: " in done.err
    assert "Traceback" not in done.err


def test_no_verb_shows_the_help(edge_embed):
    done = edge_embed()
    assert done.code == 2
    assert all(verb in done.out + done.err for verb in VERBS)


def in_process(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    script = f"import sys\nsys.argv = ['edge-embed', {', '.join(map(repr, words))}]\n{code}"
    return subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [["--help"], ["embed", "--help"], ["train", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(words):
    heavy = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf", "scipy", "matplotlib", "pyarrow")
    code = (
        "from edge_embed.__main__ import main\ntry:\n    main()\nexcept SystemExit as stop:\n"
        f"    print('LOADED', stop.code, *[name for name in {heavy!r} if name in sys.modules])"
    )
    done = in_process(code, *words)
    assert done.stdout.splitlines()[-1] == "LOADED 0", done.stderr


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_libraries_it_says_how_to_get_them(missing):
    done = in_process(f"sys.modules[{missing!r}] = None\nfrom edge_embed.__main__ import main\nmain()", "devices")
    assert done.returncode == 1
    assert "pip install 'edge-embed[cli]'" in done.stderr
    assert missing in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_another_missing_module_is_no_matter_of_the_extra():
    code = "sys.modules['edge_embed.cli'] = None\nfrom edge_embed.__main__ import main\nmain()"
    done = in_process(code, "devices")
    assert "pip install" not in done.stderr
    assert "ModuleNotFoundError" in done.stderr


def test_the_module_runs_as_a_command():
    command = [sys.executable, "-m", "edge_embed", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"edge-embed {__version__}\n")


def test_a_stop_by_the_user_has_its_own_code(edge_embed, monkeypatch, tiny_bundle):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_embed_runtimes.check.check_bundle", stop)
    done = edge_embed("verify", tiny_bundle)
    assert done.code == 130
    assert "Traceback" not in done.err


# train and export


def test_train_then_export(
    edge_embed, tmp_path, tiny_encoder, tiny_text_file, tiny_pair_file, tiny_scored_file, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ["train", tiny_encoder, "-o", "checkpoint", "--texts", tiny_text_file, "--pairs", tiny_pair_file,
             "--tiers", "1x8,2x16", "--epochs", "0.2", "--batch-size", "16", "--max-tokens", "32"]  # fmt: skip
    done = edge_embed(*words, "--dev", tiny_scored_file)
    assert done.code == 0, done.err
    assert "step 2 of 2: loss" in done.err
    assert "demi" in done.err and "texts/s, 0:00 left" in done.err
    assert "Spearman on scored" in done.out
    assert "demi" in done.out
    assert "checkpoint written to checkpoint; next: edge-embed export checkpoint" in " ".join(done.out.split())

    assert "checkpoint exists already" in error_line(edge_embed(*words))
    done = edge_embed(*words, "--force", "--json", "--epochs", "0", "--dev", tiny_scored_file)
    assert done.json["checkpoint"] == "checkpoint"
    assert done.json["before"].keys() == done.json["after"].keys() == {"demi", "short"}

    notes = tmp_path / "notes.md"
    notes.write_text("## Licences\n\nAll free.\n")
    words = ["export", "checkpoint", "-o", "bundle", "--calibrate", tiny_text_file.parent,
             "--engines", "onnx", "--precisions", "int8"]  # fmt: skip
    done = edge_embed(*words, "--sts", tiny_scored_file, "--allow-below-gate",
                      "--gate-mean", "0.9", "--gate-min", "0.5", "--gate-drop", "1",
                      "--name", "mine", "--notes", notes)  # fmt: skip
    assert done.code == 0, done.err
    assert done.err == ""
    assert "cosine to the torch encoder over 64 texts" in done.out
    assert "bundle written to bundle; next: edge-embed profile bundle" in done.out
    manifest = Bundle(tmp_path / "bundle").manifest
    assert manifest.name == "mine" and "## Licences\n\nAll free." in (tmp_path / "bundle" / "README.md").read_text()
    passport = manifest.passport
    assert [grade.tier for grade in passport.grades] == ["demi", "short"]
    assert (passport.gates.cosine_mean, passport.gates.cosine_min) == (0.9, 0.5)
    assert passport.gates.score_drop == 1
    assert passport.scored_on == ("scored",)
    assert "bundle exists already" in error_line(edge_embed(*words))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "bundle", "notes.md"}


def test_a_recipe_and_flags_that_count_before_it(edge_embed, tmp_path, tiny_encoder, tiny_text_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text(
        f'base = "{tiny_encoder}"\ntiers = "1x8"\nepochs = 0.5\nbatch_size = 8\nseed = 5\n'
        '[weights]\nalign = 2\n[[data]]\nplace = "tiny.txt"\nkind = "texts"\n'
    )
    words = ["train", "--recipe", "recipe.toml", "--data-folder", tiny_text_file.parent, "-o", "out"]
    assert edge_embed(*words, "--seed", "7", "--weight", "kl=0.5", "--tiers", "1x8,2x16").code == 0
    kept = json.loads((tmp_path / "out" / "starbucks.json").read_text())["origin"]["recipe"]
    assert (kept["seed"], kept["batch_size"], len(kept["ladder"])) == (7, 8, 2)
    assert (kept["weights"]["kl"], kept["weights"]["align"], kept["weights"]["distill"]) == (0.5, 2.0, 1.0)
    assert [source["place"] for source in kept["data"]] == ["tiny.txt"]


def test_bad_rows_are_counted(edge_embed, tmp_path, tiny_encoder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.tsv").write_text("one\ttwo\na cat\ta bird\na cat\nthe river\tthe sea\n")
    words = ["train", tiny_encoder, "-o", "out", "--pairs", "pairs.tsv", "--tiers", "1x8", "--epochs", "1"]
    assert "pairs.tsv, line 3: column 'two' is empty" in error_line(edge_embed(*words))
    assert not (tmp_path / "out.work").exists()
    assert "1 bad rows of pairs.tsv were left out" in edge_embed(*words, "--skip-bad-rows").out


def test_a_training_that_was_broken_off(edge_embed, tmp_path, tiny_encoder, tiny_text_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["train", tiny_encoder, "--texts", tiny_text_file, "--tiers", "1x8,2x16", "--epochs", "2",
             "--batch-size", "16", "--save-every", "2"]  # fmt: skip
    assert edge_embed(*words, "-o", "whole").code == 0
    with monkeypatch.context() as patched:
        patched.setattr("edge_embed.show.training.TrainingLines.step", _broken_off_at_step_5)
        assert edge_embed(*words, "-o", "out").code == 130
    assert "go on with --resume, or begin anew with --force" in error_line(edge_embed(*words, "-o", "out"))
    other = error_line(edge_embed(*words, "-o", "out", "--resume", "--seed", "1"))
    assert "holds a training with another seed (0, not 1)" in other
    assert edge_embed(*words, "-o", "out", "--resume").code == 0
    assert not (tmp_path / "out.work").exists()
    names = ("model.safetensors", "heads.safetensors", "starbucks.json")
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert "holds no training to go on with" in error_line(edge_embed(*words, "-o", "out2", "--resume"))


def _broken_off_at_step_5(self, report) -> None:
    if report.step == 5:
        raise KeyboardInterrupt


def test_separate_models_are_scored_as_one(
    edge_embed, tmp_path, tiny_encoder, tiny_pair_file, tiny_scored_file, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ["train", tiny_encoder, "-o", "models", "--pairs", tiny_pair_file, "--tiers", "1x8,2x16", "--epochs", "1"]
    assert edge_embed(*words, "--method", "separate").code == 0
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"separate.json", "demi", "short"}
    assert edge_embed("evaluate", "models", "--sts", tiny_scored_file, "--json").code == 0


@pytest.mark.filterwarnings("default::edge_embed.train.pretrain.NewHead")
def test_pretrain_then_train(edge_embed, tmp_path, tiny_encoder, tiny_text_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [tiny_encoder, "--texts", tiny_text_file, "--tiers", "1x8,2x16,3x32", "--epochs", "0.5"]
    done = edge_embed("pretrain", *words, "-o", "encoder", "--tensorboard", "board")
    assert done.code == 0, done.err
    assert "has no saved masked-language head" in done.err
    assert "encoder written to encoder; next: edge-embed train encoder" in " ".join(done.out.split())
    assert list((tmp_path / "board").iterdir())
    again = edge_embed("pretrain", "encoder", *words[1:], "-o", "again", "--json")
    assert again.json == {"encoder": "again", "left_out": {}}
    assert "masked-language" not in again.err
    done = edge_embed("train", "encoder", "--texts", tiny_text_file, "--tiers", "1x8", "--epochs", "0", "-o", "out")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "{encoder}", "-o", "out"], "nothing to train on"),
        (["train", "-o", "out", "--texts", "{texts}"], 'no base encoder: name one, such as base = "all-MiniLM-L6-v2"'),
        (
            ["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--weight", "aling=1"],
            "nearest known one is 'align'",
        ),
        (["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--method", "mrl"], "choose head truncate"),
        (
            ["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--tiers", "1x8", "--teacher", "nobody"],
            "no encoder 'nobody'",
        ),
        (["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--recipe", "gone.toml"], "gone.toml can't be read"),
        (["pretrain", "{encoder}", "-o", "out", "--tiers", "1x8", "--texts", "gone.txt"], "gone.txt can't be read"),
        (["train", "{encoder}", "-o", "out", "--texts", "gone.txt"], "gone.txt can't be read"),
        (["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--tiers", "1x8,4x64"], "deeper than the encoder"),
        (["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--tiers", "8"], "'8' is no tier"),
        (["train", "{encoder}", "-o", "out", "--texts", "{texts}", "--epochs", "-1"], "epochs is -1.0: allowed is"),
        (["train", "{encoder}", "-o", "{texts}/out", "--texts", "{texts}"], "can't be written"),
        (["export", "{encoder}", "-o", "out", "--calibrate", "{texts}"], "an encoder without a ladder"),
        (["export", "gone", "-o", "out", "--calibrate", "{texts}"], "no checkpoint at gone"),
        (["export", "{checkpoint}", "-o", "out", "--calibrate", "{scored}"], "can't be read"),
        (["export", "{checkpoint}", "-o", "out", "--calibrate", "."], "holds no .txt"),
        (["export", "{checkpoint}", "-o", "out", "--calibrate", "{texts}", "--engines", "tflite"], "allowed are"),
        (["export", "{checkpoint}", "-o", "out", "--calibrate", "{texts}", "--precisions", ","], "allowed are"),
        (["export", "{checkpoint}", "-o", "out", "--calibrate", "{texts}", "--notes", "gone.md"], "gone.md can't be"),
        (["inspect", "gone"], "no bundle at gone"),
        (["inspect", "."], "is empty"),
        (["restore", "gone", "-o", "out"], "gone"),
        (["restore", "{bundle}", "-o", "out", "--base", "gone"], "no encoder 'gone'"),
        (["verify", "{checkpoint}"], "is a checkpoint: run 'edge-embed export' on it"),
        (["profile", "gone", "-o", "out.json"], "no bundle at gone"),
        (["profile", "{bundle}", "-o", "out.json", "--tokens", "0"], "name one or more numbers of at least 1"),
        (["embed", "{bundle}", "gone.txt", "-o", "out.npy"], "gone.txt can't be read (No such file or directory)"),
        (["embed", "{bundle}", ".", "-o", "out.npy"], "can't be read"),
        (["embed", "{bundle}", "{texts}", "-o", "out.csv"], "allowed are .npy, .jsonl, .npz, .parquet"),
        (["embed", "{bundle}", "{texts}", "-o", "out"], "allowed are .npy, .jsonl, .npz, .parquet"),
        (["embed", "{bundle}", "{texts}", "-o", "{texts}/out.npy"], "can't be written"),
        (["embed", "{bundle}", "{texts}", "-o", "out.npy", "--tier", "venti"], "no tier 'venti': this ladder has"),
        (["embed", "{bundle}", "{texts}", "-o", "out.npy", "--latency-ms", "-1"], "Budget(latency_ms=-1.0)"),
        (["embed", "{bundle}", "{texts}", "-o", "out.npy", "--profile", "gone.json"], "no profile at gone.json"),
        (["evaluate", "{bundle}", "--sts", "gone.tsv"], "gone.tsv can't be read"),
        (["evaluate", "gone", "--sts", "{scored}"], "gone"),
        (["evaluate", "{bundle}", "--retrieval", "."], "."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_failure_is_one_clear_line(
    edge_embed, tmp_path, monkeypatch, words, says, tiny_encoder, tiny_checkpoint, tiny_bundle, tiny_text_file,
    tiny_scored_file,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names = {"encoder": tiny_encoder, "checkpoint": tiny_checkpoint, "bundle": tiny_bundle, "texts": tiny_text_file,
             "scored": tiny_scored_file / "deeper" if words[0] == "export" else tiny_scored_file}  # fmt: skip
    assert says in error_line(edge_embed(*(word.format(**names) for word in words)))
    assert list(tmp_path.iterdir()) == []


# The default bundle


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "default"), ("verify", "default"), ("embed", "default", "{texts}", "-o", "v.npy", "--tier", "demi"),
        ("evaluate", "default", "--sts", "{scored}"),
    ],
)  # fmt: skip
def test_the_word_default_is_the_installed_bundle(
    edge_embed, tiny_bundle, tiny_text_file, tiny_scored_file, tmp_path, monkeypatch, arguments
):
    monkeypatch.chdir(tmp_path)
    told = [argument.format(texts=tiny_text_file, scored=tiny_scored_file) for argument in arguments]
    monkeypatch.setattr("edge_embed_runtimes.bundle.find_spec", lambda module: None)
    refused = edge_embed(*told)
    assert refused.code == 1 and "pip install edge-embed-starbucks-minilm-l6" in refused.err
    monkeypatch.setattr("edge_embed_runtimes.bundle.default_bundle", lambda: tiny_bundle)
    assert edge_embed(*told).code == 0
    (tmp_path / "default").mkdir()
    assert edge_embed(*told).code == 1, "a folder of that name is meant"


# inspect, verify, devices


def test_inspect_a_bundle(edge_embed, tiny_bundle):
    manifest = Bundle(tiny_bundle).manifest
    done = edge_embed("inspect", tiny_bundle)
    assert done.code == 0
    for part in (manifest.space, manifest.name, "demi 1x8, short 2x16, tall 3x32", "openvino fp32", "scored"):
        assert part in done.out
    assert edge_embed("inspect", tiny_bundle, "--json").json == json.loads((tiny_bundle / MANIFEST_NAME).read_text())


def test_inspect_a_checkpoint(edge_embed, tiny_checkpoint):
    done = edge_embed("inspect", tiny_checkpoint)
    assert done.code == 0
    found = edge_embed("inspect", tiny_checkpoint, "--json").json
    assert found == json.loads((tiny_checkpoint / "starbucks.json").read_text())
    for part in (found["space"], "demi 1x8, short 2x16, tall 3x32", "recipe: epochs", "data: tiny.txt"):
        assert part in done.out


def test_verify(edge_embed, tiny_bundle):
    done = edge_embed("verify", tiny_bundle)
    assert done.code == 0
    assert done.err == ""
    assert "FAILED" not in done.out
    assert done.out.count(" ok ") == 55
    found = edge_embed("verify", tiny_bundle, "--json").json
    assert found["passed"] is True
    assert len(found["findings"]) == 55
    assert found["findings"][0].keys() == {"what", "passed", "found"}


def test_verify_a_damaged_bundle(edge_embed, tiny_bundle, tmp_path):
    copied = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    weights = bytearray((copied / "onnx-int8" / "weights.bin").read_bytes())
    weights[100] ^= 1
    (copied / "onnx-int8" / "weights.bin").write_bytes(weights)
    assert "weights.bin was altered or cut off" in error_line(edge_embed("verify", copied))
    (copied / "onnx-int8" / "weights.bin").unlink()
    assert "lacks onnx-int8/weights.bin" in error_line(edge_embed("verify", copied))


def test_verify_a_bundle_that_misses_a_gate(edge_embed, tiny_bundle, tmp_path):
    copied = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    content = json.loads((copied / MANIFEST_NAME).read_text())
    content["passport"]["grades"][0]["cosine_min"] = 0.5
    (copied / MANIFEST_NAME).write_text(json.dumps(content))
    done = edge_embed("verify", copied)
    assert done.code == 1
    assert done.out.count("FAILED") == 1
    done = edge_embed("verify", copied, "--json")
    assert done.code == 1
    assert done.json["passed"] is False
    assert [found["passed"] for found in done.json["findings"]].count(False) == 1


def test_devices(edge_embed):
    done = edge_embed("devices")
    assert done.code == 0
    for part in ("processor", "threads", "power", "energy", "engine onnx", "engine openvino"):
        assert part in done.out
    found = edge_embed("devices", "--json").json
    assert found.keys() == {"device", "power", "temperature_c", "engines", "energy_readers"}
    assert found["engines"]["onnx"]["devices"] == [{"name": "CPU", "full_name": "", "capabilities": []}]
    (cpu,) = (one for one in found["engines"]["openvino"]["devices"] if one["name"] == "CPU")
    assert cpu["full_name"] and "FP32" in cpu["capabilities"]
    assert found["device"]["threads"] >= 1
    assert all(reader["because"] for reader in found["energy_readers"])


# profile, embed


@pytest.fixture(scope="module")
def profiled(tiny_bundle, tmp_path_factory) -> Path:
    """A folder with a quick profile, its picture and what was printed."""
    folder = tmp_path_factory.mktemp("profiled")
    words = ["profile", tiny_bundle, "-o", folder / "profile.json", "--quick", "--engine", "onnx",
             "--precision", "int8", "--json", "--png", folder / "ladder.png"]  # fmt: skip
    done = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (folder / "printed.json").write_text(done.stdout)
    return folder


def test_profile(profiled, tiny_bundle):
    measured = DeviceProfile.load(profiled / "profile.json")
    assert measured.mismatch(Bundle(tiny_bundle), usable_threads()) is None
    assert {(*cost.graph, cost.tokens, cost.batch) for cost in measured.costs} == {
        (tier, "onnx", "int8", 32, batch) for tier in ("demi", "short", "tall") for batch in (1, 16)
    }
    assert next(kept_profiles(Bundle(tiny_bundle), threads=usable_threads())) == measured
    assert json.loads((profiled / "printed.json").read_text()) == json.loads((profiled / "profile.json").read_text())
    assert (profiled / "ladder.png").read_bytes().startswith(PNG)


def test_profile_as_tables(edge_embed, tiny_bundle, tmp_path, monkeypatch, profiled):
    asked = {}

    def measured(bundle, graphs, **settings):
        asked.update(settings, graphs=graphs)
        return DeviceProfile.load(profiled / "profile.json")

    monkeypatch.setattr("edge_embed_runtimes.device.profiling.profile_bundle", measured)
    done = edge_embed(
        "profile", tiny_bundle, "-o", tmp_path / "p.json", "--tokens", "16, 32", "--threads", "3,1", "--engine", "onnx"
    )
    assert done.code == 0
    assert asked["plan"].tokens == (16, 32)
    assert asked["plan"].threads == (3, 1)
    assert {engine for _, engine, _ in asked["graphs"]} == {"onnx"}
    assert "32 tokens" in done.out
    for tier in ("demi", "short", "tall"):
        assert tier in done.out
    assert DeviceProfile.load(tmp_path / "p.json") == DeviceProfile.load(profiled / "profile.json")


@pytest.mark.parametrize("option", ["--output", "--report", "--png"])
def test_a_place_is_refused_before_it_measures(edge_embed, tiny_bundle, tmp_path, monkeypatch, option):
    monkeypatch.setattr(
        "edge_embed_runtimes.device.profiling.profile_bundle", lambda *_, **__: pytest.fail("measured for nothing")
    )
    (tmp_path / "file").write_text("")
    done = edge_embed("profile", tiny_bundle, "--quick", option, tmp_path / "file" / "below")
    assert done.code == 1 and "can't be written" in done.err


def test_profiles_beside_each_other(edge_embed, profiled, tmp_path):
    first = DeviceProfile.load(profiled / "profile.json")
    slower = tuple(cost.slowed(2.5) for cost in first.costs if cost.tier != "short")
    replace(first, device=replace(first.device, cpu="Slow CPU"), costs=slower).save(tmp_path / "kiosk.json")
    done = edge_embed("profile", "compare", profiled / "profile.json", tmp_path / "kiosk.json")
    assert done.code == 0 and done.err == ""
    assert done.out.count("(2.50x)") == len(slower) and "Slow CPU" in done.out
    found = edge_embed("profile", "compare", profiled / "profile.json", tmp_path / "kiosk.json", "--json").json
    assert set(found) == {"profile", "kiosk"}


def test_one_profile_alone_is_no_comparison(edge_embed, profiled):
    done = edge_embed("profile", "compare", profiled / "profile.json")
    assert done.code == 2 and "name at least two" in done.err


def test_profiles_of_two_bundles_are_said(edge_embed, profiled, tmp_path):
    other = replace(DeviceProfile.load(profiled / "profile.json"), bundle="0" * 64)
    other.save(tmp_path / "other.json")
    done = edge_embed("profile", "compare", profiled / "profile.json", tmp_path / "other.json")
    assert done.code == 0 and "different bundles" in done.err


def test_a_simulated_day(edge_embed, tiny_bundle, profiled, tmp_path):
    done = edge_embed(
        *("profile", "simulate", tiny_bundle, "--profile", profiled / "profile.json", "--min-quality", 0.0001),
        *("--trace", SAMPLES / "traces/laptop_day.csv", "--png", tmp_path / "day.png"),
    )
    assert done.code == 0 and done.err == ""
    assert "10.0 hours" in done.out and any(f"{tier} " in done.out for tier in ("demi", "short", "tall"))
    assert (tmp_path / "day.png").read_bytes().startswith(PNG)
    spans = edge_embed(
        *("profile", "simulate", tiny_bundle, "--profile", profiled / "profile.json", "--json"),
        *("--trace", SAMPLES / "traces/kiosk.csv"),
    ).json
    assert (spans[0]["start_s"], spans[-1]["end_s"]) == (0, 86400)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--trace", "gone.csv"), "gone.csv can't be read"),
        (("--trace", SAMPLES / "traces/kiosk.csv", "--threads", "99"), "no costs with 99 threads"),
        (("--trace", SAMPLES / "traces/kiosk.csv", "--latency-ms", "-1"), "latency_ms=-1"),
        (("--trace", SAMPLES / "traces/kiosk.csv", "--latency-ms", "1e-6"), "no tier fits"),
    ],
)
def test_a_simulation_that_can_not_be(edge_embed, tiny_bundle, profiled, words, says):
    done = edge_embed("profile", "simulate", tiny_bundle, "--profile", profiled / "profile.json", *words)
    assert done.code == 1 and says in done.err


def test_a_simulation_with_a_profile_of_another_bundle(edge_embed, tiny_bundle, profiled, tmp_path):
    replace(DeviceProfile.load(profiled / "profile.json"), bundle="0" * 64).save(tmp_path / "p.json")
    done = edge_embed(
        *("profile", "simulate", tiny_bundle, "--profile", tmp_path / "p.json"),
        *("--trace", SAMPLES / "traces/kiosk.csv"),
    )
    assert done.code == 1 and "is of another bundle" in done.err


LINES = ["a cat sees the house", "", "my friend sings", "  ", "the bus"]


@pytest.fixture
def texts_file(tmp_path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_bytes("\n".join(LINES).encode() + b"\r\n")
    return path


@pytest.fixture(scope="module")
def expected(tiny_bundle) -> np.ndarray:
    with Embedder.open(tiny_bundle, tier="short", engine="onnx", precision="int8") as embedder:
        return embedder.encode(LINES)


SHORT = ("--tier", "short", "--engine", "onnx", "--precision", "int8")


def test_embed_to_npy(edge_embed, tiny_bundle, texts_file, expected):
    output = texts_file.with_name("vectors.npy")
    done = edge_embed("embed", tiny_bundle, texts_file, "-o", output, *SHORT)
    assert done.code == 0, done.err
    assert "short 2x16 on onnx int8" in done.out
    assert f"5 vectors of 16 dimensions written to {output}" in done.out
    vectors = np.load(output, allow_pickle=False)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert vectors.dtype == np.float32
    origin = json.loads(output.with_name("vectors.npy.json").read_text())
    assert origin == {
        "space": Bundle(tiny_bundle).manifest.space, "tier": "short", "layers": 2, "tier_dim": 16, "dim": 16,
        "dtype": "float32", "rows": 5,
    }  # fmt: skip


def test_embed_as_int8_and_read_again(edge_embed, tiny_bundle, texts_file, expected):
    for name in ("vectors.npz", "vectors.parquet"):
        output = texts_file.with_name(name)
        done = edge_embed("embed", tiny_bundle, texts_file, "-o", output, *SHORT, "--dtype", "int8")
        assert done.code == 0, done.err
        found = VectorSet.load(output)
        assert (found.tier.name, found.dtype) == ("short", "int8")
        assert (found.floats() * expected).sum(1).min() > 0.99


@pytest.mark.filterwarnings("ignore::edge_embed_runtimes.tokenizer.TextCut")
def test_embed_long_texts(edge_embed, tiny_bundle, tmp_path):
    (tmp_path / "long.txt").write_text("the old man sees the house " * 100)
    embed = ("embed", tiny_bundle, tmp_path / "long.txt", "-o", tmp_path / "out.npy", *SHORT, "--long-texts")
    assert "item 0 is longer than the" in error_line(edge_embed(*embed, "error"))
    rows = []
    for how in ("truncate", "split"):
        assert edge_embed(*embed, how).code == 0
        rows.append(np.load(tmp_path / "out.npy"))
    assert np.abs(rows[0] - rows[1]).max() > 1e-4


def test_embed_to_jsonl(edge_embed, tiny_bundle, texts_file, expected):
    output = texts_file.with_name("vectors.jsonl")
    found = edge_embed("embed", tiny_bundle, texts_file, "-o", output, *SHORT, "--json").json
    assert found["shape"] == [5, 16]
    assert found["choice"]["tier"] == {"name": "short", "layers": 2, "dim": 16}
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["text"] for row in rows] == LINES
    np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=1e-6)


def test_embed_to_parquet(edge_embed, tiny_bundle, texts_file, expected):
    output = texts_file.with_name("vectors.parquet")
    assert edge_embed("embed", tiny_bundle, texts_file, "-o", output, *SHORT).code == 0
    table = pyarrow.parquet.read_table(output)
    assert table["text"].to_pylist() == LINES
    np.testing.assert_allclose(table["vector"].to_pylist(), expected, atol=1e-6)


def test_an_unknown_ending_is_refused_before_any_work(edge_embed, tiny_bundle, texts_file, monkeypatch):
    monkeypatch.setattr(Embedder, "open", lambda *_, **__: pytest.fail("the bundle was opened"))
    done = edge_embed("embed", tiny_bundle, texts_file, "-o", texts_file.with_name("vectors.csv"))
    assert "has the ending '.csv': allowed are" in error_line(done)


def test_embed_standard_input(edge_embed, tiny_bundle, tmp_path, expected, monkeypatch):
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("\n".join(LINES).encode())))
    assert edge_embed("embed", tiny_bundle, "-", "-o", tmp_path / "vectors.npy", *SHORT).code == 0
    np.testing.assert_allclose(np.load(tmp_path / "vectors.npy"), expected, atol=1e-6)


def test_unusual_line_separators_split_no_text(edge_embed, tiny_bundle, tmp_path):
    (tmp_path / "texts.txt").write_text("one\x0btwo\u2028three\x85four\nfive\n")
    done = edge_embed("embed", tiny_bundle, tmp_path / "texts.txt", "-o", tmp_path / "vectors.npy", *SHORT, "--json")
    assert done.json["shape"] == [2, 16]


def test_an_empty_file_gives_no_vectors(edge_embed, tiny_bundle, tmp_path):
    (tmp_path / "texts.txt").write_bytes(b"")
    done = edge_embed("embed", tiny_bundle, tmp_path / "texts.txt", "-o", tmp_path / "vectors.npy", *SHORT)
    assert done.code == 0, done.err
    assert np.load(tmp_path / "vectors.npy").shape == (0, 16)


def test_texts_in_another_encoding(edge_embed, tiny_bundle, tmp_path):
    (tmp_path / "texts.txt").write_bytes("bicycle\ncafé".encode("latin-1"))
    done = edge_embed("embed", tiny_bundle, tmp_path / "texts.txt", "-o", tmp_path / "vectors.npy")
    assert "texts.txt is no valid UTF-8 at byte 11: save it as UTF-8" in error_line(done)


@pytest.mark.filterwarnings("default::edge_embed_runtimes.tokenizer.TextCut")
def test_a_warning_is_one_line_on_standard_error(edge_embed, tiny_bundle, tmp_path):
    (tmp_path / "texts.txt").write_text("the cat " * 100)
    done = edge_embed("embed", tiny_bundle, tmp_path / "texts.txt", "-o", tmp_path / "vectors.npy", *SHORT)
    assert done.code == 0
    assert done.err.startswith("warning: 1 of 1 texts are longer than 64 tokens")
    assert len(done.err.splitlines()) == 1


def test_a_budget_that_no_tier_meets_lists_them(edge_embed, tiny_bundle, texts_file, profiled):
    output = texts_file.with_name("vectors.npy")
    done = edge_embed(
        "embed", tiny_bundle, texts_file, "-o", output, "--latency-ms", "1e-6", "--profile", profiled / "profile.json"
    )
    assert done.code == 1
    first, *tiers = done.err.splitlines()
    assert first.startswith("error: no tier fits this budget")
    assert [line.split()[0] for line in tiers] == ["demi", "short", "tall"]
    assert all("ms is over 1e-06 ms" in line for line in tiers)
    assert not output.exists()


def test_a_budget_that_fits_says_why(edge_embed, tiny_bundle, texts_file, profiled, monkeypatch):
    monkeypatch.setattr(setup, "profile_bundle", lambda *_, **__: pytest.fail("measured once more"))
    output = texts_file.with_name("vectors.npy")
    done = edge_embed(
        "embed", tiny_bundle, texts_file, "-o", output, "--latency-ms", "60000", "--profile", profiled / "profile.json"
    )
    assert done.code == 0, done.err
    assert "best quality within the budget" in done.out
    assert done.out.count("  not ") == 2


def test_a_pipe_that_closes_early_is_no_traceback(tiny_bundle):
    command = f"{sys.executable} -m edge_embed inspect {tiny_bundle} --json | head -c 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.stdout == "{"
    assert "Traceback" not in done.stderr
