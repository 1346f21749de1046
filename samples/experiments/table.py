"""The tables of the comparison, in Markdown, from what `run.py` left in `results`.

python samples/experiments/table.py
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

RESULTS = Path(__file__).parent / "results"
STS = ("sts12", "sts14", "sts16", "stsb_test")
ARMS = (
    "untrained truncation",
    "separate",
    "2dmse",
    "srl-truncate",
    "srl-project",
    "+ distillation",
    "+ alignment",
    "+ smae first",
    "200k texts",
    "200k texts + pairs",
)
TIERS = ("demi", "short", "tall", "grande", "venti", "trenta")
Result = Mapping[str, Any]
Measure = Callable[[Result, str], float]


def main() -> None:
    """Print every table."""
    arms: dict[str, list[Result]] = {arm: [] for arm in ARMS}
    for path in sorted(RESULTS.glob("*.json")):
        if not path.stem.endswith("-dev"):
            result = json.loads(path.read_text(encoding="utf-8"))
            arms[result["arm"]].append(result)
    arms = {arm: results for arm, results in arms.items() if results}
    print_table("STS, mean of " + ", ".join(STS), arms, lambda result, tier: sts_mean(result["sts"], tier))
    for name in STS:
        print_table(f"{name}, Spearman", arms, lambda result, tier, name=name: result["sts"][name][tier])
    for name in ("scifact", "quora_small"):
        print_table(
            f"{name}, nDCG@10", arms, lambda result, tier, name=name: result["retrieval"][name][tier]["ndcg_at_10"]
        )
    crossed = {arm: results for arm, results in arms.items() if results[0]["sts_cross"]}
    print_table("Query tier against documents of Trenta, STS mean", crossed, cross_mean)
    print("| arm | seeds | training, s |\n|---|---|---|")
    for arm, results in arms.items():
        seconds = ", ".join(str(result["train_s"]) for result in results)
        print(f"| {arm} | {', '.join(str(result['seed']) for result in results)} | {seconds} |")


def sts_mean(scores: Mapping[str, Mapping[str, float]], tier: str) -> float:
    """Mean over the sets."""
    return fmean(scores[name][tier] for name in STS)


def cross_mean(result: Result, tier: str) -> float:
    """Mean over the sets of a tier's queries against documents of the full tier."""
    return fmean(result["sts_cross"][name][tier]["trenta"] for name in STS)


def print_table(title: str, arms: Mapping[str, list[Result]], measure: Measure) -> None:
    """Arms by tiers; the mean over the seeds, and its standard deviation where there is more than one."""
    print(f"**{title}**\n\n| arm | {' | '.join(TIERS)} |\n|---|{'---|' * len(TIERS)}")
    for arm, results in arms.items():
        cells = [spread([measure(result, tier) for result in results]) for tier in TIERS]
        print(f"| {arm} | {' | '.join(cells)} |")
    print()


def spread(values: list[float]) -> str:
    """Mean and, of several, standard deviation."""
    mean = f"{fmean(values):.4f}".removeprefix("0")
    return f"{mean} ± {stdev(values):.4f}".replace("± 0", "± ") if len(values) > 1 else mean


if __name__ == "__main__":
    main()
