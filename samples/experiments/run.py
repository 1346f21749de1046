"""Train and score the arms of the comparison, one after the other; what is done already is not done again.

python samples/experiments/run.py --data DATA --work WORK
python samples/experiments/run.py --data DATA --work WORK --arms srl-truncate,2dmse --seeds 0,1,2 --dev
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edge_embed.evaluate.evaluation import Sets, evaluate
from edge_embed.evaluate.opening import open_model
from edge_embed.evaluate.retrieval import read_retrieval
from edge_embed.evaluate.sts import read_scored_pairs
from edge_embed.show.training import TrainingLines
from edge_embed.train.recipe import LoopSettings, Recipe
from edge_embed.train.recipe_file import make_recipe, read_recipe
from edge_embed.train.run import Target, pretrain_encoder, train_checkpoint
from edge_embed_runtimes.progress import silent

HERE = Path(__file__).parent
PLAIN = {"teacher": "none", "weights": {"task": 1, "kl": 1, "distill": 0, "directions": 0, "align": 0}}
TAUGHT = {"teacher": "self", "weights": {"task": 1, "kl": 1, "distill": 1, "directions": 4, "align": 0}}
ALIGNED = {"teacher": "self", "weights": {"task": 1, "kl": 1, "distill": 1, "directions": 4, "align": 1}}
ARMS: Mapping[str, Mapping[str, Any]] = {
    "untrained truncation": {**PLAIN, "head": "truncate", "epochs": 0},
    "separate": {**PLAIN, "head": "truncate", "method": "separate"},
    "2dmse": {**PLAIN, "head": "truncate", "method": "2dmse"},
    "srl-truncate": {**PLAIN, "head": "truncate"},
    "srl-project": {**PLAIN, "head": "project"},
    "+ distillation": {**TAUGHT, "head": "project"},
    "+ alignment": {**ALIGNED, "head": "project"},
    "+ smae first": {**ALIGNED, "head": "project", "smae": True},
    "200k texts": {**ALIGNED, "head": "project", "recipe": "texts.toml"},
    "200k texts + pairs": {**ALIGNED, "head": "project", "recipe": "texts.toml", "rows_of": "common.toml"},
}
STS = ("sts12", "sts14", "sts16", "stsb_test")
DEV = ("sts/stsb_dev.tsv", "sick/sick_dev.tsv")
RETRIEVAL = ("scifact", "quora_small")
SMAE = {"epochs": 1.0, "learning_rate": 1e-4, "batch_size": 32}
SMAE_TEXTS = {"place": "text/passages.txt.gz", "kind": "texts", "limit": 12000}


def main(data: Path, work: Path, arms: Sequence[str], seeds: Sequence[int], *, dev: bool) -> None:
    """Run every arm with every seed."""
    for seed in seeds:
        for arm in arms:
            path = HERE / "results" / f"{slug(arm)}-{seed}{'-dev' if dev else ''}.json"
            if path.exists():
                continue
            print(f"{arm}, seed {seed}", flush=True)
            checkpoint = work / f"{slug(arm)}-{seed}"
            began = time.perf_counter()
            if not checkpoint.exists():
                train(arm, data, work, checkpoint, seed)
            trained = time.perf_counter()
            result = score(checkpoint, data, dev=dev, cross=arm != "separate")
            seconds = {"train_s": round(trained - began), "score_s": round(time.perf_counter() - trained)}
            path.write_text(json.dumps({"arm": arm, "seed": seed, **seconds, **result}, indent=1) + "\n")


def train(arm: str, data: Path, work: Path, checkpoint: Path, seed: int) -> None:
    """Train one arm."""
    values = {**values_of(arm, data), "seed": seed}
    if values.pop("smae", False):
        values["base"] = str(pretrained(values, data, work, seed))
    train_checkpoint(make_recipe(Recipe, values), target(checkpoint), monitor=TrainingLines(silent))


def values_of(arm: str, data: Path) -> dict[str, Any]:
    """What an arm's recipe holds; `smae` stands for a pre-training before it."""
    changes = {"recipe": "common.toml", **ARMS[arm]}
    values = read_recipe(HERE / changes.pop("recipe"), data_folder=data)
    if "rows_of" in changes:
        more = read_recipe(HERE / changes.pop("rows_of"), data_folder=data)
        values = {**values, "data": [*values["data"], *more["data"]], "skip_bad_rows": more["skip_bad_rows"]}
    return {**values, **changes}


def pretrained(values: Mapping[str, Any], data: Path, work: Path, seed: int) -> Path:
    """The base encoder after Starbucks masked autoencoding."""
    encoder = work / f"smae-{seed}"
    if not encoder.exists():
        texts = {**SMAE_TEXTS, "place": str(data / SMAE_TEXTS["place"])}
        settings = {key: values[key] for key in ("base", "tiers", "max_tokens", "precision")}
        recipe = make_recipe(LoopSettings, {**settings, **SMAE, "data": [texts], "seed": seed})
        pretrain_encoder(recipe, target(encoder), monitor=TrainingLines(silent))
    return encoder


def target(output: Path) -> Target:
    """Where a result goes; a training that was broken off goes on."""
    return Target(output, resume=output.with_name(f"{output.name}.work").exists())


def score(checkpoint: Path, data: Path, *, dev: bool, cross: bool) -> dict[str, Any]:
    """All scores of a checkpoint; of the dev sets alone while choosing."""
    model = open_model(str(checkpoint))
    places = DEV if dev else tuple(f"sts/{name}.tsv" for name in STS)
    sets = Sets(
        sts=tuple(read_scored_pairs(data / place) for place in places),
        retrieval=() if dev else tuple(read_retrieval(data / "retrieval" / name) for name in RETRIEVAL),
    )
    return asdict(evaluate(model, sets, name=checkpoint.name, cross=cross))


def slug(arm: str) -> str:
    """An arm's name for files."""
    return arm.replace("+ ", "plus-").replace(" ", "-")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pairs/, nli/, text/, sts/, retrieval/")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--arms", default=",".join(ARMS), help="which ones")
    parser.add_argument("--seeds", default="0", help="which ones")
    parser.add_argument("--dev", action="store_true", help="score on the dev sets alone, to choose")
    given = parser.parse_args()
    main(given.data, given.work, given.arms.split(","), [int(seed) for seed in given.seeds.split(",")], dev=given.dev)
