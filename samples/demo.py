"""The main job from end to end: encoder and texts in, ladder out, the embedder picks a tier.

Run it with `make demo`. What an earlier run left in demo/ is used again where nothing has changed.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from edge_embed import Budget, Embedder
from edge_embed.evaluate.evaluation import Sets
from edge_embed.evaluate.sts import read_scored_pairs
from edge_embed.model.checkpoint import describe_checkpoint, is_checkpoint
from edge_embed.show.bars import bars
from edge_embed.show.ladder import describe_choice, draw_ladder, print_ladder, rungs
from edge_embed.show.table import print_table
from edge_embed.show.training import TrainingLines
from edge_embed.train.recipe import Recipe
from edge_embed.train.recipe_file import make_recipe, read_recipe
from edge_embed.train.run import Target, train_checkpoint
from edge_embed_export.build import export_bundle
from edge_embed_export.settings import ExportSettings
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.options import list_options
from edge_embed_runtimes.device.probe import usable_threads
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.device.profiling import Plan, profile_bundle
from edge_embed_runtimes.errors import BundleError, NoTierFits, ProfileError

SAMPLES = Path(__file__).parent
TEXTS = tuple(sorted((SAMPLES / "texts").glob("*.txt")))
SCORED = SAMPLES / "texts" / "pairs" / "scored.tsv"
CORPUS = (SAMPLES / "texts" / "questions.txt", SAMPLES / "texts" / "household.txt", SAMPLES / "texts" / "nature.txt")
QUERIES = ("how do I get rid of a stain", "plants that grow near the sea", "a man repairs something at home")
BUDGETS = (Budget(latency_ms=1), Budget(latency_ms=3), Budget())
RECIPE = make_recipe(Recipe, read_recipe(SAMPLES / "recipes" / "demo.toml"))
LENGTH = 32
console = Console(highlight=False, soft_wrap=True)


def main(out: Path) -> None:
    """Run every step; each leaves its result in `out`."""
    started = time.perf_counter()
    sets = Sets(sts=(read_scored_pairs(SCORED),))
    train_step(out / "checkpoint")
    bundle = export_step(out / "checkpoint", out / "bundle", sets)
    profile = profile_step(bundle, out / "profile.json")
    search_step(bundle, profile)
    heading("6. The ladder on this device")
    ladder = rungs(bundle, profile, tokens=LENGTH)
    print_ladder(f"{LENGTH} tokens a text, {profile.threads[0]} threads, {profile.device.cpu}", ladder)
    draw_ladder(ladder, out / "ladder.png")
    console.print(f"picture: {out / 'ladder.png'}")
    console.print(f"done in {time.perf_counter() - started:.0f} s")


def train_step(folder: Path) -> None:
    """Steps 1 and 2: take the encoder, fit the heads, train the ladder."""
    heading(f"1. Encoder {RECIPE.base}; 2. training on {len(TEXTS)} files of texts")
    if is_checkpoint(folder) and describe_checkpoint(folder)["origin"]["recipe"] == json.loads(
        json.dumps(RECIPE.describe())
    ):
        console.print(f"{folder} comes from the same recipe: used again")
        return
    with bars() as progress:
        target = Target(folder, replace=True)
        outcome = train_checkpoint(RECIPE, target, monitor=TrainingLines(progress), progress=progress)
    rows = [[name, f"{outcome.before[name]:.4f}", f"{score:.4f}"] for name, score in outcome.after.items()]
    print_table(f"Spearman on {SCORED.name}", ["tier", "heads fitted", "trained"], rows)


def export_step(checkpoint: Path, folder: Path, sets: Sets) -> Bundle:
    """Step 3: compile a graph for each tier, engine and precision."""
    heading("3. Export for ONNX Runtime and OpenVINO, int8 and fp32")
    try:
        bundle = Bundle(folder)
        if bundle.manifest.space == describe_checkpoint(checkpoint)["space"]:
            console.print(f"{folder} comes from this checkpoint: used again")
            return bundle
    except BundleError:
        pass
    with bars() as progress:
        settings = ExportSettings(calibrate=TEXTS, sets=sets)
        export_bundle(checkpoint, folder, settings, replace=True, progress=progress)
    return Bundle(folder)


def profile_step(bundle: Bundle, path: Path) -> DeviceProfile:
    """Step 4: measure every graph."""
    heading("4. Profile of this device")
    try:
        profile = DeviceProfile.load(path)
        if profile.mismatch(bundle, usable_threads()) is None:
            console.print(f"{path} is of this bundle and device: used again")
            return profile
    except ProfileError:
        pass
    with bars() as progress:
        graphs = [option.graph for option in list_options(bundle)]
        plan = Plan(tokens=(LENGTH,), quick=True)
        profile = profile_bundle(bundle, graphs, plan=plan, progress=progress)
    profile.save(path)
    return profile


def search_step(bundle: Bundle, profile: DeviceProfile) -> None:
    """Step 5: open under three budgets, embed a small corpus, answer queries."""
    corpus = [line for path in CORPUS for line in path.read_text(encoding="utf-8").splitlines()]
    for budget in BUDGETS:
        wish = f"at most {budget.latency_ms:g} ms a text" if budget.latency_ms else "best quality"
        heading(f"5. Budget: {wish}")
        try:
            embedder = Embedder.open(bundle, budget=budget, profile=profile)
        except NoTierFits as error:  # a slow or busy device: the rest of the demo is none the worse for it
            console.print(str(error))
            continue
        with embedder:
            console.print(describe_choice(embedder.choice))
            started = time.perf_counter()
            documents = embedder.encode(corpus)
            console.print(f"{len(corpus)} texts embedded in {(time.perf_counter() - started) * 1000:.0f} ms")
            scores = embedder.encode(QUERIES) @ documents.T
        for query, row in zip(QUERIES, scores, strict=True):
            best = int(np.argmax(row))
            console.print(f"  {query!r} -> {corpus[best]!r} ({row[best]:.2f})")


def heading(text: str) -> None:
    """Print the title of a step."""
    console.print(f"\n[bold]{text}[/bold]")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    main(parser.parse_args().out)
