"""The bundle that the project ships, and the package that brings it."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge_embed import Embedder
from edge_embed.data.lines import read_lines
from edge_embed.evaluate.sts import read_scored_pairs, score_vectors
from edge_embed_runtimes.bundle import MANIFEST_NAME, Bundle, default_bundle

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "samples" / "starbucks-minilm-l6"
PROJECT = ROOT / "samples" / "packages" / "starbucks-minilm-l6"
RECIPES = [ROOT / "samples" / "recipes" / f"starbucks-minilm-l6{part}.toml" for part in ("", "-further")]
TEXTS = ROOT / "samples" / "texts"
TIERS = ["1x32", "2x64", "3x128", "4x192", "5x256", "6x384"]
MB = 1_000_000


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle(FOLDER)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def tier_vectors(bundle) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The vectors of both sides of the scored pairs, at every tier."""
    pairs = read_scored_pairs(TEXTS / "pairs" / "scored.tsv")
    found = {}
    for tier in bundle.manifest.ladder:
        with Embedder.open(bundle, tier=tier.name) as embedder:
            found[tier.name] = embedder.encode(pairs.first), embedder.encode(pairs.second)
    return found


def test_it_is_a_ladder_for_onnx_runtime_in_int8(bundle):
    manifest = bundle.manifest
    assert manifest.name == FOLDER.name
    assert [f"{tier.layers}x{tier.dim}" for tier in manifest.ladder] == TIERS
    assert {(file.engine, file.precision) for file in manifest.by_role("graph")} == {("onnx", "int8")}
    assert len(manifest.by_role("graph")) == len(TIERS) and len(manifest.by_role("weights")) == 1
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 30 * MB


def test_its_passport_holds_every_tier_and_all_pairs_of_them(bundle):
    passport = bundle.manifest.passport
    names = [tier.name for tier in bundle.manifest.ladder]
    assert passport.missed == () and passport.untrained == ()
    assert [grade.tier for grade in passport.grades] == names
    assert set(passport.cross) == set(names) and all(set(row) == set(names) for row in passport.cross.values())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_its_card_names_what_it_was_trained_on(path):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    teachers = set(recipe["teacher"]) - {"self"}
    for name in (recipe["base"], *teachers, *(source["place"].replace("../", "samples/") for source in recipe["data"])):
        assert f"`{name}`" in card
    for words in (f"samples/recipes/{path.name}", "Apache-2.0", "CC BY-SA", "edge-embed export"):
        assert words in card


@pytest.mark.parametrize("name", ["questions.txt", "conversation.txt"])
def test_every_tier_gives_the_same_vector_alone_and_among_others(bundle, name):
    texts = list(read_lines(TEXTS / name))[:12]
    for tier in bundle.manifest.ladder:
        with Embedder.open(bundle, tier=tier.name) as embedder:
            together = embedder.encode(texts)
            assert together.shape == (len(texts), tier.dim)
            alone = np.concatenate([embedder.encode([text]) for text in texts])
        assert np.abs(together - alone).max() < 1e-5


def test_larger_tiers_score_higher(bundle, tier_vectors):
    pairs = read_scored_pairs(TEXTS / "pairs" / "scored.tsv")
    firsts, seconds = ({name: both[side] for name, both in tier_vectors.items()} for side in (0, 1))
    scores = score_vectors(firsts, seconds, pairs.scores)
    assert scores["demi"] > 0.6 and scores["trenta"] > 0.7
    assert list(scores.values()) == pytest.approx(sorted(scores.values()), abs=0.02)


def test_tiers_share_a_space(bundle, tier_vectors):
    """The first values of the full vectors lie near a smaller tier's, but not near those of other texts."""
    full = tier_vectors["trenta"][0]
    for name, (found, _) in tier_vectors.items():
        cut = full[:, : found.shape[1]] / np.linalg.norm(full[:, : found.shape[1]], axis=1, keepdims=True)
        own, others = np.diag(found @ cut.T), (found @ cut.T)[~np.eye(len(found), dtype=bool)]
        assert own.mean() > others.mean() + 0.5, name


def test_the_package_that_is_installed_is_this_one():
    installed = default_bundle()
    assert (installed / MANIFEST_NAME).read_bytes() == (FOLDER / MANIFEST_NAME).read_bytes(), "run make again"


def test_its_wheel_is_small_and_holds_the_bundle_alone(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = "edge_embed_starbucks_minilm_l6"
    ours = {name.removeprefix(f"{package}/") for name in names if name.startswith(f"{package}/")}
    there = {f"bundle/{path.relative_to(FOLDER).as_posix()}" for path in FOLDER.rglob("*") if path.is_file()}
    assert ours == {"__init__.py", *there}
    assert wheel.stat().st_size < 30 * MB


def test_it_opens_without_a_path_or_a_network(wheel, tmp_path):
    """From the wheel alone, in a process whose every connection would fail."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import socket\n"
        "def refuse(*_, **__): raise AssertionError('a connection')\n"
        "socket.socket.connect = socket.create_connection = refuse\n"
        "from edge_embed import Embedder\n"
        "with Embedder.open() as embedder:\n"
        "    print(embedder.encode(['A bicycle leans on the wall.']).shape, embedder.choice.tier)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "EDGE_EMBED_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment, cwd=tmp_path
    )
    assert (done.stdout, done.stderr) == ("(1, 384) trenta 6x384\n", "")
