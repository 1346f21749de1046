"""What six tiers cost a training step, against the full tier alone: one forward pass serves all.

python samples/benchmarks/training.py --rounds 15
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from edge_embed import parse_ladder
from edge_embed.train.batches import Batch, RowDataset
from edge_embed.train.finetune import job_of
from edge_embed.train.loop import plan_of
from edge_embed.train.prepare import prepare
from edge_embed.train.recipe import Recipe
from edge_embed.train.recipe_file import sources

TEXTS = Path(__file__).parents[1] / "texts"
LADDERS = {"full": "6x384", "six tiers": "1x32,2x64,3x128,4x192,5x256,6x384"}
BATCHES = 8


def main(rounds: int, batch_size: int) -> None:
    """Time each ladder's steps in turn on the same batches, and print the ratio of the medians."""
    steps = {name: step_of(ladder, batch_size) for name, ladder in LADDERS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            began = time.perf_counter()
            step(number)
            if number:  # the first one warms up
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:>10}: {median * 1000:.0f} ms a step (median of {rounds}, {batch_size} pairs)")
    print(f"     ratio: {medians['six tiers'] / medians['full']:.3f}")


def step_of(ladder: str, batch_size: int) -> Callable[[int], None]:
    """One whole step: forward, loss, backward, change of the weights."""
    recipe = Recipe(
        base="all-MiniLM-L6-v2",
        data=sources("pairs", [TEXTS / "pairs" / "paraphrases.tsv"]),
        ladder=parse_ladder(ladder),
        batch_size=batch_size,
    )
    job = job_of(prepare(recipe))
    dataset, objective = RowDataset(job.store), job.objective.train()
    batches: list[Batch] = [job.collate([dataset[key] for key in keys]) for keys in list(plan_of(job))[:BATCHES]]
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-5, fused=True)

    def step(number: int) -> None:
        objective(batches[number % len(batches)], number)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="steps of each ladder")
    parser.add_argument("--batch-size", type=int, default=64, help="pairs a step")
    given = parser.parse_args()
    main(given.rounds, given.batch_size)
