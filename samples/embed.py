"""Embed a few sentences and compare them.

python samples/embed.py            # with the default bundle
python samples/embed.py demo/bundle
"""

import sys

from edge_embed import Embedder

SENTENCES = (
    "A bicycle leans on the wall.",
    "Someone left a bike against the house.",
    "The stock market fell sharply on Monday.",
)


def main(bundle: str | None = None) -> None:
    with Embedder.open(bundle) as embedder:
        vectors = embedder.encode(SENTENCES)
        print(f"{embedder.choice.tier}, {vectors.shape[0]} vectors of {vectors.shape[1]} values, {vectors.dtype}")
    similarities = vectors @ vectors.T
    for sentence, row in zip(SENTENCES, similarities, strict=True):
        print(" ".join(f"{value:5.2f}" for value in row), sentence)


if __name__ == "__main__":
    main(*sys.argv[1:])
