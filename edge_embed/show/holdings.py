"""What a bundle or a checkpoint holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_embed.show.table import print_table
from edge_embed_runtimes.manifest import Manifest


def print_grades(manifest: Manifest) -> None:
    """Print a bundle's grades, and what it missed."""
    passport = manifest.passport
    print_table(
        f"cosine to the torch encoder over {passport.grades[0].texts} texts",
        ["tier", "graph", "mean", "1st per-\ncentile", "min", "invari-\nance", "score"],
        [
            [
                grade.tier,
                f"{grade.engine} {grade.precision}",
                f"{grade.cosine_mean:.5f}",
                f"{grade.cosine_p1:.5f}",
                f"{grade.cosine_min:.5f}",
                f"{grade.invariance:.1e}",
                "" if grade.score is None else f"{grade.score:.4f}",
            ]
            for grade in passport.grades
        ],
    )
    if passport.missed:
        print_table("gates that were missed, and allowed to be", [""], [[line] for line in passport.missed])


def print_manifest(manifest: Manifest) -> None:
    """Print what a bundle holds."""
    total = sum(file.size_bytes for file in manifest.files)
    rows = [
        ["name", manifest.name],
        ["base model", manifest.base_model],
        ["space", manifest.space],
        ["ladder", ", ".join(map(str, manifest.ladder))],
        ["head", manifest.head],
        ["pooling", f"{manifest.pooling}, up to {manifest.max_tokens} tokens"],
        ["files", f"{len(manifest.files)}, {total / 1e6:.1f} MB"],
        ["calibrated on", str(manifest.passport.calibration)],
        *([["untrained", ", ".join(manifest.passport.untrained)]] if manifest.passport.untrained else []),
        ["written by", ", ".join(f"{library} {version}" for library, version in manifest.versions.items())],
    ]
    print_table("bundle", ["", ""], rows)
    print_grades(manifest)
    cross = manifest.passport.cross
    if cross:
        names = [tier.name for tier in manifest.ladder]
        rows = [[query, *(f"{cross[query][document]:.4f}" for document in names)] for query in names]
        print_table(f"query tier against document tier, {', '.join(manifest.passport.scored_on)}", ["", *names], rows)


def print_checkpoint(place: Path, description: Mapping[str, Any]) -> None:
    """Print what a checkpoint holds, from its description."""
    origin = description["origin"]
    rows = [
        ["base model", str(origin["base_model"])],
        ["space", str(description["space"])],
        ["ladder", ", ".join(f"{tier['name']} {tier['layers']}x{tier['dim']}" for tier in description["ladder"])],
        ["head", str(description["head"])],
        *([f"recipe: {key}", _value_words(value)] for key, value in origin["recipe"].items()),
        *([f"data: {name}", f"sha256 {sha256[:12]}…"] for name, sha256 in origin["data"].items()),
        ["written by", ", ".join(f"{library} {version}" for library, version in origin["versions"].items())],
    ]
    print_table(f"checkpoint {place}", ["", ""], rows)


def _value_words(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    return str(value)
