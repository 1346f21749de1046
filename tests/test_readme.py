"""What the README shows is run, with a tiny encoder in place of the real one."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

README = Path(__file__).parents[1] / "README.md"
TEXT = README.read_text(encoding="utf-8")
LADDERS = {"1x32,2x64,3x128": "1x8,2x16,3x32"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_first_commands_are_the_makefiles():
    first, second = re.findall(r"^    (\S+ \S+)", TEXT, flags=re.MULTILINE)[:2]
    rules = re.findall(r"^(\w+):", (README.parent / "Makefile").read_text(), flags=re.MULTILINE)
    assert (first, second) == ("make demo", "make test")
    assert {"demo", "test"} <= set(rules)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, tiny_text_file, tiny_pair_file, tiny_scored_file) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    files = {"texts.txt": tiny_text_file, "pairs.tsv": tiny_pair_file, "scored.tsv": tiny_scored_file}
    for name, source in files.items():
        shutil.copy(source, folder / name)
    return folder


@pytest.mark.filterwarnings("ignore:.*longer than.*tokens")
@pytest.mark.filterwarnings("ignore::edge_embed.train.pretrain.NewHead")
def test_the_commands_run_in_their_order(workplace, tiny_encoder, monkeypatch):
    from edge_embed.cli import app

    monkeypatch.chdir(workplace)
    trace = "samples/traces/laptop_day.csv"
    replaced = {"all-MiniLM-L6-v2": str(tiny_encoder), trace: str(README.parent / trace), "0.6": "0.0001", **LADDERS}
    for line in "".join(blocks("sh")).splitlines():
        program, *words = shlex.split(line)
        if words[0] == "export":
            words.append("--allow-below-gate")  # the tiny encoder's weights are random
        elif words[:2] == ["profile", "bundle"]:
            words += ["--quick", "--engine", "onnx", "--precision", "int8"]  # or it takes a minute
        elif words[:2] == ["profile", "compare"]:
            shutil.copy("profile.json", "laptop.json")
            shutil.copy("profile.json", "kiosk.json")
        done = CliRunner().invoke(app, [replaced.get(word, word) for word in words], catch_exceptions=False)
        assert program == "edge-embed"
        assert done.exit_code == 0, f"{line}\n{done.output}"
    left = {
        "checkpoint",
        "bundle",
        "profile.json",
        "ladder.png",
        "vectors.npy",
        "vectors.npy.json",
        "report.html",
        "day.png",
    }
    assert left <= {path.name for path in workplace.iterdir()}


@pytest.mark.parametrize(("place", "prints"), [(0, r"trenta 6x384 \[\["), (1, r"\(2, \d+\)"), (2, r"\[[01]\]")])
def test_the_python_code_runs(tiny_bundle, capsys, monkeypatch, tmp_path, place, prints):
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[place].replace("demo/bundle", str(tiny_bundle))
    code = re.sub(r"latency_ms=\d", "latency_ms=5000", code).replace("min_quality=0.6", "min_quality=0.0001")
    exec(compile(code, str(README), "exec"), {})
    assert re.search(prints, capsys.readouterr().out)


def test_every_extra_of_the_table_exists():
    import tomllib

    project = tomllib.loads((README.parent / "pyproject.toml").read_text())["project"]
    named = set(re.findall(r"^\| `edge-embed\[(\w+)\]`", TEXT, flags=re.MULTILINE))
    assert named == project["optional-dependencies"].keys() - {"dev"}
