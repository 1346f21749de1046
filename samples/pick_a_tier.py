"""See which tier a budget gets, why, and why not the others.

python samples/pick_a_tier.py demo/bundle demo/profile.json
"""

import sys
from pathlib import Path

from edge_embed import Budget, DeviceProfile, EdgeEmbedError, Embedder

BUDGETS = (
    Budget(latency_ms=0.5),
    Budget(latency_ms=2),
    Budget(latency_ms=2, min_quality=0.99),
    Budget(memory_mb=400),
    Budget(),
)


def main(bundle: str, profile: str) -> None:
    costs = DeviceProfile.load(Path(profile))
    for budget in BUDGETS:
        print(f"\n{budget}")
        try:
            with Embedder.open(bundle, budget=budget, profile=costs) as embedder:
                choice = embedder.choice
        except EdgeEmbedError as error:
            print(f"  {type(error).__name__}: {error}")
            continue
        print(f"  {choice.tier} on {choice.engine} {choice.precision}: {choice.because}")
        for tier, reason in choice.passed_over:
            print(f"    not {tier}: {reason}")


if __name__ == "__main__":
    main(*sys.argv[1:] or ["demo/bundle", "demo/profile.json"])
