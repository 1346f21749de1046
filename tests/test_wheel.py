"""The wheel: built as a user's pip would build it, with what it needs and nothing else."""

import configparser
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import edge_embed

ROOT = Path(__file__).parents[1]
PACKAGES = {"edge_embed", "edge_embed_export", "edge_embed_runtimes"}


def leftovers() -> set[Path]:
    return {path for pattern in ("build", "dist", "*.egg-info", "*/*.egg-info", "*.whl") for path in ROOT.glob(pattern)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    place, before = tmp_path_factory.mktemp("wheel"), leftovers()
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    assert leftovers() == before
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_holds_the_three_packages_and_their_description(names):
    tops = {name.split("/")[0] for name in names}
    assert tops == {*PACKAGES, f"edge_embed-{edge_embed.__version__}.dist-info"}


def test_every_source_file_is_in_it(names):
    sources = {
        path.relative_to(base).as_posix()
        for base, folder in ((ROOT, "edge_embed"), (ROOT / "export", "."), (ROOT / "runtimes", "."))
        for path in (base / folder).rglob("*.py")
    }
    assert sources - names == set()


def test_no_other_file_is_in_it(names):
    ours = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    texts = {name for name in ours if name.startswith("edge_embed_export/texts/")}
    assert "edge_embed_export/texts/weather.txt" in texts
    assert {Path(name).suffix for name in ours - texts} <= {".py", ".typed", ".css", ".html", ".js", ".json"}


@pytest.mark.parametrize("name", ["edge_embed/py.typed", "edge_embed_runtimes/py.typed"])
def test_type_checkers_find_the_mark(names, name):
    assert name in names


def test_the_command_is_registered(wheel, names):
    (path,) = (name for name in names if name.endswith("/entry_points.txt"))
    parser = configparser.ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read(path).decode())
    assert dict(parser["console_scripts"]) == {"edge-embed": "edge_embed.__main__:main"}


def test_the_licence_is_in_it(names):
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_it_is_small_and_pure(wheel):
    assert wheel.stat().st_size < 1_000_000
    assert wheel.name.endswith("-py3-none-any.whl")
