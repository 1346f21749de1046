"""An index that survives: made on mains, searched on battery by a smaller tier, without an app's doing.

python samples/on_battery.py demo/bundle

The power states are told to the embedder here; left alone, it reads them from the system between two calls.
"""

import argparse

from edge_embed import Budget, Choice, EdgeEmbedError, Embedder, PowerState

DOCUMENTS = (
    "The last ferry leaves at 18:40.",
    "Knead the dough for about ten minutes.",
    "Take an umbrella, just in case.",
)
QUERY = "When does the boat go?"
STATES = (
    PowerState("mains"),
    PowerState("battery", battery_percent=80),
    PowerState("battery", battery_percent=15),
    PowerState("mains", battery_percent=15),
)


def main(bundle: str, floor: float) -> None:
    """Search one index while the power comes and goes."""
    budget = Budget(min_quality=floor, save_below_percent=20)
    with Embedder.open(bundle, budget=budget, on_choice=tell, dwell_s=0) as embedder:
        index = embedder.encode_documents(DOCUMENTS)
        print(f"index: {len(index)} texts of {index.tier}")
        for state in STATES:
            charge = "" if state.battery_percent is None else f" at {state.battery_percent:.0f} %"
            print(f"\n{state.source}{charge}")
            embedder.reconsider(state)
            try:
                query = embedder.encode_queries([QUERY], against=index)
            except EdgeEmbedError as error:
                print(f"  {error}")
                continue
            best = int(index.similarity(query)[0].argmax())
            print(f"  a query of {query.tier}: {DOCUMENTS[best]}")


def tell(choice: Choice) -> None:
    """What an app might write into its log."""
    print(f"  now {choice.tier}: {choice.because}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("--floor", type=float, default=0.7, help="least score, as in the passport")
    given = parser.parse_args()
    main(given.bundle, given.floor)
