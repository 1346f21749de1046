"""What the benchmarks of a bundle are told."""

import argparse
from pathlib import Path

from edge_embed_export.calibrate import sample_texts


def read_arguments(words: str | None, *, rounds: int) -> argparse.Namespace:
    """From the command line: `checkpoint`, `bundle`, `texts`, `calibrate` and `rounds`.

    Args:
        words: of which the first line is the help's.
        rounds: where none are named.
    """
    parser = argparse.ArgumentParser(description=(words or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--texts", type=Path, nargs="+", required=True, help="texts to embed; 2,000 are taken")
    parser.add_argument("--calibrate", type=Path, nargs="+", default=[sample_texts()], help="as at the export")
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()
