"""Search in two passes: a small tier answers what is clear, a larger one goes on where answers lie close together.

python samples/search.py            # with the default bundle
python samples/search.py demo/bundle

The index is of the bundle's largest tier, kept in int8. Every query is first embedded by the smallest tier; where the
best answer does not lead by the margin, `refine` runs the layers that are still missing.
"""

import argparse
from pathlib import Path

import numpy as np

from edge_embed import Embedder

MARGIN = 0.1
TEXTS = sorted((Path(__file__).parent / "texts").glob("*.txt"))
QUERIES = (
    "How long should I knead the dough?",
    "Our train got in two hours late.",
    "Where can I find a toilet?",
    "A dog at a lake is getting dry.",
)


def main(bundle: str | None, texts: list[Path], queries: list[str], margin: float) -> None:
    """Index the texts, answer the queries, and tell which of them took the larger tier."""
    documents = [line for path in texts for line in path.read_text(encoding="utf-8").splitlines()]
    with Embedder.open(bundle) as embedder:
        small, large = embedder.tiers.tiers[0], embedder.tiers.top
        index = embedder.encode_documents(documents, tier=large, dtype="int8")
        first = embedder.begin(queries, tier=small)
        found = index.similarity(first.vectors)
        best = np.sort(found, axis=1)[:, ::-1]
        close = np.flatnonzero(best[:, 0] - best[:, 1] < margin)
        if len(close):
            found[close] = index.similarity(embedder.refine(first, to=large, rows=close).vectors)
    print(f"{len(index)} texts of {large} in {index.values.nbytes / 1000:.0f} kB; {len(close)} queries went on to it")
    for row, query in enumerate(queries):
        answer = int(found[row].argmax())
        print(
            f"\n{query}\n  {found[row, answer]:.2f} by {(large if row in close else small).name}: {documents[answer]}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", help="without it: the default bundle")
    parser.add_argument("--texts", type=Path, nargs="+", default=TEXTS, help="one text a line")
    parser.add_argument("--query", action="append", help="instead of some of our own; may be given several times")
    parser.add_argument("--margin", type=float, default=MARGIN, help="a lead that is no longer close")
    given = parser.parse_args()
    main(given.bundle, given.texts, given.query or list(QUERIES), given.margin)
